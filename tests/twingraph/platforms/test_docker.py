"""Calls in containers of a real engine."""

# ruff: noqa: T201 - components print
from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.contracts.platform import PlatformContract
from tests.docker_engine import PYTHON
from tests.docker_engine import Docker as Engine
from tests.docker_registry import Registry, Relay
from tests.twingraph import cargo
from tests.twingraph.calling import Heard, placed
from twingraph.errors import ComponentError, PlatformError, PlatformUnavailableError
from twingraph.placed import Placed
from twingraph.placement import Placement
from twingraph.platforms.base import Platform, run
from twingraph.platforms.docker import Docker
from twingraph.platforms.serving import BOOT

PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")


@pytest.fixture
def docker_platform(docker: Engine) -> Iterator[Docker]:
    made = Docker()
    yield made
    made.close()


class TestDocker(PlatformContract):
    many: ClassVar[int] = 20  # a container takes a second of this machine's processors
    at_once: ClassVar[int] = 10

    @pytest.fixture
    def platform(self, docker_platform: Docker, docker: Engine) -> Platform:
        self.made, self.engine = docker_platform, docker
        return docker_platform

    def place(self, **changes: Any) -> Placement:
        return Placement("docker", PYTHON, **{"config": {"network": "none"}, **changes})

    def left(self, calls: list[Placed]) -> list[str]:
        self.made.close()
        labels = [f"--filter=label=twingraph={each.id}" for each in calls]
        return [found for each in labels if (found := self.engine("ps", "--all", "--quiet", each))]


class TestWarmDocker(TestDocker):
    many: ClassVar[int] = 200
    at_once: ClassVar[int] = 8

    def place(self, **changes: Any) -> Placement:
        return super().place(config={"network": "none", "warm": True}, **changes)


def place(image: str = PYTHON, **config: Any) -> Placement:
    return Placement("docker", image, {"network": "none", **config})


def test_a_container_is_as_the_placement_says(docker: Engine, docker_platform: Docker, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "in").write_text("given")

    volumes = {str(tmp_path / "data"): {"bind": "/got", "mode": "ro"}, str(tmp_path): "/put"}
    where = Placement(
        "docker",
        PYTHON,
        {"volumes": volumes, "network": "none", "user": "0", "memory": "128m", "cpu": "0.5"},
        environment={"A": "b c"},
        labels={"team": "birds"},
    )

    seen: list[str] = []
    form = (
        "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.NanoCpus}} {{.HostConfig.NetworkMode}} "
        "{{.Config.User}} {{.Config.Labels.team}} {{index .Config.Labels `twingraph.component`}}"
    )

    class Looking(Heard):
        def log(self, level: str, line: str) -> None:
            seen.append(docker("inspect", f"--format={form}", call.id).strip())

    def outer() -> Any:
        print("look at me")
        Path("/put/out").write_text("made")
        flags = os.statvfs("/got").f_flag
        return Path("/got/in").read_text(), bool(flags & os.ST_RDONLY), os.getuid(), os.environ["A"]

    call = placed(outer, heard=Looking(), place=where)
    assert run(docker_platform, call) == ("given", True, 0, "b c")
    assert (tmp_path / "out").read_text() == "made"
    assert seen == ["134217728 134217728 500000000 none 0 birds outer"]


def test_resources_fill_in_what_config_leaves_open(docker: Engine, docker_platform: Docker) -> None:
    def work() -> None:
        held = []
        while True:
            held.append(bytearray(2**20))

    small = Placement("docker", PYTHON, {"network": "none"}, resources={"memory": "64Mi"})
    with pytest.raises(PlatformError, match=r"'work': its container ran out of its memory of 64 MiB: give it"):
        run(docker_platform, placed(work, place=small))


def test_a_process_that_ends_says_how(docker_platform: Docker) -> None:
    def leave() -> None:
        print("nearly there")
        os._exit(7)

    with pytest.raises(
        PlatformError, match=r"'leave': its container ended with exit code 7 before it returned \(it last said: nearly"
    ):
        run(docker_platform, placed(leave, place=place()))
    with pytest.raises(PlatformError, match="its container was ended by signal 9"):
        run(docker_platform, placed(lambda: os.kill(os.getpid(), 9), place=place()))


def test_images_that_cannot_run_a_call_are_told_apart(docker: Engine, docker_platform: Docker) -> None:
    missing = f"{docker.tag}-missing:1"
    with pytest.raises(PlatformError, match=rf"no image '{missing}', and pull_policy is Never: pull or build it"):
        run(docker_platform, placed(len, "", place=place(missing, pull_policy="Never")))
    with pytest.raises(PlatformError, match=rf"image '{missing}' is not here and cannot be pulled \(.+\): build it"):
        run(docker_platform, placed(len, "", place=place(missing)))
    empty = f"{docker.tag}-empty"
    subprocess.run(["docker", "import", "-", empty], input=b"\0" * 1024, capture_output=True, check=True)
    with pytest.raises(PlatformError, match=rf"image '{empty}' has no python3 or python: use an image with Python 3.8"):
        run(docker_platform, placed(len, "", place=place(empty)))
    with pytest.raises(PlatformError, match=rf"image '{PYTHON}' has no /opt/python: "):
        run(docker_platform, placed(len, "", place=place(python="/opt/python")))
    left = docker("ps", "--all", "--quiet", f"--filter=ancestor={empty}")
    assert left == ""


def test_an_image_is_pulled_when_the_policy_says_so(
    docker: Engine, docker_platform: Docker, docker_registry: Registry
) -> None:
    image = docker_registry.image

    def lines(**config: Any) -> list[tuple[str, str]]:
        heard = Heard()
        with pytest.raises(PlatformError, match=f"image '{image}' has no python3 or python"):
            run(docker_platform, placed(len, "", heard=heard, place=place(image, **config)))
        return heard.lines

    try:
        assert lines() == [("info", f"pulling image {image}")]
        before = docker_registry.pulls
        assert lines() == lines(pull_policy="Never") == []
        assert docker_registry.pulls == before
        assert lines(pull_policy="Always") == [("info", f"pulling image {image}")]
        assert docker_registry.pulls > before
    finally:
        docker("rmi", "--force", image)


def test_an_engine_that_goes_away_is_named(docker: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    engine = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    relay = Relay(tmp_path / "relay.sock", engine)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{relay.path}")

    class Cutting(Heard):
        def log(self, level: str, line: str) -> None:
            super().log(level, line)
            relay.cut()

    def work() -> None:
        print("begun")
        os.system("sleep 600")

    heard = Cutting()
    call = placed(work, heard=heard, place=place())
    with closing(Docker()) as cut:
        with pytest.raises(PlatformError, match="'work': its container was lost, because Docker does not answer"):
            run(cut, call)
        assert [level for level, _ in heard.lines] == ["info", "warning"]
        assert f"container {call.id} could not be removed" in heard.lines[1][1]
    relay.close()
    monkeypatch.delenv("DOCKER_HOST")
    docker("wait", call.id)  # without us it ends
    docker("rm", "--force", call.id)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"memori": "1G"}, r"Docker has no option 'memori'.*'memory'"),
        ({"isolate": True}, r"Docker has no option 'isolate'"),
        ({"memory": "much"}, "'much' is no amount of memory"),
        ({"cpu": "fast"}, "'fast' is no number of processors"),
        ({"gpu": "yes"}, "gpu takes True or a number"),
        ({"volumes": ["/a"]}, "volumes takes a dict"),
        ({"volumes": {"/a": "b"}}, "a volume goes to '/path'"),
        ({"pull_policy": "Sometimes"}, "pull_policy is one of Always, IfNotPresent, Never"),
    ],
)
def test_options_that_cannot_be_understood_are_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ComponentError, match=words):
        Docker().start(placed(len, "", place=Placement("docker", PYTHON, config)))


def test_every_python_that_has_an_image_runs_a_call(docker: Engine, docker_platform: Docker) -> None:
    def work(data: list[float], threshold: float = 0.5) -> Any:
        output = namedtuple("output", ["filtered", "count"])  # type: ignore[name-defined]  # noqa: F821
        filtered = [each for each in data if each > threshold]
        return cargo.double(3), output(filtered=filtered, count=len(filtered)), cargo.Colour.RED

    images = docker("images", "--filter=reference=python:3.*-slim", "--format={{.Repository}}:{{.Tag}}").split()
    assert PYTHON in images
    for image in images:
        got = run(docker_platform, placed(work, [0.1, 0.7], place=place(image)))
        assert (got[0], got[1]._asdict(), got[2]) == (6, {"filtered": [0.7], "count": 1}, cargo.Colour.RED)


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.7"])
def test_a_python_that_is_too_old_says_so(version: str) -> None:
    python = next(PYENV.glob(f"versions/{version}.*/bin/python"), None)
    if python is None:
        pytest.skip(f"Python {version} is not here: pyenv install {version}")
    done = subprocess.run([str(python), "-c", BOOT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"TwinGraph needs Python 3.8 or newer, and this is {version}\n"


def test_gpus_need_an_engine_that_has_them(docker: Engine, docker_platform: Docker) -> None:
    if "nvidia" in docker("info", "--format={{json .Runtimes}}"):
        pytest.skip("This engine has GPUs; there is nothing to refuse")
    with pytest.raises(PlatformError, match=r"Docker cannot start its container: .*gpu"):
        run(docker_platform, placed(len, "", place=place(gpu=1)))


def test_an_engine_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(PlatformUnavailableError, match=r"No Docker engine answers at unix:.*none.sock"):
        Docker().check()


def test_the_engine_says_what_it_is(docker_platform: Docker) -> None:
    assert docker_platform.check().startswith("Docker ")


def test_a_warm_container_serves_later_calls_of_the_same_component(docker: Engine, docker_platform: Docker) -> None:
    def work(n: int) -> Any:
        import time

        return n, time.clock_gettime(time.CLOCK_BOOTTIME), open("/proc/sys/kernel/random/boot_id").read(), os.uname()[1]

    def other() -> str:
        return os.uname()[1]

    warm = place(warm=True)
    first = run(docker_platform, placed(work, 1, place=warm))[3]
    second = run(docker_platform, placed(work, 2, place=warm))[3]
    assert first == second
    assert run(docker_platform, placed(other, place=warm)) != first
    assert run(docker_platform, placed(work, 3, place=place(warm=True, memory="200m")))[3] != first
    docker("kill", first)
    docker("wait", first)
    assert run(docker_platform, placed(work, 4, place=warm))[3] != first
    docker_platform.close()
    assert first not in docker("ps", "--all", "--quiet")


OWNER = """
import os, threading
from twingraph.placed import Placed
from twingraph.placement import Placement
from twingraph.platforms.base import run
from twingraph.platforms.docker import Docker
from twingraph.platforms.serving import BOOT
def work():
    import time
    print("begun")
    time.sleep(600)
def log(level, line):
    os.kill(os.getpid(), SIGNAL)
place = Placement("docker", "IMAGE", {"network": "none", "warm": True})
run(Docker(), Placed("CALL", "r", "n", "work", 0, work, (), {}, place, log, print, threading.Event()))
"""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_process_that_ends(docker: Engine, tmp_path: Path, end: signal.Signals) -> None:
    call = f"{docker.tag}-{end}"
    program = tmp_path / "program.py"
    program.write_text(OWNER.replace("SIGNAL", str(int(end))).replace("IMAGE", PYTHON).replace("CALL", call))
    subprocess.run([sys.executable, str(program)], capture_output=True, timeout=60, check=False)
    name = f"--filter=name={call}"
    if end == signal.SIGKILL:
        docker("wait", call)  # it ends by itself
        assert docker("ps", "--all", "--quiet", name) != ""
        with closing(Docker()) as later:
            later.check()  # and is removed by the next process
    assert docker("ps", "--all", "--quiet", name) == ""


def test_calls_of_many_threads_share_few_warm_containers(docker_platform: Docker) -> None:
    def work() -> str:
        return os.uname()[1]

    barrier = threading.Barrier(3)

    def one(_: int) -> str:
        barrier.wait()
        return str(run(docker_platform, placed(work, place=place(warm=True))))

    with ThreadPoolExecutor(3) as pool:
        first = set(pool.map(one, range(3)))
        second = set(pool.map(one, range(3)))
    assert second <= first
