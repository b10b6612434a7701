"""What these tests share: flows that are deployed to the engine of simulations, behind a relay.

The engine speaks Step Functions and S3, and keeps no history; what else is asked of it the relay answers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import deployed_flows as flows
import pytest
from built_flows import BUCKET, config

from lokki.aws.client import Aws
from lokki.builder import samples
from lokki.decorators import Flow
from lokki.settings import AwsConfig, LokkiConfig
from lokki.simulate import Simulation
from lokki.simulate.engine import Engine
from tests.moto_server import OTHERS, Asked, Relay, Reply

CONFIG = config(functions={"timeout": 1})
PATIENT = config(functions={"timeout": 60})
FLOWS = (flows.squares_flow, flows.open_squares_flow, flows.study_flow, flows.moult_flow)
_NO_STACK = (
    "<ErrorResponse><Error><Type>Sender</Type><Code>ValidationError</Code>"
    "<Message>Stack with id x does not exist</Message></Error></ErrorResponse>"
)


def told(status: int, /, **body: Any) -> Reply:
    """An answer in the words of Step Functions."""
    return Reply(status, json.dumps(body).encode(), {"Content-Type": "application/x-amz-json-1.0"})


def action(asked: Asked) -> str:
    """What Step Functions is asked to do."""
    return asked.headers.get("X-Amz-Target", "").rpartition(".")[2]


def service(asked: Asked) -> str:
    """Which service is asked."""
    return asked.headers.get("Authorization", "///////").split("/")[3]


class Stage:
    """The engine with the flows in it, and the relay that leads to it.

    Attributes:
        answers: by what Step Functions is asked to do an answer in place of the engine's; None for that.
    """

    def __init__(self, engine: Engine, relay: Relay) -> None:
        self.engine = engine
        self.relay = relay
        self.answers: dict[str, Callable[[], Reply | None]] = {}
        relay.instead = self._instead

    def _instead(self, asked: Asked) -> Reply | None:
        match service(asked):
            case "cloudformation":
                return Reply(400, _NO_STACK.encode(), {"Content-Type": "text/xml"})
            case "lambda":
                return told(200, Timeout=1, MemorySize=512)
            case "states" if action(asked) in self.answers:
                return self.answers[action(asked)]()
        return None

    @property
    def aws(self) -> Aws:
        """The account that the engine is."""
        return Aws(LokkiConfig(aws=AwsConfig(artifact_bucket=BUCKET, endpoint=self.relay.url)))

    def executions(self, flow: Flow) -> list[dict[str, Any]]:
        """All executions of a flow, the newest first."""
        client = self.engine.client("stepfunctions")
        machines = {each["name"]: each["stateMachineArn"] for each in client.list_state_machines()["stateMachines"]}
        found: list[dict[str, Any]] = client.list_executions(stateMachineArn=machines[flow.name])["executions"]
        return found


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine to which the flows are deployed."""
    folder = tmp_path_factory.mktemp("packages")
    with Engine() as engine:
        for each in FLOWS:
            settings = PATIENT if each is flows.moult_flow else CONFIG
            Simulation(samples.sampled(each, {}), settings, engine, str(folder / each.name))
        yield engine


@pytest.fixture
def stage(deployed: Engine, at_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """The engine, to which this process's environment and configuration lead."""
    for name in OTHERS:
        monkeypatch.delenv(name, raising=False)
    relay = Relay(deployed.endpoint)
    environ = {**deployed.environment, "AWS_ENDPOINT_URL": relay.url, "LOKKI_ARTIFACT_BUCKET": BUCKET}
    for name, value in {**environ, "LOKKI_BATCH_JOB_QUEUE": "jobs"}.items():
        monkeypatch.setenv(name, value)
    try:
        yield Stage(deployed, relay)
    finally:
        relay.close()


Said = tuple[int, str, str]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Carries out a command of a flow: its exit code, what it printed, and what it said."""
    from lokki.cli import command_line

    def carry_out(flow: Flow, *argv: str) -> Said:
        try:
            command_line(flow, argv)
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return carry_out
