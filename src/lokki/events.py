"""Everything that an observer of a run ever sees.

A runner calls its listener with these, one at a time. A map of a million items says that it started, how far it is (at
a bounded rate), each item that failed or was tried again, and that it finished: never one event per item.

In all of them `run` is the id of the run and `node` that of the step or map in its graph. `step` is what people call a
map: the name of the first step inside. `index` is empty outside of maps; inside it is the item's place, in a map within
a map one number for each. `attempt` says how often the step was tried again, `seconds` how long it all took so far.
"""

from __future__ import annotations

from collections.abc import Callable

from lokki.frozen import frozen


@frozen
class RunStarted:
    """A run began; `kept` says that it is stored and can be resumed, `resumed` that it goes on with an earlier one."""

    run: str
    flow: str
    kept: bool = False
    resumed: bool = False


@frozen
class StepStarted:
    """A step outside a map began."""

    run: str
    node: str
    job_type: str = "lambda"


@frozen
class StepFinished:
    """A step is done; `reused` says that its stored output was taken and nothing ran.

    A run on this machine tells it of steps outside maps only. A deployed function tells it of each of its calls, with
    the place of the first of the `count` items that it worked on.
    """

    run: str
    node: str
    attempt: int
    seconds: float
    reused: bool = False
    index: tuple[int, ...] = ()
    count: int = 1


@frozen
class StepRetried:
    """An attempt failed and another follows after `delay` seconds; `index` is the item's place in its maps."""

    run: str
    node: str
    attempt: int
    delay: float
    error: str
    index: tuple[int, ...] = ()


@frozen
class StepFailed:
    """A step failed for good. `error` is "ValueError: message", `trace` the user's part of the traceback."""

    run: str
    node: str
    attempt: int
    seconds: float
    error: str
    trace: str
    index: tuple[int, ...] = ()
    item: str = ""


@frozen
class MapStarted:
    """A map outside any other began over `total` items, `reused` of which were already done by an earlier run."""

    run: str
    node: str
    step: str
    total: int
    reused: int = 0


@frozen
class MapProgress:
    """How far a map is; sent at a bounded rate."""

    run: str
    node: str
    step: str
    total: int
    done: int
    failed: int
    seconds: float
    reused: int = 0


@frozen
class MapFinished:
    """A map is over: `failed` is 0 when all its items are done."""

    run: str
    node: str
    step: str
    total: int
    done: int
    failed: int
    seconds: float
    reused: int = 0


@frozen
class RunStopping:
    """The run was interrupted; what is being worked on has so many seconds to finish."""

    run: str
    seconds: float


@frozen
class RunFinished:
    """A run is over; `status` is "success", "failed" or "interrupted"."""

    run: str
    flow: str
    status: str
    seconds: float
    error: str = ""


Event = (
    RunStarted
    | StepStarted
    | StepFinished
    | StepRetried
    | StepFailed
    | MapStarted
    | MapProgress
    | MapFinished
    | RunStopping
    | RunFinished
)
Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """The listener that hears nothing."""
