"""A registry with one tiny image, and a relay to the engine that can be cut: what Docker meets outside of itself."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import socket
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class Registry:
    """A registry over HTTP on loopback, which engines trust there; `pulls` counts what was asked of it."""

    def __init__(self) -> None:
        self.pulls = 0
        self.blobs: dict[str, bytes] = {}
        layer = _layer()
        layers = {"type": "layers", "diff_ids": [_digest(layer)]}
        config = {"os": "linux", "architecture": "amd64", "config": {}, "rootfs": layers}
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": self._kept("application/vnd.docker.container.image.v1+json", json.dumps(config).encode()),
                "layers": [self._kept("application/vnd.docker.image.rootfs.diff.tar", layer)],
            }
        ).encode()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.image = f"127.0.0.1:{self.server.server_port}/tiny:1"

    def _kept(self, kind: str, blob: bytes) -> dict[str, Any]:
        self.blobs[_digest(blob)] = blob
        return {"mediaType": kind, "size": len(blob), "digest": _digest(blob)}


def _layer() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("note"), io.BytesIO())
    return buffer.getvalue()


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _handler(registry: Registry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            *_, kind, name = self.path.split("/")
            if kind == "manifests":
                registry.pulls += 1
                self._say(registry.manifest, _MANIFEST)
            elif kind == "blobs" and name in registry.blobs:
                self._say(registry.blobs[name], "application/octet-stream")
            else:
                self._say(b"{}", "application/json")

        do_HEAD = do_GET  # noqa: N815 - its name

        def _say(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
            self.send_header("Docker-Content-Digest", _digest(body))
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
            pass

    return Handler


@pytest.fixture
def docker_registry() -> Iterator[Registry]:
    """A registry that serves until the test ends."""
    registry = Registry()
    thread = threading.Thread(target=registry.server.serve_forever, args=(0.05,))
    thread.start()
    yield registry
    registry.server.shutdown()
    thread.join()
    registry.server.server_close()


class Relay:
    """A socket that leads to another one, until it is cut."""

    def __init__(self, path: Path, target: str) -> None:
        self.path = path
        self._target = target
        self._open: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self) -> None:
        """Nobody answers any more."""
        self.path.unlink(missing_ok=True)
        for each in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Cut it, and let go of all that it held."""
        self.cut()
        for thread in self._threads:
            thread.join()
        for each in [self._listener, *self._open]:
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            self._open += [near, far]
            far.connect(self._target)
            for source, drain in ((near, far), (far, near)):
                self._threads.append(threading.Thread(target=self._carry, args=(source, drain)))
                self._threads[-1].start()

    def _carry(self, source: socket.socket, drain: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                drain.sendall(data)
            drain.shutdown(socket.SHUT_WR)
