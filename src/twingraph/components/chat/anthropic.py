"""Anthropic's messages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from twingraph.components.chat.conversation import Answer, Json, Question, ToolCall, Usage
from twingraph.components.chat.schemas import instructions, without_limits

_VERSION = "2023-06-01"
_MOST_TOKENS, _OF_OLDER = 16_000, 4_096  # the protocol wants a number; what a model thinks counts as well
_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}


class Anthropic:
    """How it is spoken to."""

    label = "Anthropic"
    key_variable = "ANTHROPIC_API_KEY"
    base_variable = "ANTHROPIC_BASE_URL"
    base_url = "https://api.anthropic.com"

    def url(self, base: str) -> str:
        """Where questions go to."""
        return f"{base.rstrip('/').removesuffix('/v1')}/v1/messages"

    def headers(self, key: str) -> dict[str, str]:
        """Who asks."""
        return {"anthropic-version": _VERSION, **({"x-api-key": key} if key else {})}

    def body(self, question: Question, base: str) -> Json:
        """The question as it is sent."""
        told: Json = {
            "model": question.model,
            "max_tokens": question.max_tokens or _most_tokens(question.model),
            "messages": _messages(question.messages),
        }
        system = _system(question)
        if system:
            told["system"] = system
        if question.temperature is not None:
            told["temperature"] = question.temperature
        if question.tools:
            told["tools"] = [_tool(each) for each in question.tools]
        if question.schema is not None and question.native:
            told["output_config"] = {"format": {"type": "json_schema", "schema": without_limits(dict(question.schema))}}
        if question.stream:
            told["stream"] = True
        return {key: value for key, value in {**told, **question.options}.items() if value is not None}

    def answer(self, told: Json) -> Answer:
        """The answer in a body."""
        blocks = told["content"]
        text = "".join(each["text"] for each in blocks if each["type"] == "text")
        calls = tuple(
            ToolCall(each["id"], each["name"], _as_text(each["input"])) for each in blocks if each["type"] == "tool_use"
        )
        reason = _REASONS.get(told.get("stop_reason") or "end_turn", told.get("stop_reason"))
        return Answer(text, told.get("model") or "", str(reason), _usage(told.get("usage")), calls, tuple(blocks))

    def folding(self) -> _Folding:
        """What puts a stream together."""
        return _Folding(self)


class _Folding:
    """Makes of a stream the body that would have come in one piece."""

    _GROWS = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}  # noqa: RUF012

    def __init__(self, provider: Anthropic) -> None:
        self.over = False
        self._provider = provider
        self._told: Json = {"usage": {}}
        self._blocks: dict[int, Json] = {}
        self._inputs: dict[int, str] = {}

    def take(self, event: Json) -> str:
        match event.get("type"):
            case "message_start":
                self._told["model"] = event["message"].get("model")
                self._used(event["message"].get("usage"))
            case "content_block_start":
                self._blocks[event["index"]] = dict(event["content_block"])
                return str(event["content_block"].get("text") or "")
            case "content_block_delta":
                return self._grown(event["index"], event["delta"])
            case "message_delta":
                self._told["stop_reason"] = event["delta"].get("stop_reason")
                self._used(event.get("usage"))
            case "message_stop":
                self.over = True
        return ""

    def _grown(self, index: int, delta: Json) -> str:
        kind, block = delta["type"], self._blocks[index]
        if kind == "input_json_delta":
            self._inputs[index] = self._inputs.get(index, "") + delta["partial_json"]
        elif kind in self._GROWS:
            name = self._GROWS[kind]
            block[name] = (block.get(name) or "") + delta[name]
        return str(delta["text"]) if kind == "text_delta" else ""

    def _used(self, usage: Json | None) -> None:
        self._told["usage"] |= {key: value for key, value in (usage or {}).items() if value is not None}

    def answer(self) -> Answer:
        for index, text in self._inputs.items():
            self._blocks[index]["input"] = _as_value(text)
        return self._provider.answer({**self._told, "content": [self._blocks[at] for at in sorted(self._blocks)]})


def takes_no_schema(model: str) -> bool:
    """Whether a model is older than schemas: those before Claude 4.5, and Claude 4.1."""
    return re.match(r"claude-(\d|instant|(opus|sonnet)-4(-1|-0|-\d{8})?$|opus-4-1-)", model) is not None


def _most_tokens(model: str) -> int:
    return _OF_OLDER if re.match(r"claude-(2|3|instant)", model) else _MOST_TOKENS


def _as_text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def _as_value(text: str) -> Any:
    """What a tool is to be called with; as it is, where it is no JSON."""
    try:
        return json.loads(text or "{}")
    except ValueError:
        return text


def _system(question: Question) -> str:
    own = [str(each["content"]) for each in question.messages if each["role"] == "system"]
    asked = [instructions(dict(question.schema))] if question.schema is not None and not question.native else []
    return "\n\n".join(filter(None, [question.system, *own, *asked]))


def _messages(messages: Iterable[Mapping[str, Any]]) -> list[Json]:
    told: list[Json] = []
    for each in messages:
        match each["role"]:
            case "system":  # is told apart from the messages
                continue
            case "tool":
                block = {"type": "tool_result", "tool_use_id": each["tool_call_id"], "content": each["content"]}
                if told and told[-1]["role"] == "user" and isinstance(told[-1]["content"], list):
                    told[-1]["content"].append(block)  # the results of one answer's calls come together
                else:
                    told.append({"role": "user", "content": [block]})
            case "assistant" if each.get("blocks"):
                told.append({"role": "assistant", "content": each["blocks"]})
            case "assistant" if each.get("tool_calls"):
                text = [{"type": "text", "text": each["content"]}] if each.get("content") else []
                told.append({"role": "assistant", "content": [*text, *map(_call, each["tool_calls"])]})
            case role:
                told.append({"role": role, "content": each["content"]})
    return told


def _call(call: Mapping[str, Any]) -> Json:
    inner = call.get("function", call)
    arguments = inner["arguments"]
    given = _as_value(arguments) if isinstance(arguments, str) else arguments
    return {"type": "tool_use", "id": call["id"], "name": inner["name"], "input": given}


def _tool(tool: Mapping[str, Any]) -> Json:
    """A tool as it is told here; one that is told in OpenAI's way has the same in it."""
    if tool.get("type") != "function":
        return dict(tool)
    told = {key: value for key, value in tool["function"].items() if key not in ("parameters", "strict")}
    return {**told, "input_schema": tool["function"].get("parameters") or {"type": "object"}}


def _usage(told: Json | None) -> Usage:
    told = told or {}
    cached, written = told.get("cache_read_input_tokens") or 0, told.get("cache_creation_input_tokens") or 0
    fresh = told.get("input_tokens") or 0
    return Usage(fresh + cached + written, told.get("output_tokens") or 0, cached, written)
