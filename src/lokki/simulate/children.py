"""The children of DISTRIBUTED maps, run as AWS runs them.

moto's interpreter lets a map succeed whose children failed, starts a thread for each of them, goes one call deeper with
each, and shows them their parent's execution in `$$.Execution`.
"""

# ruff: noqa: SLF001 - the private parts of the interpreter are what is replaced here

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from lokki.simulate.machine import Failure

AT_ONCE = 16
CONTEXT = "Children of a map have a $$.Execution of their own, as in AWS; the interpreter alone shows their parent's."
FAILING = "A map fails when more of its children fail than it tolerates, as in AWS; the interpreter alone would go on."
FEWER = f"No more than {AT_ONCE} children of a map run at a time; in AWS up to 10,000 do."
EXPRESS = "EXPRESS children run as STANDARD ones: the interpreter knows no others."

_EXCEEDED = "States.ExceedToleratedFailureThreshold"


def run_children_as_aws_does() -> None:
    """Change how the interpreter runs the children of a map."""
    from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.distributed_iteration_component import (
        DistributedIterationComponent,
    )

    def run(component: Any, env: Any, eval_input: Any) -> None:
        children = Children(component, env, eval_input, env.stack.pop())
        env.stack.append(children.run())

    DistributedIterationComponent._map_run = run


class Children:
    """The children of one run of a map; workers take the next item until there is none or too many failed.

    Args:
        component: the map's processor.
        env: the environment in which the map is evaluated.
        settings: the map's fields, evaluated.
        items: what it maps over.
    """

    def __init__(self, component: Any, env: Any, settings: Any, items: list[Any]) -> None:
        self._env = env
        self._settings = settings
        self._items = items
        self._outputs: list[Any] = [None] * len(items)
        self._program = component._get_iteration_program()
        self._selector = component._create_worker(env, settings, None)
        self._lock = threading.Lock()
        self._running: dict[int, Any] = {}
        self._next = self._failed = 0

    def run(self) -> list[Any]:
        """Run them; what they returned, in the order of the items."""
        wanted = min(self._settings.max_concurrency or len(self._items), len(self._items))
        self._note(wanted)
        workers = [threading.Thread(target=self._work, daemon=True) for _ in range(min(wanted, AT_ONCE))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if self._exceeded():
            raise map_failure(self._env, _EXCEEDED, "The specified tolerated failure threshold was exceeded")
        return self._outputs

    def _note(self, wanted: int) -> None:
        tally = self._env.tally
        if self._items:
            tally.substituted(CONTEXT)
        if wanted > AT_ONCE:
            tally.substituted(FEWER)
        if self._settings.state_name in tally.express:
            tally.substituted(EXPRESS)

    def _work(self) -> None:
        while (index := self._take()) is not None:
            self._child(index, self._env.open_inner_frame())

    def _take(self) -> int | None:
        with self._lock:
            index = self._next
            if index >= len(self._items) or self._exceeded() or not self._env.is_running():
                return None
            self._next += 1
            return index

    def _child(self, index: int, frame: Any) -> None:
        from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import FailureEventException

        self._running[index] = frame
        self._env.tally.add("children")
        try:
            self._prepare(index, frame)
            self._program.eval(frame)
            self._finish(index, frame)
        except FailureEventException as failure:
            self._fail(index, *(failure.extract_error_cause_pair() or ("", "")))
        except Exception as error:  # noqa: BLE001 - whatever a child dies of, it is this child that failed
            self._fail(index, "States.Runtime", str(error))
        finally:
            del self._running[index]
            self._env.delete_frame(frame)
            _forget_threads()

    def _prepare(self, index: int, frame: Any) -> None:
        """Give a child its input, and a context of its own."""
        item = self._items[index]
        context = frame.states.context_object.context_object_data
        context["Map"] = {"Item": {"Index": index, "Value": item}}
        frame.states.reset(item)
        frame.stack.append(frame.states.get_input())
        self._selector._eval_input(frame)
        del context["Map"]
        context["Execution"] = self._execution(context, frame.states.get_input())

    def _execution(self, context: Any, given: Any) -> dict[str, Any]:
        name = str(uuid4())
        machine = f"{context['StateMachine']['Name']}/{self._settings.label or self._settings.state_name}"
        parent = context["Execution"]
        return {
            "Id": f"{parent['Id'].partition(':execution:')[0]}:execution:{machine}:{name}",
            "Input": given,
            "Name": name,
            "RoleArn": parent["RoleArn"],
            "StartTime": datetime.now(UTC).isoformat(),
        }

    def _finish(self, index: int, frame: Any) -> None:
        from moto.stepfunctions.parser.asl.eval.program_state import ProgramEnded, ProgramError

        match frame.program_state():
            case ProgramEnded():
                self._outputs[index] = frame.states.get_input()
            case ProgramError(error=error):
                self._fail(index, error.get("error"), error.get("cause"))
            case _:
                return

    def _fail(self, index: int, error: str | None, cause: str | None) -> None:
        tally = self._env.tally
        tally.substituted(FAILING)
        tally.failed(Failure(self._settings.state_name, index, error or "", cause or ""))
        with self._lock:
            self._failed += 1
            exceeded = self._exceeded()
        if exceeded:
            for frame in list(self._running.values()):
                frame.set_stop(stop_date=datetime.now(UTC), cause=None, error=None)

    def _exceeded(self) -> bool:
        """Whether more failed than the map tolerates; where it names one limit only, the other is none."""
        count = self._settings.tolerated_failure_count
        percentage = self._settings.tolerated_failure_percentage
        if not count and not percentage:
            return self._failed > 0
        too_many = bool(count) and self._failed > count
        return too_many or (bool(percentage) and self._failed * 100 > percentage * len(self._items))


def map_failure(env: Any, error: str, cause: str) -> Exception:
    """What a map raises to fail with an error."""
    from moto.stepfunctions.parser.api import HistoryEventType

    return _failure(env, HistoryEventType.MapRunFailed, "mapRunFailedEventDetails", {"error": error, "cause": cause})


def task_failure(env: Any, task: Any, error: str, cause: str) -> Exception:
    """What a task raises to fail with an error."""
    from moto.stepfunctions.parser.api import HistoryEventType

    about = {"resource": task._get_sfn_resource(), "resourceType": task._get_sfn_resource_type()}
    told = {"error": error, "cause": cause, **about}
    return _failure(env, HistoryEventType.TaskFailed, "taskFailedEventDetails", told)


def _failure(env: Any, event: Any, details: str, told: dict[str, str]) -> Exception:
    from moto.stepfunctions.parser.asl.component.common.error_name.custom_error_name import CustomErrorName
    from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import (
        FailureEvent,
        FailureEventException,
    )
    from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import StatesErrorName
    from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import StatesErrorNameType

    name = told["error"]
    own = StatesErrorName(StatesErrorNameType.from_name(name)) if name.startswith("States.") else CustomErrorName(name)
    raised: Exception = FailureEventException(FailureEvent(env, own, event, {details: told}))
    return raised


def _forget_threads() -> None:
    """moto remembers every thread that it starts."""
    from moto.stepfunctions.parser.utils import TMP_THREADS

    TMP_THREADS.clear()
