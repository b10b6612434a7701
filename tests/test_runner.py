"""Running flows: every shape gives the same result in every mode; errors, limits, retries and events."""

from __future__ import annotations

import decimal
import os
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import ticking_flows as flows

from lokki import ConfigurationError, LocalRunner, RetryConfig, flow, step
from lokki.decorators import StepNode
from lokki.errors import GraphTypeError, ParameterError, RunError, StoreError
from lokki.events import Event, MapFinished, MapProgress, MapStarted, RunFinished, StepFailed, StepRetried, silent
from lokki.store import MemoryStore

Mode = Callable[..., LocalRunner]


def _borrowed(**options: Any) -> LocalRunner:
    return LocalRunner(pool=ThreadPoolExecutor(2), **options)


MODES: dict[str, Mode] = {
    "threads": LocalRunner,
    "inline": lambda **options: LocalRunner(executor="inline", **options),
    "memory": lambda **options: LocalRunner(store_type="memory", **options),
    "memory inline": lambda **options: LocalRunner(store_type="memory", executor="inline", **options),
    "a store": lambda **options: LocalRunner(store=MemoryStore(), **options),
    "processes": lambda **options: LocalRunner(executor="processes", workers=2, **options),
    "processes, memory": lambda **options: LocalRunner(executor="processes", store_type="memory", **options),
    "processes, a store": lambda **options: LocalRunner(executor="processes", store=MemoryStore(), **options),
    "an executor": _borrowed,
    "an executor, memory": lambda **options: _borrowed(store_type="memory", **options),
}


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Mode:
    return MODES[request.param]


def run(made: Any, **options: Any) -> Any:
    return LocalRunner(listen=silent, **options).run(made)


# steps that the shapes below are built of; at module level, so that processes can import them
@step
def three() -> Any:
    return [1, 2, 3]


@step
def add(x: Any, by: Any = 1) -> Any:
    return x + by


@step
def times(x: Any, factor: Any = 10) -> Any:
    return x * factor


@step
def spread(x: Any) -> Any:
    return [x] * x


@step
def listed(xs: Any) -> Any:
    return list(xs)


@step
def summed(xs: Any) -> Any:
    return sum(xs)


@step
def nothing(*_: Any) -> Any:
    return None


@step
def given(x: Any, **kwargs: Any) -> Any:
    return x, kwargs


@step
def add_up(pair: Any) -> Any:
    return pair[1]["color"]


@step
def empty() -> Any:
    return []


@step
def counting() -> Any:
    yield from range(3)


@step
async def later(x: Any) -> Any:
    return x + 0.5


SHAPES: dict[str, tuple[Callable[..., Any], Any]] = {
    "one step": (three, [1, 2, 3]),
    "chain": (lambda: three().next(summed).next(add).next(add, by=2), 9),
    "map and agg": (lambda: three().map(add).agg(listed), [2, 3, 4]),
    "open map": (lambda: three().map(add), [2, 3, 4]),
    "body of a list": (lambda: three().map([add, times]).agg(listed), [20, 30, 40]),
    "body by chaining": (lambda: three().map(add).map(times).next(add), [21, 31, 41]),
    "direct body": (lambda: three().map([add, times, add], direct_pass=True).agg(summed), 93),
    "two maps": (lambda: three().map(add).agg(listed).map(times, factor=2).agg(summed), 18),
    "after agg": (lambda: three().map(add).agg(summed).next(times).next(add), 91),
    "nested": (lambda: three().map(spread.map(add).agg(summed)).agg(listed), [2, 6, 12]),
    "nested, open": (lambda: three().map(spread.map(add)), [[2], [3, 3], [4, 4, 4]]),
    "nested twice": (lambda: three().map(spread.map(spread.map(add).agg(summed)).agg(summed)), [2, 12, 36]),
    "nested direct": (lambda: three().map([spread.map(add).agg(summed), times], direct_pass=True), [20, 60, 120]),
    "nested open in the middle": (lambda: three().map([spread.map(add), summed]), [2, 6, 12]),
    "batches": (lambda: three().map(add, batch_size=2, by=5), [6, 7, 8]),
    "one at a time": (lambda: three().map(add, concurrency_limit=1), [2, 3, 4]),
    "step reused": (lambda: three().map(add).map(add).agg(summed).next(add).next(add), 14),
    "uncalled first step": (lambda: three.map(add), [2, 3, 4]),
    "empty list": (lambda: empty().map(add).agg(listed), []),
    "list of None": (lambda: three().map(nothing).agg(listed), [None, None, None]),
    "None is a value": (lambda: nothing().next(given), (None, {})),
    "an argument of its own": (lambda: three().map(given, color="red").next(add_up), ["red", "red", "red"]),
    "a generator": (lambda: counting().map(add), [1, 2, 3]),
    "async": (lambda: three().map(later), [1.5, 2.5, 3.5]),
}  # fmt: skip


IN_PROCESSES = (
    "body of a list",
    "direct body",
    "two maps",
    "nested",
    "nested direct",
    "batches",
    "empty list",
    "async",
)


@pytest.mark.parametrize(
    ("shape", "mode_name"),
    [(shape, name) for shape in SHAPES for name in MODES if shape in IN_PROCESSES or "processes" not in name],
)
def test_every_shape_gives_the_same_in_every_mode(shape: str, mode_name: str) -> None:
    body, wanted = SHAPES[shape]
    assert MODES[mode_name](listen=silent).run(_named(body)()) == wanted


def _named(body: Callable[..., Any]) -> Any:
    def shaped() -> Any:
        return body()

    return flow(shaped)


# --- values keep their type


@dataclass(frozen=True)
class Bird:
    name: str
    weight: decimal.Decimal


VALUES: list[Any] = [
    (1, ("a", b"\0")), {1: {2: "three"}}, {"a", "b"}, datetime(2026, 1, 2, 3, 4), decimal.Decimal("1.10"),
    Bird("goose", decimal.Decimal("3.2")), None, [], "", b"x" * 200_000, range(3), float("inf"), Path("a/b"),
]  # fmt: skip


@step
def values() -> Any:
    return VALUES


@step
def same(x: Any) -> Any:
    return x


@flow
def values_flow() -> Any:
    return values().map(same).agg(same).next(same)


def test_values_keep_their_type_and_order(mode: Mode) -> None:
    result = mode(listen=silent).run(values_flow())
    assert result == VALUES
    assert [type(each) for each in result] == [type(each) for each in VALUES]


@step
def frames() -> Any:
    import numpy as np
    import pandas as pd

    return [
        np.arange(12.0).reshape(3, 4)[:, ::2],
        pd.DataFrame({"day": pd.date_range("2026-01-01", periods=2), "n": [1, 2]}),
    ]


@flow
def frames_flow() -> Any:
    return frames().map(same)


@pytest.mark.parametrize("mode", [MODES["threads"], MODES["processes"]])
def test_arrays_and_frames_keep_their_type(mode: Mode) -> None:
    import numpy as np
    import pandas as pd

    array, frame = mode(listen=silent).run(frames_flow())
    np.testing.assert_array_equal(array, np.arange(12.0).reshape(3, 4)[:, ::2])
    pd.testing.assert_frame_equal(frame, pd.DataFrame({"day": pd.date_range("2026-01-01", periods=2), "n": [1, 2]}))


def test_with_the_local_store_items_never_share_an_object_as_they_would_not_in_the_cloud() -> None:
    @step
    def thrice() -> Any:
        return [{"n": 0}] * 3

    @step
    def grow(each: Any) -> Any:
        each["n"] += 1
        return each["n"]

    @flow
    def shared() -> Any:
        return thrice().map(grow)

    assert run(shared()) == [1, 1, 1]


# --- what can be mapped


@pytest.mark.parametrize("value", [(1, 2), range(1, 3), {1: 1, 2: 2}.values(), iter([1, 2]), frozenset((1, 2))])
def test_any_collection_can_be_mapped(value: Any) -> None:
    @step
    def source() -> Any:
        return value

    @flow
    def mapped() -> Any:
        return source().map(add)

    assert run(mapped(), store_type="memory") == [2, 3]


@pytest.mark.parametrize("value", ["text", b"bytes", {"a": 1}, 7, None])
def test_what_is_no_collection_is_refused_with_the_steps_name(value: Any) -> None:
    @step
    def source() -> Any:
        return value

    @flow
    def mapped() -> Any:
        return source().map(add)

    with pytest.raises(TypeError, match=r"Step 'source' returned .* \.map\(\) runs a step for each item of a list"):
        run(mapped())


# --- parameters


@flow
def with_parameters(n: int = 2, color: str = "red", days: int = 7) -> Any:
    return flows.numbers(n).map(given, days=1).next(named)


@step
def named(pair: Any, color: Any, n: Any = 0) -> Any:
    return pair, color, n


def test_flow_parameters_reach_the_steps_that_take_them(mode: Mode) -> None:
    runner = mode(listen=silent)
    assert runner.run(with_parameters()) == [((x, {"days": 1, "n": 2, "color": "red"}), "red", 2) for x in (0, 1)]


def test_parameters_given_to_the_run_replace_the_graphs_and_computed_arguments_follow() -> None:
    runner = LocalRunner(listen=silent)
    assert len(runner.run(with_parameters(), {"n": 3, "color": "blue"})) == 3
    with pytest.raises(ParameterError, match="colour"):
        runner.run(with_parameters(), {"colour": "blue"})


def test_the_piped_value_wins_over_a_parameter_of_the_same_name() -> None:
    @step
    def twice(n: int) -> int:
        return 2 * n

    @flow
    def same_name(n: int = 100) -> Any:
        return three().next(summed).next(twice)

    assert run(same_name()) == 12


# --- failures


@step
def picky(x: Any) -> Any:
    if x == 2:
        raise ValueError("not two") from KeyError("cause")
    return x


@flow
def picky_flow() -> Any:
    return three().map(picky).agg(listed)


def test_a_failure_is_the_steps_own_exception_with_step_and_item(mode: Mode) -> None:
    events: list[Event] = []
    with pytest.raises(ValueError, match="not two") as caught:
        mode(listen=events.append).run(picky_flow())
    assert caught.value.__notes__ == ["in step 'picky', item 1: 2"]
    failed = [event for event in events if isinstance(event, StepFailed)]
    assert [(each.node, each.index, each.item, each.error) for each in failed] == [
        ("picky", (1,), "2", "ValueError: not two")
    ]
    assert "in picky" in failed[0].trace
    assert "KeyError: 'cause'" in failed[0].trace
    assert "lokki/" not in failed[0].trace.replace(os.path.dirname(__file__), "")
    assert next(event for event in events if isinstance(event, MapFinished)).failed == 1
    assert isinstance(events[-1], RunFinished)
    assert events[-1].status == "failed"


def test_the_traceback_that_the_caller_gets_begins_in_the_users_code_after_the_callers() -> None:
    with pytest.raises(ValueError, match="not two") as caught:
        run(picky_flow())
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-1] == "picky"
    assert not {"invoke", "call", "_one", "pump"} & set(names)


def test_an_exception_that_cannot_be_sent_from_a_worker_process_keeps_its_words() -> None:
    with pytest.raises(Exception, match="Refusal: not") as caught:
        run(flows.refusing_flow(), executor="processes")
    assert "in step 'refuse'" in caught.value.__notes__[0]


def test_a_worker_process_that_dies_is_told_with_its_items() -> None:
    with pytest.raises(
        RunError, match=r"worker process died while it ran (item 3|one of the \d items between \d and \d) of"
    ):
        run(flows.crashing_flow(), executor="processes", workers=1)


def test_sys_exit_in_a_step_fails_it() -> None:
    @step
    def leave() -> None:
        raise SystemExit(3)

    @flow
    def leaving() -> Any:
        return leave()

    with pytest.raises(SystemExit) as caught:
        run(leaving())
    assert caught.value.__notes__ == ["in step 'leave'"]


def test_a_failing_item_stops_the_map_and_what_is_in_flight_is_kept(ticks: Callable[[], Counter[str]]) -> None:
    store = MemoryStore()
    release = threading.Event()

    @step
    def slow(x: int) -> int:
        flows.tick(x)
        if x == 1:
            raise ValueError(x)
        if x == 0:
            release.wait(10)
        return x

    def listen(event: Event) -> None:
        if isinstance(event, StepFailed):
            release.set()

    @flow
    def failing() -> Any:
        return flows.numbers(100).map(slow)

    with pytest.raises(ValueError, match="1"):
        LocalRunner(store=store, workers=2, listen=listen).run(failing(), run_id="r")
    assert ticks() == Counter(["0", "1"])
    assert store.load("failing", "r", "slow", index=(0,)) == 0


def test_a_result_that_cannot_be_stored_names_step_and_item() -> None:
    @step
    def locked(x: int) -> Any:
        return threading.Lock() if x == 2 else x

    @flow
    def locking() -> Any:
        return three().map(locked)

    with pytest.raises(StoreError, match=r"result of step 'locked' for item 1: .*lock.* cannot be pickled"):
        run(locking())
    with pytest.raises(StoreError, match=r"result of step 'lock_of' for item \d: .*lock.* cannot be stored"):
        run(_named(lambda: three().map(lock_of))(), executor="processes", store_type="memory")
    with pytest.raises(StoreError, match=r"result of step 'source_of_locks'"):
        run(flow(_lock_flow)())


@step
def lock_of(_: Any) -> Any:
    return threading.Lock()


@step
def source_of_locks() -> Any:
    return [threading.Lock()]


def _lock_flow() -> Any:
    return source_of_locks().map(add)


def test_an_item_whose_repr_fails_is_named_by_its_type() -> None:
    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError

    @step
    def shy() -> Any:
        return [Shy()]

    @step
    def look(_: Any) -> None:
        raise ValueError("seen")

    @flow
    def looking() -> Any:
        return shy().map(look)

    with pytest.raises(ValueError, match="seen") as caught:
        run(looking(), store_type="memory")
    assert caught.value.__notes__[0].startswith("in step 'look', item 0: <Shy")


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_exception_without_words_is_retried_and_told_like_any_other() -> None:
    events: list[Event] = []
    calls = []

    @step(retry={"retries": 1, "delay": 0})
    def mute() -> None:
        calls.append(1)
        raise Mute

    with pytest.raises(Mute):
        LocalRunner(listen=events.append).run(_named(mute)())
    assert len(calls) == 2
    failed = next(event for event in events if isinstance(event, StepFailed))
    assert failed.error == "Mute: (its message cannot be shown)"


def test_a_huge_message_is_cut() -> None:
    events: list[Event] = []

    @step
    def loud() -> None:
        raise ValueError("x" * 5_000_000)

    with pytest.raises(ValueError, match="xxx"):
        LocalRunner(listen=events.append).run(_named(loud)())
    failed = next(event for event in events if isinstance(event, StepFailed))
    assert len(failed.error) < 2_100
    assert len(failed.trace) < 17_000


def test_an_argument_that_cannot_be_pickled_is_named() -> None:
    @flow
    def locked() -> Any:
        return three().map(given, color=threading.Lock())

    with pytest.raises(StoreError, match="In argument 'color' of step 'given', a value of type lock cannot be stored"):
        run(locked())


@pytest.mark.parametrize("executor", ["threads", "inline"])
def test_an_async_step_runs_where_a_loop_is_running_already(executor: str) -> None:
    import asyncio

    async def notebook() -> Any:
        return run(_named(lambda: three().next(later_sum))(), executor=executor)

    assert asyncio.run(notebook()) == 6


@step
async def later_sum(xs: Any) -> Any:
    return sum(xs)


# --- retries


class Flaky:
    """Fails as many times as it is told."""

    def __init__(self, failures: int, error: type[Exception] = ValueError) -> None:
        self.failures = failures
        self.error = error
        self.calls = 0

    def __call__(self, value: Any) -> Any:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error(self.calls)
        return value


def _flaky(flaky: Flaky, retry: Any) -> StepNode:
    def attempt(x: Any) -> Any:
        return flaky(x)

    return step(retry=retry)(attempt)


@pytest.mark.parametrize("place", ["task", "item", "aggregation"])
def test_retries_are_exactly_as_many_as_asked_for_everywhere(place: str) -> None:
    events: list[Event] = []
    flaky = Flaky(2)
    attempt = _flaky(flaky, {"retries": 2, "delay": 0})
    one = _one_item
    made = {
        "task": lambda: one().next(attempt),
        "item": lambda: one().map(attempt),
        "aggregation": lambda: one().map(same).agg(attempt),
    }[place]
    assert LocalRunner(listen=events.append).run(_named(made)()) == [1]
    assert flaky.calls == 3
    retried = [event for event in events if isinstance(event, StepRetried)]
    assert [(each.attempt, each.error, each.index) for each in retried] == [
        (1, "ValueError: 1", (0,) if place == "item" else ()),
        (2, "ValueError: 2", (0,) if place == "item" else ()),
    ]


@step
def _one_item() -> Any:
    return [1]


@pytest.mark.parametrize(
    ("failures", "error", "retry", "calls"),
    [
        (3, ValueError, RetryConfig(retries=2, delay=0), 3),
        (1, ValueError, RetryConfig(retries=2, delay=0, exceptions=(KeyError,)), 1),
        (1, KeyError, RetryConfig(retries=2, delay=0, exceptions=(LookupError,)), 2),
        (1, ValueError, None, 1),
    ],
)
def test_what_is_not_retried(failures: int, error: type[Exception], retry: Any, calls: int) -> None:
    flaky = Flaky(failures, error)
    attempt = _flaky(flaky, retry)
    made = _named(lambda: _one_item().map(attempt))()
    if calls > failures:
        assert run(made) == [1]
    else:
        with pytest.raises(error):
            run(made)
    assert flaky.calls == calls


def test_a_step_is_tried_again_in_a_worker_process_too(ticks: Callable[[], Counter[str]]) -> None:
    events: list[Event] = []
    assert LocalRunner(listen=events.append, executor="processes").run(flows.patient_flow()) == [0]
    assert sum(ticks().values()) == 3
    assert [event.attempt for event in events if isinstance(event, StepRetried)] == [1, 2]


def test_a_generator_that_fails_half_way_is_tried_again() -> None:
    calls = []

    @step(retry={"retries": 1, "delay": 0})
    def yielding() -> Iterator[int]:
        calls.append(1)
        yield 1
        if len(calls) == 1:
            raise ValueError
        yield 2

    @flow
    def generated() -> Any:
        return yielding()

    assert run(generated()) == [1, 2]


def test_a_retry_that_waits_is_given_up_when_another_item_fails() -> None:
    waiting = threading.Event()

    def listen(event: Event) -> None:
        if isinstance(event, StepRetried):
            waiting.set()

    @step(retry={"retries": 1, "delay": 60, "exceptions": (ConnectionError,)})
    def fetch(x: int) -> int:
        if x == 0:
            raise ConnectionError("try later")
        waiting.wait(10)
        raise ValueError("fails for good")

    @flow
    def fetching() -> Any:
        return flows.numbers(2).map(fetch)

    with pytest.raises(ValueError, match="fails for good"):
        LocalRunner(listen=listen, workers=2).run(fetching())


@pytest.mark.parametrize("mode_name", ["threads", "a store", "processes"])
def test_an_attempt_does_not_see_what_an_earlier_one_did_to_its_arguments(mode_name: str) -> None:
    graph = _named(lambda: three().next(eaten).next(listed))()
    assert MODES[mode_name](listen=silent).run(graph) == [6, 3]


@step(retry={"retries": 1, "delay": 0})
def eaten(xs: Any) -> Any:
    if not hasattr(eaten, "seen"):
        object.__setattr__(eaten, "seen", True)
        xs.pop()
        raise ValueError
    object.__delattr__(eaten, "seen")
    return [sum(xs), len(xs)]


@pytest.mark.parametrize("executor", ["threads", "inline"])
def test_a_batch_is_not_finished_after_a_failure(executor: str, ticks: Callable[[], Counter[str]]) -> None:
    @step
    def second(x: int) -> int:
        flows.tick(x)
        if x == 1:
            raise ValueError(f"no {x}")
        return x

    with pytest.raises(ValueError, match="no 1"):
        run(_named(lambda: flows.numbers(20).map(second, batch_size=20))(), executor=executor)
    assert ticks() == Counter("01")


def test_a_slice_that_takes_long_is_cut_and_sent_again() -> None:
    assert run(_named(lambda: flows.numbers(1_200).map(slow_at_the_end))(), executor="processes", workers=2) == list(
        range(1_200)
    )


@step
def slow_at_the_end(x: Any) -> Any:
    if x >= 1_196:
        time.sleep(0.3)
    return x


def test_a_retry_in_a_worker_process_is_given_up_when_another_item_fails(ticks: Callable[[], Counter[str]]) -> None:
    with pytest.raises(ValueError, match="fails for good"):
        run(_named(lambda: flows.numbers(2).map(wait_or_fail))(), executor="processes", workers=2)
    assert sum(ticks().values()) == 2


@step(retry={"retries": 1, "delay": 60, "exceptions": (ConnectionError,)})
def wait_or_fail(x: Any) -> Any:
    flows.tick(x)
    if x == 0:
        raise ConnectionError("try later")
    while len(Path(os.environ["TICKS"]).read_text().split()) < 2:
        time.sleep(0.01)
    raise ValueError("fails for good")


# --- graphs that are no chain


@pytest.mark.parametrize("mode_name", ["threads", "memory", "a store"])
def test_a_node_may_use_several_results_and_parts_of_them(mode_name: str) -> None:
    from lokki.graph import Call, Const, FlowGraph, Param, Ref

    @step
    def pair() -> Any:
        return {"low": [1, 2], "high": 10}

    @step
    def combine(a: Any, b: Any, *, extra: Any, by: Any) -> Any:
        return a, b, extra, by

    graph = FlowGraph(
        "joined",
        (
            Call("pair", pair.step),
            Call("other", three.step),
            Call(
                "combine",
                combine.step,
                (Ref("pair", ("low", 1)), Param("p")),
                {"extra": Ref("other"), "by": Const(3)},
            ),
        ),
        Ref("combine", (2,)),
        {"p": "given"},
    )
    assert MODES[mode_name](listen=silent).run(graph) == [1, 2, 3]
    with pytest.raises(ValueError, match="not two"):
        run(FlowGraph("fails", (Call("picky", picky.step, (Const(2),)),), Ref("picky")))


# --- concurrency


class Gauge:
    """How many were inside at once."""

    def __init__(self, meet: int) -> None:
        self.most = self.now = 0
        self.lock = threading.Lock()
        self.barrier = threading.Barrier(meet)

    def pass_through(self) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.barrier.wait(10)  # nobody leaves before `meet` are inside
        with self.lock:
            self.now -= 1


@pytest.mark.parametrize(("limit", "workers", "wanted"), [(2, 8, 2), (None, 3, 3), (5, 3, 3), (1, 8, 1), (20, 0, 20)])
def test_as_many_items_run_at_once_as_limit_and_workers_allow(limit: int | None, workers: int, wanted: int) -> None:
    gauge = Gauge(wanted)

    @step
    def inside(x: int) -> int:
        gauge.pass_through()
        return x

    @flow
    def limited() -> Any:
        return flows.numbers(wanted * 4).map(inside, concurrency_limit=limit)

    assert run(limited(), workers=workers) == list(range(wanted * 4))
    assert gauge.most == wanted


def test_idle_workers_help_with_a_map_inside_a_single_item() -> None:
    gauge = Gauge(3)

    @step
    def inside(x: int) -> int:
        gauge.pass_through()
        return x

    @step
    def nine(_: int) -> list[int]:
        return list(range(9))

    @flow
    def lopsided() -> Any:
        return _one_item().map(nine.map(inside))

    assert run(lopsided(), workers=3) == [list(range(9))]
    assert gauge.most == 3


def test_items_run_in_other_processes_or_in_this_thread_as_the_executor_says() -> None:
    here = (os.getpid(), threading.current_thread().name)
    assert {(pid, thread) for _, pid, thread in run(flows.whereabouts(), executor="inline")} == {here}
    assert os.getpid() not in {pid for _, pid, _ in run(flows.whereabouts(), executor="processes")}


def test_context_variables_reach_the_items() -> None:
    from contextvars import ContextVar

    color = ContextVar("color", default="none")

    @step
    def seen(x: int) -> str:
        return color.get()

    @flow
    def coloured() -> Any:
        return three().map(seen)

    token = color.set("red")
    try:
        assert run(coloured()) == ["red"] * 3
    finally:
        color.reset(token)


def test_dasks_executor_runs_the_items() -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        assert run(flows.counted_flow(20), pool=client.get_executor()) == sum(range(20)) * 10


# --- events


def test_a_map_tells_its_progress_at_a_bounded_rate() -> None:
    events: list[Event] = []
    LocalRunner(listen=events.append).run(_named(lambda: flows.numbers(5_000).map(same))())
    progress = [event for event in events if isinstance(event, MapProgress)]
    started = next(event for event in events if isinstance(event, MapStarted))
    finished = next(event for event in events if isinstance(event, MapFinished))
    assert (started.total, started.step, finished.done, finished.failed) == (5_000, "same", 5_000, 0)
    assert [each.done for each in progress] == sorted(each.done for each in progress)
    assert len(events) < 100


def test_events_are_told_one_at_a_time() -> None:
    inside = threading.Lock()

    def listen(event: Event) -> None:
        assert inside.acquire(blocking=False)
        time.sleep(0)
        inside.release()

    LocalRunner(listen=listen, workers=8).run(_named(lambda: flows.numbers(500).map(same))())


@pytest.mark.parametrize("executor", ["threads", "inline", "processes"])
def test_a_listener_that_fails_ends_the_run(executor: str) -> None:
    def listen(event: Event) -> None:
        if isinstance(event, MapProgress):
            raise LookupError("deaf")

    with pytest.raises(LookupError, match="deaf"):
        LocalRunner(listen=listen, executor=executor).run(_named(lambda: flows.numbers(30).map(same))())


def test_ending_a_pool_leaves_other_processes_alone() -> None:
    import multiprocessing

    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))

    def listen(event: Event) -> None:
        if isinstance(event, MapStarted):
            other.start()

    with pytest.raises(ValueError, match="not two"):
        LocalRunner(listen=listen, executor="processes").run(picky_flow())
    assert other.is_alive()
    other.kill()
    other.join()


# --- settings


def test_the_store_is_chosen_by_argument_then_environment_then_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def handed_on(**options: Any) -> bool:
        kept: list[Any] = []

        @step
        def make() -> list[int]:
            kept.append([1])
            made: list[int] = kept[0]
            return made

        @step
        def is_same(value: list[int]) -> bool:
            return value is kept[0]

        @flow
        def identity() -> Any:
            return make().next(is_same)

        return bool(run(identity(), **options))

    assert not handed_on()
    (tmp_path / "lokki.toml").write_text('[local]\nstore_type = "memory"\n')
    assert handed_on()
    monkeypatch.setenv("LOKKI_STORE_TYPE", "local")
    assert not handed_on()
    assert handed_on(store_type="memory")


def test_wrong_settings_and_arguments_are_named() -> None:
    with pytest.raises(ConfigurationError, match=r"local\.store_type must be one of local, memory, not 'disk'"):
        LocalRunner(store_type="disk")
    with pytest.raises(ConfigurationError, match=r"local\.executor"):
        LocalRunner(executor="fibers")
    with pytest.raises(ConfigurationError, match="workers must be 0"):
        LocalRunner(workers=-1)
    with pytest.raises(GraphTypeError, match="takes the graph that calling a flow returns"):
        LocalRunner(listen=silent).run(flows.counted_flow)  # type: ignore[arg-type]
    with pytest.raises(RunError, match="keeps nothing"):
        LocalRunner(listen=silent, store_type="memory").run(flows.counted_flow(), run_id="r")


def test_a_store_of_ones_own_is_reused_only_with_a_run_id(ticks: Callable[[], Counter[str]]) -> None:
    runner = LocalRunner(store=MemoryStore(), listen=silent)
    for run_id, wanted in ((None, 3), (None, 3), ("r", 3), ("r", 0)):
        runner.run(flows.counted_flow(2), run_id=run_id)
        assert sum(ticks().values()) == wanted


def test_without_a_run_id_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", None)
    assert run(flows.counted_flow()) == 100
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / ".lokki").exists()


def test_by_default_the_run_is_logged_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert LocalRunner().run(flows.counted_flow()) == 100
    out, err = capsys.readouterr()
    assert out == ""
    assert "[INFO] Map 'ticked' started (5 items)" in err


def test_a_batch_step_runs_here_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    heavy = step(job_type="batch")(sum)
    assert LocalRunner().run(_named(lambda: three().next(heavy))()) == 6
    assert "Batch" in capsys.readouterr().err
