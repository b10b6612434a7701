"""The API does what its document says, whatever it is sent: requests are made up from the document itself."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.twingraph.live import Story, serving
from tests.twingraph.server.conftest import WORKFLOW
from twingraph.executions.recorder import Recorder
from twingraph.server.limits import Limits

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "docs" / "openapi.json"
EXAMPLES = 25


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def known(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """A server on which something has run, and what is known there by the name of a parameter."""
    import httpx

    home = str(tmp_path_factory.mktemp("served"))
    url = request.getfixturevalue("postgres_server").create() if request.param == "postgres" else None
    recorder = Recorder(url, home if url is None else None)
    story = Story(recorder)
    with serving(story, limits=Limits(0, 0, 0, wait=0.01)) as at, httpx.Client(base_url=at) as client:
        client.put("/api/workflows/w", json=WORKFLOW)
        ran = [
            client.post("/api/executions", json={"workflow_id": "w", "inputs": inputs}).json()["execution_id"]
            for inputs in ({}, {"fails": True})
        ]
        story.held = True
        waiting = client.post("/api/executions", json={"workflow_id": "w"}).json()["execution_id"]
        yield at, {"workflow_id": ["w"], "execution_id": [*ran, waiting], "component_id": ["load_data"]}
    recorder.close()


@pytest.fixture(scope="module")
def document(known: tuple[str, dict[str, list[str]]]) -> Any:
    url, ids = known
    made = schemathesis.openapi.from_url(f"{url}/openapi.json")

    @made.hook
    def map_path_parameters(_: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
        """Every other id is one that there is."""
        for name, value in (path_parameters or {}).items():
            if name in ids and len(str(value)) % 2:
                path_parameters[name] = ids[name][len(str(value)) // 2 % len(ids[name])]  # type: ignore[index]
        return path_parameters

    return made


DOCUMENT = json.loads(FILE.read_text("utf-8"))
CALLS = [(path, method) for path, calls in DOCUMENT["paths"].items() for method in calls]


@pytest.mark.parametrize(("path", "method"), CALLS)
def test_whatever_is_sent_the_answer_is_one_of_the_document(document: Any, path: str, method: str) -> None:
    @given(case=document[path][method.upper()].as_strategy())
    @settings(
        max_examples=EXAMPLES, derandomize=True, database=None, deadline=None,
        phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def ask(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate(excluded_checks=[positive_data_acceptance])  # what there is not cannot be had

    ask()


def test_the_document_in_the_repository_is_that_of_the_server(client: TestClient) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "openapi"), "--print"]
    made = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert made.stdout == FILE.read_text("utf-8"), "docs/openapi.json is out of date; renew it with: scripts/openapi"
    assert client.get("/openapi.json").json() == json.loads(made.stdout)


@pytest.mark.parametrize(("path", "method"), CALLS)
def test_every_call_says_what_it_is_and_what_comes_back(path: str, method: str) -> None:
    told = DOCUMENT["paths"][path][method]
    assert told["summary"]
    assert told["description"]
    assert told["tags"]
    wanted = set() if path == "/health" else {"401", "403", "406", "429", "503"}
    wanted |= {"404"} if "{" in path and method not in ("put", "post") else set()
    wanted |= {"413", "422"} if "requestBody" in told else set()
    assert wanted <= told["responses"].keys()
    said = [each["description"] for each in told["responses"].values() if "$ref" not in each]
    assert "Successful Response" not in said


def test_examples_are_such_bodies_and_hold_no_secret() -> None:
    from twingraph import wire

    for name, schema in DOCUMENT["components"]["schemas"].items():
        for each in schema.get("examples", ()):
            getattr(wire, name).model_validate(each)
    assert not re.search(r"tg_|eyJ|password|secret://", FILE.read_text("utf-8"))


def test_the_page_of_the_api_comes_from_this_machine_alone(client: TestClient) -> None:
    page = client.get("/")  # which leads there
    assert (page.status_code, page.url.path) == (200, "/docs")
    assert "openapi.json" in page.text
    assert "://" not in page.text
    for file in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        if not file.startswith("data:"):
            assert client.get(f"/{file}").status_code == 200
    assert client.get("/docs/../../etc/passwd").status_code == client.get("/docs/..%2f..%2fx").status_code == 404


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/api/nothing", 404), ("PATCH", "/api/workflows", 405)])
def test_what_is_no_call_is_told_as_every_error_is(client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["detail"]) == (status, f"{method} {path} is not a call of this API.")
