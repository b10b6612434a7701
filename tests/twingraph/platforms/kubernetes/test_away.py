"""A cluster that cannot be reached for a while, or for good, and a bucket for what is large."""

# ruff: noqa: T201 - components print
from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.kubernetes_cluster import Kubernetes as Namespace
from tests.moto_server import CREDENTIALS
from tests.twingraph.calling import Heard, placed
from twingraph.errors import PlatformUnavailableError
from twingraph.placement import Placement
from twingraph.platforms.base import run
from twingraph.platforms.kubernetes import Kubernetes

IMAGE = "python:3.13-slim"
OURS = "app.kubernetes.io/managed-by=twingraph"


class Relay:
    """A port that leads to the API server, until connections are dropped or it is closed."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.port = self._listener.getsockname()[1]

    def drop(self) -> None:
        """Break off the connections that there are; new ones are taken."""
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Nobody answers any more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()

    def clear(self) -> None:
        """Let go of everything."""
        self.close()
        for thread in self._threads:
            thread.join()
        for each in self._open:
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            self._open += [near, far]
            for source, drain in ((near, far), (far, near)):
                self._threads.append(threading.Thread(target=self._carry, args=(source, drain)))
                self._threads[-1].start()

    @staticmethod
    def _carry(source: socket.socket, drain: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                drain.sendall(data)
        for each in (source, drain):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def relay(kubernetes: Namespace) -> Iterator[Relay]:
    told = yaml.safe_load(kubernetes.server.kubeconfig.read_text())
    url = urlsplit(told["clusters"][0]["cluster"]["server"])
    made = Relay(url.hostname or "", url.port or 443)
    yield made
    made.clear()


@pytest.fixture
def place(kubernetes: Namespace, relay: Relay, tmp_path: Path) -> Placement:
    """Through the relay."""
    told = yaml.safe_load(kubernetes.server.kubeconfig.read_text())
    told["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{relay.port}"
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(told))
    config = {"kubeconfig": str(tmp_path / "kubeconfig"), "namespace": kubernetes.namespace}
    return Placement("kubernetes", IMAGE, config=config)


class Acting(Heard):
    """Does something when it hears the first line."""

    def __init__(self, act: Any) -> None:
        super().__init__()
        self._act = act

    def log(self, level: str, line: str) -> None:
        super().log(level, line)
        if len(self.lines) == 1:
            self._act()


def work() -> str:
    for number in range(4):
        print("line", number, flush=True)
        time.sleep(0.5)
    return "done"


def test_connections_that_break_off_are_made_again(kubernetes: Namespace, relay: Relay, place: Placement) -> None:
    heard = Acting(relay.drop)
    assert run(Kubernetes(patience=0.3), placed(work, place=place, heard=heard)) == "done"
    assert heard.lines == [("info", f"line {number}") for number in range(4)]
    for what in ("job", "secret", "pod"):
        kubernetes.await_none(what, label_selector=OURS)


def test_a_server_that_stays_away_ends_the_call(kubernetes: Namespace, relay: Relay, place: Placement) -> None:
    with pytest.raises(PlatformUnavailableError, match=r"does not answer .*: check the address"):
        run(Kubernetes(patience=0.5), placed(work, place=place, heard=Acting(relay.close)))
    (job,) = kubernetes.batch.list_namespaced_job(kubernetes.namespace).items
    owners = [
        secret.metadata.owner_references[0].uid
        for secret in kubernetes.core.list_namespaced_secret(kubernetes.namespace, label_selector=OURS).items
    ]
    assert owners == [job.metadata.uid]  # all of it goes with the job, which ends itself


def test_what_is_large_goes_through_a_bucket(
    kubernetes: Namespace, bucket: str, s3: Any, moto_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": moto_server, "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    seen: list[list[str]] = []

    def look() -> None:
        seen.append([each["Key"] for each in s3.list_objects_v2(Bucket=bucket).get("Contents", [])])

    def grow(data: bytes) -> bytes:
        print("grows")
        return data * 2

    config = {
        "kubeconfig": str(kubernetes.server.kubeconfig), "namespace": kubernetes.namespace,
        "store": f"s3://{bucket}/calls/", "host_network": True,  # the bucket is on this machine
    }  # fmt: skip
    data, heard = os.urandom(3_000_000), Acting(look)
    call = placed(grow, data, place=Placement("kubernetes", IMAGE, config=config), heard=heard)
    assert run(Kubernetes(), call) == data * 2
    assert heard.lines == [("info", "grows")]
    assert f"calls/{call.id}/envelope" in seen[0]  # and perhaps the answer: the line may be heard when that is there
    small = placed(grow, b"12", place=Placement("kubernetes", IMAGE, config=config))
    assert run(Kubernetes(), small) == b"1212"
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    for what in ("job", "secret", "pod"):
        kubernetes.await_none(what, label_selector=OURS)
    config["store"] = "s3://no-such-bucket-anywhere/x"
    with pytest.raises(PlatformUnavailableError, match=r"store s3://no-such-bucket-anywhere/x/.* cannot be used"):
        run(Kubernetes(), placed(grow, data, place=Placement("kubernetes", IMAGE, config=config)))
