"""A Docker engine with the images that the images of flows start from, as `dev/docker` makes them."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

VARIABLE = "LOKKI_TEST_DOCKER"
PYTHON = "python:3.13-slim"
LAMBDA = "public.ecr.aws/lambda/python:3.13"
SECONDS = 100


@dataclass(frozen=True)
class Docker:
    """The command line client, and what a test has made with it."""

    tag: str = field(default_factory=lambda: f"lokki-test-{uuid.uuid4().hex[:12]}")

    def __call__(self, *arguments: str, **environ: str) -> str:
        """What a command prints; a failure is an error that says what went wrong."""
        done = _docker(*arguments, **environ)
        assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done.stdout

    def run(self, *arguments: str) -> str:
        """What a container prints that is removed when it ends; `tag` names what belongs to this test."""
        return self("run", "--rm", f"--label={self.tag}", *arguments)

    def start(self, *arguments: str) -> str:
        """A container that runs until the test ends; its id."""
        return self("run", "--detach", f"--label={self.tag}", *arguments).strip()

    def clear(self) -> None:
        """Remove the containers with the label, and the images whose name begins with it."""
        if containers := self("ps", "--all", "--quiet", f"--filter=label={self.tag}").split():
            self("rm", "--force", *containers)
        if images := self("images", "--format={{.Repository}}:{{.Tag}}", f"--filter=reference={self.tag}*").split():
            self("rmi", "--force", *images)


@pytest.fixture(scope="session")
def docker_engine() -> None:
    """Skips where there is no engine, or none with the images."""
    if os.environ.get(VARIABLE) == "off":
        pytest.skip(f"{VARIABLE} is off")
    try:
        found = _docker("info", "--format={{.ServerVersion}}")
    except FileNotFoundError:
        pytest.skip("There is no docker command: install Docker, or on Debian run dev/docker/start")
    if found.returncode:
        pytest.skip(f"No Docker engine answers ({found.stderr.strip()}): start it with dev/docker/start")
    if _docker("image", "inspect", PYTHON, LAMBDA).returncode:
        pytest.skip(f"Docker has not both {PYTHON} and {LAMBDA}: get them with dev/docker/images")


@pytest.fixture
def docker(docker_engine: None) -> Iterator[Docker]:
    """Docker; what the test starts with it is removed afterwards, and so are images named after its `tag`."""
    made = Docker()
    yield made
    made.clear()


def _docker(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *arguments],
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
