"""What becomes of `invoke` and its like when AWS, the network or somebody else gets in the way of a run."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count

import pytest
from built_flows import BUCKET
from deployed_flows import moult_flow, squares_flow

from tests.aws.conftest import Said, Stage, told
from tests.aws.test_start import states
from tests.moto_server import LOST, Asked, Reply, refusal

Command = Callable[..., Said]


@pytest.fixture(autouse=True)
def twice(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked more than two times."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")


def reading(stage: Stage, answer: Callable[[], Reply | None], key: str) -> None:
    """Answer those who read a key of the bucket."""
    before = stage.relay.instead

    def instead(asked: Asked) -> Reply | None:
        hit = asked.method == "GET" and re.search(key, asked.path.partition("?")[0])
        return (answer() if hit else None) or before(asked)

    stage.relay.instead = instead


def error_of(said: Said) -> str:
    """The error of a command that failed; the first line of it."""
    code, out, err = said
    assert (code, out) == (1, "")
    assert "Traceback" not in err
    return err[err.index("error: ") + 7 :]


# --- the network, and AWS out of order


def test_a_start_whose_answer_was_lost_starts_one_run(stage: Stage, command: Command) -> None:
    before, asked = len(stage.executions(squares_flow)), count()
    stage.answers["StartExecution"] = lambda: LOST if next(asked) == 0 else None
    assert command(squares_flow, "invoke", "--n", "3")[:2] == (0, "5 on None\n")
    assert len(stage.executions(squares_flow)) == before + 1


def test_a_start_that_is_never_answered_names_the_run_that_may_be_there(stage: Stage, command: Command) -> None:
    stage.answers["StartExecution"] = lambda: LOST
    error = error_of(command(squares_flow, "invoke", "--n", "3"))
    found = re.match(
        r"Could not start 'squares-flow': Connection was closed .* Check aws\.endpoint, the region and the network\. "
        r"It may have been started all the same, as run '(\S+)': look with show\.\n$",
        error,
    )
    assert found, error
    assert found[1] in [each["name"] for each in stage.executions(squares_flow)]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(500), r"\(500\)\. AWS was asked 2 times, ever more slowly"),
        (told(400, __type="ThrottlingException", message="Rate exceeded"), r"Rate exceeded .* AWS was asked 2 times"),
        (told(400, __type="ExpiredTokenException", message="is expired"), r"The credentials have expired: sign in"),
    ],
)
def test_what_goes_on_failing_while_one_waits(stage: Stage, command: Command, reply: Reply, said: str) -> None:
    stage.answers["DescribeExecution"] = lambda: reply
    error = error_of(command(squares_flow, "invoke", "--n", "2"))
    name = stage.executions(squares_flow)[0]["name"]
    assert re.match(rf"Could not look at .*{said}.* Run '{name}' goes on in AWS\.$", error.splitlines()[0]), error
    assert f"show --run {name}" in error


def test_a_run_that_was_removed_while_one_waited(stage: Stage, command: Command) -> None:
    gone = told(400, __type="ExecutionDoesNotExist", message="Execution Does Not Exist")
    stage.answers["DescribeExecution"] = lambda: gone
    error = error_of(command(squares_flow, "invoke", "--n", "2"))
    assert re.match(
        r"Run '\S+' was removed while it ran, together with its state machine \(ExecutionDoesNotExist\)\. "
        r"Deploy the flow again, after destroy if its stack is still there\.\n$",
        error,
    )


# --- what the run left


def test_a_value_that_cannot_be_fetched_any_more_is_not_lost(stage: Stage, command: Command) -> None:
    reading(stage, lambda: refusal(400, "ExpiredToken", "is expired"), "/total/output.pkl.gz$")
    error = error_of(command(squares_flow, "invoke", "--n", "3"))
    name = stage.executions(squares_flow)[0]["name"]
    assert re.match(
        rf"s3://\S+/runs/{name}/total/output\.pkl\.gz cannot be read: the AWS credentials have expired; .* "
        rf"Run '{name}' succeeded all the same; once that is mended, its value comes with: \S.* show --run {name} "
        r"--result\n$",
        error,
    ), error
    reading(stage, lambda: None, "")
    stage.relay.instead = stage._instead
    assert command(squares_flow, "show", "--run", name, "--result")[:2] == (0, "5 on None\n")


def test_a_part_that_is_cut_off_is_named_and_made_again(stage: Stage, command: Command) -> None:
    key = "moult-flow/runs/cut/moult/0/output.pkl.gz"
    stage.answers["GetExecutionHistory"] = lambda: told(200, events=states(["Numbers", "NumbersMap", "Feathers"]))
    code, out, err = command(moult_flow, "invoke", "--run-id", "cut", "--spoil", key)
    assert (code, out) == (1, "")
    assert re.search(
        rf"s3://{BUCKET}/{key} is damaged \(.*\)\. Remove it and run again: only what is missing runs\.", err
    )
    assert "error: Step 'feathers' failed: " in err
    assert "What is finished is kept. Go on with: " in err
    stage.answers.clear()
    assert command(moult_flow, "redrive", "--run", "cut", "--items", "0")[:2] == (0, "3\n")


def test_items_that_were_removed_and_not_started_again_are_not_forgotten(stage: Stage, command: Command) -> None:
    assert command(moult_flow, "invoke", "--run-id", "half")[:2] == (0, "3\n")
    stage.answers["StartExecution"] = lambda: told(400, __type="ThrottlingException", message="Rate exceeded")
    error = error_of(command(moult_flow, "redrive", "--run", "half", "--items", "1"))
    assert error.startswith("Could not start 'moult-flow': Rate exceeded")
    assert error.endswith("invoke the flow with --run-id half and the parameters of the run.\n")
    stage.answers.clear()
    assert command(moult_flow, "invoke", "--run-id", "half")[:2] == (0, "3\n")


def test_a_result_that_is_cut_off_is_named(stage: Stage, command: Command) -> None:
    assert command(moult_flow, "invoke", "--run-id", "whole")[:2] == (0, "3\n")
    s3 = stage.engine.client("s3")
    key = "moult-flow/runs/whole/feathers/output.pkl.gz"
    whole = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    s3.put_object(Bucket=BUCKET, Key=key, Body=whole[: len(whole) // 2])
    error = error_of(command(moult_flow, "show", "--run", "whole", "--result"))
    assert error.startswith(f"s3://{BUCKET}/{key} is damaged (")
    assert command(moult_flow, "invoke", "--run-id", "whole")[:2] == (0, "3\n")


def test_what_python_has_no_memory_for_names_the_limit(stage: Stage, command: Command) -> None:
    code, _, err = command(squares_flow, "invoke", "--n", "1", "--how", "hog")
    assert code == 1
    assert "\nStep 'total' failed.\nIt needed more memory than it has, 512 MB. Raise that with @step(memory_mb=" in err
