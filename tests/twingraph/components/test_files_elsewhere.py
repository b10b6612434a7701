"""FileReader and FileWriter on what does not lie on this machine: S3, Google's storage, the web."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.gcs_server import BUCKET, gcs_server  # noqa: F401 - a fixture
from tests.moto_server import Asked, Relay, Reply, refusal
from twingraph.components import FileReader, FileWriter
from twingraph.errors import ComponentError, FileError, MissingFileError

BIRDS = [{"name": "owl", "mass": 2.5}, {"name": "wren", "mass": 0.01}]
KINDS = ("csv", "jsonl", "json", "yaml", "avro", "parquet", "arrow", "csv.gz")


# ---- S3


@pytest.fixture
def endpoint(relay: Relay, bucket: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL", relay.url)
    return bucket


def test_s3_is_read_and_written(bucket: str, moto_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_server)
    for kind in KINDS:
        place = f"s3://{bucket}/all/{kind}?/birds #1 [é].{kind}"
        assert FileWriter().run(BIRDS, place)["path"] == place
        assert FileReader().run(place, where="mass > 1")["data"] == BIRDS[:1]
        assert FileReader().run(f"s3://{bucket}/all/{kind}?/*.{kind}")["data"] == BIRDS
    found = FileReader(format="csv").run(f"s3://{bucket}/all")
    assert found["count"] == 4
    FileWriter(format="parquet", partition_by=["year"]).run(
        [{"year": 2023, "x": 1}, {"year": 2024, "x": 2.5}], f"s3://{bucket}/table"
    )
    assert FileReader().run(f"s3a://{bucket}/table", where="year == 2024")["data"] == [{"x": 2.5, "year": 2024}]
    assert FileReader().run(f"s3://{bucket}/table/year=*/*.parquet", limit=1)["data"] == [{"x": 1.0, "year": 2023}]
    with pytest.raises(FileError, match="exists already"):
        FileWriter(mode="error").run(BIRDS, f"s3://{bucket}/all/csv?/birds #1 [é].csv")


def test_only_the_parts_of_parquet_are_fetched_that_are_asked_for(endpoint: str, relay: Relay, s3: Any) -> None:
    rows = pl.DataFrame({"n": range(100_000)}).with_columns(pl.col("n").hash().alias("much"))
    place = Path("big.parquet")
    rows.write_parquet(place, row_group_size=10_000)
    s3.put_object(Bucket=endpoint, Key="big.parquet", Body=place.read_bytes())
    relay.asked.clear()
    found = FileReader(format="frame").run(f"s3://{endpoint}/big.parquet", where="n > 95000", columns=["much"], limit=3)
    assert found["data"].equals(rows[95_001:95_004, ["much"]])
    ranges = [
        re.fullmatch(r"bytes=(\d+)-(\d+)", {name.lower(): held for name, held in each.headers.items()}.get("range", ""))
        for each in relay.asked
    ]
    fetched = sum(int(each[2]) - int(each[1]) + 1 for each in ranges if each)
    assert 0 < fetched < place.stat().st_size / 4
    assert all(each or asked.method == "HEAD" for each, asked in zip(ranges, relay.asked, strict=True))


def test_what_s3_refuses_is_told(endpoint: str, relay: Relay, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put_object(Bucket=endpoint, Key="in/cut.parquet", Body=b"PAR1 and no more")
    inside = FileReader(root=f"s3://{endpoint}/in")
    for path, why in {
        "cut.parquet": r"in/cut\.parquet is cut off: Parquet ends with PAR1",
        "cuts.parquet": r"There is no file s3://.*/in/cuts\.parquet\.",
        "*.csv": r"No file matches s3://.*/in/\*\.csv",
        "../a.csv": "outside of",
        f"s3://{endpoint}/inside/a.csv": "outside of",
        f"s3://{endpoint}/in/../a.csv": "outside of",
        "/etc/passwd": r"There is no file s3://",
        "s3://b*/a.csv": "a bucket is named by its whole name",
    }.items():
        with pytest.raises(ComponentError, match=why):
            inside.run(path)
    with pytest.raises(MissingFileError):
        FileReader().run("s3://no-such-bucket/a.csv")
    with pytest.raises(FileError, match=r"options of s3:// are anon, .* not 'kye'"):
        FileReader(options={"kye": "x"}).run(f"s3://{endpoint}/a.csv")
    relay.instead = lambda asked: refusal(403, "AccessDenied") if asked.method != "HEAD" else Reply(403)
    with pytest.raises(FileError, match=r"s3://.*/a\.csv cannot be (read|written)"):
        FileReader().run(f"s3://{endpoint}/a.csv")
    with pytest.raises(FileError, match=r"s3://.*/a\.csv cannot be written"):
        FileWriter().run(BIRDS, f"s3://{endpoint}/a.csv")
    for options, why in (
        ({"profile": "nobody"}, r"The config profile \(nobody\) could not be found"),
        ({"key": "half"}, "the options key and secret belong together"),
        ({"anon": True}, "nobody may write there without a name"),
    ):
        with pytest.raises(FileError, match=why):
            FileWriter(options=options).run(BIRDS, f"s3://{endpoint}/a.csv")
    relay.instead = lambda asked: refusal(500, "InternalError") if "partNumber=2" in asked.path else None
    relay.torn = lambda asked: 1000 if "partNumber=2" in asked.path else None
    many = pl.DataFrame({"n": range(1_100_000)}).with_columns(pl.col("n").hash().alias("much"))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(FileError, match=r"many\.arrow cannot be written"):
        FileWriter().run(many, f"s3://{endpoint}/many.arrow")
    assert [each["Key"] for each in s3.list_objects_v2(Bucket=endpoint)["Contents"]] == ["in/cut.parquet"]
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=endpoint)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(FileError, match="no AWS credentials are found here"):
        FileReader().run(f"s3://{endpoint}/a.csv")


def test_a_secret_key_of_s3_is_looked_up_where_it_is_used(
    bucket: str, moto_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("TWINGRAPH_SECRET_NEST", "hush-hush")
    options = {"key": "testing", "secret": "secret://NEST", "region": "us-east-1", "endpoint_url": moto_server}
    FileWriter(options=options).run(BIRDS, f"s3://{bucket}/a.csv")
    reader = FileReader(options=options)
    assert reader.run(f"s3://{bucket}/a.csv")["data"] == BIRDS
    assert "hush" not in repr(reader)


# ---- Google


def test_google_cloud_storage_is_read_and_written(gcs_server: str) -> None:  # noqa: F811 - the fixture
    options = {"endpoint_url": gcs_server, "anon": True}
    writer, reader = FileWriter(options=options), FileReader(options=options)
    for kind in ("csv", "parquet"):
        assert writer.run(BIRDS, f"gs://{BUCKET}/birds/kind={kind}/a.{kind}")["count"] == 2
    assert reader.run(f"gs://{BUCKET}/birds/kind=csv/a.csv")["data"] == BIRDS
    found = reader.run(f"gcs://{BUCKET}/birds/*/*.parquet", where="mass > 1")
    assert found["data"] == [{**BIRDS[0], "kind": "parquet"}]
    with pytest.raises(MissingFileError, match=rf"There is no file gs://{BUCKET}/brid\.csv"):
        reader.run(f"gs://{BUCKET}/brid.csv")


# ---- the web


class Site:
    """A small site: files by path, where some lead elsewhere and some are broken."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.elsewhere: dict[str, str] = {}
        self.broken: dict[str, int] = {}
        self.ranges = True
        self.sent = 0
        self.asked: list[Asked] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": self}))
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        self.site.asked.append(Asked(self.command, self.path, dict(self.headers)))
        path = self.path.partition("?")[0]
        if path in self.site.elsewhere:
            self._say(302, b"", Location=self.site.elsewhere[path])
        elif path in self.site.broken:
            self._say(self.site.broken[path], b"no")
        elif path not in self.site.files:
            self._say(404, b"no")
        elif (found := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))) and self.site.ranges:
            self._part(self.site.files[path], int(found[1]), int(found[2]))
        else:
            self._say(200, self.site.files[path])

    do_HEAD = do_GET  # noqa: N815 - what the base class calls

    def _part(self, data: bytes, first: int, last: int) -> None:
        part = data[first : last + 1]
        self._say(206, part, **{"Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(data)}"})

    def _say(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(body)), "Connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            with suppress(ConnectionError):  # who asked has heard enough
                self.wfile.write(body)
            self.site.sent += len(body)


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.close()


def test_the_web_is_read(site: Site, tmp_path: Path) -> None:
    root = f"http://127.0.0.1:{site.port}/nest/"
    for kind in KINDS:
        FileWriter().run(BIRDS, tmp_path / f"a.{kind}")
        site.files[f"/nest/a.{kind}"] = (tmp_path / f"a.{kind}").read_bytes()
        assert FileReader(root=root).run(f"a.{kind}?key=1", where="mass > 1")["data"] == BIRDS[:1]
    site.elsewhere["/nest/moved.csv"] = "/nest/a.csv"
    assert FileReader(root=root).run(f"{root}moved.csv")["data"] == BIRDS
    big = pl.DataFrame({"n": range(1_000_000)}).with_columns(pl.col("n").hash().alias("much"))
    big.write_parquet(tmp_path / "big.parquet", row_group_size=100_000)
    site.files["/nest/big.parquet"] = (tmp_path / "big.parquet").read_bytes()
    site.sent = 0
    reader = FileReader(root=root, output="frame")
    assert reader.run("big.parquet", where="n >= 999990", columns=["n"])["count"] == 10
    assert site.sent < len(site.files["/nest/big.parquet"]) * 0.8
    site.ranges = False
    assert reader.run("big.parquet", where="n >= 999990", columns=["n"])["count"] == 10


def test_nobody_is_led_into_the_network_that_this_stands_in(site: Site) -> None:
    site.files["/a.csv"] = b"a\n1\n"
    for host in ("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]", "127.1", "2130706433"):
        with pytest.raises(FileError, match=r"which is not on the public web|cannot be reached|broke off: InvalidUrl"):
            FileReader().run(f"http://{host}:{site.port}/a.csv")
    with pytest.raises(FileError, match=r"leads to 169\.254\.169\.254, which is not on the public web"):
        FileReader(format="text").run("http://169.254.169.254/latest/meta-data/")
    assert site.asked == []
    other = Site()
    try:
        other.files["/in/a.csv"] = b"a\n1\n"
        root = f"http://localhost:{site.port}/in"
        for to in (f"http://localhost:{other.port}/in/a.csv", f"http://127.0.0.1:{site.port}/in/a.csv", "/out/a.csv"):
            site.elsewhere["/in/a.csv"] = to
            with pytest.raises(FileError, match=r"/in/a\.csv: This address leads on to .*, outside of"):
                FileReader(root=root).run("a.csv")
        for path in (
            "../a.csv",
            "%2e%2e/a.csv",
            "%252e%252e/a.csv",
            "..%5ca.csv",
            f"http://localhost:{other.port}/in/a.csv",
        ):
            with pytest.raises(FileError, match="outside of"):
                FileReader(root=root).run(path)
        assert other.asked == []
    finally:
        other.close()


def test_what_a_site_refuses_is_told_without_the_keys_in_the_address(site: Site) -> None:
    root = f"http://127.0.0.1:{site.port}"
    site.broken |= {"/500.csv": 500, "/403.csv": 403}
    site.files |= {"/bad.jsonl": b'{"a": 1}\n{', "/0.csv": b""}
    for path, why in {
        "/no.csv": "^There is no file http://127",
        "/500.csv": r"/500\.csv: its site answers 500 Internal Server Error\.$",
        "/403.csv": r"/403\.csv: its site answers 403 Forbidden\.$",
        "/bad.jsonl": r"/bad\.jsonl, line 2, column 2: this is not JSON",
        "/0.csv": r"/0\.csv is empty",
    }.items():
        with pytest.raises(FileError, match=why) as told:
            FileReader(root=root).run(f"http://ada:s3cret@127.0.0.1:{site.port}{path}?token=s3cret")
        assert "s3cret" not in str(told.value)
    with pytest.raises(FileError, match="nothing can be written to the web"):
        FileWriter(root=root).run(BIRDS, "a.csv")
    for url in ("http://", "http://a b/x.csv", "http://a:x/x.csv"):
        with pytest.raises(FileError, match="is not a web address"):
            FileReader().run(url)
    gone = Site()
    gone.close()
    with pytest.raises(FileError, match="its site cannot be reached"):
        FileReader(root=f"http://127.0.0.1:{gone.port}").run("a.csv")
