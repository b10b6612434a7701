"""LLMPrompt, on a server that speaks both protocols and fails as it is told to."""

from __future__ import annotations

import json
import logging
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.contracts.built_in import BuiltInContract
from tests.twingraph.conftest import Heard
from twingraph import Workflow, component, pipeline
from twingraph.cli import console as twingraph
from twingraph.components import LLMPrompt
from twingraph.components.chat.failures import LLMError, LLMUnavailableError
from twingraph.components.chat.sending import asked_for
from twingraph.components.chat.sse import events
from twingraph.components.llm_replies import Asked, Reply
from twingraph.components.llm_server import Fault, LanguageModel
from twingraph.errors import ComponentTimeoutError, TransientError
from twingraph.events import NodeFailed, NodeFinished, NodeLogged
from twingraph.executions.recorder import open_recorder
from twingraph.executions.repository import Repository
from twingraph.graphs.document import document
from twingraph.questions import ExecutionGraph

SCHEMA = {
    "type": "object",
    "properties": {"bird": {"type": "string"}, "wings": {"type": "integer", "minimum": 1}},
    "required": ["bird", "wings"],
    "additionalProperties": False,
}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "count",
        "description": "Counts birds.",
        "parameters": {"type": "object", "properties": {"pond": {"type": "string"}}},
    },
}
LOOSE: Any = LLMPrompt  # as a caller without a type checker has it


@pytest.fixture(autouse=True)
def no_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the environment leads to a provider."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def model() -> Iterator[LanguageModel]:
    """A server with a language model."""
    with LanguageModel() as made:
        yield made


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """A graph that everything in the test is recorded in."""
    monkeypatch.setenv("TWINGRAPH_RECORD", "on")
    recorder = open_recorder()
    yield recorder.repository()
    recorder.close()


class TestLLMPrompt(BuiltInContract):
    """As every component."""

    name: ClassVar[str] = "LLMPrompt"
    libraries: ClassVar[tuple[str, ...]] = ("httpx", "jsonschema")
    network: ClassVar[str] = "host"

    @pytest.fixture
    def settings(self, model: LanguageModel) -> dict[str, Any]:
        return {"model": "gpt-5-mini", "base_url": model.url, "api_key": model.key, "temperature": 0}

    @pytest.fixture
    def inputs(self) -> dict[str, Any]:
        return {"prompt": "A bird?", "schema": SCHEMA}

    def check(self, outputs: Mapping[str, Any]) -> None:
        assert outputs["data"] == {"bird": "text", "wings": 1}
        assert outputs["usage"]["output_tokens"] == 4


def prompt(model: LanguageModel, name: str = "gpt-5-mini", **settings: Any) -> LLMPrompt:
    """A component that asks this server."""
    return LLMPrompt(**{"model": name, "base_url": model.url, "api_key": model.key, **settings})


# ---- what is asked and answered


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("name", ["gpt-5-mini", "claude-sonnet-5"])
def test_a_prompt_is_answered(model: LanguageModel, name: str, stream: bool) -> None:
    model.answer = lambda asked: Reply("Grüße\u2028an die Gans", cached_tokens=2)
    llm = prompt(model, name, temperature=0.5, max_tokens=50, stream=stream, options={"top_p": 0.9})
    made = llm(prompt="Greet {{politely}}: {who}, {n}", system="Be {tone}.", who="{tone}", n=[1, "é"], tone="kind")
    asked = model.asked[0]
    assert made["response"] == "Grüße\u2028an die Gans"
    assert (made["model"], made["finish_reason"], made["tool_calls"], made["data"]) == (name, "stop", [], None)
    used = made["usage"]["input_tokens"]
    assert made["usage"] == {"input_tokens": used, "output_tokens": 4, "total_tokens": used + 4, "cached_tokens": 2}
    assert asked.prompt == 'Greet {politely}: {tone}, [1, "é"]'
    told = {key: asked.body.get(key) for key in ("model", "temperature", "max_tokens", "top_p", "stream")}
    assert told == {"model": name, "temperature": 0.5, "max_tokens": 50, "top_p": 0.9, "stream": stream or None}
    system = asked.body["system"] if asked.anthropic else asked.body["messages"][0]["content"]
    assert system == "Be kind."
    assert asked.headers["x-api-key" if asked.anthropic else "authorization"].endswith(model.key)


def test_a_field_may_have_the_name_of_a_parameter_of_ours(model: LanguageModel) -> None:
    llm, fields = prompt(model), {"self": "a goose", "items": 2, "args": 3, "fn": 4}
    made = [llm(prompt="{self}{items}{args}{fn}", **fields), llm.submit(prompt="{self}", **fields)]
    made += llm.map(["{self}, {items}"], **fields)
    assert [each["response"] for each in made] == ["a goose234", "a goose", "a goose, 2"]


def test_it_is_written_as_the_documentation_has_it(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", model.url)
    monkeypatch.setenv("OPENAI_API_KEY", model.key)
    names: dict[str, Any] = {"LLMPrompt": LLMPrompt, "document": "Geese honk."}
    exec(  # as it was printed
        """
llm = LLMPrompt(model='gpt-4', temperature=0.7)
response = llm(prompt="Summarize this text: {text}", text=document)
""",
        names,
    )
    assert names["response"]["outputs"]["response"] == "Summarize this text: Geese honk."


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"prompt": "{tezt}", "text": "x"}, r"The prompt has a field {tezt} that the call .* did you mean 'text'\?"),
        ({"prompt": "{b}"}, r"a field {b} that the call was not given; it was given none"),
        ({"prompt": "{system}", "system": "x"}, r"a field {system}, a name that LLMPrompt needs for itself: name it"),
        ({"prompt": "{text.__class__}", "text": "x"}, r"'{text.__class__}', which is no field"),
        ({"prompt": "{text[0]}", "text": "x"}, r"'{text\[0\]}', which is no field"),
        ({"prompt": "{text!r:>9}", "text": "x"}, r"which is no field"),
        ({"prompt": 'as {"a": 1}'}, r"braces that are meant are written twice, {{ and }}"),
        ({"prompt": "a } b"}, r"has '}', which is no field, in 'a } b'"),
        ({"prompt": "{text}", "text": None}, r"a field {text}, which is None"),
        ({"prompt": "x", "system": "{y}"}, r"The system prompt has a field {y}"),
        ({}, r"nothing to ask"),
        (
            {"messages": [{"role": "bird", "content": "x"}]},
            r"one of user, assistant, system, tool, not {'role': 'bird'",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, r"'tool_call_id'"),
        ({"prompt": "x", "schema": {"type": "objekt"}}, r"no JSON schema: at \$\.type, 'objekt' is not valid"),
    ],
)
def test_what_cannot_be_asked_is_not_asked(model: LanguageModel, given: dict[str, Any], told: str) -> None:
    with pytest.raises(LLMError, match=told):
        prompt(model)(**given)
    assert model.asked == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"model": " "}, "'model' is empty"),
        ({"retries": -1}, "'retries' is 0 or more, not -1"),
        ({"prices": {"x": {"input": 1}}}, "prices\\['x'\\] takes"),
        ({"prices": {"x": {"input": 1, "output": 2, "cashed": 1}}}, "did you mean 'cached'"),
        ({"prices": {"x": {"input": 1, "output": "2"}}}, "not '2'"),
        ({"temprature": 1}, "did you mean 'temperature'"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        LOOSE(**{"model": "gpt-5", **settings})


# ---- schemas


@pytest.mark.parametrize("name", ["gpt-5-mini", "claude-sonnet-5"])
def test_an_answer_conforms_to_its_schema(model: LanguageModel, name: str) -> None:
    made = prompt(model, name)(prompt="A bird?", schema=SCHEMA)
    assert made["data"] == {"bird": "text", "wings": 1}
    assert json.loads(made["response"]) == made["data"]
    body = model.asked[0].body
    if model.asked[0].anthropic:  # which takes no limits
        assert body["output_config"]["format"]["schema"]["properties"]["wings"] == {"type": "integer"}
    else:
        assert body["response_format"]["json_schema"] == {"name": "answer", "schema": SCHEMA, "strict": True}
    prompt(model, name)(prompt="x", schema={"type": "object", "properties": {"a": {"items": {"properties": {}}}}})
    loose = model.asked[1].schema or {}
    assert loose.get("additionalProperties") == (False if model.asked[1].anthropic else None)


@pytest.mark.parametrize("name", ["gpt-4", "claude-3-5-haiku-latest"])
def test_a_model_without_schemas_is_instructed(model: LanguageModel, name: str) -> None:
    model.answer = lambda asked: '```json\n{"bird": "goose", "wings": 2}\n```'
    assert prompt(model, name)(prompt="x", system="Be.", schema=SCHEMA)["data"] == {"bird": "goose", "wings": 2}
    assert model.asked[0].schema is None
    assert '"minimum": 1' in json.dumps(model.asked[0].body).replace("\\", "")


def test_an_answer_that_does_not_conform_is_asked_for_again(model: LanguageModel) -> None:
    replies = iter(['{"bird": 1, "wings": 0}', '{"bird": "goose", "wings": 2}', '{"bird": 7, "wings": 0}', "{", "no"])

    def answer(asked: Asked) -> str | Reply:
        text = next(replies)
        return Reply(text, finish_reason="length" if text == "{" else "stop")

    model.answer = answer
    made = prompt(model, reask=1)(prompt="A bird?", schema=SCHEMA)
    assert made["data"] == {"bird": "goose", "wings": 2}
    again = model.asked[1].body["messages"]
    assert [each["role"] for each in again] == ["user", "assistant", "user"]
    assert "at $.bird, 1 is not of type 'string'; at $.wings, 0 is less than the minimum of 1" in again[2]["content"]
    assert made["usage"]["output_tokens"] == 8  # of both
    for told in (r"at \$\.bird, 7 is not.*It used \d+ tokens in and 4 out", "cut off where max_tokens", "is no JSON"):
        with pytest.raises(LLMError, match=told):
            prompt(model)(prompt="A bird?", schema=SCHEMA)


# ---- tools


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("name", ["gpt-5-mini", "claude-sonnet-5"])
def test_tools_are_passed_through(model: LanguageModel, name: str, stream: bool) -> None:
    calls = (("count", {"pond": "the big one"}), ("count", {"pond": "Ü"}))
    model.answer = lambda asked: Reply("Both.", calls, thinking="Two ponds.") if len(model.asked) == 1 else "Five."
    llm = prompt(model, name, stream=stream)
    made = llm(prompt="How many birds?", tools=[TOOL])
    assert [(each["name"], each["arguments"]) for each in made["tool_calls"]] == [*calls]
    assert made["finish_reason"] == "tool_calls"
    told = model.asked[0].body["tools"][0]
    assert told == (
        {"name": "count", "description": "Counts birds.", "input_schema": TOOL["function"]["parameters"]}
        if model.asked[0].anthropic
        else TOOL
    )
    results = [{"role": "tool", "tool_call_id": each["id"], "content": "2"} for each in made["tool_calls"]]
    said = made["message"]
    history = [{"role": "system", "content": "Count."}, {"role": "user", "content": "How many?"}, said, *results]
    assert llm(messages=history, tools=[{**told}])["response"] == "Five."
    by_hand = {"role": "assistant", "content": made["response"], "tool_calls": made["tool_calls"]}
    assert llm(messages=[history[1], by_hand, *results])["response"] == "Five."
    sent, again = (each.body["messages"] for each in model.asked[1:])
    assert again[-1] == sent[-1]
    if model.asked[1].anthropic:
        assert [each["role"] for each in sent] == ["user", "assistant", "user"]
        assert [each["type"] for each in sent[1]["content"]] == ["thinking", "text", "tool_use", "tool_use"]
        assert sent[1]["content"][0] == {"type": "thinking", "thinking": "Two ponds.", "signature": "signed"}
        assert [each["type"] for each in sent[2]["content"]] == ["tool_result", "tool_result"]
        assert model.asked[1].body["system"] == "Count."
    else:
        assert json.loads(sent[2]["tool_calls"][1]["function"]["arguments"]) == calls[1][1]
        assert [each["role"] for each in sent] == ["system", "user", "assistant", "tool", "tool"]


# ---- failures


@pytest.mark.parametrize("name", ["gpt-5-mini", "claude-sonnet-5"])
def test_what_does_not_get_through_is_asked_again(
    model: LanguageModel, name: str, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    past = formatdate(0, usegmt=True)
    model.faults += [
        Fault(429, "slow down", headers={"Retry-After": "0"}),
        Fault(529, "too busy", "overloaded_error", {"Retry-After": past}),
        Fault(events=4),
        Fault(events=2, error="overloaded_error", message="all of a sudden"),
        Fault(),  # the connection breaks before an answer
    ]
    llm = prompt(model, name, retries=5, retry_delay=0)
    with caplog.at_level(logging.ERROR):
        run = pipeline(name="again")(lambda: llm(prompt="one two three four five six seven eight nine")).run(
            listen=heard
        )
    assert run.result()["response"].endswith("eight nine")
    assert len(model.asked) == 6
    warned = [each.message for each in heard.of(NodeLogged) if each.level == "warning"]
    assert [any(word in each for each in warned) for word in ("429): slow down", "529): too busy", "all of a sudden")]
    assert len(warned) == 5


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": formatdate(0, usegmt=True)}, 0.0),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(told: dict[str, str], seconds: float | None) -> None:
    assert asked_for(told) == seconds


def test_retry_after_is_a_date_to_come() -> None:
    asked = asked_for({"retry-after": formatdate(time.time() + 3600, usegmt=True)})
    assert asked is not None
    assert 3500 < asked <= 3600


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (
            Fault(503, "down", headers={"Retry-After": "900"}),
            r"503\): down; it wants to be asked again in 900 s, and of total_timeout=280 s, 2",
        ),
        (Fault(500, "down", headers={"Retry-After": "0"}), r"trouble of its own \(500\): down. It was asked 2 times"),
    ],
)
def test_asking_again_has_an_end(model: LanguageModel, fault: Fault, told: str) -> None:
    model.faults += [fault] * 3
    with pytest.raises(LLMUnavailableError, match=told) as caught:
        prompt(model, retries=1)(prompt="x")
    assert isinstance(caught.value, TransientError)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Fault(401, "Bad key"), r"OpenAI refuses the key from the setting api_key \(401\): Bad key\."),
        (Fault(403, "Not here"), r"does not let the key from the setting api_key do this \(403\): Not here\."),
        (Fault(404, "no such"), r"OpenAI has no model 'gpt-5-mini' at http://127.* \(404\): no such\."),
        (Fault(400, "too much", "context_length_exceeded"), r"prompt is too long for model 'gpt-5-mini'.*too much\."),
        (Fault(400, "Unknown parameter"), r"OpenAI refuses what model 'gpt-5-mini' was asked \(400\): Unknown param"),
        (Fault(429, "pay", "insufficient_quota"), r"is used up \(429\): pay\."),
        (Fault(302, "elsewhere"), r"did not answer at http://127.* \(302\): elsewhere"),
        (Fault(200, body="<html>Hello</html>"), r"did not answer as OpenAI does: '<html>Hello</html>'"),
        (Fault(200, body='{"choices": []}'), r"did not answer as OpenAI does"),
        (Fault(events=2, error="invalid_request_error", message="no"), r"OpenAI broke off: no\."),
        (Fault(502, body="<html>Bad gateway</html>"), r"\(502\): <html>Bad gateway</html>\."),
    ],
)
def test_each_failure_has_its_sentence(model: LanguageModel, fault: Fault, told: str) -> None:
    model.faults.append(fault)
    with pytest.raises(LLMError, match=told):
        prompt(model, retries=0)(prompt="x")
    assert len(model.asked) == 1


def test_tool_arguments_that_are_no_json_are_told(model: LanguageModel) -> None:
    call = {"id": "1", "function": {"name": "count", "arguments": "{pond"}}
    body = {"choices": [{"message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]}
    model.faults.append(Fault(200, body=json.dumps(body)))
    with pytest.raises(LLMError, match=r"tool 'count' called with arguments that are no JSON .*'{pond'"):
        prompt(model)(prompt="x")
    body = {"choices": [{"message": {"content": None, "refusal": "I will not."}, "finish_reason": "stop"}]}
    model.faults += [Fault(200, body=json.dumps(body))] * 2
    assert prompt(model)(prompt="x")["finish_reason"] == "refusal"
    with pytest.raises(LLMError, match=r"refuses to answer: I will not\."):
        prompt(model)(prompt="x", schema=SCHEMA)


def test_who_is_not_there_or_says_nothing(model: LanguageModel) -> None:
    model.faults += [Fault(silent=True), Fault(events=3, silent=True)]
    for _ in range(2):
        with pytest.raises(LLMUnavailableError, match=r"OpenAI said nothing for 0.05 s \(read_timeout\)"):
            prompt(model, retries=0, read_timeout=0.05)(prompt="x")
    with pytest.raises(LLMUnavailableError, match=r"OpenAI at http://127.0.0.1:9/v1 cannot be reached: .*refused"):
        prompt(model, base_url="http://127.0.0.1:9/v1", retries=0)(prompt="x")
    for address in ("ftp://there/v1", "nowhere", "http://["):
        with pytest.raises(LLMError, match="base_url is an address"):
            prompt(model, base_url=address)(prompt="x")


def test_all_tries_together_have_a_limit(model: LanguageModel) -> None:
    model.faults.append(Fault(silent=True))
    with pytest.raises(LLMUnavailableError, match=r"OpenAI did not answer within 0.05 s \(total_timeout\)"):
        prompt(model, total_timeout=0.05)(prompt="x")


# ---- keys


@pytest.mark.parametrize(
    ("name", "variable"), [("gpt-5", "OPENAI_API_KEY"), ("anthropic/claude-opus-5", "ANTHROPIC_API_KEY")]
)
def test_the_key_and_the_address_come_from_the_environment(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch, name: str, variable: str
) -> None:
    monkeypatch.setenv(variable.replace("API_KEY", "BASE_URL"), model.url)
    with pytest.raises(LLMError, match=f"no key for .*: set {variable}, or give api_key='secret://NAME'"):
        LLMPrompt(model=name)(prompt="x")
    assert model.asked == []
    monkeypatch.setenv(variable, model.key)
    assert LLMPrompt(model=name)(prompt="x")["model"] == name.removeprefix("anthropic/")
    monkeypatch.setenv(variable, "another-key-5678")
    with pytest.raises(LLMError, match=rf"from {variable} \(401\): Incorrect API key provided: \*\*\*\."):
        LLMPrompt(model=name)(prompt="x")
    monkeypatch.setenv(variable, "two\nlines")
    with pytest.raises(LLMError, match=f"The key from {variable} has characters in it that no key has"):
        LLMPrompt(model=name)(prompt="x")
    model.key = ""
    assert LLMPrompt(model=name, api_key="")(prompt="x")["response"] == "x"
    assert not {"authorization", "x-api-key"} & model.asked[-1].headers.keys()


def test_another_provider_may_name_its_models_as_it_likes(model: LanguageModel) -> None:
    made = prompt(model, "anthropic/claude-sonnet-5", provider="openai")(prompt="x")
    assert (made["model"], model.asked[0].anthropic) == ("anthropic/claude-sonnet-5", False)
    assert "max_tokens" not in model.asked[0].body
    for name, limit in (("claude-3-haiku-20240307", 4_096), ("claude-sonnet-5", 16_000)):
        prompt(model, name)(prompt="x")
        assert model.asked[-1].body["max_tokens"] == limit
    assert prompt(model, "openai/gpt-5")(prompt="x")["model"] == "gpt-5"


def test_a_key_is_seen_nowhere(
    model: LanguageModel, graph: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model.key = "sk-very-secret-0001"
    monkeypatch.setenv("TWINGRAPH_SECRET_MODEL", model.key)
    llm = prompt(model, api_key="secret://MODEL", retries=1)
    model.answer = lambda asked: f"Your key is {asked.headers['authorization']}, bird."
    model.faults += [Fault(500, f"key {model.key} broke", headers={"Retry-After": "0"})]
    run = pipeline(name="quiet")(lambda: llm(prompt="Tell me")).run()
    assert run.status == "completed"
    twingraph(["show", run.id, "LLMPrompt", "--json"])
    twingraph(["logs", run.id])
    printed = capsys.readouterr()
    assert "bird." in printed.out
    assert "broke" in printed.out
    kept = printed.out + printed.err + repr(llm) + str(graph.nodes(run.id)) + pickle.dumps(llm).decode("latin-1")
    assert model.key not in kept
    model.faults.append(Fault(401, f"no {model.key}"))
    with pytest.raises(LLMError) as caught:
        llm(prompt="x")
    assert "no ***" in str(caught.value)


# ---- what is recorded


def test_use_and_cost_are_recorded_with_the_call(
    model: LanguageModel, graph: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    def body() -> list[Any]:
        llm = prompt(model, "gpt-5-mini-2025-08-07")
        own = prompt(model, "mine", prices={"mine": {"input": 1_000, "output": 0, "cached": 1}})
        return [each(prompt="a b c")["cost"] for each in (llm, own, prompt(model, "unheard-of"))]

    run = pipeline(name="costly")(body).run()
    costs = run.result()
    asked, answered = 6, 3
    assert costs == [pytest.approx((asked * 0.25 + answered * 2) / 1e6), pytest.approx(asked / 1_000), None]
    told = document(ExecutionGraph(graph).run(run.id))
    used = [each["properties"]["usage"] for each in told["nodes"]]
    assert [each.get("cost_usd") for each in used] == costs
    assert (used[0]["input_tokens"], used[0]["output_tokens"]) == (asked, answered)
    twingraph(["show", run.id, "LLMPrompt#2"])
    assert "input_tokens=6, output_tokens=3, cost_usd=0.006" in capsys.readouterr().out


def test_the_price_depends_on_how_much_and_what_was_cached(model: LanguageModel) -> None:
    model.answer = lambda asked: Reply("x", cached_tokens=3)
    costs = {name: prompt(model, name)(prompt="a b c d")["cost"] for name in ("gpt-4o", "claude-sonnet-4-5")}
    assert costs["gpt-4o"] == pytest.approx((4 * 2.5 + 3 * 1.25 + 10) / 1e6)
    assert costs["claude-sonnet-4-5"] == pytest.approx((4 * 3 + 3 * 0.3 + 15) / 1e6)
    model.answer = lambda asked: "x"
    model.context = 200_000
    long = prompt(model, "claude-haiku-5-5")(prompt="a " * 100_000)
    assert long["cost"] == pytest.approx((long["usage"]["input_tokens"] * 0.5 + 2.5) / 1e6)


@pytest.mark.usefixtures("graph")
def test_an_answer_is_used_again(model: LanguageModel) -> None:
    @pipeline
    def say(x: str, temperature: float) -> Any:
        made = prompt(model, temperature=temperature, cache=True)(prompt="Say {x}", x=x)
        return made.status, made["response"]

    said = [say("a", 0), say("a", 0), say("b", 0), say("a", 1)]
    assert said == [("completed", "Say a"), ("cached", "Say a"), ("completed", "Say b"), ("completed", "Say a")]
    assert [each.prompt for each in model.asked] == ["Say a", "Say b", "Say a"]


def test_the_log_hears_lines_and_not_tokens(model: LanguageModel, heard: Heard) -> None:
    long = " ".join(f"word{at}" for at in range(120))
    model.answer = lambda asked: f"First line.\n\nSecond\n{long}"
    pipeline(name="talk")(lambda: prompt(model)(prompt="Talk")).run(listen=heard)
    lines = [each.message for each in heard.of(NodeLogged)]
    assert lines[:2] == ["First line.", "Second"]
    assert " ".join(lines[2:]) == long
    assert 3 < len(lines) < 12
    heard.clear()
    pipeline(name="quiet")(lambda: prompt(model, log=False)(prompt="Talk")).run(listen=heard)
    assert heard.of(NodeLogged) == []


def test_events_come_in_any_pieces() -> None:
    text = 'event: a\ndata: {"x": "\u2028ü"}\r\n\r\n: comment\ndata: one\ndata: two\n\ndata: [DONE]\n\ndata: begun'
    whole = text.encode()
    for size in (1, 3, len(whole)):
        pieces = (whole[at : at + size] for at in range(0, len(whole), size))
        assert list(events(pieces)) == ['{"x": "\u2028ü"}', "one\ntwo", "[DONE]"]


# ---- where it runs


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_connection_serves_one_call_after_the_other(model: LanguageModel, stream: bool) -> None:
    for name in ("gpt-5", "claude-opus-5", "gpt-5"):
        prompt(model, name, stream=stream)(prompt="x")
    assert model.connections == 1


@pytest.mark.parametrize("fault", [Fault(silent=True), Fault(events=3, silent=True)], ids=["silent", "in a stream"])
def test_a_call_that_is_stopped_closes_its_connection(model: LanguageModel, fault: Fault) -> None:
    prompt(model)(prompt="leaves an open connection")
    model.faults.append(fault)
    stopped = component(timeout=0.2)(prompt(model))
    with pytest.raises(ComponentTimeoutError):
        stopped(prompt="x")
    assert model.gone.wait(10)


def test_a_call_that_is_stopped_asks_no_more(model: LanguageModel, heard: Heard) -> None:
    model.faults += [Fault(500, headers={"Retry-After": "5"})] * 2
    stopped = component(timeout=0.2)(prompt(model))
    run = pipeline(name="stopped")(lambda: stopped(prompt="x")).run(listen=heard)
    assert [each.kind for each in heard.of(NodeFailed)] == ["ComponentTimeoutError"]
    assert (run.status, len(model.asked)) == ("failed", 1)


def test_it_runs_in_a_process_of_its_own(model: LanguageModel, heard: Heard) -> None:
    there = component(config={"isolate": True}, name="ask")(prompt(model))
    run = pipeline(name="apart")(lambda: there(prompt="Say {x}", x="a\nb")).run(listen=heard)
    assert run.result()["response"] == "Say a b"
    assert "Say a b" in [each.message for each in heard.of(NodeLogged)]
    (finished,) = heard.of(NodeFinished)
    assert {"input_tokens", "output_tokens", "cost_usd", "cpu_seconds"} <= finished.usage.keys()
    model.faults.append(Fault(401, "no"))
    with pytest.raises(LLMError, match="refuses the key"):
        there(prompt="x")


def test_a_workflow_knows_it_by_name(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINGRAPH_SECRET_KEY", model.key)
    config = {"model": "gpt-5", "base_url": model.url, "api_key": "secret://KEY", "prompt": "Sum up: {text}"}
    definition = {
        "nodes": [
            {"id": "ask", "type": "component", "component": "LLMPrompt", "config": config},
            {
                "id": "check",
                "type": "component",
                "component": "llm_prompt",
                "config": {**config, "prompt": "{response}?"},
            },
        ],
        "edges": [{"source": "ask", "target": "check", "sourceHandle": "output", "targetHandle": "input"}],
    }
    run = Workflow.from_dict({"name": "asking", "definition": definition}).run({"text": "a goose"})
    assert run.node_outputs["ask"]["response"] == "Sum up: a goose"
    assert run.node_outputs["check"]["response"] == "Sum up: a goose?"
    settings = LLMPrompt.schema()["settings"]["properties"]
    assert settings["api_key"]["writeOnly"]
    assert settings["provider"]["description"].startswith("whose protocol")


def test_the_rehearsal_is_a_program(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "twingraph.components.llm_server", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        base = server.stderr.readline().split()[0].removeprefix("OPENAI_BASE_URL=")
        made = LLMPrompt(model="any", base_url=base, api_key="any")(prompt="Anybody there?")
        server.send_signal(signal.SIGINT)
    assert (made["response"], server.returncode) == ("Anybody there?", 0)
