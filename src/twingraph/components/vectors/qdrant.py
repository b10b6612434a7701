"""An index of a Qdrant server, spoken to by its REST API.

Qdrant knows a point by a number or a UUID. Any other id becomes the UUID that is made of it, and stands beside the
metadata as `_id`. What other programs put into a collection is found under the id that Qdrant has for it.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from twingraph.components.vectors.index import UnknownIndexError, same_metric
from twingraph.components.vectors.kept import Kept
from twingraph.components.vectors.values import Entries, Hit, Matrix, Metric, directed, hit, sized
from twingraph.components.vectors.where import (
    RESERVED,
    Compared,
    Condition,
    Either,
    Empty,
    Every,
    Not,
    OneOf,
    Plain,
)
from twingraph.errors import ComponentError, TransientError
from twingraph.executions.secrets import veiled

if TYPE_CHECKING:
    import httpx

Told: TypeAlias = dict[str, Any]

PATIENCE = 60.0
"""Seconds that an answer may take."""
_METRICS: Mapping[str, Metric] = {"Cosine": "cosine", "Dot": "dot", "Euclid": "l2"}
_DISTANCES = {metric: name for name, metric in _METRICS.items()}
_ORDERS = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
_SIMPLE = re.compile(r"[A-Za-z0-9_-]+")
_NAMESPACE = uuid.UUID("6f0e2c39-2c53-4f0f-9a0c-6b8a3f2f5d11")
_NUMBERS_AT_ONCE = 250_000  # of one request, which a server takes up to 32 MB of
_POINTS_AT_ONCE = 1_000
_LARGEST = 2**64
_shapes: Kept[tuple[int, Metric]] = Kept(lambda _: None)
_clients: Kept[httpx.Client] = Kept(lambda client: client.close())


class Qdrant:
    """A collection of a Qdrant server."""

    def __init__(
        self, url: str, name: str, metric: Metric | None, api_key: str | None, approximate: bool | None
    ) -> None:
        self.name = name
        self._url = url.rstrip("/")
        self._metric: Metric | None = metric
        self._key = api_key
        self._approximate = approximate

    def add(self, entries: Entries) -> None:
        """Keep these; the first ones make the collection. When it returns, they can be found."""
        size = entries.vectors.shape[1]
        dimension, metric = self._shape(make=size)
        vectors = directed(sized(entries.vectors, dimension, self.name), metric)
        step = max(min(_NUMBERS_AT_ONCE // size, _POINTS_AT_ONCE), 1)
        for begin in range(0, len(entries.ids), step):
            some = slice(begin, begin + step)
            named = [_point(each) for each in entries.ids[some]]
            batch = {
                "ids": [point for point, _ in named],
                "vectors": vectors[some].tolist(),
                "payloads": [{**told, **own} for (_, own), told in zip(named, entries.metadata[some], strict=True)],
            }
            self._ask("PUT", "/points?wait=true", {"batch": batch})

    def delete(self, ids: tuple[str, ...] | None, where: Condition | None) -> int:
        """Forget those with one of these ids (all, if None) that fit the filter; how many there were."""
        parts = [] if where is None else [_said(where)]
        if ids is not None:
            parts.append({"has_id": [_point(each)[0] for each in ids]})
        chosen = {"filter": {"must": parts}}
        count: int = self._ask("POST", "/points/count", {**chosen, "exact": True})["count"]
        self._ask("POST", "/points/delete?wait=true", chosen)
        return count

    def search(self, vectors: Matrix, top_k: int, where: Condition | None) -> list[list[Hit]]:
        """For each vector the nearest that fit, best first."""
        dimension, metric = self._shape()
        asked: Told = {"limit": top_k, "with_payload": True}
        if where is not None:
            asked["filter"] = _filter(where)
        if self._approximate is False:
            asked["params"] = {"exact": True}
        wanted = directed(sized(vectors, dimension, self.name), metric).tolist()
        searches = [{"query": each, **asked} for each in wanted]
        answers = self._ask("POST", "/points/query/batch", {"searches": searches}) if searches else []
        return [[_hit(each) for each in answer["points"]] for answer in answers]

    def count(self, where: Condition | None) -> int:
        """How many fit."""
        asked = {} if where is None else {"filter": _filter(where)}
        count: int = self._ask("POST", "/points/count", {**asked, "exact": True})["count"]
        return count

    def _shape(self, make: int | None = None) -> tuple[int, Metric]:
        """The length of vectors and the metric; asked for once, as no collection changes them."""
        dimension, metric = _shapes.get((self._url, self._key, self.name), lambda: self._asked_shape(make))
        return dimension, same_metric(self.name, metric, self._metric)

    def _asked_shape(self, make: int | None) -> tuple[int, Metric]:
        found = self._ask("GET", "", but=404 if make else None)
        if found is None:  # somebody who makes it at the same moment is as welcome
            vectors = {"size": make, "distance": _DISTANCES[self._metric or "cosine"]}
            self._ask("PUT", "", {"vectors": vectors}, but=409)
            found = self._ask("GET", "")
        kept: Told = found["config"]["params"].get("vectors") or {}
        metric = _METRICS.get(str(kept.get("distance")))
        if metric is None:
            what = f"compares by {kept['distance']}" if "distance" in kept else "has named vectors"
            raise ComponentError(f"Collection {self.name!r} {what}: take one of Cosine, Dot or Euclid.")
        return int(kept["size"]), metric

    def _ask(self, method: str, path: str, body: Told | None = None, but: int | None = None) -> Any:
        """What the server answers on the collection; None if it answers with the code `but`."""
        answer = self._answer(method, f"/collections/{self.name}{path}", body)
        if answer.status_code == but:
            return None
        if not answer.is_success:
            _shapes.drop((self._url, self._key, self.name))  # it may be another by now
            raise self._refused(answer)
        return answer.json()["result"]

    def _answer(self, method: str, path: str, body: Told | None = None) -> httpx.Response:
        import httpx

        try:
            client = _clients.get((self._url, self._key), lambda: _client(self._url, self._key))
            return client.request(method, path, json=body)
        except (httpx.TransportError, httpx.InvalidURL) as problem:
            raise TransientError(f"{self._place()} cannot be reached: {_sentence(str(problem))}") from problem

    def _refused(self, answer: httpx.Response) -> Exception:
        if answer.status_code in (401, 403):
            return ComponentError(f"{self._place()} does not take this key: give api_key='secret://...'.")
        try:
            status = answer.json()["status"]
            told = str(status["error"] if isinstance(status, dict) else status)
        except (ValueError, KeyError, TypeError):
            told = answer.text[:200] or answer.reason_phrase
        if answer.status_code == 404 and self.name in told:
            listed = self._answer("GET", "/collections")
            known = listed.json()["result"]["collections"] if listed.is_success else []
            return UnknownIndexError(self.name, self._place(), [each["name"] for each in known])
        kind = TransientError if answer.status_code in (429, 502, 503, 504) else ComponentError
        return kind(f"{self._place()} answers {answer.status_code} for {self.name!r}: {_sentence(veiled(told))}")

    def _place(self) -> str:
        import httpx

        url = httpx.URL(self._url)
        return f"Qdrant at {url.host}:{url.port or (443 if url.scheme == 'https' else 80)}"


def _client(url: str, api_key: str | None) -> httpx.Client:
    import httpx

    return httpx.Client(base_url=url, headers={"api-key": api_key} if api_key else {}, timeout=PATIENCE)


def _point(identity: str) -> tuple[int | str, Told]:
    """How Qdrant knows an id, and what must stand beside the metadata to find it again."""
    if identity.isdecimal() and str(int(identity)) == identity and int(identity) < _LARGEST:
        return int(identity), {}
    try:
        if str(uuid.UUID(identity)) == identity:
            return identity, {}
    except ValueError:
        pass
    return str(uuid.uuid5(_NAMESPACE, identity)), {RESERVED: identity}


def _hit(point: Told) -> Hit:
    metadata = dict(point.get("payload") or {})
    return hit(str(metadata.pop(RESERVED, point["id"])), point["score"], metadata)


def _filter(where: Condition) -> Told:
    """A filter as a request has it."""
    return {"must": [_said(where)]}


def _said(where: Condition) -> Told:
    match where:
        case Every(parts):
            return {"must": [_said(each) for each in parts]}
        case Either(parts):
            return _any([_said(each) for each in parts])
        case Not(part):
            return {"must_not": [_said(part)]}
        case Empty(field):
            return {"is_empty": {"key": _path(field)}}
        case OneOf(field, values):
            return _any([*_matched(_path(field), values)])
        case Compared(field, order, number):
            return {"key": _path(field), "range": {_ORDERS[order]: number}}


def _any(parts: Sequence[Told]) -> Told:
    if len(parts) == 1:
        return parts[0]
    return {"should": [*parts]} if parts else {"has_id": []}  # to Qdrant, an empty `should` holds always


def _matched(key: str, values: Sequence[Plain]) -> Iterator[Told]:
    """A match for texts and one for each other value; a number matches by its range, whole or not."""
    texts = [each for each in values if isinstance(each, str)]
    if texts:
        yield {"key": key, "match": {"any": texts}}
    for each in values:
        if isinstance(each, bool):
            yield {"key": key, "match": {"value": each}}
        elif not isinstance(each, str):
            yield {"key": key, "range": {"gte": each, "lte": each}}


def _path(field: str) -> str:
    return ".".join(each if _SIMPLE.fullmatch(each) else f'"{each}"' for each in field.split("."))


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
