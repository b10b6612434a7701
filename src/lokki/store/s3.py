"""A store in an S3 bucket: where deployed functions keep what they hand on, at the documented keys.

A small value is one request, written or read. A large one goes up in parts while it is still being made and comes down
in ranges, a few at a time, so that what is held besides the value itself is a few parts. A blob appears when its last
part is there, and what is read is one version of it. Only what lies in the store's own bucket, below its own prefix, is
ever unpickled.
"""

from __future__ import annotations

import os
import threading
from array import array
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from typing import Any

from lokki.codec import NO_TAG, Bytes, seal
from lokki.errors import ConfigurationError, LocationError, StoreError
from lokki.store.packing import Items
from lokki.store.protocol import BINARY, BlobStore, Index, output_key, plain_key, wanted
from lokki.store.s3_errors import DENIED, MISSING, refused, unanswered

_PART = 8 << 20  # what goes up or comes down in one request
_AT_ONCE = 8  # requests for one large value that are under way at the same time
_CONNECTIONS = 4 * _AT_ONCE  # besides those, callers read small values in threads of their own
_PIECE = 1 << 20  # what is copied at once while a part comes down
_ATTEMPTS = 8
_BEYOND = ("InvalidRange", "416")  # the blob ends before the range begins
_REPLACED = ("PreconditionFailed", "412", *_BEYOND)


class S3Store(BlobStore):
    """Values in an S3 bucket, by their keys below `prefix`.

    Args:
        endpoint: address of an AWS stand-in; else LOKKI_AWS_ENDPOINT, AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, else
            AWS itself.
        bucket: else LOKKI_ARTIFACT_BUCKET.
        prefix: what every key begins with; else LOKKI_AWS_PREFIX, else nothing.
        region: else LOKKI_AWS_REGION, AWS_REGION or what the AWS profile says, else us-east-1.
        client: an S3 client of boto3 or botocore to use, instead of one that is made for this store.
    """

    shared = True

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        bucket: str | None = None,
        prefix: str | None = None,
        region: str | None = None,
        client: Any = None,
    ) -> None:
        self.endpoint = endpoint or _setting("LOKKI_AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
        self.bucket = bucket or _setting("LOKKI_ARTIFACT_BUCKET")
        self.prefix = (_setting("LOKKI_AWS_PREFIX") if prefix is None else prefix).strip("/")
        self.region = region or _setting("LOKKI_AWS_REGION", "AWS_REGION")
        if not self.bucket:
            raise ConfigurationError(
                "aws.artifact_bucket is not set: name the S3 bucket for values there or in LOKKI_ARTIFACT_BUCKET.",
                "aws.artifact_bucket",
            )
        self._root = f"{self.prefix}/" if self.prefix else ""
        self._runs: set[str] = set()
        self._lock = threading.Lock()
        self._client = client
        self._threads: ThreadPoolExecutor | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        remake = partial(type(self), bucket=self.bucket, prefix=self.prefix, region=self.region)
        return remake, (self.endpoint,)

    def write(
        self, flow_name: str, run_id: str, step_name: str, value: Any, *, index: Index = (), tag: bytes = NO_TAG
    ) -> str:
        key = output_key(flow_name, run_id, step_name, index)
        with self._writing(key) as write:
            seal(value, write, tag, self._worth)
        return self.location(key)

    def location(self, key: str) -> str:
        return f"s3://{self.bucket}/{self._root}{key}"

    def put_blob(self, key: str, data: bytes, content_type: str = BINARY) -> str:
        with self._sending(plain_key(key), content_type) as write:
            write(data)
        return self.location(key)

    def span(self, key: str, start: int, end: int) -> tuple[bytes, int]:
        asked = wanted(start, end)
        last = max(end, start + 1) - 1  # a range of no bytes cannot be asked for
        answer, data = self._get(plain_key(key), f"{start}-{last}", _BEYOND)
        if _code(answer):
            return b"", int(answer["Error"].get("ActualObjectSize", 0))
        if "ContentRange" not in answer:
            return data[asked], len(data)
        return data[: end - start], _size(answer)

    def cleanup(self) -> None:
        """Remove the runs that this object has written to; nothing else in the bucket is touched."""
        for run in sorted(self._runs):
            self._delete(f"{run}/")
            self._runs.discard(run)

    def close(self) -> None:
        """Let go of connections and threads; they are made again when something is stored or read after all."""
        with self._lock:
            client, self._client = self._client, None
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown()
        if client is not None:
            client.close()

    def _key(self, location: str) -> str:
        if "://" not in location:
            return location
        scheme, _, rest = location.partition("://")
        bucket, _, key = rest.partition("/")
        if scheme != "s3" or not bucket or not key:
            raise LocationError(f"{location!r} is not the location of an S3 object: s3://<bucket>/<key>.", location)
        if bucket != self.bucket or not key.startswith(self._root):
            raise LocationError(
                f"{location} is not read: values are only ever loaded from {self.location('')}, the configured bucket "
                "and prefix.",
                location,
            )
        return key.removeprefix(self._root)

    def _written(self, key: str, offsets: array[int], tag: bytes) -> Items:
        return _LaterItems(partial(self._unpacked, key), offsets, tag)

    # --- writing

    @contextmanager
    def _writing(self, key: str) -> Iterator[Callable[[Bytes], Any]]:
        with self._sending(key, "application/json" if key.endswith(".json") else BINARY) as write:
            yield write

    @contextmanager
    def _sending(self, key: str, content_type: str) -> Iterator[Callable[[Bytes], Any]]:
        match key.split("/"):
            case [flow, "runs", run, _, *_]:
                self._runs.add(f"{flow}/runs/{run}")
        ask = partial(self._ask, location=self.location(key), Key=self._root + key)
        upload = _Upload(ask, self._pool, content_type)
        try:
            yield upload.write
            upload.close()
        except BaseException:
            upload.abort()
            raise

    # --- reading

    def _blob(self, key: str) -> Bytes:
        for _ in range(_ATTEMPTS):
            data = self._version(key)
            if data is not None:
                return data
        location = self.location(key)
        raise StoreError(f"{location} cannot be read: it was replaced each time while it was being read.", location)

    def _version(self, key: str) -> Bytes | None:
        """A blob's bytes, or None when another version of it took its place meanwhile."""
        answer, first = self._get(key, f"0-{_PART - 1}", _BEYOND)
        size = 0 if _code(answer) else _size(answer)
        if size <= len(first):
            return first
        data = bytearray(size)
        view = memoryview(data)
        view[: len(first)] = first
        pool, fill = self._pool(), partial(self._fill, key, view, answer["ETag"])
        parts = [pool.submit(fill, at) for at in range(len(first), size, _PART)]
        try:
            whole = all(part.result() for part in parts)
        finally:
            _give_up(parts)
        return data if whole else None

    def _fill(self, key: str, view: memoryview, version: str, at: int) -> bool:
        """Bring one part of a large blob to its place; says whether it is still that version."""
        room = view[at : at + _PART]
        answer, _ = self._get(key, f"{at}-{at + len(room) - 1}", _REPLACED, room, IfMatch=version)
        return not _code(answer)

    def _tail(self, key: str, size: int) -> bytes | None:
        # Where listing is not granted, S3 denies access to what is not there.
        answer, data = self._get(key, f"-{size}", (*MISSING, *DENIED, *_BEYOND))
        return None if _code(answer) in (*MISSING, *DENIED) else data[-size:]

    def _get(
        self, key: str, span: str, known: Collection[str], room: memoryview | None = None, **conditions: str
    ) -> tuple[dict[str, Any], bytes]:
        """The answer to a request for a range, and the bytes, unless there is `room` to put them.

        When the connection breaks while they come, they are asked for again.
        """
        from botocore.exceptions import BotoCoreError

        location = self.location(key)
        for left in reversed(range(_ATTEMPTS)):
            answer = self._ask("get_object", known, location, Key=self._root + key, Range=f"bytes={span}", **conditions)
            if _code(answer):
                break
            try:
                return answer, answer["Body"].read() if room is None else _pour(answer["Body"], room)
            except (BotoCoreError, OSError, EOFError) as error:
                if not left:
                    raise StoreError(f"{location} cannot be read: the connection broke ({error}).", location) from error
        return answer, b""

    # --- listing and removing

    def _keys(self, prefix: str) -> Iterator[str]:
        for page in self._pages(prefix):
            yield from (key.removeprefix(self._root) for key in page)

    def _delete(self, prefix: str) -> None:
        for page in self._pages(prefix):
            objects = {"Objects": [{"Key": key} for key in page], "Quiet": True}
            answer = self._ask("delete_objects", (), self.location(prefix), Delete=objects)
            for error in answer.get("Errors", ()):
                raise refused(error, "delete_objects", f"s3://{self.bucket}/{error['Key']}")

    def _pages(self, prefix: str) -> Iterator[list[str]]:
        """The full keys that begin like this, up to 1,000 at a time, as many as can be removed at once."""
        more: dict[str, str] = {}
        while True:
            page = self._ask("list_objects_v2", (), self.location(prefix), Prefix=self._root + prefix, **more)
            if page.get("Contents"):
                yield [each["Key"] for each in page["Contents"]]
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    # --- requests

    def _ask(self, operation: str, known: Collection[str], location: str, **arguments: Any) -> dict[str, Any]:
        """The answer to a request; also S3's refusal, where it is for one of the `known` reasons."""
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        try:
            client = self._s3()
            answer: dict[str, Any] = getattr(client, operation)(Bucket=self.bucket, **arguments)
        except ClientError as error:
            if _code(error.response) in known:
                return error.response  # type: ignore[no-any-return]
            raise refused(error.response["Error"], operation, location, client.meta.region_name) from error
        except (BotoCoreError, ResponseParserError) as error:
            raise unanswered(error, operation, location, self.endpoint) from error
        return answer

    def _s3(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = _connect(self.endpoint, self.region)
            return self._client

    def _pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(_AT_ONCE, "lokki-s3")
            return self._threads


class _LaterItems(Items):
    """Items that were just stored: who stores them seldom reads them, so they are fetched when one is asked for."""

    def __init__(self, fetch: Callable[[], Items], offsets: array[int], tag: bytes) -> None:
        super().__init__(memoryview(b""), offsets, tag)
        self._fetch = fetch

    def __getitem__(self, at: int) -> Any:
        return self._fetched[at]

    def frame(self, at: int) -> bytes:
        return self._fetched.frame(at)

    @cached_property
    def _fetched(self) -> Items:
        return self._fetch()


class _Upload:
    """A blob on its way up: in one request, or once it is larger than a part, in parts while more is written."""

    def __init__(
        self, ask: Callable[..., dict[str, Any]], pool: Callable[[], ThreadPoolExecutor], content_type: str
    ) -> None:
        self._ask = ask
        self._pool = pool
        self._content_type = content_type
        self._held = bytearray()
        self._room = _PART
        self._id = ""
        self._parts: list[Future[dict[str, Any]]] = []

    def write(self, data: Bytes) -> None:
        view = memoryview(data)
        while view:
            if len(self._held) == self._room:
                self._send()
            piece = view[: self._room - len(self._held)]
            self._held += piece
            view = view[len(piece) :]

    def close(self) -> None:
        if not self._id:
            self._ask("put_object", (), Body=self._held, ContentType=self._content_type)
            return
        self._send()
        parts = [part.result() for part in self._parts]
        self._ask("complete_multipart_upload", (), UploadId=self._id, MultipartUpload={"Parts": parts})

    def abort(self) -> None:
        _give_up(self._parts)
        if self._id:
            with suppress(StoreError):  # what is told is why it was given up
                self._ask("abort_multipart_upload", (), UploadId=self._id)

    def _send(self) -> None:
        if not self._id:
            begun = self._ask("create_multipart_upload", (), ContentType=self._content_type, ChecksumAlgorithm="CRC32")
            self._id = begun["UploadId"]
        if len(self._parts) >= _AT_ONCE:
            self._parts[-_AT_ONCE].result()
        number = len(self._parts) + 1
        self._parts.append(self._pool().submit(self._part, number, self._held))
        self._held = bytearray()
        self._room = _PART << number // 1_000  # 10,000 parts are allowed: so they are enough for the largest object

    def _part(self, number: int, data: bytearray) -> dict[str, Any]:
        answer = self._ask(
            "upload_part", (), UploadId=self._id, PartNumber=number, Body=data, ChecksumAlgorithm="CRC32"
        )
        sums = {name: value for name, value in answer.items() if name == "ETag" or name.startswith("Checksum")}
        return {"PartNumber": number, **sums}


def _setting(*names: str) -> str:
    """The first of these environment variables that is set.

    A deployed function has no configuration but its environment, and makes its store without arguments.
    """
    return next((text for name in names if (text := os.environ.get(name, "").strip())), "")


def _connect(endpoint: str, region: str) -> Any:
    from botocore.config import Config
    from botocore.session import get_session  # all that boto3 would add is time: no part of it is needed here

    session = get_session()
    config = Config(
        retries={"mode": "standard", "total_max_attempts": session.get_config_variable("max_attempts") or _ATTEMPTS},
        connect_timeout=5,
        read_timeout=60,
        max_pool_connections=_CONNECTIONS,
        s3={"addressing_style": "path"} if endpoint else None,
    )
    place = region or session.get_config_variable("region") or "us-east-1"
    try:
        return session.create_client("s3", region_name=place, endpoint_url=endpoint or None, config=config)
    except ValueError as error:
        raise ConfigurationError(
            f"aws.endpoint must be an address such as http://127.0.0.1:4566, not {endpoint!r}.", "aws.endpoint"
        ) from error


def _code(answer: dict[str, Any]) -> str:
    """Why S3 refused a request, or nothing when it did not."""
    return str(answer.get("Error", {}).get("Code", ""))


def _size(answer: dict[str, Any]) -> int:
    """How large the blob is that a range was asked of."""
    whole = answer.get("ContentRange", "").rpartition("/")[2]
    return int(whole or answer["ContentLength"])


def _pour(body: Any, room: memoryview) -> bytes:
    while room:
        done = body.readinto(room[:_PIECE])
        if not done:
            raise EOFError(f"{len(room)} bytes are missing")
        room = room[done:]
    return b""


def _give_up(parts: list[Future[Any]]) -> None:
    for part in parts:
        part.cancel()
    wait(parts)
