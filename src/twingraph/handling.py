"""What a failed call means for its pipeline: `error_handler=` and `error_config=`.

- "fail": the body gets the error. "retry": it is tried again in place first, also without a `retry_policy` of its own.
- "continue": the body gets a failed result, and goes on.
- "custom": a handler is called once for each failed call; with `continue_on_error`, the body then gets a failed result.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lokki.errors import nearest
from lokki.frozen import frozen
from twingraph.calls import Call, message
from twingraph.errors import ComponentError, ComponentTypeError
from twingraph.retries import ONCE, Retries, retries

if TYPE_CHECKING:
    from twingraph.decorators import Component
    from twingraph.scopes import Scope

KINDS = ("fail", "continue", "retry", "custom")
_RETRY_KEYS = ("max_attempts", "backoff", "initial_delay", "max_delay", "exceptions")
_KEYS = {"fail": (), "continue": (), "retry": _RETRY_KEYS, "custom": ("handler", "continue_on_error")}
_log = logging.getLogger("twingraph")


@frozen
class Failure:
    """What an error handler is told.

    Attributes:
        pipeline: the name of the pipeline.
        execution: the id of the execution.
        node: the call's id in it.
        component: the component's name.
        hash: what identifies the call.
        error: the exception.
        traceback: its traceback, as text.
        attempts: how often it was tried.
    """

    pipeline: str
    execution: str
    node: str
    component: str
    hash: str
    error: BaseException
    traceback: str
    attempts: int


Handler = Callable[[Failure], Any]
_handlers: dict[str, Handler] = {}


def register_error_handler(name: str, handler: Handler) -> Handler:
    """Give an error handler a name that `error_config={"handler": name}` can use."""
    if not callable(handler):
        raise ComponentTypeError(f"Error handler {name!r} takes a function, not {type(handler).__name__}.")
    _handlers[name] = handler
    return handler


def error_notification(failure: Failure) -> None:
    """The handler that is always there: it logs the failure. (The pipeline's `notifications` hear of it anyway.)"""
    _log.error(
        "Pipeline %r: component %r failed in execution %s: %s: %s",
        failure.pipeline, failure.node, failure.execution, type(failure.error).__name__, message(failure.error),
    )  # fmt: skip


class Ending:
    """`fail` and `retry`: the body gets the error."""

    def __init__(self, otherwise: Retries = ONCE) -> None:
        self._otherwise = otherwise

    def retry(self, component: Component) -> Retries:
        """The component's own policy, else that of the pipeline."""
        return self._otherwise if component.retry is ONCE else component.retry

    def ends(self, call: Call) -> bool:
        """Always."""
        return True

    def failed(self, call: Call, scope: Scope) -> None:
        """Nothing else to do."""


class Continuing(Ending):
    """`continue`: the body gets a failed result."""

    def ends(self, call: Call) -> bool:
        """Never."""
        return False


class Custom(Ending):
    """`custom`: the handler is told, then the body gets the error or a failed result."""

    def __init__(self, handler: str | Handler, goes_on: bool, names: Mapping[str, Any]) -> None:
        super().__init__()
        self._handler = handler
        self._goes_on = goes_on
        self._names = names

    def ends(self, call: Call) -> bool:
        """Unless `continue_on_error` says otherwise."""
        return not self._goes_on

    def failed(self, call: Call, scope: Scope) -> None:
        """Tell the handler; what it raises is logged, and changes nothing."""
        failure = Failure(
            scope.name, scope.run.id, call.node, call.component.name, call.hash, call.error or Exception(), call.trace,
            call.attempt + 1,
        )  # fmt: skip
        try:
            handler = self._handler if callable(self._handler) else find(self._handler, self._names)
            handler(failure)
        except Exception:  # noqa: BLE001 - the handler is the user's code
            _log.exception("Pipeline %r: its error handler %r failed", scope.name, self._handler)


def handling(kind: Any, config: Mapping[str, Any] | None, where: str, names: Mapping[str, Any]) -> Ending:
    """What `error_handler=` and `error_config=` of `where` describe; `names` are those of the pipeline's module."""
    if kind not in KINDS:
        near = nearest(str(kind), KINDS) or "."
        raise ComponentError(f"{where}: error_handler is one of {', '.join(KINDS)}, not {kind!r}{near}")
    if config is not None and not isinstance(config, Mapping):
        raise ComponentTypeError(f"{where}: error_config takes a dict, not {type(config).__name__}.")
    told = dict(config or {})
    for key in told:
        if key not in _KEYS[kind]:
            known = ", ".join(_KEYS[kind]) or "no keys"
            raise ComponentError(
                f"{where}: error_config has no key {key!r} for error_handler={kind!r}; it takes {known}."
            )
    match kind:
        case "fail":
            return Ending()
        case "continue":
            return Continuing()
        case "retry":
            return Ending(
                retries(
                    {"max_attempts": 3, "backoff": "exponential", **told},
                    f"error_config of {where[0].lower()}{where[1:]}",
                )
            )
        case _:
            return _custom(told, where, names)


def _custom(told: Mapping[str, Any], where: str, names: Mapping[str, Any]) -> Custom:
    handler = told.get("handler", "error_notification")
    if not callable(handler) and not isinstance(handler, str):
        raise ComponentTypeError(f"{where}: error_config['handler'] takes a function or its name, not {handler!r}.")
    return Custom(handler, bool(told.get("continue_on_error", False)), names)


def find(name: str, names: Mapping[str, Any]) -> Handler:
    """The handler of that name: a registered one, one of the pipeline's module, `package.module:function`, ours."""
    if name in _handlers:
        return _handlers[name]
    if callable(names.get(name)):
        return names[name]  # type: ignore[no-any-return]
    if ":" in name:
        module, _, attribute = name.partition(":")
        return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]
    if name == "error_notification":
        return error_notification
    known = sorted({*_handlers, "error_notification"})
    raise ComponentError(
        f"There is no error handler {name!r}{nearest(name, known) or '.'} Define a function of that name in the "
        "pipeline's module, or register it with register_error_handler()."
    )
