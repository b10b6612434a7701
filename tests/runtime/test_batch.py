"""A Batch job: what its environment says is done, its exit code tells how that went, and its log why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import invoked_flows as flows
import pytest

from lokki.runtime.batch import run_job
from lokki.runtime.handler import open_handler
from lokki.store import LocalStore
from tests.builder.projects import write
from tests.runtime.packaged import Calls, Lines, package, parsed, put_in_the_way

SHIPPED = os.path.dirname(flows.__file__)


@pytest.fixture
def jobs(tmp_path: Path, environment: Path) -> str:
    """The package of a flow with a Batch step in a map, of which the first state has run."""
    folder = package(flows.soar_flow(n=4, size=2), tmp_path / "package")
    first = {"lokki": "numbers", "execution": "e1", "params": {"n": 4, "size": 2}}
    open_handler(flows.__name__, "numbers", folder)(first, None)
    return folder


def environ_of(values: LocalStore, at: int = 0) -> dict[str, str]:
    """What the state machine gives to the job of a child."""
    entries = json.loads(values.blob("soar-flow/runs/e1/numbers/map_manifest.json"))
    state = {"run_id": "e1", "cache": False, "at": entries[at]}
    return {"LOKKI_NODE": "soar", "LOKKI_STATE": json.dumps(state), "LOKKI_MODULE_NAME": flows.__name__}


def test_a_job_does_what_its_state_says(jobs: str, values: LocalStore, lines: Lines) -> None:
    lines()
    for at in (0, 1):
        assert run_job(environ_of(values, at), jobs) == 0
    told = [(line["level"], line["event"], line["step"], line["index"], line["items"]) for line in lines()]
    assert told == [("INFO", "step_complete", "soar", [at], 2) for at in (0, 2)]
    after = {"lokki": "total", "state": {"run_id": "e1", "cache": False}}
    open_handler(flows.__name__, "total", jobs)(after, None)
    assert values.load("soar-flow", "e1", "total") == 60


def test_retries_happen_in_the_job(jobs: str, values: LocalStore, lines: Lines, ran: Calls) -> None:
    put_in_the_way(1, ConnectionError("gone"), flows.LostError("gone"))
    ran(), lines()
    assert run_job(environ_of(values), jobs) == 0
    assert ran() == {"soar:0": 1, "soar:1": 3}
    told = [(line["level"], line["event"], line["index"], line.get("attempt")) for line in lines()]
    assert told == [
        ("WARNING", "step_retry", [1], 1),
        ("WARNING", "step_retry", [1], 2),
        ("INFO", "step_complete", [0], 0),
    ]


@pytest.mark.parametrize(
    ("errors", "tries"),
    [([ConnectionError("gone")] * 3, 3), ([ValueError("wrong")], 1), ([SystemExit(0)], 1), ([KeyboardInterrupt()], 1)],
    ids=repr,
)
def test_a_job_that_fails_says_so(
    jobs: str, values: LocalStore, lines: Lines, ran: Calls, errors: list[BaseException], tries: int
) -> None:
    put_in_the_way(1, *errors)
    ran(), lines()
    assert run_job(environ_of(values), jobs) == 1
    assert ran() == {"soar:0": 1, "soar:1": tries}
    (line,) = (line for line in lines() if line["level"] == "ERROR")
    assert (line["event"], line["step"], line["index"], line["attempt"]) == ("step_fail", "soar", [1], tries - 1)
    assert line["error"].startswith(type(errors[0]).__name__)
    record = json.loads(values.blob("soar-flow/runs/e1/errors/soar/1.json"))
    assert (record["index"], record["attempt"]) == ([1], tries - 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"LOKKI_NODE": ""}, "This job was not started by a lokki state machine: LOKKI_NODE is not set."),
        ({"LOKKI_STATE": ""}, "This job was not started by a lokki state machine: LOKKI_STATE is not set."),
        ({"LOKKI_MODULE_NAME": ""}, "This job was not started by a lokki state machine: LOKKI_MODULE_NAME is not set."),
        ({"LOKKI_STATE": "owl"}, "LOKKI_STATE is not the data of a state (JSONDecodeError: "),
        ({"LOKKI_STATE": "[]"}, "LOKKI_STATE is not the data of a state ("),
        ({"LOKKI_STATE": "{}"}, "LOKKI_STATE is not the data of a state (KeyError: 'run_id')"),
        ({"LOKKI_NODE": "peck"}, "No node named 'peck' in flow 'soar-flow'"),
        ({"LOKKI_MODULE_NAME": "finches"}, "ModuleNotFoundError: No module named 'finches'"),
    ],
    ids=str,
)
def test_an_environment_that_is_not_a_jobs_leaves_one_line(
    jobs: str, values: LocalStore, lines: Lines, change: dict[str, str], said: str
) -> None:
    lines()
    assert run_job({**environ_of(values), **change}, jobs) == 1
    (line,) = lines()
    assert (line["level"], line["event"]) == ("ERROR", "step_fail")
    assert line["step"] == change.get("LOKKI_NODE", "soar")
    assert said in line["error"]


@pytest.mark.parametrize("exits", ["raise SystemExit(0)", "import sys; sys.exit(0)", "1 / 0"])
def test_a_module_that_ends_the_process_is_no_success(
    jobs: str, values: LocalStore, tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch, exits: str
) -> None:
    write(tmp_path, {"finches_that_exit.py": f"{exits}\n"})
    monkeypatch.syspath_prepend(tmp_path)
    lines()
    assert run_job({**environ_of(values), "LOKKI_MODULE_NAME": "finches_that_exit"}, jobs) == 1
    assert [line["level"] for line in lines()] == ["ERROR"]


@pytest.mark.parametrize(("perch", "code"), [({"PERCH": "oak"}, 0), ({}, 1)], ids=str)
def test_the_process_of_a_job_ends_with_its_code(
    tmp_path: Path, values: LocalStore, perch: dict[str, str], code: int
) -> None:
    folder = package(flows.perch_flow(), tmp_path / "package")
    state = json.dumps({"run_id": "e1", "cache": False})
    told = {"LOKKI_NODE": "perched", "LOKKI_STATE": state, "LOKKI_MODULE_NAME": flows.__name__, "PYTHONPATH": SHIPPED}
    command = [sys.executable, "-c", f"from lokki.runtime.batch import run_job; exit(run_job(None, {folder!r}))"]
    environ = {**os.environ, **told, **perch}
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "")
    assert [line["event"] for line in parsed(done.stdout)] == ["step_start", "step_fail" if code else "step_complete"]
    if not code:
        assert values.load("perch-flow", "e1", "perched") == "oak"
