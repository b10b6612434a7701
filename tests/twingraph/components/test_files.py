"""FileReader and FileWriter, on this machine: what is written is read again, and what cannot be read is told."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contracts.built_in import BuiltInContract
from twingraph import Workflow, pipeline
from twingraph.components import FileReader, FileWriter
from twingraph.errors import ComponentError, FileError, MissingFileError

LIBRARIES = ("fastavro", "fsspec", "polars", "pyarrow")
BIRDS = [{"name": "owl", "mass": 2.5}, {"name": "wren", "mass": 0.01}, {"name": "uhu ü", "mass": None}]


class TestFileReader(BuiltInContract):
    name: ClassVar[str] = "FileReader"
    libraries: ClassVar[tuple[str, ...]] = LIBRARIES

    @pytest.fixture
    def settings(self, folder: Path) -> dict[str, Any]:
        return {"format": "csv", "root": str(folder), "types": {"mass": "float"}}

    @pytest.fixture
    def inputs(self, folder: Path) -> dict[str, Any]:
        (folder / "birds.csv").write_text("name,mass\nowl,2.5\nwren,0.01\nuhu ü,\n")
        return {"path": "birds.csv", "where": "mass > 1 or mass is null", "columns": ["mass", "name"], "limit": 5}

    def check(self, outputs: Mapping[str, Any]) -> None:
        rows = [{"mass": 2.5, "name": "owl"}, {"mass": None, "name": "uhu ü"}]
        assert (outputs["data"], outputs["count"], outputs["columns"]) == (rows, 2, ["mass", "name"])


class TestFileWriter(BuiltInContract):
    name: ClassVar[str] = "FileWriter"
    libraries: ClassVar[tuple[str, ...]] = LIBRARIES

    @pytest.fixture
    def settings(self, folder: Path) -> dict[str, Any]:
        return {"format": "csv", "root": str(folder)}

    @pytest.fixture
    def inputs(self, folder: Path) -> dict[str, Any]:
        return {"data": BIRDS, "path": "birds.csv"}

    def check(self, outputs: Mapping[str, Any]) -> None:
        written = Path(outputs["path"])
        assert (outputs["count"], outputs["bytes"]) == (3, written.stat().st_size)
        assert written.read_text("utf-8") == "name,mass\nowl,2.5\nwren,0.01\nuhu ü,\n"


def read(path: Any, **settings_and_inputs: Any) -> dict[str, Any]:
    found: dict[str, Any] = FileReader(settings_and_inputs).run(path)
    return found


def frame(path: Any, **settings_and_inputs: Any) -> pl.DataFrame:
    found: pl.DataFrame = read(path, output="frame", **settings_and_inputs)["data"]
    return found


# ---- what is written is read again

EVERYTHING = pl.DataFrame(
    {
        "i": [1, None, -(2**63)],
        "f": [1.5, None, 1e300],
        "s": ['é\U0001f600 "q", x', None, "a\nb"],
        "empty": ["", None, " x "],
        "yes": [True, None, False],
        "d": [date(2020, 2, 29), None, date(1, 1, 1)],
        "at": [datetime(2020, 1, 1, 1, 2, 3, 456), None, datetime(1969, 12, 31, 23, 59, 59)],
        "utc": [datetime(2020, 1, 1, tzinfo=UTC), None, datetime(2038, 1, 20, 1, tzinfo=UTC)],
        "t": [time(1, 2, 3, 4), None, time(0)],
        "dec": [Decimal("1.25"), None, Decimal("-12345678901234567890.99")],
        "b": [b"\x00\xff", None, b""],
        "l": [[1, None], None, []],
        "st": [{"x": 1, "y": ["a"]}, None, {"x": None, "y": []}],
        "took": [timedelta(days=1, microseconds=1), None, timedelta(0)],
        "none": pl.Series([None, None, None], dtype=pl.Null),
        "small": pl.Series([1, None, -1], dtype=pl.Int8),
    },
    schema_overrides={"dec": pl.Decimal(38, 2)},
)
LACKS = {
    "csv": ["b", "l", "st", "took", "none", "dec"],  # a decimal of 22 digits is read as one below
    "json": ["b", "took", "dec"],
    "jsonl": ["b", "took", "dec"],
    "yaml": ["took", "dec"],
    "avro": ["took"],
}
ASKED = {"d": "date", "at": "datetime", "utc": "timestamp", "t": "time", "small": "int8"}
TYPES: dict[str, dict[str, str]] = {"csv": ASKED, "json": ASKED, "jsonl": ASKED, "yaml": {"t": "time", "small": "int8"}}


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "yaml", "avro", "parquet", "arrow"])
def test_every_value_comes_back(kind: str, tmp_path: Path) -> None:
    given = EVERYTHING.drop(LACKS.get(kind, []))
    if kind == "avro":
        given = given.with_columns(pl.col("small").cast(pl.Int32))  # Avro's smallest number
    for compression in ("", ".gz", ".zst"):
        path = tmp_path / f"all.{kind}{compression}"
        done = FileWriter().run(given, path)
        assert (done["path"], done["count"], done["bytes"]) == (str(path), 3, path.stat().st_size)
        assert frame(path, types=TYPES.get(kind, {})).equals(given, null_equal=True)
        assert frame(path, types=TYPES.get(kind, {})).dtypes == given.dtypes
        assert read(path, types=TYPES.get(kind, {}))["data"] == given.to_dicts()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "yaml"])
def test_decimals_are_written_digit_by_digit(kind: str, tmp_path: Path) -> None:
    decimals = EVERYTHING.select("dec", pl.lit("x").alias("s"))
    FileWriter().run(decimals, tmp_path / f"d.{kind}")
    back = frame(tmp_path / f"d.{kind}", types={"dec": "text"})["dec"].to_list()
    assert back == ["1.25", None, "-12345678901234567890.99"]


@pytest.mark.parametrize("kind", LACKS)
def test_what_a_format_has_no_word_for_is_told(kind: str, tmp_path: Path) -> None:
    for name in {*LACKS[kind]} - {"none", "dec"}:
        with pytest.raises(FileError, match=rf"x\.{kind}.*column '{name}'"):
            FileWriter().run(EVERYTHING.select(name), tmp_path / f"x.{kind}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["arrow", "avro", "csv", "jsonl", "parquet"])
def test_objects_are_written_nowhere(kind: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=rf"x\.{kind}.*column 'o'"):
        FileWriter().run([{"n": 1, "o": object()}], tmp_path / f"x.{kind}")
    assert list(tmp_path.iterdir()) == []


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "s": st.none() | TEXT,
    "i": st.none() | st.integers(-(2**63), 2**63 - 1),
    "b": st.none() | st.booleans(),
    "f": st.none() | st.floats(allow_nan=False, allow_infinity=False),
}
ROWS = st.lists(st.fixed_dictionaries(VALUES), min_size=1, max_size=5)
SCHEMA = {"s": "text", "i": "int", "b": "bool", "f": "float"}


@settings(max_examples=25, deadline=None)
@given(ROWS)
def test_whatever_stands_in_a_table_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: Any) -> None:
    folder = tmp_path_factory.getbasetemp()
    whole = pl.DataFrame(rows, schema={"s": pl.String, "i": pl.Int64, "b": pl.Boolean, "f": pl.Float64})
    for kind in ("csv", "jsonl", "json", "avro", "parquet"):
        path = folder / f"any.{kind}"
        FileWriter().run(whole, path)
        assert read(path, types=SCHEMA)["data"] == rows, kind
    for kind in ("json", "jsonl", "yaml"):
        FileWriter().run(rows, folder / f"any.{kind}")
        assert read(folder / f"any.{kind}")["data"] == rows, kind


def test_records_stay_what_they_are_where_the_format_has_records(tmp_path: Path) -> None:
    rows = [{"a": [1, "x", None], "b": {"c": [1]}}, {"a": "one"}, {}]
    for kind in ("json", "jsonl", "yaml"):
        FileWriter().run(rows, tmp_path / f"r.{kind}")
        found = read(tmp_path / f"r.{kind}")
        assert found == {"data": rows, "count": 3, "columns": ["a", "b"]}
    assert read(tmp_path / "r.jsonl", where="b is null", columns=["a"])["data"] == [{"a": "one"}, {"a": None}]
    with pytest.raises(ComponentError, match=r"r\.yaml: column 'a' holds list and, in row 1, str"):
        frame(tmp_path / "r.yaml")
    (tmp_path / "one.json").write_text('{"a": 1}')
    (tmp_path / "two.yml").write_text("a: 1\n---\n- 2\n- {1: x}\n")
    assert read(tmp_path / "one.json")["data"] == [{"a": 1}]
    assert read(tmp_path / "two.yml")["data"] == [{"a": 1}, {"value": 2}, {"1": "x"}]


def test_text_is_a_record_for_each_line_or_for_each_file(tmp_path: Path) -> None:
    FileWriter().run(["é", "", "b\rc"], tmp_path / "a.txt")
    assert read(tmp_path / "a.txt")["data"] == [{"text": "é"}, {"text": ""}, {"text": "b\rc"}]
    assert read(tmp_path / "a.txt", limit=1)["count"] == 1
    assert read([str(tmp_path / "a.txt")] * 2, whole=True)["data"] == [{"text": "é\n\nb\rc\n"}] * 2
    (tmp_path / "b.md").write_bytes("ä\r\nö".encode("utf-16"))
    assert read(tmp_path / "b.md", encoding="utf-16")["data"] == [{"text": "ä"}, {"text": "ö"}]
    with pytest.raises(FileError, match=r"c\.txt: row 1 is not one text"):
        FileWriter().run([{"a": 1, "b": 2}], tmp_path / "c.txt")


# ---- which rows and columns


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "yaml", "avro", "parquet", "arrow"])
def test_columns_rows_and_forms(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"birds.{kind}"
    FileWriter().run(BIRDS, path)
    wanted = {"columns": ["mass", "name"], "limit": 1}
    assert read(path, where="mass < 1", **wanted)["data"] == [{"mass": 0.01, "name": "wren"}]
    assert read(path, where=[["name", "in", ["owl", "x"]], ["mass", ">=", 2]])["data"] == BIRDS[:1]
    assert read(path, where=[["mass", "==", None]])["data"] == BIRDS[2:]
    days = [{"day": date(2024, 1, each), "at": datetime(2024, 1, each, 12)} for each in (1, 2)]
    FileWriter().run(days, tmp_path / "days.parquet")
    for where in ([["day", ">", "2024-01-01"]], [["day", "in", ["2024-01-02"]]], [["at", ">=", "2024-01-02T12:00"]]):
        assert read(tmp_path / "days.parquet", where=where)["data"] == days[1:]
    with pytest.raises(ComponentError, match=r"^where: There is no column 'dya'; did you mean 'day'\?\n    dya > 1\n"):
        read(tmp_path / "days.parquet", where="dya > 1")
    with pytest.raises(
        ComponentError, match=r"^where: A value is expected here, but the expression ends\.\n    day >\n"
    ):
        read(path, where="day >")
    with pytest.raises(ComponentError, match=r"^where: 'soon' is not of type Date: write it in ISO 8601\.$"):
        read(tmp_path / "days.parquet", where=[["day", ">", "soon"]])
    assert read(path, limit=0)["count"] == 0
    assert read(path, **wanted)["data"] == [{"mass": 2.5, "name": "owl"}]
    assert read(path, format="frame")["data"].equals(pl.DataFrame(BIRDS))
    arrow = read(path, output="arrow", where="name == 'owl'")["data"]
    assert isinstance(arrow, pa.Table)
    assert arrow.num_rows == 1
    for asked in ({"columns": ["mas"]}, {"where": "mas > 1"}, {"where": [["mas", ">", 1]]}):
        with pytest.raises(ComponentError, match="no column 'mas'; did you mean 'mass'"):
            read(path, **asked)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"columns": []}, "columns is an empty list"),
        ({"columns": ["a", "a"]}, r"a\.csv cannot be read as asked: .*duplicate"),
        ({"where": [["a", ">", "x"]]}, r"a\.csv cannot be read as asked: cannot compare string with numeric type"),
        ({"limit": -1}, "a limit of -1 rows makes no sense"),
        ({"where": [["a", "~", 1]]}, "is no comparison: write .column, sign, value."),
        ({"where": "a >"}, "a >"),
        ({"types": {"a": "integr"}}, "column 'a': there is no type 'integr'; did you mean 'int'"),
        ({"types": {"b": "int"}}, "has no column 'b'"),
        ({"encoding": "utf-99"}, "There is no encoding 'utf-99'"),
        ({"separator": ";;"}, "separated by one character, not by ';;'"),
    ],
)
def test_what_cannot_be_asked_is_told(asked: dict[str, Any], why: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    with pytest.raises(ComponentError, match=why):
        read(tmp_path / "a.csv", **asked)


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "yaml", "avro", "parquet", "arrow", "text"])
def test_nothing_is_a_table_too(kind: Any, tmp_path: Path) -> None:
    assert FileWriter(format=kind).run([], tmp_path / "none")["count"] == 0
    for output in ("records", "frame", "arrow"):
        assert read(tmp_path / "none", format=kind, output=output)["count"] == 0
    without_rows = pl.DataFrame(schema={"text": pl.String})
    FileWriter(format=kind).run(without_rows, tmp_path / "none")
    assert frame(tmp_path / "none", format=kind).height == 0


def test_csv_as_others_write_it(tmp_path: Path) -> None:
    (tmp_path / "de.csv").write_bytes("\ufeffStraße;n\r\nÄgeri;1\r\nk.A.;2\r\n".encode())
    assert read(tmp_path / "de.csv", separator=";", nulls=["k.A."])["data"] == [
        {"Straße": "Ägeri", "n": 1},
        {"Straße": None, "n": 2},
    ]
    (tmp_path / "t.tsv").write_text("1\tx\n2\ty\n")
    assert read(tmp_path / "t.tsv", header=False)["columns"] == ["column_0", "column_1"]
    big = "a,b\n" + '1,"x\n""y"""\n' * 200_000
    (tmp_path / "big.csv.gz").write_bytes(gzip.compress(big.encode(), 1))
    assert read(tmp_path / "big.csv.gz", limit=2)["data"] == [{"a": 1, "b": 'x\n"y"'}] * 2


# ---- many files


def test_of_parquet_only_the_rows_and_columns_that_are_asked_for_are_read(tmp_path: Path) -> None:
    path = tmp_path / "half.parquet"
    pq.write_table(pa.table({"a": range(2_000), "b": range(2_000)}), path, row_group_size=1_000)
    told = pq.ParquetFile(path).metadata
    content = bytearray(path.read_bytes())
    for column in (told.row_group(1).column(0), told.row_group(1).column(1), told.row_group(0).column(1)):
        start = column.dictionary_page_offset or column.data_page_offset
        content[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(content)  # all but the first 1,000 rows of `a` is damaged
    assert read(path, where="a < 3 or a == 7", columns=["a"])["data"] == [{"a": each} for each in (0, 1, 2, 7)]
    assert read(path, limit=2, columns=["a"])["count"] == 2
    for damaged in ({"columns": ["a"]}, {"where": "a < 3"}):
        with pytest.raises(FileError, match=r"half\.parquet is damaged"):
            read(path, **damaged)


def test_folders_patterns_and_partitions(tmp_path: Path) -> None:
    rows = [{"x": 1, "year": 2023, "city": "Bern/W"}, {"x": 2, "year": 2024, "city": None}]
    for kind in ("csv", "jsonl", "parquet", "arrow", "avro", "json", "yaml"):
        whole = tmp_path / "k=v" / kind
        done = FileWriter(format=kind, partition_by=["year", "city"]).run(rows, whole)
        assert done["count"] == 2
        for name in ("_SUCCESS", ".part-0.csv.crc", "README"):
            (whole / name).write_text("not data")
        assert read(whole)["data"] == rows
        assert read(whole, where="year == 2024")["data"] == rows[1:]
        assert read(f"{whole}/year=2024")["data"] == [{"x": 2, "city": None}]
        assert read(f"{whole}/*/*/*.{kind}", columns=["year"], limit=1)["data"] == [{"year": 2023}]
        assert read(f"{whole}/**/part-*")["count"] == 2
        assert read(whole, partitions=False)["columns"] == ["x"]
    days = tmp_path / "days"
    for day in ("2024-02-29", "2024-03-01"):
        FileWriter().run([{"x": 1}], days / f"day={day}" / "a.parquet")
    assert frame(days)["day"].to_list() == [date(2024, 2, 29), date(2024, 3, 1)]
    FileWriter().run([{"x": 1}], days / "a.parquet")
    with pytest.raises(FileError, match=r"a\.parquet lies in no folder day=\.\.\., as other files do"):
        read(days)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "arrow", "avro"])
def test_files_that_differ_are_put_together_by_name(kind: str, tmp_path: Path) -> None:
    FileWriter().run([{"a": 1, "b": "x"}], tmp_path / f"1.{kind}")
    FileWriter().run([{"c": True, "a": 2.5}], tmp_path / f"2.{kind}")
    assert frame(tmp_path).rows() == [(1.0, "x", None), (2.5, None, True)]
    FileWriter().run([{"a": "z"}], tmp_path / f"3.{kind}")
    assert frame(tmp_path)["a"].cast(pl.String).to_list()[2] == "z"


@pytest.mark.parametrize(
    ("path", "kind", "error", "why"),
    [
        ("brids.csv", "auto", MissingFileError, r"^There is no file brids\.csv; did you mean 'birds\.csv'\?$"),
        ("*.avro", "auto", MissingFileError, r"^No file matches \*\.avro\."),
        ("birds.csv/", "auto", MissingFileError, r"^There is no file birds\.csv/"),
        ("some", "parquet", MissingFileError, r"^There is not a parquet file in some: it holds 2 other files\."),
        ("some", "auto", FileError, r"several formats \(csv, json\)"),
        ("none", "auto", MissingFileError, r"^There is not a file of data in none"),
        ("birds.xyz", "auto", FileError, r"^birds\.xyz: its name does not tell its format: say it with format="),
        ("/dev/zero", "text", FileError, "a device or a pipe"),
        ("", "csv", FileError, "'' is not the path of a file"),
        ([], "csv", FileError, "No path is given"),
        ("s3://", "csv", FileError, "names no bucket"),
        ("ftp://x/a.csv", "csv", FileError, "only below a root"),
        ("simplecache::http://x/a.csv", "csv", FileError, "address inside of another"),
    ],
)
def test_what_leads_to_no_file_is_told(
    path: Any,
    kind: Any,
    error: type[Exception],
    why: str,
    tmp_path: Path,
) -> None:
    for name in ("birds.csv", "birds.xyz", "some/a.csv", "some/b.json", "none/README"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("[]")
    with pytest.raises(error, match=why):
        FileReader(format=kind).run(path)


# ---- bad files


def parquet(tmp_path: Path, change: Callable[[bytes], bytes]) -> bytes:
    pl.DataFrame({"a": range(1000)}).write_parquet(tmp_path / "whole")
    return change((tmp_path / "whole").read_bytes())


def arrow(tmp_path: Path, change: Callable[[bytes], bytes]) -> bytes:
    pl.DataFrame({"a": range(1000)}).write_ipc(tmp_path / "whole")
    return change((tmp_path / "whole").read_bytes())


def avro(tmp_path: Path, change: Callable[[bytes], bytes]) -> bytes:
    FileWriter(format="avro").run([{"a": "x" * 100}] * 1000, tmp_path / "whole")
    return change((tmp_path / "whole").read_bytes())


NUMBERS = b"a,b\n" + b"1,2\n" * 12_000
LAUGHS = b"a0: &a0 [x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (n, n, b",".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 12)
)
BAD: list[tuple[str, Any, dict[str, Any], str]] = [
    ("n.csv", NUMBERS + b"x,2\n", {}, r"n\.csv, row 12001 \(line 12002\), column 'a': 'x' is not of type Int64"),
    ("n.csv", b'a,b\n"1\n",2\n2,1x\n', {"types": {"a": "text", "b": "int"}}, r"row 2 \(line 4\), column 'b': '1x'"),
    ("d.csv", b"a\n2020-02-30\n", {"types": {"a": "date"}}, r"row 1 \(line 2\), column 'a': '2020-02-30'"),
    ("m.csv", b'a,b\n1,"2\n3"\n1,2,3\n', {}, r"m\.csv, row 2 \(line 4\): it has 3 fields, and there are 2 columns"),
    ("q.csv", b'a,b\n1,"2\n3,4\n', {}, r"q\.csv, row 1 \(line 2\): a quote that begins here is never closed"),
    ("r.csv", b'a,b\n1,2\n3,"4\n', {}, r"r\.csv, row 2 \(line 3\): a quote that begins here is never closed"),
    ("s.csv", b'a;b\n1;"2\n"\nx;2\n', {"separator": ";", "types": {"a": "int"}}, r"row 2 \(line 4\), column 'a': 'x'"),
    ("e.csv", "a\nx\né\n".encode("latin-1"), {}, r"e\.csv, line 3, byte 1: 0xe9 is not utf-8: say how"),
    ("0.csv", b"", {}, r"0\.csv is empty: a csv file begins with the names of its columns"),
    ("z.csv.gz", gzip.compress(NUMBERS)[:-12], {}, r"z\.csv\.gz is cut off: it ends in the middle of its gzip data"),
    ("z.csv.gz", NUMBERS, {}, r"z\.csv\.gz is not gzip data: it begins with b'a,'"),
    ("z.csv.xz", NUMBERS, {}, r"z\.csv\.xz is not xz data"),
    ("z.csv.bz2", NUMBERS, {}, r"z\.csv\.bz2 is not bz2 data"),
    ("z.csv.zst", NUMBERS, {}, r"z\.csv\.zst is not zstd data"),
    ("b.json", b'[{"a": 1},\n {"a" 2}]', {}, r"b\.json, line 2, column 7: this is not JSON: Expecting ':' delimiter"),
    ("0.json", b" \n", {}, r"0\.json is empty"),
    ("deep.json", b"[" * 100_000, {}, r"deep\.json is nested too deep"),
    ("b.jsonl", b'{"a": 1}\n\n{"a": \n', {}, r"b\.jsonl, line 3, column 7: this is not JSON: Expecting value"),
    ("e.jsonl", b'{"a": 1}\n{"a": "\xff"}\n', {}, r"e\.jsonl, line 2, byte 8: 0xff is not utf-8"),
    ("b.yaml", b"a: [1\nb: 2\n", {}, r"b\.yaml, line 2, column 2: this is not YAML: did not find expected"),
    ("t.yaml", b"!!python/object:os.system {}\n", {}, r"t\.yaml, line 1, column 1: this is not YAML: could not"),
    ("l.yaml", LAUGHS, {}, r"l\.yaml repeats itself so often that it would be more than 10,000,000 values"),
    ("h.yaml", b"&a [*a]\n", {}, r"h\.yaml repeats itself"),
    ("d.yaml", b"a: 2024-13-45\n", {}, r"d\.yaml is not YAML: month must be in 1\.\.12"),
    ("e.txt", b"ok\n\xe9", {}, r"e\.txt, line 2, byte 1: 0xe9 is not utf-8"),
    ("0.parquet", b"", {}, r"0\.parquet is empty: there is no Parquet in it"),
    ("n.parquet", b"a,b\n1,2\n" * 9, {}, r"n\.parquet is not Parquet: it begins with b'a,b"),
    ("c.parquet", (parquet, lambda data: data[:-9]), {}, r"c\.parquet is cut off: Parquet ends with PAR1"),
    ("d.parquet", (parquet, lambda data: data[:4] + bytes(40) + data[44:]), {}, r"d\.parquet is damaged: "),
    ("c.arrow", (arrow, lambda data: data[:-9]), {}, r"c\.arrow is cut off: Arrow ends with ARROW1"),
    ("0.arrow", b"", {}, r"0\.arrow is empty"),
    ("n.arrow", b"a,b\n1,2\n", {}, r"n\.arrow is not Arrow: it begins with b'a,b"),
    ("n.avro", b"a,b\n1,2\n", {}, r"n\.avro is not an Avro file, or damaged"),
    ("0.avro", b"", {}, r"0\.avro is not an Avro file, or damaged"),
    ("c.avro", (avro, lambda data: data[:-9000]), {}, r"c\.avro is damaged or cut off after record \d+: "),
]  # fmt: skip


NAMES = [f"{number}-{each[0]}" for number, each in enumerate(BAD)]


@pytest.mark.parametrize("output", ["records", "frame"])
@pytest.mark.parametrize(("name", "content", "asked", "why"), BAD, ids=NAMES)
def test_a_bad_file_is_told_with_the_place(
    name: str, content: Any, asked: dict[str, Any], why: str, output: str, tmp_path: Path
) -> None:
    if not isinstance(content, bytes):
        make, change = content
        content = make(tmp_path, change)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileError, match=why) as told:
        read(name, output=output, **asked)
    assert "\n" not in str(told.value)
    if name.endswith((".parquet", ".csv")) and content:
        FileWriter().run([{"a": "2020-01-01", "b": 2}], tmp_path / "many" / f"0{name}")
        (tmp_path / "many" / name).write_bytes(content)
        with pytest.raises(FileError, match=why):
            read(tmp_path / "many", output=output, **asked)


def test_a_value_that_cannot_become_what_is_asked_is_told(tmp_path: Path) -> None:
    FileWriter().run([{"a": "1"}, {"a": "x"}], tmp_path / "a.jsonl")
    with pytest.raises(FileError, match=r"a\.jsonl, row 2, column 'a': 'x' cannot become int\."):
        read(tmp_path / "a.jsonl", types={"a": "int"})
    assert read(tmp_path / "a.jsonl", limit=1, types={"a": "int"})["data"] == [{"a": 1}]


# ---- a root


def test_nothing_is_reached_outside_of_the_root(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    FileWriter(root=str(inside)).run(BIRDS, "sub/birds.csv")
    (tmp_path / "out.csv").write_text("a\n1\n")
    (tmp_path / "input.csv").write_text("a\n1\n")
    (inside / "link.csv").symlink_to(tmp_path / "out.csv")
    (inside / "up").symlink_to(tmp_path)
    reader = FileReader(root=str(inside))
    assert reader.run("sub/birds.csv")["count"] == reader.run(str(inside / "sub"))["count"] == 3
    outside = [
        "../out.csv",
        str(tmp_path / "input.csv"),
        "link.csv",
        "up/out.csv",
        "*.csv",
        "up/*.csv",
        ".",
        "s3://b/a.csv",
    ]
    for path in [*outside, "http://example.com/a.csv", f"file://{tmp_path}/out.csv", "sub/../../out.csv"]:
        with pytest.raises(FileError, match="outside of"):
            reader.run(path)
    for path in ("../new.csv", "up/new.csv", str(tmp_path / "new.csv"), "link.csv"):
        with pytest.raises(FileError, match="outside of"):
            FileWriter(root=str(inside)).run(BIRDS, path)
    assert not (tmp_path / "new.csv").exists()
    assert (tmp_path / "out.csv").read_text() == "a\n1\n"


def test_a_root_opens_another_kind_of_file_system() -> None:
    writer, reader = FileWriter(root="memory://nest"), FileReader(root="memory://nest")
    writer.run(BIRDS, "a/birds.parquet")
    writer.run(BIRDS, "memory://nest/b/birds.parquet")
    assert reader.run("a/birds.parquet", where="mass > 1")["data"] == BIRDS[:1]
    assert reader.run("*/birds.parquet")["count"] == 6
    assert fsspec.filesystem("memory").find("nest") == ["/nest/a/birds.parquet", "/nest/b/birds.parquet"]
    with pytest.raises(FileError, match="outside of memory://nest"):
        reader.run("memory://nests/birds.parquet")
    with pytest.raises(FileError, match="from memory:// only below a root"):
        FileReader().run("memory://nest/a/birds.parquet")


# ---- writing


class Half:
    """A value that no format has a word for."""


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "birds.json"
    FileWriter().run(BIRDS, path)
    path.chmod(0o640)
    (tmp_path / "link.json").symlink_to(path)
    for bad in ([*BIRDS, {"name": Half()}], [*BIRDS, {"name": {"x": [b"\xff"]}}]):
        with pytest.raises(FileError, match=r"birds\.json: row 4, column 'name"):
            FileWriter().run(bad, path)
    assert read(path)["data"] == BIRDS
    assert list(path.parent.iterdir()) == [path]
    FileWriter().run(BIRDS[:1], tmp_path / "link.json")
    assert read(path)["data"] == BIRDS[:1]
    assert path.stat().st_mode & 0o777 == 0o640
    with pytest.raises(FileError, match=r"birds\.json exists already: choose another path, or mode='overwrite'"):
        FileWriter(mode="error").run(BIRDS, path)
    assert FileWriter(mode="error").run(BIRDS, tmp_path / "other.json")["count"] == 3
    for target, why in ((tmp_path, "is a folder"), (path / "x", "cannot be written: ")):
        with pytest.raises(FileError, match=why):
            FileWriter(format="csv").run(BIRDS, target)


def test_what_is_appended_goes_behind(tmp_path: Path) -> None:
    append = FileWriter(mode="append")
    for name in ("a.csv", "a.csv.gz", "a.jsonl", "a.jsonl.bz2"):
        for bird in BIRDS:
            append.run([bird], tmp_path / name)
        assert read(tmp_path / name)["data"] == BIRDS
    (tmp_path / "open.csv").write_text("name,mass\nowl,2.5")
    assert append.run(BIRDS[1:], tmp_path / "open.csv")["count"] == 2
    assert read(tmp_path / "open.csv")["data"] == BIRDS
    before = (tmp_path / "a.csv").read_bytes()
    with pytest.raises(FileError, match=r"a\.csv has the columns name, mass, and what .* appended has mass, name"):
        append.run([{"mass": 1.0, "name": "x"}], tmp_path / "a.csv")
    with pytest.raises(FileError, match="row 2"):
        append.run([{"name": "x"}, {"name": Half()}], tmp_path / "a.jsonl")
    assert (tmp_path / "a.csv").read_bytes() == before
    assert read(tmp_path / "a.jsonl")["data"] == BIRDS
    for kind in ("parquet", "json", "yaml", "avro", "arrow"):
        with pytest.raises(FileError, match=f"nothing can be appended to {kind}, only to csv, jsonl, text"):
            append.run(BIRDS, tmp_path / f"a.{kind}")
    with pytest.raises(FileError, match=r"s3://b/a\.csv: nothing can be appended there"):
        append.run(BIRDS, "s3://b/a.csv")


def test_what_opens_a_file_system_is_seen_nowhere(
    twingraph_home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TWINGRAPH_RECORD", "on")

    @pipeline  # calls outside of one are recorded where the first of this process was
    def read(reader: FileReader, address: str) -> Any:
        return reader(address).value

    options = {"key": "AKIA", "secret": "hush-hush", "headers": {"Authorization": "Bearer hush-hush"}}
    reader = FileReader(options=options)
    assert "hush" not in repr(reader)
    assert "AKIA" in repr(reader)
    with pytest.raises(FileError, match=r"options of s3:// are .*, not 'headers'"):
        read(reader, "s3://b/a.csv?X-Amz-Signature=hush-hush")
    reader = FileReader(options={"headers": options["headers"]})
    for address, why in {
        "http://127.0.0.1:9/a.csv?sig=hush-hush": "not on the public web",
        "http://ada:hush-hush@127.0.0.1:9/a.csv": "it cannot be asked for: Cannot combine",
    }.items():
        with pytest.raises(FileError, match=why):
            read(reader, address)
    held = b"".join(each.read_bytes() for each in twingraph_home.rglob("*") if each.is_file())
    assert b"FileReader" in held
    assert b"hush" not in held
    assert "hush" not in caplog.text


def test_those_who_append_at_once_do_not_mix(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"n": number, "s": "x" * 5000} for number in range(40)]
    threads = [
        threading.Thread(target=FileWriter(mode="append").run, args=([each] * 5, tmp_path / "a.csv")) for each in rows
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    found = read(tmp_path / "a.csv")["data"]
    assert sorted(each["n"] for each in found) == sorted(each["n"] for each in rows * 5)


def test_tables_in_every_form_are_written(tmp_path: Path) -> None:
    whole = pl.DataFrame(BIRDS)
    forms = [whole, whole.lazy(), whole.to_arrow(), whole.to_pandas(), whole.to_dict(as_series=False)]
    for form in [*forms, {"data": BIRDS, "count": 3, "columns": []}]:
        assert FileWriter().run(form, tmp_path / "a.parquet")["count"] == 3
        assert frame(tmp_path / "a.parquet").equals(whole)
    with pytest.raises(ComponentError, match="is no table"):
        FileWriter().run(3, tmp_path / "a.parquet")


def test_a_workflow_reads_a_frame_and_writes_it(tmp_path: Path) -> None:
    FileWriter().run(BIRDS, tmp_path / "in.parquet")
    flow = Workflow("copy")
    flow.add_component("read", FileReader, config={"format": "frame", "where": "mass > 0"})
    flow.add_component("write", "file_writer", config={"format": "csv", "root": str(tmp_path)})
    flow.connect("read", "write", output="data", input="data")
    done = flow.run(inputs={"read.path": str(tmp_path / "in.parquet"), "write.path": "out.csv"})
    assert done.outputs["count"] == 2
    assert (tmp_path / "out.csv").read_text() == "name,mass\nowl,2.5\nwren,0.01\n"
