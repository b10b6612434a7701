"""Why a function failed that did not answer as the worker does, in one sentence: which limit it met, and what helps."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from twingraph.errors import ComponentTimeoutError, PlatformError
from twingraph.platforms.aws.account import Account
from twingraph.platforms.aws.parcels import BUCKET

LARGEST = 6 * 1024 * 1024
"""Bytes of what a function may be given or answer when its caller waits for it."""
_UNLOADED = ("Runtime.ImportModuleError", "Runtime.HandlerNotFound", "Runtime.UserCodeSyntaxError",
             "Runtime.MalformedHandlerName", "Runtime.InvalidEntrypoint")  # fmt: skip
_ENDED = re.compile(r"Runtime exited|exit status|signal: ")
_KILLED = re.compile(r"signal: (killed|9)\b")


def failure(account: Account, function: str, component: str, payload: bytes) -> Exception:
    """What became of a call whose function failed.

    Args:
        account: where the function is.
        function: its name.
        component: who was called.
        payload: what Lambda answered in place of the function.
    """
    kind, message = _said(payload)
    who = f"Component {component!r} on function {function!r}"
    if kind == "Sandbox.Timedout" or "Task timed out after" in message:
        has = _limit(account, function, "Timeout", "s")
        return ComponentTimeoutError(
            f"{who} was cut off after the time that the function may run{has}: raise that with "
            "config={'timeout': ...}, to 900 at most; what takes longer can run on platform='batch'."
        )
    if kind == "Runtime.OutOfMemory" or _KILLED.search(message):
        has = _limit(account, function, "MemorySize", "MB")
        return PlatformError(
            f"{who} was ended, most likely because it needed more memory than the function has{has}: raise that with "
            "config={'memory_size': ...}, to 10240 at most."
        )
    if kind == "Function.ResponseSizeTooLarge":
        return too_large(f"What component {component!r} returned")
    if kind in _UNLOADED:
        return PlatformError(
            f"The function {function!r} does not load ({message or kind}): its handler has to be TwinGraph's worker."
        )
    if kind == "Runtime.ExitError" or _ENDED.search(message):
        ended = message.rpartition("Error: ")[2] or kind
        return PlatformError(f"{who} ended before it answered ({ended}): see what it printed last.")
    return foreign(function, f"it raised {kind}: {message}" if message else f"it failed with {kind or 'no reason'}")


def foreign(function: str, how: str) -> PlatformError:
    """That a function is not one of ours."""
    return PlatformError(
        f"The function {function!r} does not carry TwinGraph's worker: {how}. Let TwinGraph make one (another "
        "function_name, and config={'role': ...}), or put twingraph.platforms.worker into its package and let "
        "lambda_handler of it be the handler."
    )


def too_large(what: str) -> PlatformError:
    """That something does not pass through Lambda itself."""
    return PlatformError(
        f"{what} is larger than the {LARGEST // 1024**2} MB that Lambda passes on, and there is no bucket to send it "
        f"through: {BUCKET}."
    )


def _said(payload: bytes) -> tuple[str, str]:
    try:
        told = json.loads(payload)
    except ValueError:
        return "", payload.decode(errors="replace")[:500]
    if not isinstance(told, Mapping):
        return "", str(told)[:500]
    return str(told.get("errorType") or ""), str(told.get("errorMessage") or "")


def _limit(account: Account, function: str, name: str, unit: str) -> str:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        found: Mapping[str, Any] = account.client("lambda").get_function_configuration(FunctionName=function)
    except (BotoCoreError, ClientError):  # the sentence does without
        return ""
    return f", {found[name]:,} {unit}" if name in found else ""
