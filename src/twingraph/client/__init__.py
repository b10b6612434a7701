"""The API of a TwinGraph server from Python, in the two ways in which programs wait for answers.

    from twingraph.client import TwinGraphClient

    client = TwinGraphClient("http://localhost:8000", api_key="...")
    execution = client.executions.create(workflow_id="report", inputs={"source": "rows.csv"})
    client.executions.wait_for_completion(execution.id).outputs

`calls` says each call of the API once, `attempts` what becomes of it, `blocking` and `awaiting` send it. Nothing here
needs the server or a database: `pip install 'lokki-twingraph[client]'` is enough.
"""

from __future__ import annotations

try:
    from twingraph.client.awaiting import AsyncTwinGraphClient
    from twingraph.client.blocking import TwinGraphClient
except ModuleNotFoundError as error:
    library = (error.name or "").partition(".")[0]
    if library not in ("httpx", "pydantic", "websockets"):
        raise
    told = f"twingraph.client needs {library}: pip install 'lokki-twingraph[client]'."
    raise ModuleNotFoundError(told, name=library) from error
from twingraph.client.errors import (
    ApiError,
    AuthenticationError,
    ConflictError,
    ExecutionFailedError,
    ExecutionTimeoutError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerUnreachableError,
    ValidationError,
)

__all__ = [
    "ApiError",
    "AsyncTwinGraphClient",
    "AuthenticationError",
    "ConflictError",
    "ExecutionFailedError",
    "ExecutionTimeoutError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "ServerUnreachableError",
    "TwinGraphClient",
    "ValidationError",
]
