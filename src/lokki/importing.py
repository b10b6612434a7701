"""Steps that travel to another process: by name where the other side can import them, by value otherwise.

A step in the file that was started is in `__main__`, which is another module on the other side; it is found again
there through the file's path.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import Any, Protocol

from lokki.errors import GraphValidationError
from lokki.policy import Resources, RetryConfig


class Step(Protocol):
    """What is pickled: a function with what is said about it, made from the same four values again."""

    @property
    def fn(self) -> Callable[..., Any]: ...
    @property
    def name(self) -> str: ...
    @property
    def retry(self) -> RetryConfig: ...
    @property
    def resources(self) -> Resources: ...


def reference(step: Step) -> tuple[Any, ...]:
    """How to pickle the step (the answer of `__reduce__`)."""
    module = getattr(step.fn, "__module__", None) or "__main__"
    qualname = getattr(step.fn, "__qualname__", step.name)
    known = _attribute(sys.modules.get(module), qualname)
    main_file = getattr(sys.modules.get(module), "__file__", None) if module == "__main__" else None
    nameless = module == "__main__" and main_file is None  # typed in: the other side has no file to find it in
    if nameless or not (known is step.fn or getattr(known, "fn", None) is step.fn):
        return _by_value, (type(step), _function_bytes(step), step.name, step.retry, step.resources)
    return _by_name, (type(step), module, qualname, main_file, step.name, step.retry, step.resources)


def locate(path: str) -> Any:
    """What `module:name` names; it is imported."""
    from importlib import import_module

    module, _, qualname = path.partition(":")
    try:
        found: Any = import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise GraphValidationError(
            f"{path} cannot be imported ({error}). Pass the steps by name: FlowGraph.from_dict(data, steps={{...}})."
        ) from error
    return found


def _attribute(module: ModuleType | None, qualname: str) -> Any:
    found: Any = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def _by_name(kind: Callable[..., Step], module: str, qualname: str, main_file: str | None, *rest: Any) -> Step:
    found = _attribute(_module(module, main_file), qualname)
    if not callable(found):
        raise GraphValidationError(f"Step {qualname!r} was not found in {main_file or module}.")
    return kind(getattr(found, "fn", found), *rest)


def _module(name: str, main_file: str | None) -> ModuleType:
    """The module of that name; the one from `main_file` where another file was started than there."""
    from importlib import import_module

    known = sys.modules.get(name)
    if main_file is not None and getattr(known, "__file__", None) != main_file:
        return _main(main_file)
    return known or import_module(name)


@lru_cache
def _main(path: str) -> ModuleType:
    """The started file as a module, run without its `if __name__ == "__main__"` part."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("__lokki_main__", path)
    if spec is None or spec.loader is None:
        raise GraphValidationError(f"{path} cannot be imported as Python.")
    module = module_from_spec(spec)
    sys.modules["__lokki_main__"] = module
    spec.loader.exec_module(module)
    return module


def _function_bytes(step: Step) -> bytes:
    try:
        import cloudpickle
    except ImportError:
        raise GraphValidationError(
            f"Step {step.name!r} is defined inside a function, so another process cannot import it. Move it to the top "
            "of its module, or install cloudpickle (pip install 'lokki-twingraph[processes]')."
        ) from None
    pickled: bytes = cloudpickle.dumps(step.fn)
    return pickled


def _by_value(kind: Callable[..., Step], function: bytes, *rest: Any) -> Step:
    import pickle

    return kind(pickle.loads(function), *rest)
