"""What every index of vectors must do; the test of each inherits it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest

from twingraph.components import VectorSearch
from twingraph.errors import ComponentError

Making = Callable[..., VectorSearch]

GOODS: dict[str, dict[str, Any]] = {
    "apple": {"color": "red", "price": 3, "tags": ["fruit", "sweet"], "organic": True, "maker": {"city": "Oslo"}},
    "pear": {"color": "green", "price": 4.5, "tags": ["fruit"], "organic": False, "maker": {"city": "Rome"}},
    "chili": {"color": "red", "price": 12, "tags": [], "organic": True, "size in cm": 7},
    "rock": {"color": None, "price": "3", "tags": ["grey", None], "organic": 1},
    "void": {},
}
FILTERS: list[tuple[Any, set[str]]] = [
    ({}, set(GOODS)),
    ({"color": "red"}, {"apple", "chili"}),
    ({"color": "red", "price": {"<": 10}}, {"apple"}),
    ({"color": {"!=": "red"}}, {"pear", "rock", "void"}),
    ({"color": ["red", "green"]}, {"apple", "pear", "chili"}),
    ({"color": {"not in": ["red", "green"]}}, {"rock", "void"}),
    ({"color": []}, set()),
    ({"color": {"not in": []}}, set(GOODS)),
    ({"color": None}, {"rock", "void"}),
    ({"color": {"!=": None}}, {"apple", "pear", "chili"}),
    ({"tags": None}, {"chili", "void"}),
    ({"tags": "fruit"}, {"apple", "pear"}),
    ({"tags": {"in": ["grey", "sweet"]}}, {"apple", "rock"}),
    ({"price": 3}, {"apple"}),
    ({"price": 3.0}, {"apple"}),
    ({"price": "3"}, {"rock"}),
    ({"price": {">": 3, "<=": 12}}, {"pear", "chili"}),
    ({"price": {">=": 3}}, {"apple", "pear", "chili"}),
    ({"not": [{"price": {"<": 5}}]}, {"chili", "rock", "void"}),
    ({"organic": True}, {"apple", "chili"}),
    ({"organic": False}, {"pear"}),
    ({"organic": 1}, {"rock"}),
    ({"organic": {"in": [True, 1]}}, {"apple", "chili", "rock"}),
    ({"maker.city": "Oslo"}, {"apple"}),
    ({"maker": {"!=": None}}, {"apple", "pear"}),
    ({"maker.city": {"!=": "Oslo"}}, {"pear", "chili", "rock", "void"}),
    ({"size in cm": 7}, {"chili"}),
    ({"or": [{"color": "green"}, {"price": {">": 10}}]}, {"pear", "chili"}),
    ({"or": []}, set()),
    ({"or": [{}]}, set(GOODS)),
    ({"and": [{"color": "red"}, {"not": [{"tags": "sweet"}, {"price": 99}]}]}, {"chili"}),
    ({"nothing of this name": "x"}, set()),
]


class VectorIndexContract:
    """Tests of an index that `making` makes, with the settings that it is given; `name` is one that nobody uses yet."""

    @pytest.fixture
    def name(self) -> str:
        return f"goods-{uuid.uuid4().hex[:12]}"

    @pytest.fixture
    def making(self, name: str) -> Making:
        raise NotImplementedError

    @pytest.fixture
    def goods(self, making: Making) -> VectorSearch:
        index = making()
        vectors = [[1, 0, 0], [0.9, 0.1, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]]
        assert index.add(vectors, ids=[*GOODS], metadata=[*GOODS.values()]) == [*GOODS]
        return index

    @pytest.mark.parametrize(
        ("metric", "order", "scores"),
        [
            ("cosine", ["a", "c", "b"], [1.0, 2**-0.5, 0.0]),
            ("dot", ["c", "a", "b"], [60.0, 4.0, 0.0]),
            ("l2", ["a", "b", "c"], [1.0, 5**0.5, 818**0.5]),
        ],
    )
    def test_the_nearest_come_first_with_their_scores(
        self, making: Making, metric: Literal["cosine", "dot", "l2"], order: list[str], scores: list[float]
    ) -> None:
        index = making(metric=metric)
        index.add(np.array([[2, 0], [0, 1], [30, 30]]), ids=["a", "b", "c"])
        found = index(embedding=[2, 0] if metric == "dot" else [1, 0])["results"]
        if metric == "l2":
            scores = [1.0, 2**0.5, (29**2 + 30**2) ** 0.5]
        assert [each["id"] for each in found] == order
        assert [each["score"] for each in found] == pytest.approx(scores, abs=1e-5)
        assert index.search([1, 0], top_k=1)[0]["id"] == order[0]
        assert making().search([1, 0], top_k=1)[0]["id"] == order[0]
        other: Any = "dot" if metric == "l2" else "l2"
        with pytest.raises(ComponentError, match=rf"^Index 'goods-\w+' compares by '{metric}', not by '{other}': "):
            making(metric=other).search([1, 0])

    def test_a_filter_means_the_same_everywhere(self, goods: VectorSearch) -> None:
        for where, wanted in FILTERS:
            found = {each["id"] for each in goods.search([1, 0, 0], where=where)}
            assert (where, found, goods.count(where)) == (where, wanted, len(wanted))

    def test_what_was_added_comes_back_as_it_was(self, goods: VectorSearch) -> None:
        assert {each["id"]: each["metadata"] for each in goods.search([1, 0, 0])} == GOODS

    def test_a_list_of_vectors_gives_a_list_of_results(self, goods: VectorSearch) -> None:
        many = goods(embedding=np.eye(3), top_k=2, where={"tags": "fruit"})["results"]
        assert [[each["id"] for each in one] for one in many][:2] == [["apple", "pear"], ["pear", "apple"]]
        assert goods.search([[1, 0, 0]])[0] == goods.search([1, 0, 0])
        assert goods.search(np.zeros((0, 3))) == []

    def test_what_has_an_id_that_is_there_takes_its_place(self, goods: VectorSearch) -> None:
        goods.add([[0, 0, -1], [0, 0, -1.1]], ids=["apple", "plum"], metadata=[{"color": "gold"}, {}])
        assert goods.count() == len(GOODS) + 1
        assert goods.search([0, 0, -1], where={"color": {"!=": None}}, top_k=1) == [
            {"id": "apple", "score": pytest.approx(1.0), "metadata": {"color": "gold"}}
        ]
        assert goods.search([1, 0, 0], top_k=1)[0]["id"] == "pear"
        assert goods.count({"color": "red"}) == 1

    def test_vectors_are_deleted_by_id_and_by_filter(self, goods: VectorSearch, making: Making) -> None:
        assert goods.delete(["apple", "nobody", "apple"]) == 1
        assert goods.delete("void", where={"color": "red"}) == 0
        assert making(operation="delete")(where={"price": {">": 4}})["count"] == 2
        assert {each["id"] for each in goods.search([1, 0, 0])} == {"rock", "void"}
        assert goods.delete(where={}) == 2
        assert making(operation="count")()["count"] == 0
        assert goods.search([1, 0, 0]) == []
        assert making(operation="add")(vectors=[1, 0, 0], ids="apple")["outputs"] == {"ids": ["apple"], "count": 1}
        assert goods.search([1, 0, 0])[0]["id"] == "apple"

    def test_an_id_is_any_text(self, making: Making) -> None:
        ids = ["7", "007", str(uuid.uuid4()), uuid.uuid4().hex, "Ærø 'x'; --", "18446744073709551616", "-1", "٣"]
        index = making()
        assert index.add(np.eye(8), ids=ids) == ids
        assert index.add(np.eye(8)[:1] * 2, ids=[7]) == ["7"]
        assert [one[0]["id"] for one in index.search(np.eye(8), top_k=1)] == ids
        assert index.delete(ids[3:5]) == 2
        assert {each["id"] for each in index.search(np.ones(8))} == {*ids} - {*ids[3:5]}

    def test_what_is_wrong_with_an_index_is_told(self, goods: VectorSearch, making: Making, name: str) -> None:
        long = rf"^Index '{name}' holds vectors of 3 numbers, not of 2: use the model that its vectors were made with"
        with pytest.raises(ComponentError, match=long):
            goods.search([1, 0])
        with pytest.raises(ComponentError, match=long):
            goods.add([[1, 0]])
        with pytest.raises(ComponentError, match=r"^Vector 1 has nothing but zeros, so it has no direction"):
            goods.add([[1, 0, 0], [0, 0, 0]])
        assert goods.count() == len(GOODS)
        unknown = making(index=f"{name}s")
        for use in (lambda: unknown.search([1, 0, 0]), unknown.count, lambda: unknown.delete(where={})):
            with pytest.raises(LookupError, match=rf"^There is no index '{name}s' in .*; did you mean '{name}'\? The"):
                use()

    def test_threads_may_make_and_fill_an_index_at_once(self, making: Making) -> None:
        def fill(part: int) -> None:
            index = making(operation="add")
            for each in range(5):
                index.add(np.eye(4) + each, ids=[f"{part}-{each}-{row}" for row in range(4)])
                index.add([[1, 1, 1, each + 1]], ids=["common"])

        threads = [threading.Thread(target=fill, args=(part,)) for part in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert making().count() == 4 * 5 * 4 + 1
