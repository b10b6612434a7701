"""The two clients, on a server: what is asked, what comes back, and how refusals are told."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import twingraph.client
from lokki import flow, step
from tests.twingraph.live import Story, serving
from twingraph import Workflow, wire
from twingraph.client import (
    AsyncTwinGraphClient,
    AuthenticationError,
    ConflictError,
    ExecutionFailedError,
    ExecutionTimeoutError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    TwinGraphClient,
    ValidationError,
)
from twingraph.errors import ComponentError, TwinGraphError
from twingraph.server.auth import credentials
from twingraph.server.limits import Limits

DEFINITION: dict[str, Any] = {
    "name": "Report",
    "definition": {"nodes": [{"id": "node-1", "component": "load_data"}], "edges": []},
    "metadata": {"tags": ["production"]},
}


@pytest.fixture
def workflow(client: Any) -> str:
    return str(client.workflows.create(DEFINITION, id="workflow-123"))


def test_a_workflow_lives(client: Any) -> None:
    made = client.workflows.create(DEFINITION)
    assert isinstance(made, str)
    found = client.workflows.get(made)
    assert (found.id, found.name, found["tags"], found.version) == (made, "Report", ["production"], 1)
    changed = client.workflows.update(made, {**DEFINITION, "name": "Better"}, version=1)
    assert (changed.name, changed.version) == ("Better", 2)
    assert client.workflows.update(made, found).name == "Report"
    with pytest.raises(ConflictError, match=f"{made}.*changed by somebody else"):
        client.workflows.update(made, DEFINITION, version=1)
    with pytest.raises(ConflictError, match=made):
        client.workflows.create(DEFINITION, id=made)
    client.workflows.delete(made)
    with pytest.raises(NotFoundError, match=f"There is no workflow '{made}'") as gone:
        client.workflows.get(made)
    assert (gone.value.status, gone.value.code) == (404, "workflow_not_found")


def test_lists_go_on_over_all_pages_unless_one_is_asked_for(client: Any) -> None:
    made = [client.workflows.create(DEFINITION, id=f"w{number}") for number in range(5)]
    client.workflows.create({"name": "Other"})
    several = client.workflows.list(tag="production", size=2)
    assert (several.total, several.page, several.size, len(several.items)) == (5, 1, 2, 2)
    assert [each.id for each in several] == made[::-1]
    assert [each.id for each in client.workflows.list(tag="production", page=2, size=2)] == ["w2", "w1"]
    assert several[0].id == "w4"
    ran = [client.executions.create("w0").id for _ in range(3)]
    assert [each.id for each in client.executions.list(workflow_id="w0", size=1)] == ran[::-1]
    assert client.executions.list(status="failed").total == 0


def test_an_execution_is_asked_for_waited_for_and_looked_at(client: Any, workflow: str) -> None:
    asked = client.executions.create(workflow_id=workflow, inputs={"source": "s3://bucket/data.csv"})
    assert asked.id == asked.execution_id == asked["execution_id"]
    done = client.executions.wait_for_completion(asked.id, timeout=10)
    assert (done.status, done.outputs, done["outputs"]["source"]) == (
        "completed",
        {"source": "s3://bucket/data.csv"},
        "s3://bucket/data.csv",
    )
    status = client.executions.get_status(asked.id)
    assert (status.progress.completed_nodes, status["progress"]["total_nodes"]) == (1, 1)
    drawn = client.executions.graph(asked.id)
    assert [(each.id, each.label, each.status) for each in drawn.nodes] == [("node-1", "load_data", "completed")]
    assert client.components.metrics("load_data").executions == 1
    assert [each.name for each in client.components.list()] == ["load_data"]
    assert client.health().status == "ok"


def test_the_log_is_chosen_from(client: Any, workflow: str) -> None:
    asked = client.executions.create(workflow)
    lines = client.executions.get_logs(asked.id)
    assert [(each.level, each.message, each["component_id"]) for each in lines] == [
        ("info", "loading", "node-1"),
        ("error", "odd row", "node-1"),
    ]
    assert [each.level for each in client.executions.get_logs(asked.id, level="warning")] == ["error"]
    assert [each.level for each in client.executions.get_logs(asked.id, level="info", exact=True)] == ["info"]
    assert len(client.executions.get_logs(asked.id, limit=1)) == 1
    later = datetime.now(UTC) + timedelta(hours=1)
    assert client.executions.get_logs(asked.id, start_time=later, component_id="node-1") == []
    with pytest.raises(ValidationError, match="level"):
        client.executions.get_logs(asked.id, level="loud")


def test_a_failure_is_returned_or_raised_as_one_likes(client: Any, workflow: str) -> None:
    asked = client.executions.create(workflow, inputs={"fails": True})
    done = client.executions.wait_for_completion(asked.id)
    assert (done.status, done.error.message, done.success) == ("failed", "ValueError: boo", False)
    with pytest.raises(ExecutionFailedError, match=f"{asked.id}.*failed at node 'node-1': ValueError: boo") as failed:
        client.executions.wait_for_completion(asked.id, raise_on_failure=True)
    assert failed.value.execution == done
    again = client.executions.rerun(asked.id, ["node-1"])
    assert client.executions.wait_for_completion(again.id).rerun_of == asked.id


def test_who_does_not_want_to_wait_any_longer_is_told_so(client: Any, workflow: str, story: Story) -> None:
    story.held = True
    asked = client.executions.create(workflow)
    with pytest.raises(ExecutionTimeoutError, match=f"{asked.id}.*pending after 0.2 s") as late:
        client.executions.wait_for_completion(asked.id, timeout=0.2)
    assert isinstance(late.value, TimeoutError)
    stopped = client.executions.stop(asked.id)
    assert stopped.status == client.executions.stop(asked.id).status == "stopped"
    ended = client.executions.create(workflow)
    story.tell()
    with pytest.raises(ConflictError, match=ended.id):
        client.executions.stop(ended.id)


def test_one_key_is_one_execution(client: Any, workflow: str) -> None:
    first = client.executions.create(workflow, inputs={"x": 1}, idempotency_key="k")
    assert client.executions.create(workflow, inputs={"x": 1}, idempotency_key="k").id == first.id
    assert client.executions.create(workflow, inputs={"x": 1}).id != first.id


def test_many_are_asked_for_read_and_stopped_at_once(client: Any, workflow: str, story: Story) -> None:
    over = client.executions.create(workflow_id=workflow).id
    story.held = True
    asked = [{"workflow_id": workflow, "inputs": {"n": number}} for number in range(1_001)]
    told = client.executions.create_many([*asked, {"workflow_id": "nowhere"}])
    assert told[-1].code == "workflow_not_found"
    ids = [each.id for each in told[:-1]]
    assert len(set(ids)) == 1_001
    some = client.executions.get_many(["nothing", ids[0], over])
    assert [getattr(each, "code", "") or each.status for each in some] == [
        "execution_not_found",
        "pending",
        "completed",
    ]
    stopped = client.executions.stop_many([over, ids[-1]])
    assert [getattr(each, "code", "") or each.status for each in stopped] == ["execution_over", "stopped"]
    for call in (client.executions.get_many, client.executions.stop_many):
        with pytest.raises(TypeError, match="A list is wanted here"):
            call(over)
    with pytest.raises(TypeError, match="A list is wanted here"):
        client.executions.rerun(over, "node-1")


def test_an_execution_is_watched_to_its_end(client: Any, workflow: str, story: Story) -> None:
    asked = client.executions.create(workflow, inputs={"rows": 3})
    told = [(each.event, each.data.get("status")) for each in client.executions.watch(asked.id)]
    assert told == [("execution:update", "completed"), ("node:status", "completed")]
    story.held = True
    asked = client.executions.create(workflow)
    coming = iter(client.executions.watch(asked.id))
    assert next(coming)["data"]["status"] == "pending"
    story.tell()
    told = [(each.event, each.data["status"]) for each in coming]
    assert told == [("node:status", "completed"), ("execution:update", "completed")]
    with pytest.raises(NotFoundError, match="exec-none"):
        list(client.executions.watch("exec-none"))


def test_ids_are_never_taken_for_paths(client: Any) -> None:
    for odd in ("../executions", "a b?c#d", "ü", "..", "%2e"):
        with pytest.raises(NotFoundError, match="Workflow"):
            client.workflows.get(odd)
    made = client.workflows.create(DEFINITION, id="ü b?c#d")
    assert client.workflows.get(made).id == "ü b?c#d"


def test_what_cannot_be_sent_is_said_before_it_is(client: Any) -> None:
    with pytest.raises(ComponentError, match="Workflow, a flow or a definition"):
        client.workflows.create(lambda: None)
    with pytest.raises(ValidationError, match=r"name: Field required.*") as wrong:
        client.workflows.create({"definition": {}})
    assert wrong.value.errors[0]["loc"] == ["body", "name"]


@pytest.mark.parametrize("end", ["", "/", "/api", "/api/"])
def test_the_address_is_taken_as_people_write_it(connect: Callable[..., Any], server: str, end: str) -> None:
    assert connect(server + end).workflows.list().total == 0


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ComponentError, match="http://localhost:8000, not 'localhost'"):
        TwinGraphClient("localhost")


def test_who_asks_shows_a_key_or_a_token(connect: Callable[..., Any], story: Story) -> None:
    import jwt

    secret = "a secret that is long enough for HS256"
    token = jwt.encode({"exp": datetime.now(UTC) + timedelta(minutes=1), "role": "run"}, secret, algorithm="HS256")
    with serving(story, credentials("boss, reader:read", secret)) as url:
        for given in ({"api_key": "boss"}, {"auth_token": token}, {"auth_token": f"Bearer {token}"}):
            assert connect(url, **given).workflows.list().total == 0
        with pytest.raises(AuthenticationError, match="wants to know who asks"):
            connect(url).workflows.list()
        with pytest.raises(AuthenticationError) as unknown:
            connect(url, api_key="guess").workflows.get("w")
        assert "guess" not in str(unknown.value)
        with pytest.raises(PermissionDeniedError, match=r"Creating workflow 'Report'.*author"):
            connect(url, api_key="reader").workflows.create(DEFINITION)
        with pytest.raises(AuthenticationError):
            list(connect(url).executions.watch("exec-none"))
        with pytest.raises(NotFoundError):
            list(connect(url, api_key="boss").executions.watch("exec-none"))


def test_who_asks_too_often_waits_no_longer_than_they_want(connect: Callable[..., Any], story: Story) -> None:
    with serving(story, limits=Limits(1, 1, 1)) as url:
        client = connect(url, longest_wait=0)
        client.workflows.list()
        with pytest.raises(RateLimitError, match="list of workflows: More than 1 requests in a minute") as often:
            client.workflows.list()
    assert often.value.retry_after
    assert 1 <= often.value.retry_after <= 61


def test_a_flow_is_a_workflow(client: Any) -> None:
    @step
    def load_data(rows: int) -> list[int]:
        return list(range(rows))

    @flow
    def counted(rows: int = 3) -> Any:
        return load_data(rows)

    made = client.workflows.get(client.workflows.create(counted()))
    assert (made.name, [each.component for each in made.definition.nodes]) == ("counted", ["load_data"])


def test_the_awaiting_client_is_used_as_documented(server: str) -> None:
    async def main() -> wire.Execution:
        async with AsyncTwinGraphClient(server) as client:
            workflow = await client.workflows.create_async(DEFINITION)
            execution = await client.executions.create_async(workflow_id=workflow, inputs={"source": "here"})
            return await client.executions.wait_for_completion(execution.id, timeout=1800)

    assert asyncio.run(main()).outputs == {"source": "here"}


def test_every_error_is_one_of_ours() -> None:
    named = [getattr(twingraph.client, each) for each in twingraph.client.__all__ if each.endswith("Error")]
    assert len(named) == 10
    assert all(issubclass(each, TwinGraphError) for each in named)


def test_the_client_needs_neither_the_server_nor_a_database(server: str) -> None:
    program = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("fastapi", "starlette", "uvicorn", "sqlalchemy", "alembic", "jwt"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
from twingraph import Workflow, component
from twingraph.client import AsyncTwinGraphClient, TwinGraphClient

wf = Workflow("Sent")
wf.add_component("load", "load_data")
with TwinGraphClient(sys.argv[1]) as client:
    execution = client.executions.create(client.workflows.create(wf), inputs={"x": 1})
    print(client.executions.wait_for_completion(execution.id).outputs)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, server], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == ("{'x': 1}\n", "")


def test_two_components_of_one_name_are_not_mixed_up(client: Any) -> None:
    def made(number: int) -> Any:
        def load_data() -> int:
            return number

        return load_data

    mixed = Workflow("Mixed").add_component("a", made(1)).add_component("b", made(2))
    with pytest.raises(ComponentError, match="two components named 'load_data'"):
        client.workflows.create(mixed)
    same = made(1)
    both = Workflow("Same").add_component("a", same).add_component("b", same)
    assert client.workflows.get(client.workflows.create(both)).warnings == []


@pytest.mark.parametrize("library", ["httpx", "pydantic", "websockets"])
def test_a_library_that_is_missing_is_named_with_what_to_install(library: str) -> None:
    program = f"import sys; sys.modules[{library!r}] = None; import twingraph.client"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr.strip().endswith(
        f"ModuleNotFoundError: twingraph.client needs {library}: pip install 'lokki-twingraph[client]'."
    )
