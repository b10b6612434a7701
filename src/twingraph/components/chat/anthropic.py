"""Anthropic's messages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from twingraph.components.chat.conversation import Answer, Json, Question, ToolCall, Usage
from twingraph.components.chat.schemas import instructions, without_limits

_VERSION = "2023-06-01"
_MOST_TOKENS = 4096  # the protocol wants a number; this is one that every model takes
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
            "max_tokens": question.max_tokens or _MOST_TOKENS,
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
            ToolCall(each["id"], each["name"], json.dumps(each["input"]))
            for each in blocks
            if each["type"] == "tool_use"
        )
        return Answer(text, told.get("model") or "", _reason(told.get("stop_reason")), _usage(told.get("usage")), calls)

    def folding(self) -> _Folding:
        """What puts a stream together."""
        return _Folding()


class _Folding:
    def __init__(self) -> None:
        self.over = False
        self._model = ""
        self._texts: list[str] = []
        self._reason = ""
        self._usage: Json = {}
        self._calls: dict[int, dict[str, str]] = {}

    def take(self, event: Json) -> str:
        match event.get("type"):
            case "message_start":
                self._model = event["message"].get("model") or ""
                self._used(event["message"].get("usage"))
            case "content_block_start" if event["content_block"]["type"] == "tool_use":
                block = event["content_block"]
                self._calls[event["index"]] = {"id": block["id"], "name": block["name"], "arguments": ""}
            case "content_block_start":
                return self._text(event["content_block"].get("text") or "")
            case "content_block_delta":
                return self._delta(event["index"], event["delta"])
            case "message_delta":
                self._reason = event["delta"].get("stop_reason") or self._reason
                self._used(event.get("usage"))
            case "message_stop":
                self.over = True
        return ""

    def _delta(self, index: int, delta: Json) -> str:
        if delta["type"] == "input_json_delta" and index in self._calls:
            self._calls[index]["arguments"] += delta["partial_json"]
        return self._text(delta["text"] if delta["type"] == "text_delta" else "")

    def _text(self, text: str) -> str:
        self._texts.append(text)
        return text

    def _used(self, usage: Json | None) -> None:
        self._usage |= {key: value for key, value in (usage or {}).items() if value is not None}

    def answer(self) -> Answer:
        calls = tuple(ToolCall(**self._calls[index]) for index in sorted(self._calls))
        return Answer("".join(self._texts), self._model, _reason(self._reason), _usage(self._usage), calls)


def takes_no_schema(model: str) -> bool:
    """Whether a model is older than schemas: those before Claude 4.5, and Claude 4.1."""
    return re.match(r"claude-(\d|instant|(opus|sonnet)-4(-1|-0|-\d{8})?$|opus-4-1-)", model) is not None


def _reason(told: str | None) -> str:
    return _REASONS.get(told or "", told or "stop")


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
            case "assistant" if each.get("tool_calls"):
                text = [{"type": "text", "text": each["content"]}] if each.get("content") else []
                told.append({"role": "assistant", "content": [*text, *map(_call, each["tool_calls"])]})
            case role:
                told.append({"role": role, "content": each["content"]})
    return told


def _call(call: Mapping[str, Any]) -> Json:
    inner = call.get("function", call)
    arguments = inner["arguments"]
    given = json.loads(arguments or "{}") if isinstance(arguments, str) else arguments
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
