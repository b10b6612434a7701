"""Tables in any form become frames, and come back as they were given."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from twingraph.components.frames import as_given, columns_of, form_of, frame_of, lazy_of, records

ROWS = [{"a": 1, "b": "x"}, {"a": None, "b": "y"}]
FORMS: dict[str, Any] = {
    "records": ROWS,
    "columns": {"a": [1, None], "b": ["x", "y"]},
    "polars": pl.DataFrame(ROWS),
    "lazy": pl.LazyFrame(ROWS),
    "arrow": pa.table({"a": [1, None], "b": ["x", "y"]}),
    "pandas": pd.DataFrame({"a": pd.array([1, None], "Int64"), "b": ["x", "y"]}),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_table_goes_through_a_frame_and_back(form: str) -> None:
    given = FORMS[form]

    assert form_of(given) == form
    assert records(given) == ROWS
    assert columns_of(given) == ["a", "b"]
    assert lazy_of(given).collect().equals(FORMS["polars"])
    back = as_given(frame_of(given), given)
    assert type(back) is type(given)
    assert records(back) == ROWS


def test_values_of_records_keep_their_types() -> None:
    row = {"at": datetime(2024, 1, 2, 3, tzinfo=UTC), "on": date(2024, 1, 2), "price": Decimal("1.50"), "raw": b"\0"}
    row |= {"yes": True, "many": [1, 2], "inner": {"k": "v"}}
    assert records(frame_of([row])) == [row]
    assert frame_of([]).is_empty()
    assert records([{"n": np.int64(1)}, {"n": 2.5}, {"n": None}]) == [{"n": 1}, {"n": 2.5}, {"n": None}]
    assert frame_of([{"n": np.int64(1)}, {"n": 2}])["n"].to_list() == [1, 2]


def test_what_a_component_gave_as_a_whole_stands_for_its_table() -> None:
    assert records({"data": ROWS, "count": 2, "columns": ["a", "b"]}) == ROWS
    assert records({"rows": ROWS, "row_count": 2, "columns": ["a", "b"]}) == ROWS
    assert records({"data": ["x"], "count": [1]}) == [{"data": "x", "count": 1}]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("text", r"^input is of type str, which is no table: give a list of records, "),
        ([{"a": 1}, 2], r"^input: row 1 is 2, of type int: a row is a dict\.$"),
        ([{"a": 1}, {}, {"a": "x"}], r"^input: column 'a' holds int and, in row 2, str \('x'\): make them one type\.$"),
        ([{"a": 1}, {"a": True}], r"^input: column 'a' holds int and, in row 1, bool \(True\): "),
        ([{"a": b""}, {"a": [1]}], r"^input: column 'a' holds bytes and, in row 1, list \(\[1\]\): "),
        ({"a": [1, "x"]}, r"^input: column 'a' holds int and, in row 1, str \('x'\): "),
        ({"a": [1, 2], "b": [1]}, r"^input: its columns are not equally long \('a' 2, 'b' 1 values\)\.$"),
    ],
)
def test_what_is_no_table_is_told(data: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        frame_of(data, "input")
