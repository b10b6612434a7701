"""How much of what AWS bills an execution of a flow takes, computed before anything is built.

From the graph follow the states that an execution enters and the requests that the runtime makes in each of them. What
is assumed of the work itself is a `Load`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import assert_never

from lokki.builder.prices import Usage
from lokki.builder.resources import Deployment, Function, Job, is_express
from lokki.frozen import frozen
from lokki.graph import ITEM, Call, FlowGraph, Map, Ref
from lokki.runtime.program import is_planned

# AWS says that a map run leaves manifest.json and SUCCEEDED_0.json, and asks for the permissions of multipart uploads.
# How many requests that takes is not said: assumed are one for the first, and start, part and end of an upload.
RESULT_WRITER_PUTS = 4
_EXPRESS_SECONDS = 0.1  # an EXPRESS execution is billed in steps of this
_EXPRESS_GB = 64 / 1024  # 50 MB and the definition, in steps of 64 MB: the data of our states is small
JOB_SECONDS = 60  # the least that Fargate bills
LOG_BYTES = 750  # a call: Lambda's START, END and REPORT, and the lines of the runtime
_WHOLE_PROCESSOR = 1769  # MB of memory with which Lambda gives one
_READ_SECONDS = 0.0015  # of a whole processor, for one of many small reads
_ENTRY_BYTES = 80  # an entry of a manifest

# How the runtime and its store go about large values.
_PART = 8 << 20  # what goes or comes in one request
_FIRST = 1 << 20  # so many bytes of packed items are read at once, and kept by the process


@frozen
class Load:
    """What an estimate assumes of the work itself.

    Attributes:
        seconds_per_call: that a call of a function takes apart from its items: mostly requests to S3.
        seconds_per_item: that a step takes for an item.
        seconds_per_job: that a Batch job takes apart from its items.
        seconds_to_load: the code, in each new process of a function; AWS bills it.
        bytes_per_item: of an item, and of its result.
        processes: of a function that work at once, at most; a map's `concurrency_limit` can make them fewer.
    """

    seconds_per_call: float = 0.05
    seconds_per_item: float = 0.0
    seconds_per_job: float = 60.0
    seconds_to_load: float = 0.5
    bytes_per_item: int = 100
    processes: int = 1_000


USUAL = Load()


def estimate(deployment: Deployment, items: int | Mapping[str, int] = 1_000, load: Load = USUAL) -> Usage:
    """What one execution takes when nothing fails and no earlier results are reused.

    Args:
        deployment: the flow, described.
        items: that every map handles in all, however many maps are around it; or by the id of the map.
        load: what is assumed of the work itself.
    """
    return _Estimate(deployment, items, load).usage()


def longest_calls(
    deployment: Deployment, items: int | Mapping[str, int] = 1_000, load: Load = USUAL
) -> dict[str, float]:
    """For each function, by its key, how many seconds its longest call takes; a call may take its `timeout` at most."""
    made = _Estimate(deployment, items, load)
    made.usage()
    return made.longest


@frozen
class _Place:
    """Where a state is: outside maps, or in the children of one.

    Attributes:
        calls: how often each state here is entered: the children, in all runs of the map.
        runs: of the map; each has packed items of its own.
        items: that these children handle together.
        at_once: so many of them work at a time.
    """

    calls: int = 1
    runs: int = 1
    items: int = 1
    at_once: int = 1
    express: bool = False


class _Estimate:
    def __init__(self, deployment: Deployment, items: int | Mapping[str, int], load: Load) -> None:
        self._deployment = deployment
        self._items = items
        self._load = load
        self._first = None if deployment.starts_alone else deployment.graph.nodes[0].id
        self._planned = is_planned(deployment.graph, self._first)
        self._processes: Counter[Function] = Counter()
        self._readers: Counter[Function] = Counter()  # processes that read the plan
        self.longest: dict[str, float] = {}

    def usage(self) -> Usage:
        used = self._graph(self._deployment.graph, _Place())
        if self._deployment.starts_alone:
            used += Usage(transitions=1) + self._called(
                self._deployment.functions[0], _Place(), self._load.seconds_per_call
            )
        loads = sum(number * gigabytes(function) for function, number in self._processes.items())
        return used + Usage(
            lambda_gb_seconds=loads * self._load.seconds_to_load,
            s3_get=sum(self._readers.values()),
            s3_put=int(self._planned),
        )

    def _graph(self, graph: FlowGraph, place: _Place) -> Usage:
        used = Usage(transitions=0 if place.express else place.calls * len(graph.nodes))
        for node in graph.nodes:
            match node:
                case Call():
                    used += self._state(node, graph, place)
                case Map():
                    used += self._map(node, place)
                case _:
                    assert_never(node)
        return used

    def _map(self, node: Map, place: _Place) -> Usage:
        """What a map itself asks for, and its children."""
        inner = self._inside(node, place)
        manifest = place.calls * _requests(_ENTRY_BYTES * inner.calls / max(1, place.calls))
        used = Usage(map_runs=inner.runs, s3_get=manifest, s3_put=inner.runs * RESULT_WRITER_PUTS)
        if inner.express:
            states = [node] if node.direct_pass else [each for each in node.body.nodes if isinstance(each, Call)]
            seconds = sum(self._seconds(each, node.body, inner) for each in states)
            spent = inner.calls * express_gb_seconds(seconds)
            used += Usage(express_executions=inner.calls, express_gb_seconds=spent)
        else:
            used += Usage(child_executions_standard=inner.calls)
        if not node.direct_pass:
            return used + self._graph(node.body, inner)
        return used + Usage(transitions=0 if inner.express else inner.calls) + self._state(node, node.body, inner)

    def _inside(self, node: Map, place: _Place) -> _Place:
        """The children of a map; its items are spread evenly over those of the map outside."""
        items = self._items if isinstance(self._items, int) else self._items[node.id]
        few, rest = divmod(items, place.items) if place.items else (0, 0)
        children = rest * -(-(few + 1) // node.batch_size) + (place.items - rest) * -(-few // node.batch_size)
        limit = place.at_once * (node.concurrency_limit or self._load.processes)
        at_once = min(children, limit, self._load.processes)
        express = is_express(node, self._deployment.config)
        return _Place(children, place.calls, items, at_once, express)

    def _state(self, node: Call | Map, graph: FlowGraph, place: _Place) -> Usage:
        """A state at which a function or a job works; of a map one whose body runs in one place."""
        worker = self._deployment.workers[node.id]
        gets = self._reads(node, graph, place)
        if self._planned and isinstance(worker, Job):
            gets += place.calls
        elif self._planned and isinstance(worker, Function) and node.id != self._first:
            self._readers[worker] = max(self._readers[worker], place.at_once)
        over = next((each for each in graph.nodes if isinstance(each, Map) and each.over.node == node.id), None)
        puts = place.calls * _puts(self._size(place)) if over is None else self._fan_out(over, place)
        return self._called(worker, place, self._seconds(node, graph, place)) + Usage(s3_get=gets, s3_put=puts)

    def _called(self, worker: Function | Job, place: _Place, seconds: float) -> Usage:
        """The calls of a function, or the jobs, themselves."""
        logs = Usage(log_bytes=place.calls * LOG_BYTES)
        if isinstance(worker, Job):
            return logs + of_jobs(worker, place.calls, place.calls * max(seconds, JOB_SECONDS))
        self._processes[worker] = max(self._processes[worker], place.at_once)
        self.longest[worker.key] = max(self.longest.get(worker.key, 0.0), seconds)
        return logs + Usage(lambda_requests=place.calls, lambda_gb_seconds=place.calls * seconds * gigabytes(worker))

    def _seconds(self, node: Call | Map, graph: FlowGraph, place: _Place) -> float:
        """How long a call takes, or a job."""
        worker = self._deployment.workers[node.id]
        calls = max(1, place.calls)
        steps = 1 if isinstance(node, Call) else sum(1 for _ in node.body.calls())
        own = self._load.seconds_per_item * steps * place.items / calls
        more = max(0.0, self._reads(node, graph, place) / calls - 1)  # one is in the seconds that every call takes
        reads = more * _READ_SECONDS
        if isinstance(worker, Job):
            return self._load.seconds_per_job + own + reads
        return self._load.seconds_per_call + own + reads * max(1.0, _WHOLE_PROCESSOR / worker.memory)

    # --- requests to S3

    def _reads(self, node: Call | Map, graph: FlowGraph, place: _Place) -> int:
        """For what a state works on."""
        worker = self._deployment.workers[node.id]
        if isinstance(node, Map):
            return self._item_reads(worker, place)
        gets = 0
        for name in dict.fromkeys(each.node for each in node.arguments() if isinstance(each, Ref)):
            source = None if name == ITEM else graph.node(name)
            match source:
                case None:
                    gets += self._item_reads(worker, place)
                case Map():
                    gets += self._gathered(source, place)
                case Call():
                    gets += place.calls * _requests(self._size(place))
                case _:
                    assert_never(source)
        return gets

    def _item_reads(self, worker: Function | Job, place: _Place) -> int:
        """For the items of children: a process reads the first MiB of a pack once, and the rest child by child."""
        runs = max(1, place.runs)
        processes = place.calls if isinstance(worker, Job) else min(place.calls, runs * place.at_once)
        pack = max(1, place.items * self._load.bytes_per_item) / runs
        in_first = min(place.calls, int(place.calls * _FIRST / pack))
        return place.calls - in_first + min(in_first, processes)

    def _gathered(self, node: Map, place: _Place) -> int:
        """For all results of a map: its manifest, and what each child left."""
        inner = self._inside(node, place)
        gets = place.calls * _requests(_ENTRY_BYTES * inner.calls / max(1, place.calls))
        last = node.body.node(node.body.output.node)
        if isinstance(last, Map) and not node.direct_pass:
            return gets + self._gathered(last, inner)
        return gets + inner.calls * _requests(self._size(inner))

    def _fan_out(self, node: Map, place: _Place) -> int:
        """For leaving a result over whose items a map runs, and the items, and the map's manifest."""
        inner = self._inside(node, place)
        calls = max(1, place.calls)
        size = inner.items * self._load.bytes_per_item / calls
        sizes = (size, size + 8 * inner.items / calls, _ENTRY_BYTES * inner.calls / calls)
        return place.calls * sum(map(_puts, sizes))

    def _size(self, place: _Place) -> float:
        """Bytes of the result of a call."""
        return self._load.bytes_per_item * place.items / max(1, place.calls)


def _puts(size: float) -> int:
    """For storing a value: a large one goes up in parts, between a start and an end."""
    parts = _requests(size)
    return parts if parts == 1 else parts + 2


def _requests(size: float) -> int:
    return max(1, math.ceil(size / _PART))


def gigabytes(function: Function) -> float:
    """Of memory, as AWS bills it."""
    return function.memory / 1024


def of_jobs(worker: Job, jobs: int, seconds: float) -> Usage:
    """What jobs take that run so long together."""
    memory = worker.memory / 1024
    return Usage(batch_jobs=jobs, fargate_vcpu_seconds=seconds * worker.vcpu, fargate_gb_seconds=seconds * memory)


def express_gb_seconds(seconds: float) -> float:
    """Of an EXPRESS execution that takes so long."""
    return max(1, math.ceil(round(seconds / _EXPRESS_SECONDS, 6))) * _EXPRESS_SECONDS * _EXPRESS_GB
