"""Workflows that start by themselves: when, once, and what becomes of times that are missed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from tests.twingraph.server.conftest import DEFINITION, Waiting
from twingraph.executions import definitions, fires, requests, schema, serving
from twingraph.executions.repository import Repository
from twingraph.server.schedule import Scheduler
from twingraph.server.service import Service
from twingraph.server.timing import timing
from twingraph.settings import load_settings

STORED = datetime(2026, 11, 1, 12, 0, tzinfo=UTC).timestamp()


class Clock:
    """A time that tests set."""

    def __init__(self) -> None:
        self.now = STORED

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def scheduler(graph: Repository, launcher: Waiting, clock: Clock) -> Scheduler:
    return Scheduler(Service(graph, launcher), clock)


def store(client: TestClient, graph: Repository, **metadata: Any) -> None:
    answer = client.put("/api/workflows/w", json={"name": "W", "definition": DEFINITION, "metadata": metadata})
    assert answer.status_code < 300, answer.text
    with graph.engine.begin() as connection:
        connection.execute(update(schema.workflows).values(updated_at=STORED))


def started(graph: Repository) -> int:
    return requests.of_workflow(graph, workflow="w")[1]


def test_a_time_is_fired_once_by_whichever_server(
    client: TestClient, graph: Repository, launcher: Waiting, scheduler: Scheduler, clock: Clock
) -> None:
    store(client, graph, schedule="*/10 * * * *", inputs={"n": 4})
    assert scheduler.tick() == 60
    clock.now += 595
    assert scheduler.tick() == pytest.approx(5, abs=1)
    clock.now += 6
    for each in (scheduler, Scheduler(Service(graph, launcher), clock), scheduler):
        each.tick()
    assert started(graph) == 1
    fire = fires.last(graph, "w")
    assert fire is not None
    request = requests.found(graph, fire.execution_id)
    assert request is not None
    assert (fire.due_at, fire.outcome, request.client, request.inputs) == (
        STORED + 600,
        "started",
        "schedule",
        '{"n": 4}',
    )


def test_an_execution_that_still_runs_keeps_the_next_from_starting(
    client: TestClient, graph: Repository, scheduler: Scheduler, clock: Clock
) -> None:
    store(client, graph, schedule="*/10 * * * *")
    outcomes = []
    for _ in range(3):
        clock.now += 600
        scheduler.tick()
        outcomes.append(getattr(fires.last(graph, "w"), "outcome", None))
        if len(outcomes) == 2:
            last = requests.of_workflow(graph, workflow="w")[0][0][0]
            requests.end(graph, last.id, "completed")
    assert outcomes == ["started", "overlap", "started"]
    assert started(graph) == 2


@pytest.mark.parametrize(("misfire", "count", "outcome"), [("skip", 0, "missed"), ("once", 1, "started")])
def test_times_without_a_server_are_left_out_or_made_up_for_once(
    client: TestClient, graph: Repository, scheduler: Scheduler, clock: Clock, misfire: str, count: int, outcome: str
) -> None:
    store(client, graph, schedule="*/10 * * * *", misfire=misfire)
    clock.now += 3 * 86_400 + 300
    scheduler.tick()
    scheduler.tick()
    fire = fires.last(graph, "w")
    assert fire is not None
    assert (started(graph), fire.outcome, fire.due_at) == (count, outcome, clock.now - 300)


def test_times_are_those_of_the_time_zone_also_when_the_clocks_change() -> None:
    zurich = ZoneInfo("Europe/Zurich")
    when = timing({"schedule": "30 2 * * *", "timezone": "Europe/Zurich"}, "w")
    assert when is not None
    spring = when.after(datetime(2026, 3, 27, 12, tzinfo=zurich).timestamp(), 4)
    local = [datetime.fromtimestamp(each, zurich) for each in spring]
    assert [(each.month, each.day) for each in local] == [(3, 28), (3, 29), (3, 30), (3, 31)]
    assert [(each.hour, each.minute) for each in local if each.day != 29] == [(2, 30)] * 3
    autumn = when.after(datetime(2026, 10, 24, 12, tzinfo=zurich).timestamp(), 2)
    assert [datetime.fromtimestamp(each, zurich).day for each in autumn] == [25, 26]


def test_the_api_tells_when_a_workflow_starts(
    client: TestClient, graph: Repository, scheduler: Scheduler, clock: Clock
) -> None:
    store(client, graph, schedule="@daily", timezone="Europe/Zurich")
    told = client.get("/api/workflows/w/schedule").json()
    assert (told["schedule"], told["timezone"], told["misfire"], len(told["next"])) == (
        "@daily",
        "Europe/Zurich",
        "skip",
        5,
    )
    assert told["last"] is None
    clock.now += 86_400
    scheduler.tick()
    assert client.get("/api/workflows/w/schedule").json()["last_outcome"] == "missed"
    client.put("/api/workflows/plain", json={"name": "Plain"})
    answer = client.get("/api/workflows/plain/schedule")
    assert (answer.status_code, answer.json()["code"]) == (404, "no_schedule")


def of_a_file(graph: Repository) -> None:
    """A scheduled pipeline that a file defined, which is not served here."""
    definitions.put(
        graph, "w", name="W", definition={"nodes": [], "edges": []}, metadata={"schedule": "*/10 * * * *"}, tags=[],
        status="active", origin="/flows/old.py",
    )  # fmt: skip
    with graph.engine.begin() as connection:
        connection.execute(update(schema.workflows).values(updated_at=STORED))


def test_what_nobody_serves_does_not_start_and_says_so(
    client: TestClient, graph: Repository, scheduler: Scheduler, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    of_a_file(graph)
    clock.now += 601
    scheduler.tick()
    assert started(graph) == 0
    assert "The schedule of workflow 'w' is not kept: This server does not serve /flows/old.py" in caplog.text
    told = client.get("/api/workflows/w/schedule").json()
    assert (told["next"], "/flows/old.py" in told["held"]) == ([], True)
    assert "Executions of it wait." in client.get("/api/workflows/w").json()["warnings"][0]


@pytest.mark.postgres
def test_what_another_server_or_worker_serves_starts_until_it_is_gone(
    postgres: str, launcher: Waiting, clock: Clock
) -> None:
    graph = Repository(load_settings(database=postgres).database)
    service = Service(graph, launcher)
    of_a_file(graph)
    counts = []
    for there in (True, False):
        if there:
            serving.say(graph, "other", ["w"])
        else:
            serving.leave(graph, "other")
        clock.now += 600
        Scheduler(service, clock).tick()
        counts.append(started(graph))
        for execution, _ in requests.of_workflow(graph, workflow="w")[0]:
            requests.end(graph, execution.id, "completed")
    assert counts == [1, 1]
    assert service.schedule("w").held
    graph.close()


def test_what_is_archived_says_that_it_does_not_start(client: TestClient) -> None:
    body = {"name": "W", "status": "archived", "metadata": {"schedule": "@daily"}}
    client.put("/api/workflows/w", json=body)
    told = client.get("/api/workflows/w/schedule").json()
    assert (told["next"], told["held"]) == ([], "The workflow is of the status 'archived'.")


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"schedule": "every day"}, "five fields"),
        ({"schedule": "0 0 * * *", "timezone": "Zurich"}, "no time zone 'Zurich'"),
        ({"schedule": "0 0 * * *", "timezone": "../../etc/passwd"}, "no time zone"),
        ({"schedule": "0 0 * * *", "misfire": "all"}, "misfire is 'skip' or 'once'"),
        ({"schedule": 5}, "Workflow 'W': schedule takes a cron expression, not int"),
    ],
)
def test_a_schedule_that_cannot_be_meant_is_refused(client: TestClient, metadata: dict[str, Any], words: str) -> None:
    answer = client.put("/api/workflows/w", json={"name": "W", "metadata": metadata})
    assert (answer.status_code, answer.json()["code"]) == (422, "schedule_not_valid")
    assert words in answer.json()["detail"]


def test_notifications_that_cannot_be_meant_are_refused(client: TestClient) -> None:
    metadata = {"notifications": {"on_fail": "https://ops.example"}}
    answer = client.put("/api/workflows/w", json={"name": "W", "metadata": metadata})
    assert (answer.status_code, answer.json()["code"]) == (422, "notifications_not_valid")
    assert "did you mean 'on_failure'?" in answer.json()["detail"]


def test_inputs_that_are_none_are_refused_and_keep_no_other_from_starting(
    client: TestClient, graph: Repository, scheduler: Scheduler, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    refused = client.put("/api/workflows/v", json={"name": "V", "metadata": {"inputs": "n=3"}})
    assert (refused.status_code, refused.json()["code"]) == (422, "inputs_not_valid")
    store(client, graph, schedule="*/10 * * * *")
    old = {"schedule": "*/10 * * * *", "inputs": "n=3"}  # as it could be stored once
    definitions.put(graph, "v", name="V", definition=DEFINITION, metadata=old, tags=[], status="active")
    with graph.engine.begin() as connection:
        connection.execute(update(schema.workflows).values(updated_at=STORED))
    clock.now += 601
    scheduler.tick()
    assert started(graph) == 1
    assert "The schedule of workflow 'v' is not kept" in caplog.text


def test_what_would_let_executions_fail_is_a_warning(client: TestClient) -> None:
    body = {"name": "W", "definition": DEFINITION, "metadata": {"error_handler": "contineu"}}
    [told] = client.put("/api/workflows/w", json=body).json()["warnings"]
    assert "did you mean 'continue'?" in told
