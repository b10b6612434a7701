"""An image in which this library is installed, for components that run there by their name.

Its libraries are those of this Python, which are mounted: an image that holds them would be a gigabyte, and this one is
made in a few seconds, once for a state of the code.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import sysconfig
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
VERSION = "%d.%d" % sys.version_info[:2]  # noqa: UP031 - as it is elsewhere
BASE = f"python:{VERSION}-slim"
LIBRARIES = "/libraries"
NAME = "twingraph-test-components"
_TOO_OLD = "24h"

DOCKERFILE = f"""
FROM {BASE}
COPY *.whl /tmp/
RUN pip install --no-index --no-deps --no-cache-dir --disable-pip-version-check --root-user-action ignore /tmp/*.whl
ENV PYTHONPATH={LIBRARIES}
"""


@pytest.fixture(scope="session")
def components_image(docker_engine: None) -> str:
    """The name of the image."""
    if _docker("image", "inspect", BASE).returncode:
        pytest.skip(f"Docker has no {BASE}: get it with dev/docker/images {VERSION}")
    name = f"{NAME}:{_state()}"
    with open(os.path.join(tempfile.gettempdir(), f"{NAME}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        if _docker("image", "inspect", name).returncode:
            _make(name)
    return name


def placed(image: str, *folders: Path, network: str = "none", libraries: bool = True) -> dict[str, Any]:
    """Where a component runs: what `@component` takes. The folders are there as they are here."""
    volumes: dict[str, Any] = {str(each): str(each) for each in folders}
    if libraries:
        volumes[sysconfig.get_path("purelib")] = {"bind": LIBRARIES, "mode": "ro"}
    return {
        "platform": "docker",
        "docker_image": image,
        "config": {"network": network, "pull_policy": "Never", "volumes": volumes},
    }


def _state() -> str:
    made = sha256(DOCKERFILE.encode())
    for path in [ROOT / "pyproject.toml", *sorted((ROOT / "src").rglob("*.py"))]:
        made.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return made.hexdigest()[:16]


def _make(name: str) -> None:
    _docker("image", "prune", "--all", "--force", f"--filter=label={NAME}", f"--filter=until={_TOO_OLD}")
    with tempfile.TemporaryDirectory() as folder:
        # A wheel as an installer would have it: with the entry points that give components their names.
        docker_run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
        (Path(folder) / "Dockerfile").write_text(DOCKERFILE)
        docker_run("docker", "build", "--network=none", f"--label={NAME}", f"--tag={name}", folder, DOCKER_BUILDKIT="0")


def docker_run(*command: str, **environ: str) -> None:
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environ}, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}{done.stdout}"


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=60, check=False)
