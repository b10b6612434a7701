"""`invoke`: a deployed flow is started, watched, and its value or its failure told."""

from __future__ import annotations

import _thread
import json
import re
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from deployed_flows import open_squares_flow, squares_flow, study_flow

from lokki import flow, step
from lokki.aws.machines import find_machine
from lokki.aws.start import execution_input, name_for
from lokki.errors import InvokeError, ParameterError
from tests.aws.conftest import Said, Stage, told
from tests.moto_server import Reply

Command = Callable[..., Said]


@step
def arrivals(region: str) -> list[str]:
    return [region]


def states(names: list[str]) -> list[dict[str, Any]]:
    """A history in which states were entered."""
    return [
        {"id": at, "type": "TaskStateEntered", "timestamp": 1.7e9 + at, "stateEnteredEventDetails": {"name": name}}
        for at, name in enumerate(names, 1)
    ]


def test_the_value_is_printed_last_and_alone_on_stdout(stage: Stage, command: Command) -> None:
    code, out, err = command(squares_flow, "invoke", "--n", "5", "--day", "2024-02-28")
    assert (code, out) == (0, "30 on datetime.date(2024, 2, 28)\n")
    execution = stage.executions(squares_flow)[0]
    assert f"Started squares-flow in us-east-1: {execution['executionArn']}" in err


def test_a_flow_that_ends_in_a_map_gives_a_list(stage: Stage, command: Command) -> None:
    assert command(open_squares_flow, "invoke", "--n", "4")[:2] == (0, "[0, 1, 4, 9]\n")


def test_the_value_of_a_flow_that_ends_in_a_job(stage: Stage, command: Command) -> None:
    assert command(study_flow, "invoke", "--n", "4")[:2] == (0, "5\n")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "Missing required parameter: '--n'"),
        (["--n", "many"], "Invalid value for '--n': 'many' is not a valid integer"),
        (["--n", "1", "--nope", "2"], "Unexpected parameter: '--nope'"),
        (["--n", "1", "--m", "2"], "'--m'; this flow takes --n, --day,"),  # like no option of `invoke`
        (["--n", "1", "--regoin", "mars"], "Unexpected parameter: '--regoin'; did you mean '--region'?"),
        (["--n", "1", "--run-id", "a/b"], "'a/b' cannot be a run id"),
        (["--n", "1", "--wide", "x" * 270_000], "Step Functions takes 262,144"),
    ],
)
def test_wrong_parameters_start_nothing(stage: Stage, command: Command, argv: list[str], said: str) -> None:
    before = len(stage.executions(squares_flow))
    code, out, err = command(squares_flow, "invoke", *argv)
    assert (code, out) == (1, "")
    assert said in err
    assert len(stage.executions(squares_flow)) == before


@pytest.mark.parametrize("asked", ["invoke", "show", "logs", "redrive --run r"])
def test_a_flow_that_is_not_deployed_is_told_how_to_be(stage: Stage, command: Command, asked: str) -> None:
    from simulated_flows import chain_flow

    code, _, err = command(chain_flow, *asked.split(), "--region", "eu-west-1")
    assert code == 1
    assert (
        "Flow 'chain-flow' is not deployed in eu-west-1: there is no stack 'chain-flow-stack' and no state machine"
        in err
    )
    assert re.search(r"Deploy it with: python .+ deploy --region eu-west-1\n", err)


def test_a_parameter_of_the_flow_hides_no_option_of_a_command_that_takes_none(stage: Stage, command: Command) -> None:
    @flow
    def migration_flow(region: str = "north", run: int = 1, step: int = 2, data: str = "", log_level: int = 1) -> Any:
        return arrivals(region)

    for asked in ("redrive --run r --step s", "destroy --data", "show --run r", "logs --run r"):
        _, _, err = command(migration_flow, *asked.split(), "--log-level", "error", "--region", "eu-west-1")
        assert re.search(r"^error: .*stack 'migration-flow-stack' .*--region( eu-west-1)?\b", err), err
        assert "in eu-west-1" in err


def test_a_name_that_no_stack_can_have_is_refused_before_anything_is_changed(stage: Stage, command: Command) -> None:
    code, _, err = command(squares_flow, "deploy", "--n", "1", "--stack-name", "my squares", "--confirm")
    assert code == 1
    assert "error: 'my squares' cannot be the name of a stack: CloudFormation takes up to 128 letters" in err


def test_a_deployment_that_is_interrupted_while_it_builds_says_that_nothing_was_changed(
    stage: Stage, command: Command
) -> None:
    @flow
    def hasty_flow() -> Any:
        raise KeyboardInterrupt

    code, _, err = command(hasty_flow, "deploy")
    assert (code, err) == (130, "\nInterrupted. Nothing was changed: stack 'hasty-flow-stack' is as it was.\n")


def test_a_stack_that_was_named_is_the_only_one_that_is_looked_for(stage: Stage, command: Command) -> None:
    _, _, err = command(squares_flow, "invoke", "--n", "1", "--stack-name", "other")
    assert "there is no stack 'other'. Deploy it with: " in err


def test_a_failed_item_is_told_with_step_item_and_traceback(stage: Stage, command: Command) -> None:
    code, out, err = command(squares_flow, "invoke", "--n", "5", "--bad", "3")
    assert (code, out) == (1, "")
    assert 'raise ValueError(f"I do not square {x}")\nValueError: I do not square 3\n\nStep' in err
    assert "Step 'square' failed on item 3: 3.\n" in err
    name = stage.executions(squares_flow)[0]["name"]
    assert f"Go on with: {err.rpartition('Go on with: ')[2]}".rstrip().endswith(f"redrive --run {name}")


def test_failures_of_an_earlier_execution_are_not_told_again(stage: Stage, command: Command) -> None:
    assert command(squares_flow, "invoke", "--n", "3", "--bad", "1", "--run-id", "twice")[0] == 1
    code, _, err = command(squares_flow, "invoke", "--n", "3", "--bad", "2", "--run-id", "twice")
    assert code == 1
    assert "I do not square 2" in err
    assert "I do not square 1" not in err
    assert command(squares_flow, "invoke", "--n", "3", "--run-id", "twice")[:2] == (0, "5 on None\n")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raise", ["OverflowError: too much", "Step 'total' failed."]),
        ("flaky", ["OSError: no luck", "Step 'total' failed."]),
        ("cut", ["Task timed out after 1.00 seconds", "longer than its function may, 1 second.", "timeout_seconds="]),
        ("kill", ["Runtime exited with error", "more memory than it has, 512 MB", "memory_mb="]),
    ],
)
def test_why_a_step_failed(stage: Stage, command: Command, how: str, said: list[str]) -> None:
    stage.answers["GetExecutionHistory"] = lambda: told(200, events=states(["Numbers", "NumbersMap", "Total"]))
    code, _, err = command(squares_flow, "invoke", "--n", "1", "--how", how)
    assert code == 1
    assert [each for each in said if each not in err] == []


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raise", ["ValueError: I do not study", "Step 'study' failed."]),
        ("exit", ["Step 'study' failed: Batch job study-flow-study failed", "exit code 137", "batch.memory_mb"]),
    ],
)
def test_why_a_job_failed(stage: Stage, command: Command, how: str, said: list[str]) -> None:
    stage.answers["GetExecutionHistory"] = lambda: told(200, events=states(["First", "Study"]))
    code, _, err = command(study_flow, "invoke", "--how", how)
    assert code == 1
    assert [each for each in said if each not in err] == []


def test_a_job_that_batch_does_not_take(stage: Stage, command: Command) -> None:
    def refused() -> Reply:
        found = stage.executions(study_flow)[0]
        found |= {name: at.timestamp() for name, at in found.items() if name.endswith("Date")}
        return told(200, **found, input="{}", error="Batch.ClientException", cause="Object jobs does not exist")

    stage.answers["GetExecutionHistory"] = lambda: told(200, events=states(["First", "Study"]))
    stage.answers["DescribeExecution"] = refused
    code, _, err = command(study_flow, "invoke", "--how", "exit")
    assert code == 1
    assert "Step 'study' failed: Batch.ClientException: Object jobs does not exist\nBatch did not take the job: " in err


def test_failures_as_lines_of_json(stage: Stage, command: Command) -> None:
    _, _, err = command(squares_flow, "invoke", "--n", "3", "--bad", "1", "--log-format", "json")
    lines = [json.loads(line) for line in err.splitlines()]
    failed = [each for each in lines if each["event"] == "step_fail"]
    assert [(each["step"], each["index"], each["error"]) for each in failed] == [
        ("square", [1], "ValueError: I do not square 1")
    ]


def test_not_waiting_prints_the_name(stage: Stage, command: Command, at_home: Path) -> None:
    gate = at_home / "gate"
    code, out, _ = command(squares_flow, "invoke", "--n", "1", "--gate", str(gate), "--run-id", "held", "--no-wait")
    try:
        execution = stage.executions(squares_flow)[0]
        assert (code, out, execution["status"]) == (0, f"{execution['name']}\n", "RUNNING")
        assert out.startswith("held-")
        refused, _, err = command(squares_flow, "invoke", "--n", "1", "--run-id", "held")
        assert refused == 1
        assert f"Run 'held' is running already, as execution '{execution['name']}'" in err
    finally:
        gate.touch()
    assert command(squares_flow, "invoke", "--n", "1")[0] == 0


def test_an_interrupted_wait_leaves_the_execution_alone(stage: Stage, command: Command, at_home: Path) -> None:
    def interrupt() -> Reply:
        _thread.interrupt_main()
        return told(200, events=[])

    stage.answers["GetExecutionHistory"] = interrupt
    gate = at_home / "gate"
    code, out, err = command(squares_flow, "invoke", "--n", "2", "--gate", str(gate))
    execution = stage.executions(squares_flow)[0]
    try:
        assert (code, out, execution["status"]) == (130, "", "RUNNING")
        assert f"Run '{execution['name']}' goes on in AWS." in err
        assert f"show --run {execution['name']}\n" in err
        assert f"stop-execution --region us-east-1 --endpoint-url {stage.relay.url} --execution-arn" in err
    finally:
        gate.touch()


def test_credentials_that_expire_in_the_middle(stage: Stage, command: Command) -> None:
    expired = {"__type": "ExpiredTokenException", "message": "The security token included in the request is expired"}
    stage.answers["GetExecutionHistory"] = lambda: told(400, **expired)
    code, out, err = command(squares_flow, "invoke", "--n", "2")
    assert (code, out) == (1, "")
    assert "The credentials have expired: sign in again" in err
    assert "goes on in AWS" in err


def test_who_may_not_read_the_history_still_gets_the_value(stage: Stage, command: Command) -> None:
    denied = {"__type": "AccessDeniedException", "message": "not authorized"}
    stage.answers["GetExecutionHistory"] = lambda: told(400, **denied)
    assert command(squares_flow, "invoke", "--n", "2")[:2] == (0, "1 on None\n")


def test_a_throttled_look_is_repeated(stage: Stage, command: Command) -> None:
    asked = count()
    busy = {"__type": "ThrottlingException", "message": "Rate exceeded"}
    stage.answers["DescribeExecution"] = lambda: told(400, **busy) if next(asked) == 0 else None
    assert command(squares_flow, "invoke", "--n", "2")[:2] == (0, "1 on None\n")
    assert next(asked) > 1


def test_a_machine_that_was_removed_meanwhile(stage: Stage, command: Command) -> None:
    gone = {"__type": "StateMachineDoesNotExist", "message": "State Machine Does Not Exist"}
    stage.answers["StartExecution"] = lambda: told(400, **gone)
    code, _, err = command(squares_flow, "invoke", "--n", "2")
    assert code == 1
    assert "Could not start 'squares-flow': its state machine was removed by somebody else. Deploy the flow" in err


def test_the_machine_is_found_by_the_name_of_the_flow(stage: Stage) -> None:
    found = find_machine(stage.aws, "squares-flow", kind=InvokeError)
    assert found.arn == "arn:aws:states:us-east-1:123456789012:stateMachine:squares-flow"
    assert (found.name, found.stack, found.bucket) == ("squares-flow", "", "")


def test_names_begin_with_the_run_id_and_fit() -> None:
    assert name_for("nightly").startswith("nightly-")
    assert len(name_for("n" * 80)) == 80
    assert name_for(None) != name_for(None)


def test_a_value_that_json_has_no_word_for_is_refused() -> None:
    with pytest.raises(ParameterError, match="The value of '--a-set' cannot be sent to an execution"):
        execution_input({"a_set": object()})
