"""A Google Cloud Storage on this machine: an emulator in a process of its own, with one bucket in it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.listening import free_port, listening

BUCKET = "birds"


@pytest.fixture(scope="session")
def gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address."""
    port = free_port()
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--in-memory", "--default-bucket", BUCKET]
    with listening("the emulator of Google Cloud Storage", command, port, tmp_path_factory.mktemp("gcs")) as url:
        yield url
