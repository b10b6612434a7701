"""Everything that lokki raises on purpose, one honest sentence each: where, what, and what to do.

A mistake in the program is also a ``TypeError`` or ``ValueError``, so that code which catches those keeps working.
What a step itself raises is never wrapped: the caller gets the step's own exception, with a note that says which step
and which item it came from.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "AwsError",
    "BuildError",
    "ConfigurationError",
    "DeployError",
    "DestroyError",
    "DockerNotAvailableError",
    "GraphTypeError",
    "GraphValidationError",
    "InvokeError",
    "LocationError",
    "LogsError",
    "LokkiError",
    "MissingError",
    "ParameterError",
    "RunError",
    "ShowError",
    "SimulationError",
    "StoreError",
]


class LokkiError(Exception):
    """The root of every error that lokki raises on purpose."""


class GraphValidationError(LokkiError, ValueError):
    """A flow or step was put together wrongly."""

    def __init__(self, message: str, details: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.details = tuple(details)


class GraphTypeError(GraphValidationError, TypeError):
    """A value of the wrong type was used to put a flow together, or two steps do not fit each other."""


class ConfigurationError(LokkiError, ValueError):
    """A configuration file or environment variable holds something that cannot be used; `field` names it."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class ParameterError(LokkiError, ValueError):
    """A flow parameter is missing, unknown, or not of the type that the flow asks for."""

    def __init__(self, message: str, parameter: str = "") -> None:
        super().__init__(message)
        self.parameter = parameter


class StoreError(LokkiError):
    """A stored value is missing, unreadable or could not be written; `location` is its key."""

    def __init__(self, message: str, location: str = "") -> None:
        super().__init__(message)
        self.location = location


class LocationError(StoreError, ValueError):
    """A location or key is malformed, or lies outside the store that was asked for it."""


class MissingError(StoreError):
    """Nothing is stored at a key that was asked for."""


class RunError(LokkiError):
    """A run could not be started, continued or found."""


class BuildError(LokkiError):
    """A flow cannot be compiled or packaged as it stands; `step` names the step, where there is one."""

    def __init__(self, message: str, step: str = "") -> None:
        super().__init__(message)
        self.step = step


class SimulationError(LokkiError):
    """A simulation could not be started, or what it ran failed."""


class AwsError(LokkiError):
    """AWS refused something, or could not be reached; `code` is AWS's own name for it, where it gave one.

    With `unsure` AWS may have done it all the same: its answer was lost.
    """

    code = ""
    unsure = False


class DeployError(AwsError):
    """A flow could not be deployed."""


class DockerNotAvailableError(DeployError):
    """Images cannot be built or pushed: there is no Docker client, or no engine that answers."""


class InvokeError(AwsError):
    """A deployed flow could not be started, or its execution failed."""


class ShowError(AwsError):
    """The executions of a deployed flow could not be shown."""


class LogsError(AwsError):
    """The logs of a deployed flow could not be fetched."""


class DestroyError(AwsError):
    """A deployed flow could not be removed."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A ", did you mean 'x'?" for a name that is not in `known`, or nothing when no name is near."""
    import difflib

    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
