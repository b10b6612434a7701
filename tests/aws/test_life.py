"""Flows that live on LocalStack: deployed, executed, looked at and removed by their commands."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.aws.projects import Project
from tests.builder.projects import wheel, write
from tests.localstack_server import REGION, LocalStack

pytestmark = pytest.mark.localstack

FORESTS = """
    from lokki import flow, main, step

    @step
    def forests(n: int): return list(range(n))

    @step
    def nests(forest): return [f"{forest}{nest}" for nest in "ab"]

    @step
    def sing(nest, volume):
        import finchsong
        print("singing in", nest)
        return f"{finchsong.__name__}@{nest}" + "!" * volume

    @step
    def choir(songs): return "+".join(songs)

    @step
    def concert(choirs): return choirs

    @flow
    def NAME(n: int = 2, volume: int = 0):
        return forests(n).map(nests.map(sing, volume=volume).agg(choir)).agg(concert)

    if __name__ == "__main__":
        main(NAME)
"""

FLOCK = """
    from lokki import flow, main, step

    @step
    def flock(n: int): return list(range(n))

    @step
    def ring(bird):
        print("ringing", bird)
        if bird == 3:
            raise ValueError("no ring for bird 3")
        return bird

    @step
    def census(rings): return sum(rings)

    @flow
    def NAME(n: int = 3): return flock(n).map(ring, concurrency_limit=1).agg(census)

    if __name__ == "__main__":
        main(NAME)
"""

JOBS = """
    import os
    from lokki import flow, main, step

    @step(job_type="batch")
    def count(n: int): return list(range(n))

    @step
    def increment(x): return x + 1

    @step(job_type="batch")
    def weigh(x):
        print("weighing", x, "in", os.path.basename(os.getcwd()))
        return x * 10

    @step(job_type="batch")
    def total(xs): return sum(xs)

    @step
    def told(x, unit): return f"{x} {unit}"

    @flow
    def NAME(n: int = 3, unit: str = "g"):
        return count(n).map([increment, weigh]).agg(total).next(told, unit=unit)

    if __name__ == "__main__":
        main(NAME)
"""

ZIP = '[lambda]\npackage_type = "zip"\ntimeout = 60\n'  # short enough for EXPRESS children
SCHEDULED = ("    @flow\n", '    @flow(schedule="rate(1 hour)")\n')


def project_in(folder: Path, text: str, toml: str = ZIP) -> Project:
    """A project that keeps its data in a bucket of its own."""
    made = Project(folder, {"LOKKI_AWS_REGION": REGION}, text=text, toml=toml)
    made.settings["LOKKI_ARTIFACT_BUCKET"] = f"{made.flow}-data"
    return made


class Kept:
    """What a run left in the bucket."""

    def __init__(self, account: LocalStack, project: Project, run: str) -> None:
        self._s3 = account.client("s3")
        self._bucket = project.settings["LOKKI_ARTIFACT_BUCKET"]
        self._here = f"{project.flow}/runs/{run}/"

    def keys(self, pattern: str) -> list[str]:
        """The keys below the run that match."""
        listed = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._here)
        keys = (each["Key"] for page in listed for each in page.get("Contents", ()))
        return [key for key in keys if re.fullmatch(pattern, key.removeprefix(self._here))]

    def reports(self, pattern: str) -> Iterator[tuple[dict[str, int], list[Any]]]:
        """Of each map whose manifest matches: how many children ended how, and all that is told of them."""
        for key in self.keys(rf"{pattern}/results/[^/]+/manifest\.json"):
            files = self._json(key)["ResultFiles"]
            told = {how: [child for each in found for child in self._json(each["Key"])] for how, found in files.items()}
            yield (
                {how: len(each) for how, each in told.items() if each},
                [each for one in told.values() for each in one],
            )

    def _json(self, key: str) -> Any:
        return json.loads(self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read())


def children_of(project: Project) -> dict[str, str]:
    """The kind of the children of each map that was built, by its name."""
    found: dict[str, str] = {}

    def look(states: dict[str, Any]) -> None:
        for name, state in states.items():
            if state["Type"] == "Map":
                found[name] = state["ItemProcessor"]["ProcessorConfig"]["ExecutionType"]
                look(state["ItemProcessor"]["States"])

    look(json.loads((project.folder / "lokki-build/statemachine.json").read_text())["States"])
    return found


def left(account: LocalStack) -> dict[str, list[Any]]:
    """What there is in an account, besides its bucket."""
    found = {
        "functions": account.client("lambda").list_functions()["Functions"],
        "machines": account.client("stepfunctions").list_state_machines()["stateMachines"],
        "rules": account.client("events").list_rules()["Rules"],
        "roles": account.client("iam").list_roles()["Roles"],
        "logs": account.client("logs").describe_log_groups()["logGroups"],
        "jobs": account.client("batch").describe_job_definitions(status="ACTIVE")["jobDefinitions"],
    }
    return {name: each for name, each in found.items() if each}


def test_maps_in_maps_with_a_package_of_the_lock(own_account: LocalStack, at_home: Path) -> None:
    project = project_in(at_home / "project", FORESTS)
    source = "[tool.uv.sources]\nfinchsong = { path = 'finchsong-1.0-py3-none-any.whl' }\n"
    asked = "[project]\nname = 'forests'\nversion = '1'\nrequires-python = '>=3.11'\ndependencies = ['finchsong']\n"
    wheel(write(project.folder, {"pyproject.toml": f"{asked}{source}"}), "finchsong")
    subprocess.run(["uv", "lock", "--offline", "--quiet"], cwd=project.folder, check=True)
    project.done("deploy", "--confirm")
    outer, inner = children_of(project).items()
    assert (outer[1], inner[1]) == ("STANDARD", "EXPRESS")

    out, _ = project.done("invoke", "--run-id", "spring")
    assert out == "['finchsong@0a+finchsong@0b', 'finchsong@1a+finchsong@1b']\n"
    out, _ = project.done("invoke", "--n", "1", "--volume", "3")
    assert out == "['finchsong@0a!!!+finchsong@0b!!!']\n"
    kept = Kept(own_account, project, "spring")
    assert [counts for counts, _ in kept.reports("forests-map")] == [{"SUCCEEDED": 2}]
    assert [counts for counts, _ in kept.reports("nests-map")] == [{"SUCCEEDED": 2}] * 2

    assert "'four' is not a valid integer" in project.refused("invoke", "--n", "four")
    assert "Unexpected parameter: '--nests'" in project.refused("invoke", "--nests", "4")
    out, _ = project.done("show", "--json")
    runs = [json.loads(line) for line in out.splitlines()]
    assert [(each["run_id"] == "spring", each["status"]) for each in runs] == [
        (False, "SUCCEEDED"),
        (True, "SUCCEEDED"),
    ]

    out, _ = project.done("logs", "--run", "spring", "--step", "sing")
    assert sorted(re.findall(r"singing in (\w+)", out)) == ["0a", "0b", "1a", "1b"]
    out, _ = project.done("destroy", "--confirm")
    assert f"✓ Removed stack '{project.stack}'" in out
    assert left(own_account) == {}
    assert len(kept.keys(r"concert/output\.pkl\.gz")) == 1
    assert "is not deployed" in project.refused("invoke")


def test_a_failed_item_is_found_by_every_command(own_account: LocalStack, at_home: Path) -> None:
    project = project_in(at_home / "project", FLOCK)
    project.done("deploy", "--confirm")
    assert list(children_of(project).values()) == ["EXPRESS"]
    with followed(project, "--step", "ring") as tail:
        said = project.refused("invoke", "--n", "6", "--run-id", "winter")
        assert "Step 'ring' failed on item 3: 3." in said
        seen = until(tail, "ringing 3")
    assert all(" ring" in line for line in seen)
    assert tail.returncode == 130

    kept = Kept(own_account, project, "winter")
    ((counts, children),) = kept.reports("flock-map")
    assert (counts["SUCCEEDED"], counts["FAILED"]) == (3, 1)
    assert sorted(key.split("/")[-2] for key in kept.keys(r"ring/\d/output\.pkl\.gz")) == ["0", "1", "2"]
    assert any("no ring for bird 3" in each.get("Cause", "") for each in children)
    out, _ = project.done("show", "--run", "winter")
    assert re.search(r"^Status +FAILED$", out, re.MULTILINE)
    assert re.search(r"^ring \(map\) .* 3 of 6, 1 failed$", out, re.MULTILINE)
    assert re.search(r"^census +not reached$", out, re.MULTILINE)

    out, _ = project.done("invoke", "--n", "2")
    assert out == "1\n"
    out, _ = project.done("logs", "--run", "winter", "--json")
    events = [json.loads(line) for line in out.splitlines()]
    failed = [each for each in events if each.get("event") == "step_fail"]
    assert {each["step"] for each in failed} == {"ring"}
    assert all(each["run_id"] == "winter" for each in events if "run_id" in each)


@contextmanager
def followed(project: Project, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The log of a flow, followed as long as this lasts."""
    with project.start("logs", "--tail", *arguments, stdin=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def until(process: subprocess.Popen[str], text: str) -> list[str]:
    """The lines that a command prints, up to that with the text; Ctrl-C ends it then."""
    assert process.stdout
    seen: list[str] = []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            process.send_signal(signal.SIGINT)
            process.wait(30)
            return seen
    raise AssertionError(f"{text!r} is not in {seen}")


def test_a_schedule_starts_the_flow_with_its_defaults(own_account: LocalStack, at_home: Path) -> None:
    project = project_in(at_home / "project", FLOCK.replace(*SCHEDULED))
    project.done("deploy", "--confirm")
    events = own_account.client("events")
    (rule,) = events.list_rules()["Rules"]
    assert (rule["ScheduleExpression"], rule["State"]) == ("rate(1 hour)", "ENABLED")
    (target,) = events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
    assert target["Input"] == "{}"
    states = own_account.client("stepfunctions")
    begun = states.start_execution(stateMachineArn=target["Arn"], input=target["Input"])["executionArn"]
    assert own_account.ended(begun)["status"] == "SUCCEEDED"
    out, _ = project.done("show", "--run", begun.rpartition(":")[2], "--result")
    assert out == "3\n"

    project.change(*reversed(SCHEDULED))
    out, _ = project.done("deploy", "--confirm")
    assert "removed: schedule" in out
    assert events.list_rules()["Rules"] == []
    project.done("destroy", "--confirm")
    assert left(own_account) == {}


@pytest.fixture
def queue(own_account: LocalStack) -> str:
    """A queue of jobs."""
    batch = own_account.client("batch")
    batch.create_compute_environment(computeEnvironmentName="some", type="UNMANAGED")
    order = [{"order": 1, "computeEnvironment": "some"}]
    return str(batch.create_job_queue(jobQueueName="jobs", priority=1, computeEnvironmentOrder=order)["jobQueueName"])


def test_jobs_run_before_in_and_after_a_map(own_account: LocalStack, at_home: Path, queue: str) -> None:
    project = project_in(at_home / "project", JOBS)
    project.toml += f'[batch]\njob_queue = "{queue}"\nimage = "{project.flow}-jobs"\n'
    project.done("deploy", "--confirm")
    assert list(children_of(project).values()) == ["STANDARD"]
    own_account.put_folders({f"{project.flow}-jobs": project.folder / "lokki-build/batch"})
    try:
        out, _ = project.done("invoke", "--n", "4", "--unit", "kg", "--run-id", "spring")
    finally:
        own_account.put_folders({f"{project.flow}-jobs": None})
    assert out == "100 kg\n"
    out, _ = project.done("logs", "--run", "spring", "--step", "weigh")
    assert sorted(re.findall(r"weighing (\d) in batch", out)) == ["1", "2", "3", "4"]
    out, _ = project.done("show", "--run", "spring")
    assert re.search(r"Batch jobs +6,", out)
    project.done("destroy", "--confirm", "--data")
    assert left(own_account) == {}
