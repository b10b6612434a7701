"""What a rehearsal's language model is asked and replies, as both protocols write it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lokki.frozen import frozen

OPENAI, ANTHROPIC = "/v1/chat/completions", "/v1/messages"
_WORDS = 40
_PIECES = 4  # words of a piece of a stream
_GROWS = {
    "text": ("text_delta", "text"),
    "input": ("input_json_delta", "partial_json"),
    "thinking": ("thinking_delta", "thinking"),
    "signature": ("signature_delta", "signature"),
}

Json = dict[str, Any]


@frozen
class Asked:
    """A request that came."""

    path: str
    headers: Mapping[str, str]
    body: Json

    @property
    def anthropic(self) -> bool:
        """Whether it was made in Anthropic's protocol."""
        return self.path == ANTHROPIC

    @property
    def prompt(self) -> str:
        """The last message."""
        content = self.body["messages"][-1]["content"]
        return content if isinstance(content, str) else json.dumps(content)

    @property
    def schema(self) -> Json | None:
        """The JSON schema that the answer has to conform to."""
        if self.anthropic:
            told = self.body.get("output_config", {}).get("format")
        else:
            told = self.body.get("response_format", {}).get("json_schema")
        return None if told is None else told["schema"]


@frozen
class Reply:
    """What is answered; `tool_calls` are names and arguments, `thinking` is what Anthropic's models say of it."""

    text: str = ""
    tool_calls: tuple[tuple[str, Json], ...] = ()
    finish_reason: str = ""
    cached_tokens: int = 0
    thinking: str = ""


def first_words(asked: Asked) -> str:
    """What is answered where nothing else is said: the prompt's first words, or the least that a schema takes."""
    if asked.schema is not None:
        return json.dumps(_least(asked.schema))
    return " ".join(asked.prompt.split()[:_WORDS])


def openai(asked: Asked, reply: Reply, used: int, made: int) -> Json:
    """A chat completion."""
    calls = [
        {"id": f"call_{at}", "type": "function", "function": {"name": name, "arguments": json.dumps(given)}}
        for at, (name, given) in enumerate(reply.tool_calls)
    ]
    message: Json = {"role": "assistant", "content": reply.text or None, **({"tool_calls": calls} if calls else {})}
    reason = reply.finish_reason or ("tool_calls" if calls else "stop")
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": asked.body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {
            "prompt_tokens": used,
            "completion_tokens": made,
            "total_tokens": used + made,
            "prompt_tokens_details": {"cached_tokens": reply.cached_tokens},
        },
    }


def openai_events(asked: Asked, reply: Reply, used: int, made: int) -> Iterator[str]:
    """A chat completion as the events of a stream."""
    whole = openai(asked, reply, used, made)
    choice = whole["choices"][0]

    def chunk(delta: Json, reason: str | None = None) -> str:
        told = [{"index": 0, "delta": delta, "finish_reason": reason}]
        return event_of({"object": "chat.completion.chunk", "model": whole["model"], "choices": told})

    yield chunk({"role": "assistant", "content": ""})
    for each in _pieces(reply.text):
        yield chunk({"content": each})
    for at, each in enumerate(choice["message"].get("tool_calls", ())):
        text = each["function"]["arguments"]
        yield chunk({"tool_calls": [{"index": at, **each, "function": {"name": each["function"]["name"]}}]})
        for piece in (text[: len(text) // 2], text[len(text) // 2 :]):
            yield chunk({"tool_calls": [{"index": at, "function": {"arguments": piece}}]})
    yield chunk({}, choice["finish_reason"])
    if asked.body.get("stream_options", {}).get("include_usage"):
        yield event_of({"object": "chat.completion.chunk", "choices": [], "usage": whole["usage"]})
    yield "data: [DONE]\n\n"


def anthropic(asked: Asked, reply: Reply, used: int, made: int) -> Json:
    """A message."""
    blocks: list[Json] = []
    if reply.thinking:
        blocks.append({"type": "thinking", "thinking": reply.thinking, "signature": "signed"})
    if reply.text:
        blocks.append({"type": "text", "text": reply.text})
    blocks += [
        {"type": "tool_use", "id": f"toolu_{at}", "name": name, "input": given}
        for at, (name, given) in enumerate(reply.tool_calls)
    ]
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": asked.body["model"],
        "content": blocks,
        "stop_reason": reply.finish_reason or ("tool_use" if reply.tool_calls else "end_turn"),
        "usage": {
            "input_tokens": used - reply.cached_tokens,
            "output_tokens": made,
            "cache_read_input_tokens": reply.cached_tokens,
        },
    }


def anthropic_events(asked: Asked, reply: Reply, used: int, made: int) -> Iterator[str]:
    """A message as the events of a stream."""
    whole = anthropic(asked, reply, used, made)

    def event(kind: str, **told: Any) -> str:
        return event_of({"type": kind, **told}, kind)

    begun = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
    yield event("message_start", message=begun)
    yield event("ping")
    for at, block in enumerate(whole["content"]):
        empty: Json = {key: {} if key == "input" else "" for key in _GROWS if key in block}
        yield event("content_block_start", index=at, content_block=block | empty)
        for key in empty:
            kind, name = _GROWS[key]
            for each in _pieces(json.dumps(block[key]) if key == "input" else block[key]):
                yield event("content_block_delta", index=at, delta={"type": kind, name: each})
        yield event("content_block_stop", index=at)
    yield event("message_delta", delta={"stop_reason": whole["stop_reason"]}, usage={"output_tokens": made})
    yield event("message_stop")


def event_of(told: Json, name: str = "") -> str:
    """One event of a stream."""
    return f"{f'event: {name}' + chr(10) if name else ''}data: {json.dumps(told, ensure_ascii=False)}\n\n"


def _pieces(text: str) -> Iterator[str]:
    """A text in pieces of a few words."""
    words = text.split(" ")
    for at in range(0, len(words) if text else 0, _PIECES):
        yield ("" if at == 0 else " ") + " ".join(words[at : at + _PIECES])


def _least(schema: Any) -> Any:
    """The least that conforms to a plain schema."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: _least(each) for name, each in schema.get("properties", {}).items()}
        case "array":
            return [_least(schema["items"])] if "items" in schema else []
        case kind:
            return {"integer": 1, "number": 1.0, "boolean": True, "null": None}.get(str(kind), "text")
