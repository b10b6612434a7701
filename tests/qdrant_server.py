"""A Qdrant of the tests' own: the REST API as far as it is used, before the engine of Qdrant itself.

Collections are shards of `qdrant_edge`, which is the storage and the search of the server as a library: what a filter
means, how points are kept and which are nearest is Qdrant's own doing. A request that has something this does not know
is refused, as the server would refuse it.
"""

from __future__ import annotations

import json
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import numpy as np
import pytest
import qdrant_edge as qdrant

KEY = "k3y-of-the-tests"
_COLLECTION = re.compile(r"/collections/(?P<name>[^/?]+)(?P<rest>/[^?]*)?(\?.*)?")
_DISTANCES = {
    "Cosine": qdrant.Distance.Cosine,
    "Dot": qdrant.Distance.Dot,
    "Euclid": qdrant.Distance.Euclid,
    "Manhattan": qdrant.Distance.Manhattan,
}


class Refused(Exception):
    """A request that the server does not carry out."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


@dataclass
class Collection:
    """Points, and what their vectors are."""

    size: int
    distance: str
    shard: qdrant.EdgeShard


@dataclass
class Collections:
    """All that the server keeps; requests come one at a time."""

    folder: str
    known: dict[str, Collection] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    requests: list[str] = field(default_factory=list)

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Any:
        with self.lock:
            self.requests.append(f"{method} {path}")
            if (method, path) == ("GET", "/collections"):
                return {"collections": [{"name": each} for each in self.known]}
            found = _COLLECTION.fullmatch(path)
            if not found:
                raise Refused(404, "")
            name = found["name"]
            if (method, found["rest"]) == ("PUT", None):
                return self.make(name, **body)
            if name not in self.known:
                raise Refused(404, f"Not found: Collection `{name}` doesn't exist!")
            act = ACTS.get((method, found["rest"]))
            if act is None:
                raise Refused(404, "")
            return act(self.known[name], **body)

    def make(self, name: str, *, vectors: dict[str, Any]) -> bool:
        if name in self.known:
            raise Refused(409, f"Wrong input: Collection `{name}` already exists!")
        wanted = qdrant.EdgeVectorParams(vectors["size"], _DISTANCES[vectors["distance"]])
        shard = qdrant.EdgeShard.create(f"{self.folder}/{name}", qdrant.EdgeConfig(vectors=wanted))
        self.known[name] = Collection(vectors["size"], vectors["distance"], shard)
        return True


def told(collection: Collection) -> dict[str, Any]:
    vectors = {"size": collection.size, "distance": collection.distance}
    return {"status": "green", "config": {"params": {"vectors": vectors}}}


def upsert(collection: Collection, *, batch: dict[str, Any]) -> dict[str, Any]:
    ids, vectors, payloads = (batch.pop(each) for each in ("ids", "vectors", "payloads"))
    for each in vectors:
        if len(each) != collection.size:
            raise Refused(400, f"Wrong input: Vector dimension error: expected dim: {collection.size}, got {len(each)}")
    points = [qdrant.Point(*each) for each in zip(ids, vectors, payloads, strict=True)]
    collection.shard.update(qdrant.UpdateOperation.upsert_points(points))
    return {"operation_id": 0, "status": "completed"}


def delete(collection: Collection, **asked: Any) -> dict[str, Any]:
    chosen = wanted(asked)
    assert chosen is not None
    collection.shard.update(qdrant.UpdateOperation.delete_points_by_filter(chosen))
    return {"operation_id": 0, "status": "completed"}


def count(collection: Collection, *, exact: bool, **asked: Any) -> dict[str, int]:
    return {"count": collection.shard.count(qdrant.CountRequest(exact, wanted(asked)))}


def query(collection: Collection, *, searches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"points": nearest(collection, **each)} for each in searches]


def nearest(
    collection: Collection,
    *,
    query: list[float],
    limit: int,
    with_payload: bool,
    params: dict[str, Any] | None = None,
    **asked: Any,
) -> list[dict[str, Any]]:
    found = collection.shard.query(
        qdrant.QueryRequest(
            limit=limit,
            query=qdrant.Query.Nearest(query),
            filter=wanted(asked),
            with_payload=with_payload,
            params=qdrant.SearchParams(**(params or {})),
        )
    )
    return [
        {"id": each.id if isinstance(each.id, int) else str(each.id), "version": each.version, "score": each.score,
         "payload": each.payload}
        for each in found
    ]  # fmt: skip


def wanted(asked: dict[str, Any]) -> qdrant.Filter | None:
    """The filter of a request, which asks for nothing else."""
    found = asked.pop("filter", None)
    if asked:
        raise Refused(400, f"Format error in JSON body: unknown field {min(asked)}")
    return None if found is None else filter_of(**found)


def filter_of(
    *, must: list[Any] | None = None, should: list[Any] | None = None, must_not: list[Any] | None = None
) -> qdrant.Filter:
    musts, shoulds, nots = ([part(**each) for each in some or []] for some in (must, should, must_not))
    return qdrant.Filter(musts, shoulds, nots)


def part(**said: Any) -> Any:
    match said:
        case {"is_empty": {"key": key}}:
            return qdrant.IsEmptyCondition(key)
        case {"has_id": ids}:
            return qdrant.HasIdCondition(set(ids))
        case {"key": key, "range": limits}:
            return qdrant.FieldCondition(key, range=qdrant.RangeFloat(**limits))
        case {"key": key, "match": {"any": values}}:
            return qdrant.FieldCondition(key, match=qdrant.MatchAny(values))
        case {"key": key, "match": {"value": value}}:
            # The library takes True for 1, but not NumPy's.
            exact = cast("bool", np.bool_(value)) if isinstance(value, bool) else value
            return qdrant.FieldCondition(key, match=qdrant.MatchValue(exact))
        case _:
            return filter_of(**said)


ACTS: dict[tuple[str, str | None], Callable[..., Any]] = {
    ("GET", None): told,
    ("PUT", "/points"): upsert,
    ("POST", "/points/delete"): delete,
    ("POST", "/points/count"): count,
    ("POST", "/points/query/batch"): query,
}


class Handler(BaseHTTPRequestHandler):
    """A request."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer leaves as one packet, or the next request waits for its acknowledgement
    collections: Collections

    def do_GET(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        try:
            if self.headers.get("api-key") != KEY:
                self.reply(401, b"Must provide an API key or an Authorization bearer token", "text/plain")
                return
            result = self.collections.answer(self.command, self.path, body)
            self.reply(200, json.dumps({"result": result, "status": "ok", "time": 0.0}).encode())
        except Refused as why:
            self.reply(why.code, json.dumps({"status": {"error": str(why)}, "time": 0.0}).encode())
        except (TypeError, KeyError, ValueError) as why:
            told = f"Format error in JSON body: {why}"
            self.reply(400, json.dumps({"status": {"error": told}, "time": 0.0}).encode())

    do_PUT = do_POST = do_GET  # noqa: N815 - names of the base class

    def reply(self, code: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(code)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@dataclass(frozen=True)
class QdrantServer:
    """A server that answers on loopback."""

    url: str
    collections: Collections


@pytest.fixture(scope="session")
def qdrant_server() -> Iterator[QdrantServer]:
    """A server that runs until the tests are over."""
    with tempfile.TemporaryDirectory(prefix="lokki-qdrant-") as folder:
        collections = Collections(folder)
        handler = type("Bound", (Handler,), {"collections": collections})
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                yield QdrantServer(f"http://127.0.0.1:{server.server_address[1]}", collections)
            finally:
                server.shutdown()
                thread.join()
        for each in collections.known.values():
            each.shard.close()
