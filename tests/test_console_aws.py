"""The `lokki` command on deployed flows: without the flow file, by name."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.aws.deployed import DeployedFlow, call, done, lokki
from tests.localstack_server import REGION, LocalStack

Capture = pytest.CaptureFixture[str]

BIRDS = """
import sys
from lokki import flow, main, step

@step
def get_birds(names):
    print("a print of get_birds")
    return names

@step
def flap_bird(bird):
    print(f"flapping {bird}", file=sys.stderr)
    if bird == "dodo":
        raise LookupError("no such bird")
    return f"flappy {bird}"

@step
def join_birds(birds):
    return ", ".join(birds)

@flow
def seen_birds(names: list[str] = ["goose", "duck"]):
    return get_birds(names).map(flap_bird).agg(join_birds)

if __name__ == "__main__":
    main(seen_birds)
"""


@pytest.fixture
def flow(aws: None, moto_server: str, monkeypatch: pytest.MonkeyPatch) -> DeployedFlow:
    """A flow to which the environment leads."""
    monkeypatch.setenv("LOKKI_AWS_ENDPOINT", moto_server)
    made = DeployedFlow(moto_server)
    made.deploy()
    return made


# --- list


def test_deployed_flows_are_listed_when_asked_for(flow: DeployedFlow, capsys: Capture) -> None:
    answer = lokki(capsys, "list", "--aws")
    header, *rows = answer.out.splitlines()
    assert (answer.code, answer.err, header.split()) == (0, "", ["FLOW", "CREATED", "STACK", "STATE", "MACHINE"])
    (row,) = (each for each in rows if each.startswith(flow.name))
    assert re.fullmatch(rf"\S+ +\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d +arn:aws:states:.*:{flow.name}", row)


def test_programs_get_objects(flow: DeployedFlow, capsys: Capture) -> None:
    told = [json.loads(line) for line in lokki(capsys, "list", flow.name, "--aws", "--json").out.splitlines()]
    assert [(each["flow"], each["state_machine"].rpartition(":")[2]) for each in told] == [(flow.name, flow.name)]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["list"], 0, "No runs are kept here.\n"),
        (["list", "--aws", "--region", "eu-north-1"], 0, "No flow is deployed in eu-north-1.\n"),
        (["list", "dodo", "--aws"], 0, "No flow named 'dodo' is deployed in us-east-1.\n"),
        (["list", "--region", "eu-north-1"], 1, "error: --region goes with --aws: runs on this machine have none\n"),
        (["runs", "dodo", "--limit", "0"], 1, "error: --limit takes a number of 1 or more\n"),
        (["runs"], 1, "error: the following arguments are required: flow\n"),
        (
            ["runs", "dodo"],
            1,
            "'dodo'. Deploy it with: python FILE deploy (lokki list --aws tells which flows are)\n",
        ),
    ],
)
def test_what_there_is_not_is_said(
    flow: DeployedFlow, capsys: Capture, arguments: list[str], code: int, said: str
) -> None:
    answer = lokki(capsys, *arguments)
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err


# --- runs, and the log of one


def test_runs_are_listed_the_newest_first(flow: DeployedFlow, capsys: Capture) -> None:
    assert lokki(capsys, "runs", flow.name).err == f"{flow.name} has not run yet.\n"
    for name in ("a", "b-20260501-093000-1a2b", "c"):
        flow.start(name, **({"run_id": "b"} if name[0] == "b" else {}))
    header, *rows = lokki(capsys, "runs", flow.name).out.splitlines()
    assert header.split() == ["RUN", "RUN", "ID", "STATUS", "STARTED", "TOOK"]
    assert sorted(tuple(row.split()[:3]) for row in rows) == [
        ("a", "a", "RUNNING"), ("b-20260501-093000-1a2b", "b", "RUNNING"), ("c", "c", "RUNNING")
    ]  # fmt: skip
    told = lokki(capsys, "runs", flow.name, "--limit", "2", "--json").out.splitlines()
    assert [json.loads(line)["status"] for line in told] == ["RUNNING", "RUNNING"]


def test_the_log_of_a_run_is_printed(flow: DeployedFlow, capsys: Capture) -> None:
    flow.start("monday")
    flow.say("get", *call("1", "hello", done("get", "monday"), at=598_000), *call("2", done("get", "x"), at=598_100))
    answer = lokki(capsys, "logs", flow.name, "monday")
    assert [text for text in answer.texts if "RequestId" not in text] == [
        "get: hello", "[INFO] get: completed in 0.100s (status=success)"
    ]  # fmt: skip
    assert (answer.code, answer.err) == (0, "")


def test_the_options_of_a_log_are_explained(capsys: Capture) -> None:
    out = lokki(capsys, "logs", "--help").out
    for option in ("--start", "--end", "--tail", "--step", "--stack-name", "--region", "--json", "flow", "run"):
        assert option in out


# --- from end to end


@pytest.mark.localstack
def test_a_deployed_flow_is_found_and_read(
    own_account: LocalStack, at_home: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = at_home / "project"
    project.mkdir()
    (project / "birds.py").write_text(BIRDS)
    (project / "lokki.toml").write_text(
        '[lambda]\npackage_type = "zip"\n[aws]\n'
        f'artifact_bucket = "seen-birds-{own_account.account}"\nregion = "{REGION}"\n'
    )
    monkeypatch.chdir(project)
    monkeypatch.setenv("LOKKI_AWS_ENDPOINT", own_account.endpoint)
    of_file("deploy", "--confirm")
    for run, names in (("good", "goose"), ("bad", "goose,dodo")):
        of_file("invoke", "--run-id", run, "--names", names, code=0 if run == "good" else 1)

    assert [json.loads(line)["flow"] for line in lokki(capsys, "list", "--aws", "--json").out.splitlines()] == [
        "seen-birds"
    ]  # fmt: skip
    runs = [json.loads(line) for line in lokki(capsys, "runs", "seen-birds", "--json").out.splitlines()]
    assert {each["run_id"]: each["status"] for each in runs} == {"good": "SUCCEEDED", "bad": "FAILED"}

    good = lokki(capsys, "logs", "seen-birds", "good")
    said = [text for text in good.texts if "RequestId" not in text and "INIT_START" not in text]
    assert [re.sub(r"\d\.\d{3}s", "?s", text) for text in said] == [
        "[INFO] get_birds: started",
        "get_birds: a print of get_birds",
        "[INFO] get_birds: completed in ?s (status=success)",
        "flap_bird: flapping goose",
        "[INFO] flap_bird[0]: completed on item 0 of its map in ?s (status=success)",
        "[INFO] join_birds: started",
        "[INFO] join_birds: completed in ?s (status=success)",
    ]
    reports = [text for text in good.texts if "REPORT RequestId" in text]
    assert len(reports) == 3
    assert all("Duration: " in each and "Max Memory Used: " in each for each in reports)

    bad = of_file("logs", "--run", "bad", "--step", "flap_bird")
    assert "[ERROR] flap_bird[1]: failed on item 1 of its map ('dodo')" in bad
    assert re.search(r"^    LookupError: no such bird$", bad, re.MULTILINE)
    assert "get_birds: " not in bad
    assert "flapping dodo" in bad


def of_file(*arguments: str, code: int = 0) -> str:
    """What a command of the flow file prints."""
    command = [sys.executable, "birds.py", *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ), timeout=110)
    assert answer.returncode == code, answer.stderr
    return answer.stdout
