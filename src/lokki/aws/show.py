"""A run in detail, and lists of runs: what `show` tells, as values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lokki.aws.client import Aws
from lokki.aws.executions import Execution, listed, opened
from lokki.aws.failures import failures_of
from lokki.aws.history import Counts, History, StateRun, map_counts
from lokki.aws.machines import Definition, Machine, Place
from lokki.aws.results import StepError, items_of
from lokki.errors import AwsError, ShowError, StoreError
from lokki.frozen import field, frozen
from lokki.store.protocol import TransientStore

if TYPE_CHECKING:
    from lokki.builder.costs import Bill
    from lokki.builder.resources import Deployment

_OPENED = 100  # of the newest executions, whose inputs are read for their run ids; others say theirs in their names
_SAMPLED = 10  # children of a map that are looked into for the maps inside them


@frozen
class StepRow:
    """A step of a run, or a map.

    Attributes:
        node: its id in the flow's graph.
        kind: "function", "job" or "map".
        status: empty when it was not reached.
        retries: attempts beyond the first that the state machine made; those of a map's children are not known.
        total: of a map, its items; `done` and `failed` count them too.
        children: of a map, the executions that its items were handed to.
        body: of a map, the steps in it.
    """

    node: str
    kind: str
    status: str = ""
    seconds: float = 0.0
    retries: int = 0
    error: str = ""
    total: int = 0
    done: int = 0
    failed: int = 0
    children: int = 0
    body: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        told: dict[str, Any] = {"step": self.node, "kind": self.kind, "status": self.status or "NOT_REACHED"}
        told |= {"seconds": round(self.seconds, 3), "retries": self.retries, "error": self.error}
        counts = {"total": self.total, "done": self.done, "failed": self.failed, "children": self.children}
        return told | ({**counts, "body": list(self.body)} if self.kind == "map" else {})


@frozen
class Detail:
    """A run: its execution, its steps in order, what went wrong, and what it did, from which its cost is estimated."""

    execution: Execution
    steps: tuple[StepRow, ...]
    errors: tuple[StepError, ...]
    used: Used


@frozen
class Used:
    """What an execution did, as far as it can be told from outside: see `lokki.simulate.machine.Counts`."""

    states: Mapping[str, int] = field(default_factory=dict)
    retries: int = 0
    invocations: Mapping[str, int] = field(default_factory=dict)
    billed_ms: Mapping[str, int] = field(default_factory=dict)
    init_ms: Mapping[str, int] = field(default_factory=dict)
    jobs: Mapping[str, int] = field(default_factory=dict)
    job_ms: Mapping[str, int] = field(default_factory=dict)
    requests: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    items: Mapping[str, int] = field(default_factory=dict)


def newest(aws: Aws, machine: Machine, number: int) -> list[Execution]:
    """The newest executions, with what was given to the first of them."""
    rows = list(listed(aws, machine, most=number, kind=ShowError))
    return [*opened(aws, rows[:_OPENED], ShowError), *rows[_OPENED:]]


def detail(aws: Aws, machine: Machine, execution: Execution, definition: Definition, store: TransientStore) -> Detail:
    """All that is known of one run."""
    states = History(aws, execution.arn, ShowError).read()
    looked = _Looked(aws, machine, execution, definition, store)
    rows = tuple(looked.rows(states))
    over = execution.over and execution.status != "SUCCEEDED"
    errors = failures_of(aws, execution, definition, machine.name, store) if over else ()
    return Detail(execution, rows, errors, looked.tally.used())


def cost(found: Detail, deployment: Deployment) -> Bill:
    """About what AWS bills for a run: states, calls and times outside maps as they were, the rest as usual."""
    from lokki.builder.costs import USUAL, estimate, measured
    from lokki.frozen import replace
    from lokki.graph import Map

    maps = {each.id: found.used.items.get(each.id, 0) for each in deployment.graph.walk() if isinstance(each, Map)}
    usual = estimate(deployment, maps)
    requests = {"estimated": {"GET": usual.s3_get, "PUT": usual.s3_put}}
    each_call = round(USUAL.seconds_per_call * 1000)
    calls = found.used.invocations
    billed = {name: found.used.billed_ms.get(name) or number * each_call for name, number in calls.items()}
    bill = measured(deployment, replace(found.used, requests=requests, billed_ms=billed))
    return replace(bill, about="Estimate of what AWS bills for this run")


class _Tally:
    """Adds up what was done."""

    def __init__(self) -> None:
        self._numbers: dict[str, dict[str, int]] = {}

    def add(self, what: str, name: str, number: float) -> None:
        numbers = self._numbers.setdefault(what, {})
        numbers[name] = numbers.get(name, 0) + round(number)

    def used(self) -> Used:
        numbers: dict[str, Any] = dict(self._numbers)
        retries: int = numbers.pop("retries", {}).get("", 0)
        return Used(retries=retries, **numbers)


class _Looked:
    """Goes through a run."""

    def __init__(
        self, aws: Aws, machine: Machine, execution: Execution, definition: Definition, store: TransientStore
    ) -> None:
        self._aws = aws
        self._definition = definition
        self._where = (store, machine.name, execution)
        self.tally = _Tally()

    def rows(self, states: list[StateRun]) -> Iterator[StepRow]:
        """A row for each state outside maps, entered or not."""
        entered = {each.name: each for each in states}
        for place in self._definition.places:
            state = entered.get(place.state)
            if state is None:
                yield StepRow(place.node, place.kind, body=_body(place))
                continue
            self.tally.add("states", place.state, 1)
            yield self._map(place, state) if place.kind == "map" else self._step(place, state)

    def _step(self, place: Place, state: StateRun) -> StepRow:
        retries = max(0, state.attempts - 1)
        self.tally.add("retries", "", retries)
        calls, time = ("invocations", "billed_ms") if place.kind == "function" else ("jobs", "job_ms")
        self.tally.add(calls, place.worker, state.attempts)
        self.tally.add(time, place.worker, state.worked * 1000)
        error = state.error if state.status != "SUCCEEDED" else ""
        return StepRow(place.node, place.kind, state.status, state.seconds, retries, error)

    def _map(self, place: Place, state: StateRun) -> StepRow:
        counts = map_counts(self._aws, state.map_run, ShowError) if state.map_run else Counts()
        total, each = counts.total, 1
        with suppress(StoreError, ValueError):
            total, each = items_of(*self._where, place.manifest)
        done, failed = (total, 0) if state.status == "SUCCEEDED" else counts.items(total, each)
        self._inside(place, state.map_run, counts.succeeded + counts.failed, done + failed)
        error = state.error if state.status != "SUCCEEDED" else ""
        return StepRow(
            place.node,
            place.kind,
            state.status,
            state.seconds,
            error=error,
            total=total,
            done=done,
            failed=failed,
            children=counts.total,
            body=_body(place),
        )

    def _inside(self, place: Place, map_run: str, children: float, items: float) -> None:
        """Add what the children of a map did, each of them what its states say."""
        self.tally.add("items", place.node, items)
        for each in place.inside:
            self.tally.add("states", each.state, children)
            match each.kind:
                case "function":
                    self.tally.add("invocations", each.worker, children)
                case "job":
                    self.tally.add("jobs", each.worker, children)
                case _:
                    self._nested(each, map_run, children)

    def _nested(self, place: Place, map_run: str, children: float) -> None:
        """A map inside a map: a few of the children of the outer one are looked into, and taken for all."""
        runs = self._sampled(place, map_run)
        if not runs:
            return
        scale = children / len(runs)
        counts = [map_counts(self._aws, each, ShowError) for each in runs]
        ended = sum(each.succeeded + each.failed for each in counts) * scale
        self._inside(place, runs[0], ended, ended)

    def _sampled(self, place: Place, map_run: str) -> list[str]:
        """Runs of an inner map, one for each child that was looked into."""
        client = self._aws.client("stepfunctions")
        found: list[str] = []
        with suppress(AwsError, client.exceptions.ClientError):
            outer = client.list_executions(mapRunArn=map_run, maxResults=_SAMPLED)["executions"]
            for each in outer[:_SAMPLED]:
                inner = client.list_map_runs(executionArn=each["executionArn"])["mapRuns"]
                found += [run["mapRunArn"] for run in inner if f"/{place.state}:" in run["mapRunArn"]][:1]
        return found


def _body(place: Place) -> tuple[str, ...]:
    return tuple(each.node for each in place.inside)
