"""State machines before LocalStack reads them: its grammar lacks some words, and it accepts some that AWS refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from localstack.services.stepfunctions.asl.parse.asl_parser import AmazonStateLanguageParser, ASLParserException

EXPRESS = "EXPRESS children. "
"""How the comment of a map begins whose children are EXPRESS, a word that LocalStack's grammar lacks."""

_ENDS_BY_ITSELF = ("Choice", "Succeed", "Fail")
Program = dict[str, Any]


def install() -> None:
    """Read definitions by way of this room."""
    parse = AmazonStateLanguageParser.parse

    def read(definition: str) -> Any:
        program = _program(definition)
        found = parse(definition if program is None else _in_known_words(definition))
        if program is not None and (errors := list(transition_errors(program))):
            raise ASLParserException(errors=errors)
        return found

    AmazonStateLanguageParser.parse = staticmethod(read)


def transition_errors(program: Program, path: str = "") -> Iterator[str]:
    """What AWS would say of the transitions of a program and of those inside its states."""
    states: dict[str, Program] = program.get("States") or {}
    start = program.get("StartAt")
    if start not in states:
        yield f"MISSING_TRANSITION_TARGET: Missing 'StartAt' target: {start} at {path}/StartAt"
    reached = {start}
    for name, state in states.items():
        here = f"{path}/States/{name}"
        for field, target in _targets(state):
            reached.add(target)
            if target not in states:
                yield f"MISSING_TRANSITION_TARGET: Missing '{field}' target: {target} at {here}"
        if state.get("Type") not in _ENDS_BY_ITSELF and not state.get("End") and "Next" not in state:
            yield f"SCHEMA_VALIDATION_FAILED: 'End' or 'Next' is missing at {here}"
        for field, inner in _inside(state):
            yield from transition_errors(inner, f"{here}/{field}")
    for name in states.keys() - reached:
        yield f'MISSING_TRANSITION_TARGET: State "{name}" is not reachable. at {path}/States/{name}'


def _targets(state: Program) -> Iterator[tuple[str, str]]:
    for field in ("Next", "Default"):
        if field in state:
            yield field, state[field]
    for rules in ("Choices", "Catch"):
        for rule in state.get(rules) or []:
            if "Next" in rule:
                yield "Next", rule["Next"]


def _inside(state: Program) -> Iterator[tuple[str, Program]]:
    """The programs inside a state."""
    for index, branch in enumerate(state.get("Branches") or []):
        yield f"Branches[{index}]", branch
    for field in ("ItemProcessor", "Iterator"):
        if field in state:
            yield field, state[field]


@lru_cache(maxsize=512)
def _in_known_words(definition: str) -> str:
    program = _program(definition) or {}
    _reword(program)
    return json.dumps(program, ensure_ascii=False)


def _reword(program: Program) -> None:
    for state in (program.get("States") or {}).values():
        config = (state.get("ItemProcessor") or {}).get("ProcessorConfig") or {}
        if config.get("ExecutionType") == "EXPRESS":
            config["ExecutionType"] = "STANDARD"
            state["Comment"] = EXPRESS + state.get("Comment", "")
        if isinstance(share := state.get("ToleratedFailurePercentage"), int):
            state["ToleratedFailurePercentage"] = float(share)
        for _, inner in _inside(state):
            _reword(inner)


def _program(definition: str) -> Program | None:
    """The definition as data; None for what the parser is to complain about."""
    try:
        program = json.loads(definition)
        list(transition_errors(program))
    except (ValueError, AttributeError, TypeError):
        return None
    return program if isinstance(program, dict) else None
