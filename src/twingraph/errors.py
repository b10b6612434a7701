"""Everything that TwinGraph raises on purpose, one honest sentence each: where, what, and what to do.

What a component raises is never wrapped: the caller gets the component's own exception. One that came from another
process and cannot be made here is a `RemoteError`, which says its name.
"""

from __future__ import annotations

from typing import Any

from lokki.errors import LokkiError


class TwinGraphError(LokkiError):
    """The root of every error that TwinGraph raises on purpose."""


class ComponentError(TwinGraphError, ValueError):
    """A component, pipeline or workflow was put together wrongly."""


class ComponentTypeError(ComponentError, TypeError):
    """A value of the wrong type was used to put a component, pipeline or workflow together."""


class MissingLibraryError(ComponentError, ImportError):
    """A component needs a library that is not installed where it runs."""


class FileError(ComponentError):
    """A file cannot be read or written: what is wrong with it, and where in it."""


class MissingFileError(FileError, FileNotFoundError):
    """There is no file where one was to be read."""


class ComponentTimeoutError(TwinGraphError, TimeoutError):
    """An attempt of a component took longer than its timeout."""


class PipelineTimeoutError(TwinGraphError, TimeoutError):
    """A pipeline took longer than its timeout."""


class PlatformError(TwinGraphError):
    """A platform could not run a call, or lost it: a missing image, a killed container, a pod that cannot start."""


class PlatformUnavailableError(PlatformError):
    """A platform cannot be used here: its client library, its service or its credentials are missing."""


class TravelError(PlatformError, TypeError):
    """Something that a component uses, is given or returns cannot be sent to or from another process."""


class UpstreamFailedError(TwinGraphError):
    """A component was not run, because one whose outputs it needs failed."""


class TransientError(TwinGraphError):
    """For components to raise when trying again may help; `retry_policy` can name it."""


class GraphError(TwinGraphError):
    """The execution graph could not be read or written, or holds no such execution or node."""


class RemoteError(TwinGraphError):
    """Stands for an exception of another process whose type cannot be made here.

    Attributes:
        type_name: the name of its type.
        mro: the names of all its classes, which `retry_policy` is matched against.
        remote_traceback: the traceback of the other process.
    """

    def __init__(
        self, message: str, type_name: str = "", mro: tuple[str, ...] = (), remote_traceback: str = ""
    ) -> None:
        super().__init__(message)
        self.type_name = type_name
        self.mro = mro
        self.remote_traceback = remote_traceback

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self.type_name, self.mro, self.remote_traceback)
