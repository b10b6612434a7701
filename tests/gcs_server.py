"""A Google Cloud Storage on this machine: an emulator in a process of its own, with one bucket in it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.moto_server import free_port

BUCKET = "birds"


@pytest.fixture(scope="session")
def gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address."""
    port = free_port()
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host", "127.0.0.1", "--port", str(port)]
    log = tmp_path_factory.mktemp("gcs") / "log"
    with log.open("wb") as out:
        server = subprocess.Popen([*command, "--in-memory", "--default-bucket", BUCKET], stdout=out, stderr=out)
    try:
        until = time.monotonic() + 60
        while server.poll() is None and time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                time.sleep(0.02)
            else:
                break
        else:
            raise RuntimeError(f"the emulator of Google Cloud Storage does not answer: {log.read_text()}")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
