"""What a function is called with, in every form that there is.

The state machine marks its own events with the key `lokki` and leaves nothing to be guessed. People and older state
machines send one of three forms: `{"input", "flow"}`; `{"result_url" | "result_urls", "run_id", ...}`; or the first
step's parameters by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from lokki.errors import ParameterError
from lokki.frozen import field, frozen

_RUN = ("run_id", "cache_enabled")
_ADDRESSES = ("result_url", "result_urls", "item_url")


@frozen
class FlowContext:
    """What all events of one execution share.

    In place of yes, `cache_enabled` may name an execution that goes on with what an earlier one left.
    """

    run_id: str = ""
    cache_enabled: bool | str = False
    params: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"run_id": self.run_id, "cache_enabled": self.cache_enabled, "params": dict(self.params)}


@frozen
class LambdaEvent:
    """An event that was not sent by the state machine; `given` says that it brings an input, which may be None.

    `input` is a value, a location, or a list of locations; `located` says that it is no value.
    """

    flow: FlowContext = field(default_factory=FlowContext)
    input: Any = None
    given: bool = False
    located: bool = False

    @classmethod
    def from_dict(cls, event: Mapping[str, Any]) -> LambdaEvent:
        """The event in any of its forms."""
        if not isinstance(event, Mapping):
            raise ParameterError(f"The event must be a JSON object, not {type(event).__name__}.")
        if "input" in event or "flow" in event:
            flow = _object(event, "flow")
            return cls(_context(flow, _object(flow, "params")), event.get("input"), event.get("input") is not None)
        rest = {name: value for name, value in event.items() if name not in (*_RUN, *_ADDRESSES)}
        for name in _ADDRESSES:
            if name in event:
                return cls(_context(event, rest), _located(event, name), given=True, located=True)
        return cls(_context(event, rest))

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"input": self.input, "flow": self.flow.to_dict()}


@frozen
class Slice:
    """The items of one child of a map: an entry of the map's manifest.

    `first` counts within the child's own map, `start` and `end` are its bytes in the packed items. `index` is the place
    in the maps outside, empty in a map that is in no other.
    """

    first: int
    count: int
    start: int
    end: int
    index: tuple[int, ...] = ()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Slice:
        """The entry as it stands in the manifest."""
        return cls(data["first"], data["count"], data["start"], data["end"], tuple(data.get("index", ())))

    @property
    def place(self) -> tuple[int, ...]:
        """The place of the first item."""
        return (*self.index, self.first)

    @property
    def places(self) -> list[tuple[int, ...]]:
        """The place of each item."""
        return [(*self.index, at) for at in range(self.first, self.first + self.count)]


class State(NamedTuple):
    """The data of a state of the machine: `at` are the items to work on, `over` those of the map outside.

    `mending` names this execution, if it goes on with what an earlier one left under the run id: then whatever is there
    counts as finished, whatever it was made from.
    """

    run_id: str
    cache: bool
    at: Slice | None = None
    over: Slice | None = None
    mending: str = ""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> State:
        """The state as it stands in an event."""
        at, over = (None if data.get(name) is None else Slice.from_dict(data[name]) for name in ("at", "over"))
        return cls.of(data["run_id"], data["cache"], at, over)

    @classmethod
    def of(cls, run_id: str, cache: bool | str, at: Slice | None = None, over: Slice | None = None) -> State:
        """The state for what is said of reuse: whether results are reused, or by which execution a run is mended."""
        return cls(run_id, bool(cache), at, over, cache if isinstance(cache, str) else "")

    @property
    def reuse(self) -> bool | str:
        """What `of` was told."""
        return self.mending or self.cache


def _object(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = data.get(name)
    if not isinstance(inner, Mapping | None):
        raise ParameterError(f"{name!r} of an event is a JSON object, not {type(inner).__name__}.", name)
    return inner or {}


def _located(event: Mapping[str, Any], name: str) -> Any:
    """The location that an event brings under this name, or the list of them; None is the result None."""
    found = event[name]
    if any(not isinstance(each, str | None) for each in (found if isinstance(found, list) else [found])):
        raise ParameterError(f"{name!r} of an event is the location of a result, or a list of them.", name)
    return found


def _context(event: Mapping[str, Any], params: Mapping[str, Any]) -> FlowContext:
    run_id = event.get("run_id") or ""
    return FlowContext(str(run_id), bool(event.get("cache_enabled", False)), params)
