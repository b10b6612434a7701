"""The images of functions and jobs, built by Docker and run: by themselves, and as LocalStack's functions and jobs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from lokki.store.local import LocalStore
from tests.aws.projects import Project
from tests.builder.projects import write
from tests.docker_engine import LAMBDA, Docker
from tests.localstack_server import REGION, LocalStack

pytestmark = pytest.mark.docker

FLOCK = """
    import sys
    from lokki import flow, main, step

    @step
    def get_birds(n: int): return ["goose", "duck", "swan"][:n]

    @step
    def flap_bird(bird):
        import six
        return six.ensure_text(f"{six.__name__}: flappy {bird}".encode())

    @step(job_type="batch")
    def join_birds(birds):
        import six
        return six.moves.reduce(lambda one, other: f"{one}, {other}", birds), sys.version_info[:2]

    @flow
    def NAME(n: int = 2): return get_birds(n).map(flap_bird).agg(join_birds)

    if __name__ == "__main__":
        main(NAME)
"""
ASKED = "[project]\nname = 'flock'\nversion = '1'\nrequires-python = '>=3.11'\ndependencies = ['six']\n"
JOINED = ("six: flappy goose, six: flappy duck", (3, 13))


@pytest.fixture(scope="session")
def index(docker_engine: None) -> None:
    """Skips where what runs in Docker does not reach an index of packages."""
    ask = [
        "python",
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--retries=0",
        "--timeout=10",
        "--dest=/tmp/x",
        "six",
    ]
    command = ["docker", "run", "--rm", "--entrypoint=", LAMBDA, *ask]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        pytest.skip(f"In Docker no index of packages answers: {done.stderr.strip()[-300:]}")


@pytest.fixture
def project(index: None, docker: Docker, at_home: Path) -> Project:
    """A flow with a package of an index, whose images are removed afterwards."""
    made = Project(at_home / "project", {"LOKKI_AWS_REGION": REGION}, name=docker.tag.replace("-", "_"), text=FLOCK)
    made.toml = '[batch]\njob_queue = "jobs"\n'
    made.settings |= {"LOKKI_IMAGE_REPOSITORY": "local", "LOKKI_ARTIFACT_BUCKET": f"{made.flow}-data"}
    write(made.folder, {"pyproject.toml": ASKED})
    locked = subprocess.run(["uv", "lock", "--quiet"], cwd=made.folder, capture_output=True, text=True, check=False)
    if locked.returncode:
        pytest.skip(f"No index of packages answers here: {locked.stderr.strip()[-300:]}")
    return made


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that containers can write to, whoever they run as."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def called(port: int, event: dict[str, Any]) -> Any:
    """The answer of the function that listens on a port, which it does not at once."""
    pause = Event()
    while True:
        connection = HTTPConnection("127.0.0.1", port)
        try:
            connection.request("POST", "/2015-03-31/functions/function/invocations", json.dumps(event))
            return json.loads(connection.getresponse().read())
        except (ConnectionError, HTTPException):
            pause.wait(0.1)
        finally:
            connection.close()


def test_functions_and_jobs_run_from_their_images(project: Project, docker: Docker, shared: Path) -> None:
    project.done("build")
    built = project.folder / "lokki-build"
    for name, folder in ((docker.tag, "lambdas"), (f"{docker.tag}-batch", "batch")):
        docker("build", "--tag", name, str(built / folder), DOCKER_BUILDKIT="0")
    variables = {
        "LOKKI_STORE_TYPE": "local",
        "LOKKI_STORE_PATH": "/shared",
        "LOKKI_FLOW_NAME": project.flow,
        "LOKKI_MODULE_NAME": "watch",
    }
    user = f"--user={os.getuid()}:{os.getgid()}"
    given = [*(f"--env={name}={text}" for name, text in variables.items()), f"--volume={shared}:/shared", user]

    def function(step: str) -> int:
        container = docker.start("--publish=127.0.0.1::8080", f"--env=LOKKI_STEP_NAME={step}", *given, docker.tag)
        return int(docker("port", container, "8080").splitlines()[0].rpartition(":")[2])

    begun = called(
        function("get_birds"), {"lokki": "get_birds", "execution": "spring", "params": {"n": 2}, "attempt": 0}
    )
    assert begun["run_id"] == "spring", begun
    manifest = json.loads((shared / begun["map_manifest_key"]).read_text())
    assert len(manifest) == 2
    flap = function("flap_bird")
    for at in manifest:
        state = {"run_id": "spring", "cache": False, "at": at}
        answer = called(flap, {"lokki": "flap_bird", "state": state, "attempt": 0})
        assert answer.get("run_id") == "spring", answer

    told = {"LOKKI_NODE": "join_birds", "LOKKI_STATE": json.dumps({"run_id": "spring", "cache": False})}
    said = docker.run(*given, *(f"--env={name}={text}" for name, text in told.items()), f"{docker.tag}-batch")
    assert "Step 'join_birds' completed" in said
    assert LocalStore(shared).load(project.flow, "spring", "join_birds") == JOINED


def test_a_flow_of_images_lives_on_localstack(own_account: LocalStack, project: Project, docker: Docker) -> None:
    batch = own_account.client("batch")
    batch.create_compute_environment(computeEnvironmentName="some", type="UNMANAGED")
    order = [{"order": 1, "computeEnvironment": "some"}]
    batch.create_job_queue(jobQueueName="jobs", priority=1, computeEnvironmentOrder=order)
    _, said = project.done("deploy", "--confirm")
    assert f"Building image {project.flow}:latest-" in said
    assert f"Building image {project.flow}-batch:latest-" in said
    out, _ = project.done("invoke")
    assert out == f"{JOINED}\n"

    project.change("flappy", "happy")
    project.done("deploy", "--confirm")
    out, _ = project.done("invoke", "--n", "1")
    assert out == f"{('six: happy goose', (3, 13))}\n"
    project.done("destroy", "--confirm", "--data")
    assert own_account.client("lambda").list_functions()["Functions"] == []
