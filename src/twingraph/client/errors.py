"""What a client raises on purpose: a class for each way in which a server refuses, and what is waited for in vain."""

from __future__ import annotations

import json
from typing import Any

from twingraph.errors import TwinGraphError


class ApiError(TwinGraphError):
    """The server did not do what it was asked.

    Attributes:
        status: the status of its answer.
        code: its word for the reason, such as "workflow_not_found".
        detail: its sentence for people.
        hint: what it says can be done, or None.
        errors: of a body that is not as it should be, what is wrong with each field.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        code: str = "",
        detail: str = "",
        hint: str | None = None,
        errors: list[dict[str, Any]] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.detail = detail or message
        self.hint = hint
        self.errors = errors or []
        self.retry_after = retry_after


class NotFoundError(ApiError):
    """There is no such workflow, execution or component."""


class AuthenticationError(ApiError):
    """The server wants a key or a token, or does not know this one."""


class PermissionDeniedError(ApiError):
    """The key or token is known, and may not do this."""


class RateLimitError(ApiError):
    """The server has been asked too often, and says to wait longer than the client is told to; see `retry_after`."""


class ValidationError(ApiError, ValueError):
    """What was sent is not as it should be."""


class ConflictError(ApiError):
    """It is not in a state for that: it is over, is there already, or was changed by somebody else meanwhile."""


class ServerUnreachableError(TwinGraphError, ConnectionError):
    """No answer came, as often as it was tried."""


class ExecutionTimeoutError(TwinGraphError, TimeoutError):
    """An execution is not over yet after the time that one wanted to wait; it goes on."""


class ExecutionFailedError(TwinGraphError):
    """An execution that was waited for with `raise_on_failure` did not complete.

    Attributes:
        execution: the execution as it is.
    """

    def __init__(self, message: str, execution: Any = None) -> None:
        super().__init__(message)
        self.execution = execution


_BY_STATUS: dict[int, type[ApiError]] = {
    400: ValidationError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    412: ConflictError,
    413: ValidationError,
    422: ValidationError,
    429: RateLimitError,
}


def refusal(status: int, body: bytes, what: str, retry_after: float | None = None) -> ApiError:
    """The error that an answer stands for; `what` says what was asked."""
    try:
        told = json.loads(body)
    except ValueError:
        told = None
    told = told if isinstance(told, dict) else {}
    found = told.get("detail")
    fields = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    detail = "; ".join(map(_field, fields)) if fields else str(found or f"the server answered {status}")
    hint = told.get("hint")
    return _BY_STATUS.get(status, ApiError)(
        f"{what}: {detail}{f' {hint}' if hint else ''}",
        status=status,
        code=str(told.get("code") or ""),
        detail=detail,
        hint=hint,
        errors=fields,
        retry_after=retry_after,
    )


def _field(told: dict[str, Any]) -> str:
    """What is wrong with one field, with the way to it."""
    place = ".".join(str(each) for each in told.get("loc", ()) if each != "body")
    return f"{place or 'the body'}: {told.get('msg', 'is wrong')}"
