"""The entry of every Lambda function. It only translates: an event into a `Task`, and what that did into an answer.

One package serves all functions of a flow; which one this is, its environment says. What is made once per process is
made when the function starts: secrets, the program with its modules, the store with its client.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

from lokki.binding import flow_parameters, shape
from lokki.errors import ConfigurationError, StoreError
from lokki.events import StepFailed, StepFinished, StepStarted
from lokki.frozen import replace
from lokki.graph import Call, Const, Step
from lokki.policy import NO_RETRY
from lokki.runtime.event import FlowContext, LambdaEvent, State
from lokki.runtime.failure import LokkiRetryable, StepFailure, leaving
from lokki.runtime.invoke import invoke, prepare
from lokki.runtime.parts import Packs
from lokki.runtime.program import Plan, Program, parameters
from lokki.runtime.report import explained, listener
from lokki.runtime.task import Task
from lokki.store import open_store
from lokki.store.protocol import MANIFEST, TransientStore, address, damaged, folder

__all__ = ["make_handler", "open_handler"]

Handler = Callable[[Mapping[str, Any], Any], dict[str, Any]]
PLAN = "plan.pkl.gz"
_MOST_PARAMS = 32_768  # characters of parameters that an answer repeats: a state holds 256 KiB in all


def open_handler(module: str, step: str, package: str | None = None) -> Handler:
    """The handler of one function of a built flow.

    Args:
        module: the flow's module; it is imported when the function starts.
        step: which function this is, as LOKKI_STEP_NAME says.
        package: the folder that it lies in; by default around this copy of lokki.
    """
    worker = open_worker(module, step, package)
    by_hand: list[Handler] = []

    def lambda_handler(event: Mapping[str, Any], context: Any = None) -> dict[str, Any]:
        if isinstance(event, Mapping) and "lokki" in event:
            return worker.answer(event, step)
        if not by_hand:
            with explained(step):
                by_hand.append(make_handler(worker.program.step(step)))
        return by_hand[0](event, context)

    return lambda_handler


def open_worker(module: str, step: str, package: str | None = None) -> Worker:
    """What `open_handler` makes once per process."""
    from importlib import import_module

    with explained(step) as facts:
        facts["module"] = module
        if os.environ.get("LOKKI_SECRETS"):
            from lokki.runtime.secrets import fetch

            fetch(os.environ)
        import_module(module)
        return Worker(Program.load(package or _package()), _open_store())


class Worker:
    """A package at work: answers the events of the state machine."""

    def __init__(self, program: Program, store: TransientStore) -> None:
        self.program = program
        self._store = store
        self._flow = _flow_name() or program.graph.name
        self._plan: tuple[tuple[str, str], bytes] | None = None
        self._packs = Packs()

    def answer(self, event: Mapping[str, Any], step: str) -> dict[str, Any]:
        """Do what a state asks; the answer never holds a value, only where it lies."""
        node = event["lokki"]
        with explained(node or step) as facts:
            attempt = int(event.get("attempt", 0))
            if "execution" in event:
                return self._first(event, node, attempt, facts)
            return self.run(node, State.from_dict(event["state"]), facts, attempt=attempt)

    def run(
        self,
        node: str,
        state: State,
        facts: dict[str, Any],
        *,
        plan: Plan | None = None,
        attempt: int = 0,
        here: bool = False,
    ) -> dict[str, Any]:
        """Run a node of the flow; `here` says that it is tried again here and not by the state machine."""
        facts |= {"run_id": state.run_id, "flow_name": self._flow}
        if state.at is not None:
            facts["index"] = state.at.place
        plan = plan or self._planned(state)
        graph = self.program.graph if plan is None else self.program.filled(plan.arguments)
        tell = listener(self._flow)
        if state.at is None:
            tell(StepStarted(state.run_id, node))
        params = {} if plan is None else plan.params
        task = Task(
            graph,
            params,
            self._store,
            self._flow,
            state,
            attempt=attempt,
            here=here,
            tell=tell,
            packs=self._packs,
            own=self.program.own,
        )
        return _answer(FlowContext(state.run_id, state.reuse), task.run(node))

    def _planned(self, state: State) -> Plan | None:
        """The plan of an execution, fetched once per process; each call unpickles it, so that none sees what another
        did to its arguments."""
        if not self.program.planned:
            return None
        if self._plan is None or self._plan[0] != (state.run_id, state.mending) or (state.cache and not state.mending):
            self._plan = (state.run_id, state.mending), self._store.blob(self._plan_key(state.run_id))
        return self._opened(state.run_id, self._plan[1])

    def _first(self, event: Mapping[str, Any], node: str | None, attempt: int, facts: dict[str, Any]) -> dict[str, Any]:
        """The first state: evaluates the flow with the parameters of this execution."""
        given, run_id, cache = parameters(event)
        execution = str(event["execution"])
        facts |= {"run_id": run_id, "flow_name": self._flow}
        folder(self._flow, run_id)  # refuses what cannot be part of a key, before anything runs
        state = State.of(run_id, cache)
        plan = None
        if self.program.planned and (attempt or state.mending):
            plan = self._earlier_plan(None if state.mending else execution, run_id)
        if plan is None:
            plan = self.program.evaluate(execution, given)
            if self.program.planned:
                self._store.put_blob(self._plan_key(run_id), plan.write())
        if node is None:
            return _answer(FlowContext(run_id, cache), {})
        return self.run(node, state, facts, plan=plan, attempt=attempt)

    def _earlier_plan(self, execution: str | None, run_id: str) -> Plan | None:
        """What an earlier attempt of this execution evaluated, or any execution: the values must not be others now."""
        try:
            plan = self._opened(run_id, self._store.blob(self._plan_key(run_id)))
        except StoreError:
            return None
        return plan if execution in (None, plan.execution) else None

    def _opened(self, run_id: str, data: bytes) -> Plan:
        try:
            return Plan.read(data)
        except StoreError as error:
            raise damaged(self._store.location(self._plan_key(run_id)), error) from error

    def _plan_key(self, run_id: str) -> str:
        return f"{folder(self._flow, run_id)}/{PLAN}"


def make_handler(fn: Callable[..., Any]) -> Handler:
    """A Lambda handler for one step by itself, called by hand or by a state machine of one's own.

    It takes `{"input": ..., "flow": {"run_id", "params"}}` (the input a value, an `s3://` location or a list of
    locations), `{"result_url" | "result_urls": ..., "run_id": ...}`, or the parameters of a first step by name. The
    result is stored under the run id, as is a manifest of its items when it is a list.

    Args:
        fn: the function, or the step.
    """
    step: Step = getattr(fn, "step", None) or Step(fn, getattr(fn, "__name__", "step"))
    opened: list[TransientStore] = []

    def lambda_handler(event: Mapping[str, Any], context: Any = None) -> dict[str, Any]:
        with explained(step.name) as facts:
            asked = LambdaEvent.from_dict(event)
            if not opened:
                opened.append(_open_store())
            flow = _with_run_id(asked.flow, context)
            facts["run_id"] = flow.run_id
            return _by_hand(step, asked, flow, opened[0])

    return lambda_handler


def _by_hand(step: Step, asked: LambdaEvent, flow: FlowContext, store: TransientStore) -> dict[str, Any]:
    name = _flow_name() or "flow"
    tell = listener(name)
    started = perf_counter()
    call = _call(step, asked, flow.params, store)
    try:
        value = invoke(prepare(call, {}), {}, (), _Once())
    except StepFailure as failure:
        tell(StepFailed(flow.run_id, step.name, 0, failure.seconds, failure.error, failure.trace))
        retried = step.retry.retries and step.retry.matches(failure.cause)
        raise leaving(failure, LokkiRetryable if retried else None) from None
    answer = {"result_url": store.write(name, flow.run_id, step.name, value)}
    if isinstance(value, list | tuple | range):
        store.write_items(name, flow.run_id, step.name, value)
        answer["map_manifest_key"] = f"{folder(name, flow.run_id, step.name)}/{MANIFEST}"
    tell(StepFinished(flow.run_id, step.name, 0, perf_counter() - started))
    return _answer(flow, answer)


def _call(step: Step, asked: LambdaEvent, params: Mapping[str, Any], store: TransientStore) -> Call:
    """The step with its arguments: the input first, and the parameters that it names."""
    required = shape(step.fn).required
    inputs: tuple[Const, ...] = ()
    if asked.given:
        inputs = (Const(_resolved(asked, store)),)
    elif required and required[0] not in params:  # the step before returned None
        inputs = (Const(None),)
    names = flow_parameters(
        step.name, step.fn, positional=len(inputs), piped=bool(inputs), keywords={}, parameters=params
    )
    once = replace(step, retry=NO_RETRY)
    return Call(step.name, once, inputs, {each: Const(params[each]) for each in names})


def _resolved(asked: LambdaEvent, store: TransientStore) -> Any:
    """The value that an event brings; what lies at a location, or at each of a list of locations."""
    match asked.input:
        case str() as location if asked.located or _is_location(location):
            return store.read(location)
        case list() as locations if asked.located or (locations and all(map(_is_location, locations))):
            return [None if each is None else store.read(each) for each in locations]
        case value:
            return value


def _is_location(value: Any) -> bool:
    """Whether this is the location of an object in a bucket, or of an output as a store in a folder names it."""
    if not isinstance(value, str):
        return False
    try:
        return value.startswith("s3://") or bool(address(value))
    except StoreError:
        return False


class _Once:
    """Surroundings in which nothing is tried again."""

    durable = False

    def retrying(self, node: str, index: tuple[int, ...], attempt: int, delay: float, error: str) -> None:
        raise AssertionError("the step has no retries here")

    def wait(self, seconds: float) -> bool:
        raise AssertionError("the step has no retries here")


def _answer(flow: FlowContext, told: Mapping[str, str]) -> dict[str, Any]:
    """An answer in every form at once: who reads `input` finds it, and who reads `result_url` too."""
    context = flow.to_dict()
    if len(json.dumps(context["params"], default=repr)) > _MOST_PARAMS:
        context["params"] = {}
    return {"input": told.get("result_url"), **told, "run_id": flow.run_id, "flow": context}


def _with_run_id(flow: FlowContext, context: Any) -> FlowContext:
    """The context with a run id: that of the call where nobody gave one."""
    request = flow.run_id or getattr(context, "aws_request_id", None) or os.urandom(6).hex()
    return FlowContext(str(request), flow.cache_enabled, flow.params)


def _flow_name() -> str:
    return os.environ.get("LOKKI_FLOW_NAME", "")


def _open_store() -> TransientStore:
    """The store that the environment names: S3, or a folder."""
    match os.environ.get("LOKKI_STORE_TYPE") or "s3":
        case "s3":
            return open_store("s3")
        case "local":
            return open_store("local", base_dir=os.environ.get("LOKKI_STORE_PATH") or ".lokki")
        case other:
            raise ConfigurationError(f"LOKKI_STORE_TYPE must be s3 or local, not {other!r}.", "LOKKI_STORE_TYPE")


def _package() -> str:
    """The folder of the package that this copy of lokki is in."""
    import lokki

    return os.path.dirname(os.path.dirname(os.path.abspath(lokki.__file__)))
