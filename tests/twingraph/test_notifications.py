"""`notifications=`: who is told of an execution, and that a run never fails for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.twingraph.receiving import Receiver, receiving
from twingraph import Workflow, component, pipeline
from twingraph.errors import ComponentError


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@component(retry_policy={"max_attempts": 2, "initial_delay": 0})
def fail() -> None:
    raise ValueError("boo")


def test_each_moment_is_told_to_its_channels(receiver: Receiver) -> None:
    called: list[dict[str, Any]] = []

    @pipeline(
        notifications={
            "on_start": f"{receiver.url}/start",
            "on_success": called.append,
            "on_failure": [called.append, {"type": "slack", "url": f"{receiver.url}/slack"}],
            "on_retry": {"type": "webhook", "url": f"{receiver.url}/retry", "headers": {"X-Key": "k"}},
            "on_complete": called.append,
        }
    )
    def told(failing: bool) -> None:
        if failing:
            fail()

    good, bad = told.run(False), told.run(True)
    assert [(each["event"], each["execution_id"], each["status"]) for each in called] == [
        ("on_success", good.id, "completed"),
        ("on_complete", good.id, "completed"),
        ("on_failure", bad.id, "failed"),
        ("on_complete", bad.id, "failed"),
    ]
    assert called[2]["error"] == "ValueError: boo"
    assert called[2]["failed_nodes"] == ["fail"]
    assert [path for path, _ in receiver.got] == ["/start", "/start", "/retry", "/slack"]
    assert receiver.got[2][1]["node"] == "fail"
    assert receiver.got[3][1] == {"text": f"Pipeline 'told' ({bad.id}) failed: ValueError: boo"}


def test_what_cannot_be_sent_is_tried_again_then_logged(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    @pipeline(notifications={"on_success": f"{receiver.url}/hook?token=secret"})
    def told() -> int:
        return 1

    receiver.refuse = 2
    assert told() == 1
    assert len(receiver.got) == 1
    receiver.refuse = 3
    assert told() == 1
    assert "Pipeline 'told': 127.0.0.1 was not notified: HTTPError" in caplog.text
    assert "secret" not in caplog.text


def test_a_function_that_fails_fails_no_run(caplog: pytest.LogCaptureFixture) -> None:
    def angry(_: Any) -> None:
        raise RuntimeError("no")

    assert pipeline(notifications={"on_start": [angry, "log"]})(lambda: 1)() == 1
    assert "angry was not notified: RuntimeError: no" in caplog.text


def test_a_workflow_tells_too_and_takes_that_along(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINGRAPH_SECRET_HOOK", f"{receiver.url}/secret")
    made = Workflow("report", notifications={"on_failure": "secret://HOOK", "on_success": f"{receiver.url}/ok"})
    made.add_component("fail", fail)
    assert made.to_dict()["metadata"]["notifications"]["on_failure"] == "secret://HOOK"
    again = Workflow.from_dict(made.to_dict(), {"fail": fail})
    again.run()
    [(path, told)] = receiver.got
    assert (path, told["workflow"], told["error"]) == ("/secret", "report", "ValueError: boo")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", 5])
def test_only_addresses_of_the_web_are_told(url: Any) -> None:
    with pytest.raises(ComponentError, match="begins with http"):
        pipeline(notifications={"on_start": {"type": "webhook", "url": url}})(lambda: 1)
