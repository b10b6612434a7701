"""New code for functions that are there: given to all of them at once, until each answers with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from lokki.aws.client import Aws, code_of, refusals
from lokki.aws.pace import Pace
from lokki.aws.templates import FUNCTION, Template
from lokki.errors import DeployError

_AT_ONCE = 8
_CONFLICTS = 40  # times that a function may be busy with an earlier change


def renew(aws: Aws, template: Template, sleep: Callable[[float], object] = time.sleep) -> tuple[str, ...]:
    """Give each function of a template the code that the template names, and wait until it is live.

    Returns:
        the names of the functions.
    """
    functions = [each.properties for each in template.of(FUNCTION).values()]
    client = aws.client("lambda")
    with ThreadPoolExecutor(_AT_ONCE, "lokki-code") as pool:
        return tuple(_finished(pool.map(partial(_renewed, client, sleep), functions)))


def _finished(names: Iterable[str]) -> list[str]:
    return list(names)


def _renewed(client: Any, sleep: Callable[[float], object], function: dict[str, Any]) -> str:
    name: str = function["FunctionName"]
    with refusals(f"give function {name!r} its new code", DeployError):
        _asked(client, name, function["Code"], Pace(sleep))
        pace = Pace(sleep)
        while True:
            found = client.get_function_configuration(FunctionName=name)
            status = found.get("LastUpdateStatus", "Successful")
            if status == "Failed":
                why = found.get("LastUpdateStatusReason") or found.get("LastUpdateStatusReasonCode") or "no reason"
                raise DeployError(f"Function {name!r} does not take its new code: {why}")
            if status == "Successful" and found.get("State", "Active") in ("Active", "Inactive"):
                return name
            pace.wait()


def _asked(client: Any, name: str, code: dict[str, str], pace: Pace) -> None:
    """Ask for the change; a function that is busy with an earlier one is asked again."""
    from botocore.exceptions import ClientError

    for left in reversed(range(_CONFLICTS)):
        try:
            client.update_function_code(FunctionName=name, **code)
        except ClientError as error:
            if code_of(error) != "ResourceConflictException" or not left:
                raise
            pace.wait()
        else:
            return
