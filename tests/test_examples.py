"""The examples do what their docstrings say, each run as its reader runs it: a program, in a folder of its own."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lokki.store import LocalStore
from tests.kubernetes_cluster import Kubernetes
from tests.localstack_server import REGION, LocalStack

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
READINGS = "22.0 degrees on average of 20 sensors"


def example(command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `python examples/<command>`; the current folder is the test's own."""
    name, *arguments = shlex.split(command)
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
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
        pytest.param("workflow.py run", "4 long ones in 3 texts", id="workflow"),
    ],
)
def test_an_example_prints_its_result(command: str, result: str) -> None:
    run = example(command)
    assert (run.stdout, run.returncode) == (f"{result}\n", 0), run.stderr


@pytest.mark.parametrize(
    ("command", "result"),
    [
        ("pipeline.py", "108 CHF in 3 shops; 0 calls failed"),
        ("pipeline.py oslo", "93 CHF in 2 shops; 1 calls failed"),
    ],
)
def test_a_pipeline_says_what_came_of_it(command: str, result: str) -> None:
    run = example(command)
    assert (run.stdout.splitlines()[-1], run.returncode) == (result, 0), run.stderr


def test_the_cookbook_answers_from_files() -> None:
    run = example("cookbook.py")
    said = "owl: It hunts mice in the fields at night and hears them under the snow. Seen: Emmental and Seeland.\n"
    assert (run.stdout, run.returncode) == (said, 0), run.stderr


def test_the_workflow_is_built() -> None:
    built = example("workflow.py build", LOKKI_ARTIFACT_BUCKET="my-bucket")
    assert built.stdout.startswith("Built long-words into lokki-build/"), built.stderr
    assert "functions   4: list_texts, split, count_long, add_up" in built.stdout


@pytest.mark.usefixtures("docker")
def test_a_component_runs_in_a_container() -> None:
    run = example("in_docker.py", TWINGRAPH_RECORD="off")
    assert run.stdout.startswith("2 long words, found by Python 3.13."), run.stderr


def test_components_run_as_jobs(kubernetes: Kubernetes) -> None:
    kubeconfig = str(kubernetes.server.kubeconfig)
    run = example(f"in_kubernetes.py {kubernetes.namespace}", KUBECONFIG=kubeconfig)
    assert (run.stdout, run.returncode) == ("primes: 25 21 16\n", 0), run.stderr


def test_components_run_as_a_function(own_account: LocalStack) -> None:
    run = example("on_lambda.py", TWINGRAPH_LAMBDA_ROLE="of-functions")
    assert (run.stdout, run.returncode) == ("letters in all words: e-g-s\n", 0), run.stderr


def test_a_component_runs_as_an_array_of_jobs(own_account: LocalStack, tmp_path: Path) -> None:
    region = {"LocationConstraint": REGION}
    own_account.client("s3").create_bucket(Bucket=f"lent-{own_account.account}", CreateBucketConfiguration=region)
    batch = own_account.client("batch")
    batch.create_compute_environment(computeEnvironmentName="machines", type="MANAGED")
    order = [{"order": 1, "computeEnvironment": "machines"}]
    batch.create_job_queue(jobQueueName="examples", priority=1, computeEnvironmentOrder=order)
    own_account.put_folders({"python:3.13-slim": tmp_path})
    run = example("on_batch.py", TWINGRAPH_BATCH_QUEUE="examples", TWINGRAPH_BUCKET=f"lent-{own_account.account}")
    own_account.put_folders({"python:3.13-slim": None})
    assert (run.stdout, run.returncode) == ("500500, in shares of [166833, 167167, 166500]\n", 0), run.stderr


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
