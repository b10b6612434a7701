"""What Prometheus collects, in its text format: executions, components, requests, and the process itself."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache

from lokki.frozen import frozen
from twingraph import wire
from twingraph.executions.statistics import Statistics, statistics, totals
from twingraph.server.context import Context

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BELIEVED = 5.0  # seconds for which what was counted is told again, so that nobody who asks often makes it slow
_QUEUED = ("pending",)
_QUANTILES = ("0.5", "0.95", "0.99")
_ENDS = ("completed", "failed", "cached", "skipped", "stopped")

Samples = Iterable[tuple[str, Mapping[str, object], float | None]]


@frozen
class Measure:
    """A family of figures.

    Attributes:
        name: what it is called.
        kind: "counter", "gauge" or "summary".
        about: what it says.
        samples: what is behind its name, the labels, and the figure; one that is None is left out.
    """

    name: str
    kind: str
    about: str
    samples: Samples

    @property
    def text(self) -> str:
        """It as Prometheus reads it."""
        lines = [f"# HELP {self.name} {self.about}", f"# TYPE {self.name} {self.kind}"]
        lines += [
            f"{self.name}{end}{_labels(labels)} {figure:.15g}"
            for end, labels, figure in self.samples
            if figure is not None
        ]
        return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, object]) -> str:
    told = ",".join(f'{name}="{_escaped(str(value))}"' for name, value in labels.items())
    return f"{{{told}}}" if told else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def measures(context: Context) -> str:
    """All figures of a server."""
    told = _of_graph(context, int(time.monotonic() / _BELIEVED))
    return told + "".join(each.text for each in (*_of_server(context), *_of_process()))


@lru_cache(maxsize=1)
def _of_graph(context: Context, _: int) -> str:
    graph = context.service.graph
    counts = totals(graph)
    components = statistics(graph)
    waiting = sum(each.executions for each in counts if each.status in _QUEUED)
    made = (
        Measure(
            "twingraph_executions", "gauge", "Executions in the graph, by status.",
            [("", {"status": each.status}, each.executions) for each in counts],
        ),
        Measure(
            "twingraph_execution_duration_seconds", "summary", "How long executions took that are over.",
            [
                (end, {"status": each.status}, figure)
                for each in counts
                if each.status in wire.OVER
                for end, figure in (("_sum", each.seconds), ("_count", each.executions))
            ],
        ),
        Measure("twingraph_queue_length", "gauge", "Executions that wait to be run.", [("", {}, waiting)]),
        Measure(
            "twingraph_nodes", "gauge", "Calls in the graph that are over, by component and status.",
            [
                ("", {"component": each.component, "status": end}, getattr(each, end))
                for each in components
                for end in _ENDS
                if getattr(each, end)
            ],
        ),
        Measure(
            "twingraph_node_duration_seconds", "summary", "How long calls of a component took that completed.",
            [sample for each in components for sample in _durations(each)],
        ),
    )  # fmt: skip
    return "".join(each.text for each in made)


def _durations(each: Statistics) -> Samples:
    labels = {"component": each.component}
    figures = (each.p50_duration, each.p95_duration, each.p99_duration)
    for quantile, figure in zip(_QUANTILES, figures, strict=True):
        yield "", {**labels, "quantile": quantile}, figure
    if each.avg_duration is not None:
        yield "_sum", labels, each.avg_duration * each.completed
        yield "_count", labels, each.completed


def _of_server(context: Context) -> Iterable[Measure]:
    traffic = context.traffic
    info = {"version": context.version, "api": wire.API_VERSION, "database": context.database}
    yield Measure("twingraph_info", "gauge", "What this server is.", [("", info, 1)])
    yield Measure(
        "twingraph_http_requests_total", "counter", "Requests that were answered, by method and status.",
        [
            ("", {"method": method, "status": status}, count)
            for (method, status), count in sorted(traffic.answers.items())
        ],
    )  # fmt: skip
    methods = sorted({method for method, _ in traffic.answers})
    answered = {
        each: sum(count for (method, _), count in traffic.answers.items() if method == each) for each in methods
    }
    yield Measure(
        "twingraph_http_request_duration_seconds", "summary", "How long it took until answers began, by method.",
        [
            (end, {"method": each}, figure)
            for each in methods
            for end, figure in (("_sum", traffic.seconds[each]), ("_count", answered[each]))
        ],
    )  # fmt: skip
    yield Measure("twingraph_websockets", "gauge", "WebSockets that are open.", [("", {}, context.sockets.taken)])


def _of_process() -> Iterable[Measure]:
    used = time.process_time()
    yield Measure("process_cpu_seconds_total", "counter", "Processor time of the server.", [("", {}, used)])
    yield Measure("process_resident_memory_bytes", "gauge", "Memory of the server.", [("", {}, _memory())])


def _memory() -> float:
    """Bytes that are in memory; where the system does not tell, the most that ever were."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return float(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return float(peak if sys.platform == "darwin" else peak * 1024)
