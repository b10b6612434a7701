"""`LLMPrompt`: ask a language model, over the chat completions of OpenAI and many others, or Anthropic's messages."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from lokki.frozen import replace
from twingraph.components.built_in import BuiltIn, needed
from twingraph.components.chat import anthropic, openai
from twingraph.components.chat.anthropic import Anthropic
from twingraph.components.chat.conversation import Answer, Provider, Question, ToolCall, Usage
from twingraph.components.chat.failures import LLMError
from twingraph.components.chat.prices import price_of
from twingraph.components.chat.schemas import Mismatch, checked, conforming
from twingraph.components.chat.sending import Account, Asking, Limits
from twingraph.components.chat.speaking import Speaking, say, silent
from twingraph.components.chat.template import filled
from twingraph.executions.secrets import hide, veiled

_ANTHROPIC = ("claude", "anthropic/")
_LEAST = {
    "temperature": 0, "max_tokens": 1, "reask": 0, "retries": 0, "retry_delay": 0,
    "connect_timeout": 0.001, "read_timeout": 0.001, "total_timeout": 0.001,
}  # fmt: skip
_TELLING = 8  # characters; a shorter key would hide much that is none
_ROLES = ("user", "assistant", "system", "tool")


class LLMPrompt(BuiltIn):
    """Ask a language model.

    Args:
        model: the model, by its provider's name; one that begins with `claude` or `anthropic/` is asked of Anthropic.
        provider: whose protocol is spoken, where the model's name does not say it.
        base_url: where the provider answers; by default `OPENAI_BASE_URL` or `ANTHROPIC_BASE_URL`, or its own address.
        api_key: the key, best as `secret://NAME`; by default `OPENAI_API_KEY` or `ANTHROPIC_API_KEY`; empty for none.
        temperature: how much chance there is in the answer; by default, as the model has it.
        max_tokens: how long the answer may get; Anthropic, which wants a limit, gets 16,000 without one.
        stream: whether the answer is heard while it is written.
        log: whether the log of the call has what the model says.
        structured: how a schema is told: in the provider's own way, or as instructions; auto: as the model takes it.
        reask: how often to ask again when an answer does not conform to the schema.
        retries: how often to ask again when a question does not get through.
        retry_delay: seconds before that, doubled each time, where the provider says nothing else.
        connect_timeout: seconds that connecting may take.
        read_timeout: seconds that the provider may say nothing.
        total_timeout: seconds that all tries together may take.
        prices: of models, dollars per million tokens: `{"my-model": {"input": 1, "output": 2, "cached": 0.1}}`.
        options: what else the provider is told, in its own words.
        cache: use the recorded answer to the same question again: True, or `{"ttl": seconds}`.
    """

    extra = "llm"

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        model: str,
        provider: Literal["openai", "anthropic"] | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        stream: bool = True,
        log: bool = True,
        structured: Literal["auto", "native", "instructions"] = "auto",
        reask: int = 0,
        retries: int = 4,
        retry_delay: float = 0.5,
        connect_timeout: float = 10.0,
        read_timeout: float = 120.0,
        total_timeout: float = 280.0,
        prices: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        cache: bool | dict[str, Any] = False,
    ) -> None:
        super().__init__(config)
        self.model = model
        self.provider = provider
        self.base_url = base_url
        self.api_key = api_key
        self.temperature = temperature
        self.max_tokens = max_tokens
        self.stream = stream
        self.log = log
        self.structured = structured
        self.reask = reask
        self.limits = Limits(connect_timeout, read_timeout, total_timeout, retries, retry_delay)
        self.prices = prices
        self.options = options
        vars(self)["placement"] = {**self.placement, "cache": cache}
        self._check()

    def execute(
        self,
        /,
        prompt: str = "",
        system: str = "",
        messages: list[dict[str, Any]] | None = None,
        schema: dict[str, Any] | None = None,
        tools: list[dict[str, Any]] | None = None,
        **fields: Any,
    ) -> dict[str, Any]:
        """Ask.

        Args:
            prompt: the question; `{name}` in it stands for the field of that name, `{{` for a brace.
            system: what the model is told first; may have fields as well.
            messages: the conversation so far, `{"role", "content"}` each; the prompt comes after it.
            schema: a JSON schema that the answer has to conform to; then the output `data` has it as a value.
            tools: functions that the model may want called; those that it does are in the output `tool_calls`.
            fields: what the fields of the templates hold.
        """
        with needed("llm", "LLMPrompt"):
            import httpx  # noqa: F401 - what follows needs it

            if schema is not None:
                import jsonschema  # noqa: F401

        question = self._question(prompt, system, messages or [], schema, tools or [], fields)
        answer, data = self._answered(Asking(self._account(), self.limits), question)
        calls = [_called(each) for each in answer.tool_calls]
        price = price_of(self.prices, self.model, question.model, answer.model)
        return {
            "response": answer.text,
            "data": data,
            "tool_calls": calls,
            "message": _as_message(answer, calls) if calls else None,
            "model": answer.model or question.model,
            "finish_reason": answer.finish_reason,
            "usage": answer.usage.told(),
            "cost": None if price is None else price.of(answer.usage),
        }

    def usage_of(self, outputs: Mapping[str, Any]) -> Mapping[str, float]:
        """Tokens, and dollars where they are known."""
        used, cost = outputs.get("usage") or {}, outputs.get("cost")
        told = {name: used[name] for name in ("input_tokens", "output_tokens") if name in used}
        return told if cost is None else {**told, "cost_usd": cost}

    # ---- asking

    def _check(self) -> None:
        """Say what is wrong with settings, before anything is asked."""
        price_of(self.prices)
        if not self.model.strip():
            raise LLMError("LLMPrompt: setting 'model' is empty: name a model, such as 'gpt-5-mini'.")
        for name, least in _LEAST.items():
            value = self.config.get(name)
            if isinstance(value, int | float) and not value >= least:
                raise LLMError(f"LLMPrompt: setting {name!r} is {least} or more, not {value!r}.")

    def _question(
        self,
        prompt: str,
        system: str,
        messages: list[dict[str, Any]],
        schema: dict[str, Any] | None,
        tools: list[dict[str, Any]],
        fields: Mapping[str, Any],
    ) -> Question:
        said = [_message(each) for each in messages]
        if prompt:
            said.append({"role": "user", "content": filled(prompt, fields)})
        if not said:
            raise LLMError("LLMPrompt has nothing to ask: give it prompt=... or messages=....")
        name, takes_no_schema = self._named
        native = not takes_no_schema if self.structured == "auto" else self.structured == "native"
        return Question(
            name,
            tuple(said),
            filled(system, fields, "system prompt"),
            self.temperature,
            self.max_tokens,
            None if schema is None else checked(schema),
            native,
            tuple(tools),
            self.stream,
            self.options or {},
        )

    def _answered(self, asking: Asking, question: Question) -> tuple[Answer, Any]:
        """The answer, and its value where there is a schema; one that does not conform is asked for again."""
        used, again = Usage(), self.reask
        while True:
            speaking = Speaking(say if self.log else silent)
            try:
                answer = asking.ask(question, speaking.take)
            finally:
                speaking.close()
            used += answer.usage
            answer = replace(answer, usage=used)
            if question.schema is None or (answer.tool_calls and not answer.text):
                return answer, None
            try:
                return answer, _value(answer, question)
            except Mismatch as problem:
                if again <= 0:
                    raise LLMError(_does_not_conform(answer, problem)) from None
                again -= 1
                say(f"The answer does not conform to the schema: {problem}; asking again", logging.WARNING)
                question = _asked_again(question, answer, problem)

    def _account(self) -> Account:
        provider = self._provider
        base = _address(self.revealed(self.base_url) or os.environ.get(provider.base_variable) or provider.base_url)
        if self.api_key is not None:
            return Account(
                provider, base, _key(self.revealed(self.api_key), "the setting api_key"), "the setting api_key"
            )
        key = os.environ.get(provider.key_variable, "").strip()
        if not key:
            raise LLMError(
                f"LLMPrompt has no key for {provider.label}: set {provider.key_variable}, or give "
                "api_key='secret://NAME'; where none is needed, api_key=''."
            )
        return Account(provider, base, _key(key, provider.key_variable), provider.key_variable)

    @property
    def _provider(self) -> Provider:
        told = self.provider or ("anthropic" if self.model.startswith(_ANTHROPIC) else "openai")
        return Anthropic() if told == "anthropic" else openai.OpenAI()

    @property
    def _named(self) -> tuple[str, bool]:
        """The model as its provider names it, and whether it is too old for schemas."""
        if isinstance(self._provider, Anthropic):
            name = self.model.removeprefix("anthropic/")
            return name, anthropic.takes_no_schema(name)
        name = self.model if self.provider else self.model.removeprefix("openai/")
        return name, openai.takes_no_schema(name)


def _address(base: str) -> str:
    try:
        parts = urlsplit(base.strip())
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise LLMError(f"base_url is an address such as 'https://host.example/v1', not {veiled(base)!r}.")
    return base.strip()


def _key(given: str, key_from: str) -> str:
    """A key that can be sent; from now on it is hidden wherever it turns up in this process."""
    key = given.strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise LLMError(f"The key from {key_from} has characters in it that no key has, such as spaces or line breaks.")
    if len(key) >= _TELLING:
        hide(key)
    return key


def _as_message(answer: Answer, calls: list[dict[str, Any]]) -> dict[str, Any]:
    """The answer as a message, to be given back with what its tools gave."""
    told = {"role": "assistant", "content": answer.text, "tool_calls": calls}
    return {**told, "blocks": list(answer.blocks)} if answer.blocks else told


def _message(message: Mapping[str, Any]) -> Mapping[str, Any]:
    role = message.get("role")
    if role not in _ROLES or not ("content" in message or "tool_calls" in message):
        raise LLMError(
            f"A message is {{'role': ..., 'content': ...}} with one of {', '.join(_ROLES)}, not {message!r:.80}."
        )
    if role == "tool" and "tool_call_id" not in message:
        raise LLMError(f"The result of a tool names the call that it is of, as 'tool_call_id': {message!r:.80}.")
    return message


def _called(call: ToolCall) -> dict[str, Any]:
    try:
        return {"id": call.id, "name": call.name, "arguments": json.loads(call.arguments or "{}")}
    except ValueError as error:
        raise LLMError(
            f"The model wants tool {call.name!r} called with arguments that are no JSON ({error}): "
            f"{call.arguments!r:.200}."
        ) from None


def _value(answer: Answer, question: Question) -> Any:
    if answer.finish_reason == "refusal":
        raise LLMError(f"Model {question.model!r} refuses to answer: {answer.text:.300}")
    return conforming(answer.text, dict(question.schema or {}))


def _does_not_conform(answer: Answer, problem: Mismatch) -> str:
    used = f"It used {answer.usage.input_tokens} tokens in and {answer.usage.output_tokens} out."
    if answer.finish_reason == "length":
        return f"The answer was cut off where max_tokens ends, and so does not conform to the schema: {problem}. {used}"
    return f"The answer does not conform to the schema: {problem}. {used}"


def _asked_again(question: Question, answer: Answer, problem: Mismatch) -> Question:
    wish = f"That does not conform to the JSON schema: {problem}. Answer again, with JSON that does, and nothing else."
    told = ({"role": "assistant", "content": answer.text or "(nothing)"}, {"role": "user", "content": wish})
    return replace(question, messages=(*question.messages, *told))
