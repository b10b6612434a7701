"""An S3 (and the rest of AWS) on this machine, over HTTP: moto's server, a bucket in it, and a relay in front of it.

The fixtures are known to every test. `serving` starts a server of one's own, where its environment matters.
"""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.listening import free_port, listening

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
}
OTHERS = (
    "AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_MAX_ATTEMPTS", "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3", "LOKKI_AWS_ENDPOINT", "LOKKI_AWS_PREFIX", "LOKKI_AWS_REGION", "LOKKI_ARTIFACT_BUCKET",
)  # fmt: skip


@contextmanager
def serving(folder: Path, **environ: str) -> Iterator[str]:
    """The address of a moto server that is there as long as the block; its log is in the folder."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with listening("moto's server", command, port, folder, {**CREDENTIALS, **environ}) as url:
        yield url


def s3_client(endpoint: str) -> Any:
    """A client for looking at what a bucket holds, past the store."""
    from botocore.config import Config
    from botocore.session import get_session

    return get_session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=endpoint,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        config=Config(s3={"addressing_style": "path"}),
    )


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a moto server that all tests share."""
    with serving(tmp_path_factory.mktemp("moto")) as url:
        yield url


@pytest.fixture(scope="session")
def s3(moto_server: str) -> Any:
    """A plain client of that server's S3."""
    return s3_client(moto_server)


@pytest.fixture
def aws(at_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials, and nothing else that would lead to an account."""
    for name in OTHERS:
        monkeypatch.delenv(name, raising=False)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def bucket(aws: None, s3: Any) -> Iterator[str]:
    """A bucket with nothing in it."""
    name = f"lokki-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    yield name
    empty(s3, name)
    s3.delete_bucket(Bucket=name)


def empty(s3: Any, bucket: str) -> None:
    """Remove everything in a bucket."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        if page.get("Contents"):
            objects = [{"Key": each["Key"]} for each in page["Contents"]]
            s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})


@dataclass
class Asked:
    """A request on its way; what is changed here is changed for whom it is sent to."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Reply:
    """An answer that the relay gives itself."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def refusal(status: int, code: str, message: str = "No", **more: str) -> Reply:
    """An error as S3 says it."""
    inside = "".join(f"<{name}>{text}</{name}>" for name, text in {"Code": code, "Message": message, **more}.items())
    return Reply(status, f"<?xml version='1.0' encoding='UTF-8'?><Error>{inside}</Error>".encode())


LOST = Reply(0)
"""The answer is lost: what was asked is done, and the connection breaks before a word comes back."""


class Relay:
    """A server in front of another: it remembers what was asked, and answers itself what `instead` has an answer to.

    Attributes:
        torn: after so many bytes of a request's body the connection breaks, and nobody gets it; None for never.
    """

    def __init__(self, upstream: str) -> None:
        self.asked: list[Asked] = []
        self.instead: Callable[[Asked], Reply | None] = lambda asked: None
        self.torn: Callable[[Asked], int | None] = lambda asked: None
        self.upstream = urlsplit(upstream)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"relay": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        """Answer nobody any more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, asked: Asked, body: bytes) -> Reply:
        """The answer to a request, its own or the other server's."""
        asked.body = body
        self.asked.append(asked)
        own = self.instead(asked)
        if own is LOST:
            self._passed_on(asked, body)
        return own or self._passed_on(asked, body)

    def _passed_on(self, asked: Asked, body: bytes) -> Reply:
        connection = HTTPConnection(self.upstream.hostname or "", self.upstream.port)
        try:
            connection.request(asked.method, asked.path, body, asked.headers)
            got = connection.getresponse()
            return Reply(got.status, got.read(), dict(got.getheaders()))
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    relay: Relay

    def _respond(self) -> None:
        asked, length = Asked(self.command, self.path, dict(self.headers)), int(self.headers.get("Content-Length", 0))
        torn = self.relay.torn(asked)
        body = self.rfile.read(length if torn is None else min(torn, length))
        reply = self.relay.answer(asked, body) if torn is None else LOST
        if reply is LOST:
            return
        self.send_response_only(reply.status)
        for name, value in {"Content-Length": str(len(reply.body)), **reply.headers, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _respond  # noqa: N815 - what the base class calls

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base class calls it
        pass


@pytest.fixture(scope="session")
def relay_server(moto_server: str) -> Iterator[Relay]:
    """A relay in front of the shared server, with what the last test left in it."""
    made = Relay(moto_server)
    yield made
    made.close()


@pytest.fixture
def relay(relay_server: Relay) -> Iterator[Relay]:
    """A relay in front of the shared server; it passes everything on until it is told otherwise."""
    yield relay_server
    relay_server.instead = lambda asked: None
    relay_server.torn = lambda asked: None
    relay_server.asked.clear()
