"""`twingraph run`, `doctor` and `keys`, as somebody types them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from twingraph.cli import console

FILE = '''
"""Pipelines for the command line."""
import time
from lokki import flow, main, step
from twingraph import Workflow, component, pipeline

@component
def load(n: int):
    print("loading")
    return list(range(n))

@component
def total(xs, by=1):
    return sum(xs) * by

@component
def broken():
    raise ValueError("boo")

@component
def hang():
    print("begun", flush=True)
    time.sleep(600)

@pipeline(error_handler="continue")
def nightly(n: int = 3, fail: bool = False):
    """Adds up."""
    if fail:
        broken()
    return total(load(n)["result"])

@pipeline
def strict():
    broken()

@pipeline(error_handler="continue")
def odd():
    broken()
    raise RuntimeError("odd")

@pipeline
def endless():
    hang()

report = Workflow("report").add_component("load", load, {"n": 2}).add_component("total", total)
report.connect("load", "total", input="xs")

@step
def first(n: int):
    return [n]

@flow
def numbers(n: int = 5):
    return first(n)

main(numbers)  # guarded by nothing
'''

Typed = Callable[..., tuple[str, str, int]]


@pytest.fixture
def typed(at_home: Path, capsys: pytest.CaptureFixture[str]) -> Typed:
    """What a command prints on stdout and stderr, and its exit code."""
    (at_home / "report.py").write_text(FILE)

    def run(*words: str) -> tuple[str, str, int]:
        code = 0
        try:
            console(list(words))
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return said.out, said.err, code

    return run


def test_a_pipeline_is_run_with_typed_parameters(typed: Typed) -> None:
    out, err, code = typed("run", "report.py", "--pipeline", "nightly", "--n", "4")
    assert (out, code) == ("loading\n6\n", 0)
    assert "Step 'total' completed" in err
    assert "Invalid value for '--n'" in typed("run", "report.py", "--pipeline=nightly", "--n", "x")[1]
    assert "Unexpected parameter: '--m'" in typed("run", "report.py", "--pipeline", "nightly", "--m", "1")[1]


def test_the_result_can_be_had_as_json(typed: Typed) -> None:
    out, err, code = typed("run", "report.py", "--pipeline", "nightly", "--id", "mine", "--json", "--quiet")
    assert json.loads(out.splitlines()[-1]) == {"execution": "mine", "status": "completed", "outputs": 3}
    assert (err, code) == ("", 0)


def test_workflows_and_flows_are_run_too(typed: Typed) -> None:
    assert typed("run", "report.py", "--pipeline", "report", "--total.by", "10")[0] == "loading\n{'result': 10}\n"
    assert typed("run", "report.py", "--pipeline", "report", "--n=4", "--quiet")[0] == "loading\n{'result': 6}\n"
    assert typed("run", "report.py", "--pipeline", "numbers", "--n", "7")[0] == "{'result': [7]}\n"


def test_a_failure_shows_where_it_was_and_how_to_look_closer(typed: Typed) -> None:
    out, err, code = typed("run", "report.py", "--pipeline", "strict")
    assert (out, code) == ("", 1)
    assert 'raise ValueError("boo")' in err
    assert "Component 'broken' failed: ValueError: boo\nSee twingraph show pipeline-" in err
    err = typed("run", "report.py", "--pipeline", "odd", "--quiet")[1]
    assert 'raise RuntimeError("odd")' in err
    assert "RuntimeError: odd\n\nThe body of the pipeline failed: RuntimeError: odd\nSee twingraph show " in err
    went_on = typed("run", "--pipeline", "nightly", "report.py", "--fail", "--quiet")
    assert (went_on[0], went_on[2]) == ("loading\n3\n", 0)
    assert went_on[1].startswith("1 call failed, and the pipeline went on. See twingraph show")


def test_what_a_file_lacks_is_told(typed: Typed, at_home: Path) -> None:
    assert "defines nightly, strict, odd, endless, report, numbers: say which one" in typed("run", "report.py")[1]
    assert "no pipeline 'nigthly'; did you mean 'nightly'?" in typed("run", "report.py", "--pipeline", "nigthly")[1]
    assert "error: argument --pipeline: expected one argument" in typed("run", "report.py", "--pipeline")[1]
    assert "There is no file none.py" in typed("run", "none.py")[1]
    (at_home / "empty.py").write_text("x = 1\n")
    assert "defines no pipeline" in typed("run", "empty.py")[1]
    (at_home / "wrong.py").write_text("def f():\n    1 / 0\nf()\n")
    out, err, code = typed("run", "wrong.py")
    assert (out, code, err.count("File ")) == ("", 1, 2)  # of the frames, the file's own
    assert err.endswith("ZeroDivisionError: division by zero\nerror: wrong.py cannot be loaded.\n")
    told = typed("run", "report.py", "--pipeline", "nightly", "--help")[0]
    assert "Adds up." in told
    assert "--n" in told


@pytest.fixture
def endless(at_home: Path) -> Iterator[subprocess.Popen[str]]:
    """A run of the command that has begun and does not end by itself, as execution `e`."""
    (at_home / "report.py").write_text(FILE)
    command = [
        sys.executable,
        "-m",
        "twingraph.cli",
        "run",
        "report.py",
        "--pipeline",
        "endless",
        "--quiet",
        "--id",
        "e",
    ]
    environment = {"HOME": str(at_home / "home"), "PATH": ""}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "begun\n"
        yield running
        running.kill()


def test_an_interrupted_run_is_recorded_as_stopped(endless: subprocess.Popen[str], typed: Typed) -> None:
    endless.send_signal(signal.SIGINT)
    _, err = endless.communicate(timeout=60)
    assert (endless.returncode, err) == (130, "Interrupted. See twingraph show e\n")
    assert json.loads(typed("show", "e", "--json")[0])["status"] == "stopped"


def test_stop_ends_what_a_process_of_this_machine_runs(endless: subprocess.Popen[str], typed: Typed) -> None:
    while typed("show", "e")[2]:
        pass  # it is recorded a moment after it began
    assert typed("stop", "e") == ("", "Execution 'e' is stopped.\n", 0)
    assert endless.wait(60) == 130
    assert typed("stop", "e", "--json") == ('{"execution": "e", "status": "stopped"}\n', "", 0)


def test_the_doctor_says_what_is_available(typed: Typed, at_home: Path) -> None:
    environment = {"HOME": str(at_home / "home"), "PATH": "", "DOCKER_HOST": "tcp://127.0.0.1:9"}
    command = [sys.executable, "-m", "twingraph.cli", "doctor", "--json"]  # another test may know an engine already
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = {each["name"]: each for each in map(json.loads, told.stdout.splitlines())}
    assert found["platform local"]["usable"]
    assert not found["platform docker"]["usable"]
    assert "Docker" in found["platform docker"]["text"]
    assert found["execution graph"]["usable"]
    assert found["components transform"]["text"] == "DataTransform"
    assert "ok  python" in typed("doctor")[0]


def test_keys_are_made_listed_and_revoked(typed: Typed) -> None:
    key, said, _ = typed("keys", "create", "ci", "--scope", "read", "--expires", "30d")
    assert key.startswith("tg_")
    assert "(ci, read)" in said
    listed = typed("keys", "list")[0]
    assert "valid" in listed
    assert key.strip() not in listed
    assert typed("keys", "revoke", "ci")[2] == 0
    assert json.loads(typed("keys", "list", "--json")[0])["revoked_at"] is not None
    assert "no key 'ci' that could be revoked" in typed("keys", "revoke", "ci")[1]
    assert "needs a name" in typed("keys", "create")[1]
