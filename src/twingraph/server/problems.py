"""What the API answers when it cannot do what it was asked: a status, a word, a sentence, and what to do."""

from __future__ import annotations

from collections.abc import Mapping


class Problem(Exception):
    """An answer that is not the one that was hoped for."""

    def __init__(
        self, status: int, code: str, detail: str, hint: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.hint = hint
        self.headers = dict(headers or {})


def no_workflow(workflow: str) -> Problem:
    """There is no such workflow."""
    return Problem(404, "workflow_not_found", f"There is no workflow {workflow!r}.", "GET /api/workflows lists them.")


def no_execution(execution: str) -> Problem:
    """There is no such execution."""
    hint = "GET /api/executions lists them."
    return Problem(404, "execution_not_found", f"There is no execution {execution!r}.", hint)


def unavailable(error: Exception) -> Problem:
    """The database cannot be asked."""
    hint = "Try again when the database is back."
    return Problem(503, "graph_unavailable", str(error), hint, {"Retry-After": "5"})
