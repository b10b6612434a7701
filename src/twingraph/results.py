"""What a component's call gives: a mapping with `outputs`, `hash` and `status`, which may still be on its way.

    result["outputs"]["count"], result["count"], result.outputs.count      the same field
    result["hash"]                                                         known at once, also before the call is done

Everything but `hash` waits for the call. To `dict`, JSON, pickle and `==` a result is the mapping of what came out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Protocol

from lokki.errors import nearest
from twingraph.errors import TwinGraphError


class OutputError(TwinGraphError, KeyError):
    """An output was asked for that a call did not give."""

    __str__ = Exception.__str__


class Outputs(dict[str, Any]):
    """What a call gave, by name; also as attributes."""

    def __missing__(self, name: str) -> Any:
        raise OutputError(f"There is no output {name!r}{_instead(name, self)}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python asks for such, to copy it for instance
            raise AttributeError(name)
        try:
            return self[name]
        except OutputError as error:
            raise AttributeError(str(error)) from None


class FailedOutputs(Outputs):
    """The outputs of a call that failed: none, and asking for one says why."""

    def __init__(self, why: str) -> None:
        super().__init__()
        self.__dict__["why"] = why

    def __missing__(self, name: str) -> Any:
        raise OutputError(f"There is no output {name!r}: {self.__dict__['why']}")

    def __reduce__(self) -> tuple[Any, ...]:
        return FailedOutputs, (self.__dict__["why"],)


def _instead(name: Any, known: Mapping[str, Any]) -> str:
    return nearest(str(name), known) or f"; it gave {', '.join(known) or 'none'}."


def outputs(value: Any) -> Outputs:
    """What a function returned, by name: the fields of a named tuple, dict or dataclass, else `result`."""
    if isinstance(value, Outputs):
        return value
    if isinstance(value, Result):
        return value.outputs
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return Outputs(zip(value._fields, value, strict=True))
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return Outputs(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return Outputs({each.name: getattr(value, each.name) for each in dataclasses.fields(value)})
    return Outputs(result=value)


class Waited(Protocol):
    """Who knows when a call is over."""

    def join(self) -> None:
        """Wait until it is over."""

    def settle(self) -> None:
        """Wait until it is over; raise what it raised where that ends the pipeline."""


class Result(dict[str, Any]):
    """The result of a call; made by calling a component.

    Attributes:
        hash: identifies the call.
        node: the call's id in its execution.
        component: the component's name.
    """

    def __init__(self, hash: str, node: str, component: str, waited: Waited | None) -> None:  # noqa: A002
        super().__init__(outputs=Outputs(), hash=hash, status="pending")
        self.hash = hash
        self.node = node
        self.component = component
        self._value: Any = None
        self._error: BaseException | None = None
        self._waited = waited

    # ---- filled by whoever runs the call

    def fill(self, value: Any, given: Outputs, status: str) -> None:
        """The call is done."""
        self._value = value
        self.update(outputs=given, status=status)
        self._waited = None

    def fail(self, error: BaseException, why: str, status: str = "failed") -> None:
        """The call failed, and this is what it leaves where that does not end the pipeline."""
        self.update(outputs=FailedOutputs(why), status=status, error=why)
        self._error = error

    @classmethod
    def restored(
        cls, held: dict[str, Any], node: str, component: str, error: BaseException | None, value: Any
    ) -> Result:
        """A result as it was pickled."""
        made = cls(held["hash"], node, component, None)
        made.update(held)
        made._value, made._error = value, error
        return made

    # ---- reading

    @property
    def outputs(self) -> Outputs:
        """What came out, by name."""
        given: Outputs = self["outputs"]
        return given

    @property
    def status(self) -> str:
        """ "completed", "cached", "failed", "skipped" or "stopped"; waits, and does not raise."""
        self._join()
        return str(dict.__getitem__(self, "status"))

    @property
    def error(self) -> BaseException | None:
        """What the call raised, where it failed; waits, and does not raise it."""
        self._join()
        return self._error

    @property
    def value(self) -> Any:
        """What the function returned."""
        self.wait()
        return self._value

    @property
    def done(self) -> bool:
        """Whether the call is over; does not wait."""
        return bool(dict.__getitem__(self, "status") != "pending")

    def wait(self) -> Result:
        """Wait for the call; raises what it raised where that ends the pipeline."""
        if self._waited is not None:
            self._waited.settle()
            self._waited = None  # a failure that is raised is raised each time
        return self

    def _join(self) -> None:
        if self._waited is not None:
            self._waited.join()

    def __getitem__(self, key: str) -> Any:
        if key == "hash":
            return self.hash
        self.wait()
        return super().__getitem__(key)

    def __missing__(self, key: str) -> Any:
        given = dict.__getitem__(self, "outputs")
        if key in given or isinstance(given, FailedOutputs):
            return given[key]
        raise OutputError(f"Component {self.component!r} gave no output {key!r}{_instead(key, given)}")

    def get(self, key: str, default: Any = None) -> Any:
        """The value under this key, also of an output; the default where there is none."""
        self.wait()
        return super().get(key, dict.__getitem__(self, "outputs").get(key, default))

    def keys(self) -> KeysView[str]:  # type: ignore[override]  # of a dict it is a type that has no public name
        """`outputs`, `hash` and `status`."""
        self.wait()
        return super().keys()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        """The values under these keys."""
        self.wait()
        return super().values()

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        """Keys and values."""
        self.wait()
        return super().items()

    def copy(self) -> dict[str, Any]:
        """The mapping as a plain dict."""
        return dict(self.items())

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __eq__(self, other: object) -> bool:
        self.wait()
        return dict.__eq__(self, other.wait() if isinstance(other, Result) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # as of any dict

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        self.wait()
        return Result.restored, (self.copy(), self.node, self.component, self._error, self._value)

    def __repr__(self) -> str:
        if not self.done:
            return f"<Result of {self.node}, not done yet>"
        return f"<Result of {self.node}, {dict.__getitem__(self, 'status')}: {dict.__getitem__(self, 'outputs')!r}>"


_DEEPEST = 40  # levels at which a result is looked for; a list may hold itself


def told(value: Any, level: int = 0) -> Any:
    """The value with what results gave in their place, as it is recorded; for one on its way nobody waits."""
    kind = type(value)
    if kind is Result:
        return dict(dict.__getitem__(value, "outputs")) if value.done else repr(value)
    if level < _DEEPEST and (kind is list or kind is tuple):
        return kind(told(each, level + 1) for each in value)
    if level < _DEEPEST and kind is dict:
        return {name: told(each, level + 1) for name, each in value.items()}
    return value
