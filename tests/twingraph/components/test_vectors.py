"""`VectorSearch` and its three kinds of index, each held to the same contract."""

from __future__ import annotations

import functools
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import psycopg
import pytest

from tests.contracts.built_in import BuiltInContract
from tests.contracts.vectors import Making, VectorIndexContract
from tests.postgres_server import Postgres
from tests.qdrant_server import KEY, QdrantServer, qdrant_server  # noqa: F401 - a fixture
from twingraph import Workflow, component, pipeline
from twingraph.components import VectorSearch
from twingraph.errors import ComponentError, TransientError


class TestComponent(BuiltInContract):
    name: ClassVar[str] = "VectorSearch"
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "usearch", "httpx")

    @pytest.fixture
    def settings(self, folder: Path) -> dict[str, Any]:
        location, numbered = str(folder / "indexes"), [{"n": each} for each in range(3)]
        VectorSearch(index="goods", location=location).add(np.eye(3), ids=["a", "b", "c"], metadata=numbered)
        return {"index": "goods", "location": location}

    @pytest.fixture
    def inputs(self, folder: Path) -> dict[str, Any]:
        return {"embedding": [1, 2, 3], "where": {"n": {"<": 2}}, "top_k": 1}

    def check(self, outputs: Mapping[str, Any]) -> None:
        score = pytest.approx(2 / 14**0.5)
        assert outputs["results"] == [{"id": "b", "score": score, "metadata": {"n": 1}}]


class TestEmbedded(VectorIndexContract):
    @pytest.fixture
    def making(self, name: str) -> Making:
        return functools.partial(VectorSearch, {"index": name})


class TestQdrant(VectorIndexContract):
    @pytest.fixture
    def making(self, name: str, qdrant_server: QdrantServer) -> Making:  # noqa: F811
        return functools.partial(VectorSearch, {"index": name, "location": qdrant_server.url, "api_key": KEY})


class TestPgVector(VectorIndexContract):
    @pytest.fixture
    def making(self, name: str, pgvector: str) -> Making:
        return functools.partial(VectorSearch, {"index": name, "location": pgvector})


def near(rng: np.random.Generator, count: int, dimension: int = 32) -> npt.NDArray[np.float32]:
    """Vectors that lie together in clusters, as embeddings do."""
    centres = np.random.default_rng(1).normal(size=(20, dimension))
    found = centres[rng.integers(0, 20, count)] + 0.5 * rng.normal(size=(count, dimension))
    return found.astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
@pytest.mark.parametrize("approximate", [False, True])
def test_the_nearest_are_those_that_numpy_finds(metric: Any, approximate: bool) -> None:
    rng = np.random.default_rng(0)
    vectors, wanted = near(rng, 3_000) + (100 if metric == "l2" else 0), near(rng, 20)
    wanted = wanted + (100 if metric == "l2" else 0)
    index = VectorSearch(index="numbers", metric=metric, approximate=approximate)
    told = [{"row": row, "part": row % 40} for row in range(3_000)]
    index.add(vectors[:2_500], ids=range(2_500), metadata=told[:2_500])
    index.add(vectors[2_500:], ids=range(2_500, 3_000), metadata=told[2_500:])
    gone = set(range(0, 3_000, 7))
    assert index.delete(gone) == len(gone)

    exact, asked = vectors.astype(np.float64), wanted.astype(np.float64)
    scores = -np.linalg.norm(exact - asked[:, None], axis=2) if metric == "l2" else asked @ exact.T
    if metric == "cosine":
        scores = scores / np.linalg.norm(exact, axis=1) / np.linalg.norm(asked, axis=1)[:, None]
    scores[:, list(gone)] = -np.inf
    for where, fits in (
        (None, range(3_000)),
        ({"part": 3}, range(3, 3_000, 40)),
        ({"row": {">=": 1_000}}, range(1_000, 3_000)),
    ):
        only = np.full_like(scores, -np.inf)
        only[:, list(fits)] = scores[:, list(fits)]
        truth = np.argsort(-only, axis=1)[:, :10]
        found = index.search(wanted, where=where)
        right = [
            len({each["id"] for each in one} & {str(row) for row in best})
            for one, best in zip(found, truth, strict=True)
        ]
        assert np.mean(right) >= (9.5 if approximate else 10)
        shown = np.array([one[0]["score"] for one in found])
        true = np.array([row[int(one[0]["id"])] for one, row in zip(found, only, strict=True)])
        assert shown == pytest.approx(true * (-1 if metric == "l2" else 1), rel=1e-4, abs=1e-4)


ADDING = """
import sys
from twingraph.components import VectorSearch
name, part, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
index = VectorSearch(index=name, location="here", approximate=True)
for each in range(rounds):
    ids = [f"{part}-{each}-{row}" for row in range(50)]
    index.add([[row, each, 1.0] for row in range(50)], ids=ids, metadata=[{"part": part}] * 50)
    index.delete(ids[:25])
    index.add([[each, 1, 1]], ids=["common"])
    print(each, flush=True)
"""


def adding(name: str, part: str, rounds: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ADDING, name, part, str(rounds)], stdout=subprocess.PIPE, text=True, bufsize=1
    )


def test_processes_write_at_once_and_what_one_has_seen_written_survives_its_death() -> None:
    index = VectorSearch(index="shared", location="here")
    steady, doomed = adding("shared", "steady", 15), adding("shared", "doomed", 10_000)
    assert steady.stdout is not None
    assert doomed.stdout is not None
    with steady, doomed:
        written = [int(doomed.stdout.readline()) for _ in range(8)][-1] + 1
        os.kill(doomed.pid, signal.SIGKILL)
        written += len(doomed.stdout.read().split())  # what it still told of
        index.search([[1, 1, 1]], where={"part": "steady"})
        assert steady.stdout.read().split()[-1] == "14"
    assert steady.returncode == 0

    assert index.count({"part": "steady"}) == 15 * 25
    assert index.count({"part": "doomed"}) in range(written * 25, (written + 1) * 25 + 26)
    assert index.count() == 1 + index.count({"part": ["steady", "doomed"]})
    assert index.add([[0, 0, 1]], ids=["after"]) == ["after"]
    assert index.search([0, 0, 1], top_k=1)[0]["id"] == "after"
    assert len([each for each in os.listdir("here/shared") if each.startswith("vectors-")]) == 1


def test_an_index_that_somebody_replaces_is_seen_anew() -> None:
    index = VectorSearch(index="replaced", location="here")
    index.add(np.eye(3), ids=[*"abc"])
    shutil.rmtree("here/replaced")
    with pytest.raises(LookupError, match=r"^There is no index 'replaced' in "):
        index.count()
    index.add([[1, 0]], ids=["other"])
    assert [each["id"] for each in index.search([1, 0])] == ["other"]


def test_a_place_where_no_folder_can_be_is_told() -> None:
    Path("file").write_text("")
    for index in (VectorSearch(index="x", location="file"), VectorSearch(index="file", location=".")):
        with pytest.raises(ComponentError, match=r"^There can be no index in .*file.*: a part of that path is"):
            index.count()
    with pytest.raises(ComponentError, match=r"^The folder /proc/none/x for an index cannot be made: No such file"):
        VectorSearch(index="x", location="/proc/none").add([1, 0])


def test_a_damaged_index_is_told() -> None:
    index = VectorSearch(index="damaged", location="here")
    index.add(np.eye(3), ids=["a", "b", "c"])
    shutil.rmtree("here/damaged")
    os.mkdir("here/damaged")
    Path("here/damaged/index.db").write_bytes(b"no database" * 100)
    with pytest.raises(ComponentError, match=r"^Index 'damaged' cannot be read: SQLite says: file is not a database;"):
        index.count()


@pytest.mark.parametrize("name", ["../goods", "a/b", ".hidden", "", "x" * 64, "a\nb"])
def test_the_name_of_an_index_leads_nowhere_else(name: str) -> None:
    with pytest.raises(ComponentError, match=r"^An index has a name of at most 63 letters, digits, '_', '-' and '\.',"):
        VectorSearch(index=name).count()


NAN = float("nan")


@pytest.mark.parametrize(
    ("use", "why"),
    [
        (lambda index: index.add([[1, NAN]]), r"^The vectors to add: vector 0 has a number that is not finite \(NaN,"),
        (lambda index: index.add([[1, 2], [1, 1e39]]), r"^The vectors to add: vector 1 has a number that is not"),
        (lambda index: index.search([1, NAN]), r"^The embedding to search for: vector 0 has a number that is not"),
        (lambda index: index.add([[]]), r"^The vectors to add: a vector has no numbers in it\.$"),
        (lambda index: index.search([]), r"^The embedding to search for: a vector has no numbers in it\.$"),
        (lambda index: index.add([[1, 2], [3]]), r"^The vectors to add: a list of numbers, or a list of such lists of"),
        (lambda index: index.search("red"), r"^The embedding to search for: a list of numbers, or a list of such"),
        (lambda index: index.search([True, False]), r"^The embedding to search for: a list of numbers, or a list of"),
        (lambda index: index.search(np.zeros((1, 2, 3))), r"^The embedding to search for: a list of numbers, or"),
        (lambda index: index.search(None), r"^VectorSearch: give embedding=\.\.\. to search\.$"),
        (lambda index: index.search([1, 0], top_k=0), r"^VectorSearch: top_k is at least 1, not 0\.$"),
        (lambda index: index.add(np.eye(2), ids=["a", "a"]), r"^Id 'a' is there more than once among the vectors to"),
        (lambda index: index.add(np.eye(2), ids=["a"]), r"^There are 2 vectors to add and 1 ids: give one for each\.$"),
        (lambda index: index.add(np.eye(2), ids=["a", ""]), r"^An id is a text that is not empty, or a whole number,"),
        (lambda index: index.add(np.eye(2), metadata=[{}]), r"^There are 2 vectors to add and 1 dicts of metadata:"),
        (lambda index: index.add([1, 0], metadata=[3]), r"^Metadata of '\w+' is a dict, not 3\.$"),
        (lambda index: index.add([1, 0], metadata={"a.b": 3}), r"^A field of metadata has a name without dots, quotes"),
        (lambda index: index.add([1, 0], metadata={"_id": 3}), r"^Metadata of '\w+' may not have a field '_id':"),
        (lambda index: index.add([1, 0], ids="x", metadata={"a": {1, 2}}), r"^Metadata of 'x' holds what JSON cannot"),
        (lambda index: index.add([1, 0], ids="x", metadata={"a": NAN}), r"^Metadata of 'x' holds what JSON cannot"),
        (lambda index: index.delete(), r"^VectorSearch: say what to delete, with ids or where; where=\{\} deletes all"),
        (lambda index: index.count("red"), r"^A filter is a dict such as .*, not str\.$"),
        (lambda index: index.count({"a": {"<<": 1}}), r"operator that is not known, '<<'; did you mean '<'\?$"),
        (lambda index: index.count({"a": {"<": "b"}}), r"^The filter of 'a': < compares numbers, not 'b'; keep dates"),
        (lambda index: index.count({"a": {"in": "b"}}), r"^The filter of 'a': 'in' takes a list of values, not 'b'\.$"),
        (lambda index: index.count({"a": {}}), r"^The filter says nothing of 'a': give a value or"),
        (lambda index: index.count({"a": NAN}), r"^The filter of 'a' compares with a text, a finite number"),
        (lambda index: index.count({"a..b": 1}), r"^A filter has names of fields with dots between them"),
        (lambda index: index(vectors=[1, 0]), r"^VectorSearch: give embedding=\.\.\. to search\.\n"),
        (lambda _: VectorSearch(index="x", location="ftp://there").count(), r"^An index is in a folder, or at http://,"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_before_anything_happens(use: Any, why: str) -> None:
    index = VectorSearch(index="fine", location="here")
    index.add([[1, 0]], ids=["one"])
    with pytest.raises(ComponentError, match=why):
        use(index)
    assert [each["id"] for each in index.search([1, 0])] == ["one"]


def test_vectors_and_metadata_come_in_many_forms() -> None:
    index = VectorSearch(index="forms", location="here")
    frame = pl.DataFrame({"id": [1, 2], "vector": [[1.0, 0.0], [0.0, 1.0]], "color": ["red", "blue"]})
    index.add(frame["vector"], ids=frame["id"], metadata=frame.select("color"))
    index.add(pd.Series([[2, 1]]), ids=pd.Series(["p"]), metadata=pd.DataFrame({"size": [np.int64(3)]}))
    index.add((np.float16(1), np.float16(1)), ids=np.int64(9), metadata={"by": np.float32(0.5)})
    found = index.search(np.array([1, 0], dtype=np.int8))
    assert [each["id"] for each in found] == ["1", "p", "9", "2"]
    assert [each["metadata"] for each in found] == [{"color": "red"}, {"size": 3}, {"by": 0.5}, {"color": "blue"}]
    assert index.search(frame["vector"])[1][0]["id"] == "2"
    assert index.add([], ids=[], metadata=[]) == []
    index.add([[9, 9]], ids=["w"], metadata={"data": pl.DataFrame({"size": [9]}), "count": 1, "columns": ["size"]})
    assert index.search([9, 9], where={"size": 9})[0]["metadata"] == {"size": 9}
    assert index.search(iter([1.0, 0.0]), where={"size": np.int64(3)})[0]["id"] == "p"


def test_it_is_filled_and_searched_in_pipelines_and_workflows() -> None:
    @pipeline
    def stocked() -> Any:
        added = VectorSearch(index="goods", operation="add")(
            vectors=np.eye(2), ids=["a", "b"], metadata=[{"color": "red"}, {"color": "blue"}]
        )
        return VectorSearch(index="goods", top_k=1)(embedding=[0, 1], parent_hash=added["hash"])

    assert stocked()["results"] == [{"id": "b", "score": 1.0, "metadata": {"color": "blue"}}]

    flow = Workflow("restock")
    flow.add_component("put", "vector_search", config={"index": "goods", "operation": "add", "ids": ["c"]})
    flow.add_component("look", "VectorSearch", config={"index": "goods", "where": {"color": None}, "top_k": 5})
    flow.connect("put", "look")  # whose ids are of no use to a search, nor are the vectors
    outputs = flow.run(inputs={"vectors": [[1, 1]], "embedding": [1, 0]}).outputs
    assert [each["id"] for each in outputs["results"]] == ["c"]

    here = os.path.abspath("home/.twingraph/vectors")  # the other process may have another home
    apart = component(config={"isolate": True})(VectorSearch(index="goods", top_k=3, location=here))
    assert [each["id"] for each in apart(embedding=[1, 0])["results"]] == ["a", "c", "b"]
    assert pickle.loads(pickle.dumps(VectorSearch(index="goods"))).count() == 3


def test_a_server_that_is_not_there_or_refuses_is_told_without_its_secrets(
    qdrant_server: QdrantServer,  # noqa: F811
    pgvector_server: Postgres,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TWINGRAPH_SECRET_WRONG_KEY", "hush-hush")
    with pytest.raises(
        ComponentError, match=r"^Qdrant at 127\.0\.0\.1:\d+ does not take this key: give api_key="
    ) as told:
        VectorSearch(index="goods", location=qdrant_server.url, api_key="secret://WRONG_KEY").count()
    assert "hush" not in str(told.value)
    with pytest.raises(TransientError, match=r"^Qdrant at 127\.0\.0\.1:9 cannot be reached: "):
        VectorSearch(index="goods", location="qdrant://127.0.0.1:9").count()
    nowhere = f"postgresql://ada:hush-hush@127.0.0.1:{pgvector_server.port}/nowhere"
    with pytest.raises(TransientError, match=r"^PostgreSQL at 127\.0\.0\.1, database 'nowhere': ") as lost:
        VectorSearch(index="goods", location=nowhere).count()
    assert "hush" not in str(lost.value)


def test_an_approximate_index_of_pgvector_finds_enough_that_fit(pgvector: str) -> None:
    index = VectorSearch(index="many", location=pgvector, approximate=True)
    index.add(near(np.random.default_rng(0), 500), metadata=[{"part": each % 50} for each in range(500)])
    assert len(index.search(near(np.random.default_rng(1), 1)[0], where={"part": 7})) == 10
    with psycopg.connect(pgvector) as connection:
        made = connection.execute("select indexdef from pg_indexes where tablename = 'many'").fetchall()
    assert len([each for (each,) in made if "USING hnsw (embedding vector_cosine_ops)" in each]) == 1


def test_a_table_of_others_is_an_index_if_it_has_the_columns(pgvector: str) -> None:
    with psycopg.connect(pgvector) as connection:
        connection.execute("create extension vector")
        connection.execute("create table papers (id bigint primary key, embedding vector, metadata jsonb, title text)")
        connection.execute("insert into papers values (7, '[1,0]', '{\"year\": 2020}', 'x'), (8, '[0,1]', '{}', 'y')")
        connection.execute("create table plain (id text)")
    papers = VectorSearch(index="papers", location=pgvector, metric="l2")
    assert papers.search([1, 0], where={"year": {">": 2000}}) == [{"id": "7", "score": 0.0, "metadata": {"year": 2020}}]
    assert papers.delete([8]) == 1
    with pytest.raises(ComponentError, match=r"^Table 'plain' is no index: it has no column 'embedding'\.$"):
        VectorSearch(index="plain", location=pgvector).count()
