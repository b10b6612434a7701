"""`DataTransform`: what its operations do, beside plain Python; what it refuses; and that a chain is one lazy query."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

import jsonschema
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contracts.built_in import BuiltInContract
from twingraph import Workflow, component, pipeline
from twingraph.components import DataTransform
from twingraph.errors import ComponentError, MissingLibraryError

ORDERS: list[dict[str, Any]] = [
    {"id": 1, "city": "Bern", "price": 3.0, "n": 2},
    {"id": 2, "city": "Basel", "price": 4.0, "n": 1},
    {"id": 3, "city": "Bern", "price": None, "n": 5},
    {"id": None, "city": None, "price": 1.0, "n": 1},
]
CITIES = [{"name": "Bern", "people": 134}, {"name": "Chur", "people": 38}, {"name": None, "people": 0}]
SCHEMA = DataTransform.schema()["settings"]


class TestDataTransform(BuiltInContract):
    """As every component."""

    name: ClassVar[str] = "DataTransform"
    libraries: ClassVar[tuple[str, ...]] = ("polars", "pyarrow", "pandas")

    @pytest.fixture
    def settings(self) -> dict[str, Any]:
        return {"operations": [{"filter": "n < 5"}, {"sort": "city"}, {"select": {"id": "id", "share": "n / sum(n)"}}]}

    @pytest.fixture
    def inputs(self) -> dict[str, Any]:
        return {"data": ORDERS}

    def check(self, outputs: Any) -> None:
        assert outputs["data"] == [{"id": 2, "share": 0.25}, {"id": 1, "share": 0.5}, {"id": None, "share": 0.25}]


def transformed(*operations: dict[str, Any], data: Any = ORDERS, **others: Any) -> Any:
    jsonschema.validate({"operations": list(operations)}, SCHEMA)
    return DataTransform(operations=list(operations)).execute(data, **others)["data"]


def ids(rows: Iterable[dict[str, Any]]) -> list[Any]:
    return [row["id"] for row in rows]


@pytest.mark.parametrize(
    ("operation", "left"),
    [
        ({"filter": "price > 2"}, [1, 2]),
        ({"filter": {"where": ["price > 2", "n > 1"]}}, [1]),
        ({"sort": "-price"}, [2, 1, None, 3]),
        ({"sort": ["n", "-id"]}, [2, None, 1, 3]),
        ({"sort": {"by": "price", "nulls": "first", "descending": True}}, [3, 2, 1, None]),
        ({"sort": "-price * n"}, [1, 2, None, 3]),
        ({"deduplicate": True}, [1, 2, 3, None]),
        ({"deduplicate": "city"}, [1, 2, None]),
        ({"deduplicate": {"by": "city", "keep": "last"}}, [2, 3, None]),
        ({"deduplicate": {"by": "city", "keep": "none"}}, [2, None]),
        ({"limit": 2}, [1, 2]),
        ({"limit": {"n": 2, "offset": 1}}, [2, 3]),
        ({"sample": 4}, [1, 2, 3, None]),
        ({"sample": {"fraction": 0.0}}, []),
    ],
)
def test_rows_are_chosen_and_ordered(operation: dict[str, Any], left: list[Any]) -> None:
    assert ids(transformed(operation)) == left


@pytest.mark.parametrize(
    ("operation", "first"),
    [
        ({"select": ["n", "id"]}, {"n": 2, "id": 1}),
        ({"select": {"id": "id", "size": "length(city)", "share": "n / sum(n)"}}, {"id": 1, "size": 4, "share": 2 / 9}),
        ({"select": {"one": "1"}}, {"one": 1}),
        ({"drop": ["city", "price"]}, {"id": 1, "n": 2}),
        ({"derive": {"n": "n + 1", "m": "n * 10"}}, {"id": 1, "city": "Bern", "price": 3.0, "n": 3, "m": 30}),
        ({"rename": {"id": "n", "n": "id"}}, {"n": 1, "city": "Bern", "price": 3.0, "id": 2}),
        ({"cast": {"n": "text", "city": "int?"}}, {"id": 1, "city": None, "price": 3.0, "n": "2"}),
    ],
)
def test_columns_are_made(operation: dict[str, Any], first: dict[str, Any]) -> None:
    made = transformed(operation)
    assert (len(made), made[0], list(made[0])) == (4, first, list(first))


@pytest.mark.parametrize(
    ("operation", "rows"),
    [
        (
            {"group": {"by": "city", "total": "sum(price)", "ids": "list(id)"}},
            [("Bern", 3.0, [1, 3]), ("Basel", 4.0, [2]), (None, 1.0, [None])],
        ),
        ({"group": {"total": "sum(price * n)", "rows": "count()"}}, [(11.0, 4)]),
        ({"group": {"by": {"letter": "substring(city, 0, 1)"}, "most": "max(n)"}}, [("B", 5), (None, 1)]),
        ({"group": "n"}, [(2,), (1,), (5,)]),
        (
            {"pivot": {"on": "city", "values": "n", "index": "id", "aggregate": "sum", "columns": ["Bern", "Chur"]}},
            [(1, 2, 0), (2, 0, 0), (3, 5, 0), (None, 0, 0)],
        ),
        (
            {"pivot": {"on": "city", "values": "n", "index": "price"}},
            [(3.0, 2, None, None), (4.0, None, 1, None), (None, 5, None, None), (1.0, None, None, 1)],
        ),
        (
            {"unpivot": {"on": ["price", "n"], "index": "id", "names": "what"}},
            [
                *((row["id"], "price", row["price"]) for row in ORDERS),
                *((row["id"], "n", row["n"]) for row in ORDERS),
            ],
        ),
    ],
)
def test_rows_are_put_together_and_turned(operation: dict[str, Any], rows: list[tuple[Any, ...]]) -> None:
    assert [tuple(row.values()) for row in transformed(operation)] == rows


def test_lists_become_rows() -> None:
    lists = [{"id": 1, "tags": ["a", "b"]}, {"id": 2, "tags": []}, {"id": 3, "tags": None}]
    exploded = transformed({"explode": "tags"}, data=lists)
    assert [tuple(row.values()) for row in exploded] == [(1, "a"), (1, "b"), (3, None)]


@pytest.mark.parametrize(
    ("how", "found"),
    [
        ("inner", [(1, 134), (3, 134)]),
        ("left", [(1, 134), (2, None), (3, 134), (None, None)]),
        ("right", [(1, 134), (3, 134), (None, 38), (None, 0)]),
        ("full", [(1, 134), (2, None), (3, 134), (None, None), (None, 38), (None, 0)]),
    ],
)
def test_tables_are_joined(how: str, found: list[Any]) -> None:
    join = {"with": "cities", "left_on": "city", "right_on": "name", "how": how}
    assert [(row["id"], row["people"]) for row in transformed({"join": join}, cities=CITIES)] == found


@pytest.mark.parametrize("how", ["inner", "left", "right", "full"])
def test_rows_that_are_joined_to_the_same_row_keep_their_order(how: str) -> None:
    ids = pl.int_range(1_000_000, eager=True).alias("id")  # fewer are joined in one piece, and in order by chance
    many, few = pl.DataFrame([ids, (ids * 7919 % 1_000).alias("city")]), pl.DataFrame({"city": range(1_000)})
    data, other = (many, few) if how == "right" else (few, many)
    found = transformed({"join": {"with": "other", "on": "city", "how": how}}, data=data, other=other)
    assert found["id"].equals(many.sort("city", maintain_order=True)["id"])


def test_joins_that_only_choose_and_joins_without_keys() -> None:
    keys = {"with": "cities", "left_on": "city", "right_on": "name"}
    assert ids(transformed({"join": {**keys, "how": "semi"}}, cities=CITIES)) == [1, 3]
    assert ids(transformed({"join": {**keys, "how": "anti"}}, cities=CITIES)) == [2, None]
    crossed = transformed({"join": {"with": "sizes", "how": "cross"}}, sizes={"size": ["S", "L"]})
    assert [(row["id"], row["size"]) for row in crossed][:3] == [(1, "S"), (1, "L"), (2, "S")]
    twice = [*CITIES, {"name": "Bern", "people": 1}]
    with pytest.raises(ComponentError, match=r"^DataTransform: operation 1 \(join\): "):
        transformed({"join": {**keys, "validate": "m:1"}}, cities=twice)


def test_a_sample_is_the_same_for_the_same_seed_and_of_what_is_left() -> None:
    many = [{"id": number} for number in range(1_000)]
    some = [transformed({"sample": {"n": 100, "seed": seed}}, data=many) for seed in (1, 1, 2)]
    assert some[0] == some[1] != some[2]
    assert ids(some[0]) == sorted(ids(some[0]))
    later = transformed({"filter": "id >= 900"}, {"sample": {"fraction": 0.5}}, {"filter": "id < 5000"}, data=many)
    assert len(later) == 50


WRONG: list[tuple[list[Any], str]] = [
    ([{"fliter": "n > 1"}], "operation 1: there is no operation 'fliter'; did you mean 'filter'?"),
    ([{"limit": 1}, {"limit": -1}], "operation 2 (limit): it takes a whole number, 0 or more, not -1."),
    ([{"sort": {"byy": "n"}}], "operation 1 (sort): it has no field 'byy'; did you mean 'by'?"),
    ([{"join": {"on": "id"}}], "operation 1 (join): its field 'with' is missing; it is the name of the"),
    ([{"join": {"with": [{"id": 1}]}}], "(join): 'with' takes the name of the input that has the other rows, not"),
    ([{"cast": {"n": "itn"}}], "operation 1 (cast): there is no type 'itn'; did you mean 'int'?"),
    ([{"derive": ["n"]}], "operation 1 (derive): it takes expressions by the names of new columns, not ['n']."),
    ([{"deduplicate": {"keep": "all"}}], "'keep' takes one of first, last, any, none, not 'all'."),
    ([{"group": {"by": "city", "n": 3}}], "it takes 'by' and expressions by the names of new columns, not {'by': 'ci"),
    ([{"filter": "n > 1", "limit": 3}], "operation 1 is {'filter': 'n > 1', 'limit': 3}; an operation is a dict"),
]
UNFIT: list[tuple[list[Any], str]] = [
    ([{"select": ["id", "id"]}], "operation 1 (select): 'id' is named twice."),
    ([{"join": {"with": "cities"}}], "say its keys as 'on', or as many in 'left_on' as in 'right_on'."),
    ([{"join": {"with": "cities", "on": "id", "how": "cross"}}], "a cross join has no keys."),
    ([{"sample": {}}], "operation 1 (sample): say either 'n' or 'fraction'."),
    ([{"group": {}}], "it takes columns in 'by', aggregates such as 'total': 'sum(price)', or both."),
    ([{"filter": "n >"}], "(filter): A value is expected here, but the expression ends.\n    n >\n       ^"),
    ([{"group": {"by": "city", "x": "n + sum(n)"}}], "'n' has many values in a group; take sum(), first() or list()"),
    ([{"filter": "n"}], "A condition is expected here, but this is a number (Int64).\n    n\n    ^"),
    ([{"limit": 3}, {"derive": {"x": "2 * prize"}}], "operation 2 (derive): There is no column 'prize'; did you mean"),
    ([{"rename": {"n": "m"}}, {"drop": "n"}], "(drop): there is no column 'n'; there is id, city, price, m."),
    ([{"sort": "-prise"}], "operation 1 (sort): there is no column 'prise'; did you mean 'price'?"),
    ([{"rename": {"n": "id"}}], "operation 1 (rename): two columns would be named 'id'."),
    ([{"group": {"by": "city", "city": "count()"}}], "'city' is the name of a key and of an aggregate."),
    ([{"group": {"by": {"rank": "rank(n)"}, "x": "count()"}}], "A key is made of one row; derive this column before."),
    ([{"explode": "city"}], "column 'city' holds no lists, it is text (String)."),
    ([{"unpivot": True}], "columns 'id', a number (Int64), and 'city', text (String), cannot become one"),
    ([{"join": {"with": "cites", "on": "id"}}], "there is no input 'cites'; give it in the call, by that name."),
    ([{"join": {"with": "cities", "on": "name"}}], "(join): there is no column 'name'; there is id, city, price, n."),
    (
        [{"join": {"with": "cities", "left_on": "id", "right_on": "nam"}}],
        "there is no column of 'cities' 'nam'; did you mean 'name'?",
    ),
    (
        [{"join": {"with": "cities", "left_on": "n", "right_on": "name"}}],
        "key 'n' is a number (Int64), but 'name' of 'cities' is text (String); cast one of them.",
    ),
    ([{"limit": 9}, {"cast": {"city": "int"}}], "operation 2 (cast): conversion from `str` to `i64` failed in column"),
]  # fmt: skip


@pytest.mark.parametrize(("operations", "told"), [*WRONG, *UNFIT])
def test_an_error_names_the_operation_and_the_nearest_name(operations: list[Any], told: str) -> None:
    with pytest.raises(ComponentError) as caught:
        DataTransform(operations=operations).execute(ORDERS, cities=CITIES)
    assert str(caught.value).startswith("DataTransform: operation ")
    assert told in str(caught.value)


def test_the_schema_refuses_what_reading_refuses() -> None:
    held = jsonschema.Draft202012Validator(SCHEMA)
    assert [operations for operations, _ in WRONG if held.is_valid({"operations": operations})] == []


FRAME = pl.DataFrame(ORDERS)
FORMS: list[tuple[Any, Callable[[Any], list[dict[str, Any]]]]] = [
    (FRAME, lambda made: made.to_dicts()),
    (FRAME.lazy(), lambda made: made.collect().to_dicts()),
    (FRAME.to_arrow(), lambda made: made.to_pylist()),
    (FRAME.to_pandas(), lambda made: made.to_dict("records")),
    (ORDERS, list),
    (FRAME.to_dict(as_series=False), lambda made: pl.DataFrame(made).to_dicts()),
]  # fmt: skip


@pytest.mark.parametrize(("data", "rows"), FORMS, ids=lambda each: type(each).__name__)
def test_what_comes_out_has_the_form_of_what_went_in(data: Any, rows: Callable[[Any], list[dict[str, Any]]]) -> None:
    done = DataTransform().filter("n > 1").select("id", "n").execute(data)
    assert type(done["data"]) is type(data)
    assert rows(done["data"]) == [{"id": 1, "n": 2}, {"id": 3, "n": 5}]
    assert (done["count"], done["columns"]) == (None if isinstance(data, pl.LazyFrame) else 2, ["id", "n"])

    assert DataTransform()(data=data)["data"] is data
    assert type(DataTransform(output="arrow").execute(data)["data"]) is pa.Table


@pytest.mark.parametrize("operations", [[], [{"limit": 1}]])
def test_what_is_no_table_is_told(operations: list[Any]) -> None:
    for data, why in ((None, "is of type NoneType"), ([1], "row 0 is 1")):
        with pytest.raises(ComponentError, match=f"^DataTransform: data:? {why}"):
            DataTransform(operations=operations).execute(data)
    assert DataTransform(operations=operations).execute({"n": 5, "city": "Bern"})["count"] == 1


@pytest.mark.parametrize(
    ("form", "library", "how"),
    [("arrow", "pyarrow", r"'lokki-twingraph\[transform\]'"), ("pandas", "pandas", "pandas")],
)
def test_a_form_whose_library_is_missing_is_told(
    form: Any, library: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingLibraryError, match=rf"needs {library}, which is not installed: pip install {how}\.$"):
        DataTransform(output=form).execute(ORDERS)


def test_a_form_can_be_asked_for() -> None:
    top = DataTransform(output="records").sort("-n").limit(1)
    assert ids(top.execute(FRAME)["data"]) == [3]
    assert isinstance(DataTransform(output="pandas").execute(ORDERS)["data"], pd.DataFrame)
    assert isinstance(DataTransform(output="lazy").limit(1).execute(ORDERS)["data"], pl.LazyFrame)
    assert DataTransform().execute(iter(ORDERS))["data"] == ORDERS


def test_methods_say_the_same_as_json() -> None:
    made = (
        DataTransform(output="records")
        .join("cities", on="name", how="left", suffix="_of_city")
        .filter("n > 1", "n < 9")
        .derive(total="price * n")
        .rename(n="count")
        .cast(count="float")
        .drop("price")
        .explode("tags")
        .group("name", total="sum(total)")
        .pivot("name", "total", "sum", index=["id"])
        .unpivot("Bern", names="city")
        .sample(fraction=0.5, seed=3)
        .deduplicate("city")
        .select("city", double="value * 2")
        .sort("city", descending=True)
        .limit(3)
    )
    assert made.config["output"] == "records"
    assert made.operations == [
        {"join": {"with": "cities", "on": ["name"], "how": "left", "suffix": "_of_city"}},
        {"filter": ["n > 1", "n < 9"]},
        {"derive": {"total": "price * n"}},
        {"rename": {"n": "count"}},
        {"cast": {"count": "float"}},
        {"drop": ["price"]},
        {"explode": ["tags"]},
        {"group": {"by": ["name"], "total": "sum(total)"}},
        {"pivot": {"on": ["name"], "values": ["total"], "aggregate": "sum", "index": ["id"]}},
        {"unpivot": {"on": ["Bern"], "names": "city", "values": "value"}},
        {"sample": {"fraction": 0.5, "seed": 3}},
        {"deduplicate": {"by": ["city"], "keep": "first"}},
        {"select": {"city": "column('city')", "double": "value * 2"}},
        {"sort": {"by": ["city"], "descending": True, "nulls": "last"}},
        {"limit": {"n": 3, "offset": 0}},
    ]
    jsonschema.validate({"operations": made.operations}, SCHEMA)


def test_tables_without_records_have_the_columns_that_are_asked_of_them() -> None:
    steps = (
        DataTransform()
        .filter("lower(city) == 'bern'")
        .derive(total="price * n", twice="total * 2")
        .join("cities", on="city", how="left")
        .group("city", total="sum(total)", people="max(people)")
        .sort("-total")
    )
    others = DataTransform().explode("tags").cast(n="int").unpivot("n").rename(name="n").drop("n").deduplicate("tags")
    assert others.execute([])["data"] == []
    assert steps.execute([], cities=[])["data"] == []
    assert steps.execute([], cities=[{"city": "Bern", "people": 134}])["data"] == []
    assert steps.execute(ORDERS, cities=[])["data"] == [{"city": "Bern", "total": 6.0, "people": None}]


def test_a_chain_is_one_query_that_runs_once(tmp_path: Path) -> None:
    FRAME.write_parquet(tmp_path / "orders.parquet")
    runs: list[int] = []

    def seen(frame: pl.DataFrame) -> pl.DataFrame:
        runs.append(frame.height)
        return frame

    keep, total = DataTransform().filter("n > 1"), DataTransform().group("city", total="sum(price)").sort("city")

    @pipeline
    def chained(data: pl.LazyFrame) -> Any:
        return total(data=keep(data=data))["data"]

    made = chained(FRAME.lazy().map_batches(seen))
    assert runs == []
    assert made.collect().to_dicts() == [{"city": "Bern", "total": 3.0}]
    assert runs == [4]

    plan = chained(pl.scan_parquet(tmp_path / "orders.parquet")).explain()
    assert "PROJECT 3/4 COLUMNS" in plan
    assert 'SELECTION: col("n") > 1' in plan


def test_a_lazy_frame_goes_to_another_process() -> None:
    apart = component(config={"isolate": True})(DataTransform().filter("n > 1"))
    found = apart(data=FRAME.lazy())["data"]
    assert ids((found.collect() if isinstance(found, pl.LazyFrame) else found).to_dicts()) == [1, 3]


def test_a_workflow_joins_what_two_nodes_give() -> None:
    flow = Workflow("joined")
    flow.add_component("orders", DataTransform, config={"data": ORDERS})
    flow.add_component("cities", DataTransform, config={"data": CITIES, "operations": [{"rename": {"name": "city"}}]})
    joined = {"operations": [{"join": {"with": "cities", "on": "city"}}, {"select": ["id", "people"]}]}
    flow.add_component("both", DataTransform, config=joined)
    flow.connect("orders", "both", output="data", input="data")
    flow.connect("cities", "both", output="data", input="cities")
    assert flow.run().outputs["data"] == [{"id": 1, "people": 134}, {"id": 3, "people": 134}]


def test_names_are_names() -> None:
    odd = [{"^a$": 1, "*": 2, "self": 3, "exprs": None}]
    made = transformed({"rename": {"^a$": "a", "*": "b"}}, {"derive": {"self": "a + b", "exprs": "self * 2"}}, data=odd)
    assert made == [{"a": 1, "b": 2, "self": 3, "exprs": 6}]
    for operation in ({"select": "*"}, {"drop": "^a$"}, {"filter": "`^a$` > 0"}, {"sort": "*"}):
        with pytest.raises(ComponentError, match=r"column named '.*' cannot be .*; rename it first\."):
            transformed(operation, data=odd)


def test_what_fails_before_a_pivot_is_not_blamed_on_it() -> None:
    with pytest.raises(ComponentError, match=r"operation 1 \(cast\): column 'tags': a list .* cannot become int\."):
        transformed({"cast": {"tags": "int"}}, data=[{"tags": ["a"]}])
    with pytest.raises(ComponentError, match=r"operation 1 \(cast\): conversion from"):
        transformed({"cast": {"city": "int"}}, {"pivot": {"on": "n", "values": "city", "index": "id"}})


OPERATIONS = st.lists(
    st.sampled_from(
        [
            {"filter": "x > 0"},
            {"filter": "x >= mean(x)"},
            {"filter": "row % 2 == 0"},
            {"derive": {"x": "x + 1", "k": "coalesce(k, x)"}},
            {"derive": {"x": "x - over(min(x), k)"}},
            {"sort": ["-x", "k"]},
            {"sort": "row"},
            {"limit": {"n": 4, "offset": 1}},
            {"sample": {"n": 5, "seed": 1}},
            {"sample": {"fraction": 0.5}},
            {"deduplicate": {"by": "k", "keep": "last"}},
            {"group": {"by": "k", "x": "sum(x)", "row": "min(row)"}},
            {"join": {"with": "others", "on": "k", "how": "left", "suffix": "_there"}},
            {"select": {"row": "row", "k": "k", "x": "x"}},
            {"cast": {"x": "int"}},
        ]
    ),
    max_size=6,
    unique_by=str,
)


@settings(max_examples=40, deadline=None)
@given(OPERATIONS, st.lists(st.tuples(st.integers(0, 3), st.integers(-3, 3)), min_size=1, max_size=12))
def test_a_chain_does_what_its_operations_do_one_by_one(operations: list[Any], pairs: list[tuple[int, int]]) -> None:
    rows = [{"row": at, "k": k, "x": x} for at, (k, x) in enumerate(pairs)]
    frame, others = pl.DataFrame(rows), [{"k": 1, "y": 1}, {"k": 1, "y": 2}, {"k": 2, "y": 3}]
    one_by_one = frame
    for operation in operations:
        one_by_one = DataTransform(operations=[operation]).execute(one_by_one, others=others)["data"]
    assert DataTransform(operations=operations).execute(frame, others=others)["data"].equals(one_by_one)


VALUES = st.none() | st.integers(-3, 3)
TABLE = st.lists(st.fixed_dictionaries({"k": VALUES, "x": VALUES}), max_size=12)


def numbered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"row": number, **each} for number, each in enumerate(rows)]


@settings(max_examples=40, deadline=None)
@given(TABLE, TABLE)
def test_it_does_what_plain_python_does(left: list[dict[str, Any]], right: list[dict[str, Any]]) -> None:
    rows, others = numbered(left), [{"k": each["k"], "y": each["x"]} for each in right]
    beside = pl.DataFrame(others, schema={"k": pl.Int64, "y": pl.Int64})
    done = DataTransform().filter("x >= 0 or k is None").sort("k", "-x").execute(rows)["data"]
    kept = [row for row in rows if (row["x"] is not None and row["x"] >= 0) or row["k"] is None]
    fallen = sorted(kept, key=lambda row: math.inf if row["x"] is None else -row["x"])
    assert done == sorted(fallen, key=lambda row: math.inf if row["k"] is None else row["k"])

    grouped = DataTransform().group("k", n="count()", values="count(x)", total="sum(x)", least="min(x)").execute(rows)
    order = list(dict.fromkeys(row["k"] for row in rows))
    expected = []
    for key, group in groupby(sorted(rows, key=lambda row: order.index(row["k"])), key=lambda row: row["k"]):
        found = [row["x"] for row in group]
        known = [each for each in found if each is not None]
        expected.append(
            {"k": key, "n": len(found), "values": len(known), "total": sum(known), "least": min(known, default=None)}
        )
    assert grouped["data"] == expected

    joined = DataTransform().join("others", on="k", how="left").execute(rows, others=beside)["data"]
    expected = [
        {**row, "y": other["y"]}
        for row in rows
        for other in [each for each in others if each["k"] == row["k"] is not None] or [{"y": None}]
    ]
    assert joined == expected

    halves = DataTransform().sample(fraction=0.5, seed=len(rows)).deduplicate("k").execute(rows)["data"]
    assert len({row["k"] for row in halves}) == len(halves) <= round(len(rows) / 2)
