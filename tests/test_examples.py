"""The examples do what their docstrings say, each run as its reader runs it: a program, in a folder of its own."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lokki.store import LocalStore

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
READINGS = "22.0 degrees on average of 20 sensors"


def example(command: str) -> subprocess.CompletedProcess[str]:
    """Run `python examples/<command>`; the current folder is the test's own."""
    name, *arguments = shlex.split(command)
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    ("command", "result"),
    [
        pytest.param("birds.py run", "flappy goose, flappy duck, flappy seagull", id="birds"),
        pytest.param(
            "flights.py run",
            "LIS-ZRH on 2026-06-01 for 61\nZRH-LIS on 2026-06-02 for 63\nLIS-ZRH on 2026-06-13 for 64",
            id="flights",
        ),
        pytest.param(
            "flights.py run --destination OSL --days 7",
            "OSL-ZRH on 2026-06-07 for 62\nZRH-OSL on 2026-06-06 for 64\nOSL-ZRH on 2026-06-06 for 72",
            id="flights elsewhere",
        ),
        pytest.param(
            "weather.py run", "from 2026-06-01\nzurich: 21.2 C\noslo: 19.4 C\nnairobi: 27.3 C", id="weather by default"
        ),
        pytest.param(
            "weather.py run --cities oslo,quito --start-date 2026-12-24 --days 3 --unit F",
            "from 2026-12-24\noslo: 21.0 F\nquito: 82.4 F",
            id="weather as asked",
        ),
        pytest.param("nested.py run", "16 apples in 3 crates: [10, 6, 0]", id="nested"),
        pytest.param("nested.py run --ripe 3", "15 apples in 3 crates: [9, 6, 0]", id="nested, ripe only"),
        pytest.param("processes.py run --executor processes", "9592 primes below 100000", id="processes"),
    ],
)
def test_an_example_prints_its_result(command: str, result: str) -> None:
    run = example(command)
    assert (run.stdout, run.returncode) == (f"{result}\n", 0), run.stderr


def test_flights_are_asked_for_again_while_the_airline_is_busy() -> None:
    log = example("flights.py run").stderr
    retried = re.findall(r"on attempt 1, trying again in 0\.1s: ConnectionError: busy, ask again about (\S+)", log)
    assert sorted(retried) == ["2026-06-07"] * 2 + ["2026-06-14"] * 2


def test_a_resumed_run_reads_only_what_is_missing() -> None:
    failed = example("resume.py run")
    assert (failed.stdout, failed.returncode) == ("14 read this time\n", 1)
    assert "sensor 13 gives nothing" in failed.stderr
    assert "13 of 20 items" in failed.stderr
    Path("plugged-in").touch()
    for read_now in (7, 0):
        resumed = example("resume.py run --resume")
        assert (resumed.stdout, resumed.returncode) == (f"{READINGS}\n{read_now} read this time\n", 0)


@pytest.mark.parametrize("name", ["birds", "nested"])
def test_the_graph_of_an_example_is_drawn(name: str) -> None:
    drawn = example(f"{name}.py graph")
    assert drawn.returncode == 0
    assert "map over" in drawn.stdout


def test_what_an_example_left_can_be_read() -> None:
    example("birds.py run --run-id spring")
    kept = LocalStore(".lokki")
    assert kept.read("birds-flow/runs/spring/flap_bird/1/output.pkl.gz") == "flappy duck"
    kept.close()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_names_commands_of_its_own_and_is_short(path: Path) -> None:
    text = path.read_text("utf-8")
    assert set(re.findall(r"^ +(?:time )?python examples/(\S+)", text, re.MULTILINE)) == {path.name}
    assert len(text.splitlines()) <= 70
