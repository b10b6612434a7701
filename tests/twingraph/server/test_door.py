"""Who may come in, how often, and with how much."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from starlette.testclient import WebSocketDenialResponse

from tests.twingraph.server.conftest import WORKFLOW, Waiting
from twingraph.errors import ComponentError
from twingraph.executions import keys
from twingraph.executions.repository import Repository
from twingraph.server.app import create_app
from twingraph.server.auth import Credentials, credentials
from twingraph.server.callers import SCOPES
from twingraph.server.context import open_context
from twingraph.server.limits import Limits, Meter, limits
from twingraph.server.service import Service

SECRET = "a secret that is long enough for HS256"
BY_SCOPE = {"read": "reader-key", "run": "runner-key", "author": "author-key", "admin": "boss"}


@pytest.fixture
def serve(graph: Repository, launcher: Waiting) -> Iterator[Any]:
    """Servers with some credentials and limits."""
    opened: list[TestClient] = []

    def served(
        told: Credentials | None = None, most: Limits | None = None, origins: tuple[str, ...] = (), here: bool = False
    ) -> TestClient:
        context = open_context(
            Service(graph, launcher), launcher, told=told, limits=most or Limits(0, 0, 0), origins=origins, here=here
        )
        opened.append(TestClient(create_app(context)).__enter__())
        return opened[-1]

    yield served
    for each in opened:
        each.__exit__(None, None, None)


@pytest.fixture
def locked(serve: Any) -> TestClient:
    told = ", ".join(key if scope == "admin" else f"{key}:{scope}" for scope, key in BY_SCOPE.items())
    client: TestClient = serve(credentials(told, SECRET))
    return client


def token(**claims: Any) -> str:
    return jwt.encode({"exp": time.time() + 60, **claims}, SECRET, algorithm="HS256")


def test_without_keys_everybody_may_do_everything(serve: Any) -> None:
    assert serve().put("/api/workflows/w", json=WORKFLOW).status_code == 201


def test_a_key_or_token_is_wanted_and_looked_at(locked: TestClient) -> None:
    nobody = locked.get("/api/workflows")
    assert (nobody.status_code, nobody.json()["code"]) == (401, "not_authenticated")
    assert "Bearer" in nobody.headers["www-authenticate"]
    assert locked.get("/health").status_code == 200
    good: list[dict[str, str]] = [
        {"X-API-Key": "boss"},
        {"Authorization": f"Bearer {token(role='admin')}"},
        {"Authorization": token(scope="read run")},
    ]
    for headers in good:
        assert locked.get("/api/workflows", headers=headers).status_code == 200
    forged = jwt.encode({"exp": time.time() + 60}, "another secret that is long enough", algorithm="HS256")
    none = jwt.encode({"exp": time.time() + 60}, "", algorithm="none")
    other = jwt.encode({"exp": time.time() + 60}, SECRET * 2, algorithm="HS512")
    for wrong in (forged, none, other, token(exp=time.time() - 1), jwt.encode({}, SECRET, algorithm="HS256"), "x"):
        answer = locked.get("/api/workflows", headers={"Authorization": f"Bearer {wrong}"})
        assert (answer.status_code, wrong in answer.text) == (401, False)
    assert locked.get("/api/workflows", headers={"X-API-Key": "guess"}).status_code == 401
    assert locked.get("/api/workflows", headers={"Authorization": "Basic eDp5"}).status_code == 401


def test_every_route_says_and_wants_a_scope(locked: TestClient) -> None:
    document = locked.get("/openapi.json").json()
    seen = set()
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            assert "x-scope" in call, f"{method} {path} has no scope"
            scope = call["x-scope"]
            if scope == "none":
                assert path == "/health"
                continue
            seen.add(scope)
            url = path.replace("{", "").replace("}", "")
            for held, key in BY_SCOPE.items():
                answer = locked.request(method, url, headers={"X-API-Key": key})
                refused = answer.status_code == 403 and answer.json()["code"] == "scope_needed"
                assert refused == (SCOPES.index(held) < SCOPES.index(scope)), f"{method} {path} with {held}"
    assert seen == {"read", "run", "author"}


def test_secrets_of_a_workflow_are_for_its_authors(locked: TestClient) -> None:
    hook = "https://hooks.example/hidden-path"
    config = {"password": "hunter2", "url": "postgresql://u:hunter2@db/x", "max_tokens": 5, "deep": [{"api_key": "k"}]}
    body = {
        "name": "W",
        "definition": {"nodes": [{"id": "a", "component": "load_data", "config": config}]},
        "metadata": {
            "inputs": {"token": "hunter2", "n": 1},
            "notifications": {"on_failure": [hook, {"type": "webhook", "url": hook, "headers": {"X-Key": "hunter2"}}]},
        },
    }
    author, run, read = ({"X-API-Key": BY_SCOPE[each]} for each in ("author", "run", "read"))
    stored = locked.put("/api/workflows/w", json=body, headers=author).json()["definition"]
    assert locked.get("/api/workflows/w", headers=author).json()["definition"] == stored
    assert stored["nodes"][0]["config"] == config
    for who in (run, read):
        told = locked.get("/api/workflows/w", headers=who)
        assert "hunter2" not in told.text
        assert "hidden-path" not in told.text
        told = told.json()["definition"]
        assert told["nodes"][0]["config"] == {
            "password": "***",
            "url": "postgresql://u:***@db/x",
            "max_tokens": 5,
            "deep": [{"api_key": "***"}],
        }
        assert told["metadata"]["inputs"] == {"token": "***", "n": 1}


def test_keys_that_are_made_can_be_used_until_they_are_revoked(serve: Any, graph: Repository) -> None:
    made, text = keys.create(graph, "ci", "run")
    client = serve()
    assert client.get("/api/workflows").status_code == 401
    assert client.get("/api/workflows", headers={"X-API-Key": text}).status_code == 200
    assert client.put("/api/workflows/w", json=WORKFLOW, headers={"X-API-Key": text}).status_code == 403
    assert text not in repr(keys.listed(graph))
    assert keys.revoke(graph, "ci")
    _, old = keys.create(graph, "old", "admin", expires_at=time.time() - 1)
    _, new = keys.create(graph, "new", "admin")
    fresh = serve()
    codes = [fresh.get("/api/workflows", headers={"X-API-Key": each}).status_code for each in (text, old, new)]
    assert codes == [401, 401, 200]
    assert not keys.revoke(graph, made.id)


@pytest.mark.parametrize(("api_keys", "secret"), [("key:readd", ""), ("", "short")])
def test_credentials_that_cannot_be_meant_are_refused(api_keys: str, secret: str) -> None:
    with pytest.raises(ComponentError, match="TWINGRAPH_"):
        credentials(api_keys, secret)


def test_more_than_the_limit_is_refused_until_the_minute_is_over(serve: Any) -> None:
    client = serve(most=Limits(3, 1, 10))
    left = []
    for _ in range(3):
        answer = client.get("/api/workflows")
        left.append((answer.status_code, answer.headers["x-ratelimit-limit"], answer.headers["x-ratelimit-remaining"]))
    assert left == [(200, "3", "2"), (200, "3", "1"), (200, "3", "0")]
    late = client.get("/api/workflows/none")
    assert (late.status_code, late.json()["code"]) == (429, "rate_limited")
    assert 1 <= int(late.headers["retry-after"]) <= 61
    assert int(late.headers["x-ratelimit-reset"]) > time.time()
    assert client.get("/health").status_code == 200
    bulk = [client.post("/api/bulk/executions/get", json={"ids": ["x"]}).status_code for _ in range(2)]
    assert bulk == [200, 429]


def test_each_client_has_a_window_of_its_own() -> None:
    time_now = 1000.0
    meter = Meter(lambda: time_now)
    assert [meter.count("a", 1).allowed, meter.count("a", 1).allowed, meter.count("b", 1).allowed] == [
        True,
        False,
        True,
    ]
    time_now += 60
    assert meter.count("a", 1).allowed


@pytest.mark.parametrize(
    ("told", "found"), [("", Limits()), ("0", Limits(0, 0, 0)), ("50", Limits(50)), ("50, 5", Limits(50, 5))]
)
def test_limits_are_told_by_the_environment(told: str, found: Limits) -> None:
    assert limits(told) == found
    with pytest.raises(ComponentError, match="TWINGRAPH_RATE_LIMIT"):
        limits("many")


def test_a_body_that_is_too_large_is_not_read(serve: Any) -> None:
    client = serve(most=Limits(0, 0, 0, body=1000))
    whole = client.put("/api/workflows/w", content=b"x" * 1001)
    parts = client.put("/api/workflows/w", content=(b"x" * 100 for _ in range(11)))
    assert [(each.status_code, each.json()["code"]) for each in (whole, parts)] == [(413, "body_too_large")] * 2


def test_pages_of_other_origins_are_kept_out_unless_they_are_named(serve: Any) -> None:
    ours = {"Origin": "https://ui.example"}
    assert "access-control-allow-origin" not in serve().get("/api/workflows", headers=ours).headers
    named = serve(origins=("https://ui.example",)).get("/api/workflows", headers=ours)
    assert named.headers["access-control-allow-origin"] == "https://ui.example"


def test_a_page_that_is_named_may_use_a_server_with_keys(serve: Any) -> None:
    client = serve(credentials("key:read", ""), origins=("https://ui.example",))
    page = {"Origin": "https://ui.example"}
    first = {**page, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "x-api-key"}
    asked = client.options("/api/workflows", headers=first)
    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, "https://ui.example")
    assert client.get("/api/workflows", headers={**page, "X-API-Key": "key"}).status_code == 200
    refused = client.get("/api/workflows", headers=page)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://ui.example")


def test_refusals_are_counted_and_say_how_much_is_left(serve: Any) -> None:
    client = serve(credentials("key:read", ""), Limits(3, 0, 0))
    answers = [client.get("/api/workflows", headers={"X-API-Key": f"guess-{number}"}) for number in range(4)]
    assert [each.status_code for each in answers] == [401, 401, 401, 429]
    assert [each.headers["x-ratelimit-remaining"] for each in answers] == ["2", "1", "0", "0"]
    other = client.get("/api/workflows", headers={"X-API-Key": "key", "Accept": "application/vnd.twingraph.v9+json"})
    assert (other.status_code, other.headers["x-ratelimit-remaining"]) == (406, "2")


def test_a_database_that_is_away_is_told_to_who_says_who_they_are(serve: Any, graph: Repository) -> None:
    client = serve()
    assert client.get("/api/workflows").status_code == 200
    keys.create(graph, "laptop", "read")
    client = serve()
    with graph.engine.begin() as connection:
        connection.execute(text("ALTER TABLE keys RENAME TO gone"))
    answer = client.get("/api/workflows", headers={"X-API-Key": "tg_some"})
    assert (answer.status_code, answer.json()["code"]) == (503, "graph_unavailable")
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/ws?api_key=tg_some"):
        pass
    assert refused.value.status_code == 503


def test_a_name_that_leads_here_from_elsewhere_is_refused_where_nobody_is_asked(serve: Any) -> None:
    client = serve(here=True, origins=("https://ui.example",))
    for host, status in (
        ("localhost:8000", 200),
        ("127.0.0.1", 200),
        ("[::1]:8000", 200),
        ("host.docker.internal:8000", 200),
        ("ui.example", 200),
        ("evil.example:8000", 403),
        ("[", 403),
    ):
        assert client.get("/api/workflows", headers={"Host": host}).status_code == status
    evil = {"Host": "evil.example", "Origin": "http://evil.example"}
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/ws", headers=evil):
        pass
    assert refused.value.json()["code"] == "host_refused"
    with_keys = serve(credentials("key:read", ""), here=True)
    assert with_keys.get("/api/workflows", headers={"Host": "flows.example", "X-API-Key": "key"}).status_code == 200
