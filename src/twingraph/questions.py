"""Questions to the execution graph from Python: what ran, what led to what, what changed, and how components do.

`open_graph()` gives the graph, which is best used in a `with` block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twingraph.executions.records import LEVELS
from twingraph.executions.snapshot import identity_of, readable

if TYPE_CHECKING:
    from twingraph.executions.lineage import Lineage
    from twingraph.executions.listing import Page
    from twingraph.executions.records import Execution, LogLine, Node
    from twingraph.executions.repository import Repository
    from twingraph.executions.statistics import Statistics
    from twingraph.graphs.differences import Comparison
    from twingraph.graphs.run import RunGraph


def open_graph(url: str | None = None) -> ExecutionGraph:
    """The execution graph at a URL, or the one that the environment names; waits for what this process records."""
    from twingraph.executions.recorder import open_recorder

    recorder = open_recorder(url)
    recorder.flush()
    return ExecutionGraph(recorder.repository())


class ExecutionGraph:
    """What is recorded, to be asked. An execution is named by its id, a unique beginning of that, or `latest`."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository

    def executions(
        self,
        *,
        name: str = "",
        status: str = "",
        kind: str = "",
        labels: Mapping[str, str] | None = None,
        since: float | None = None,
        until: float | None = None,
        limit: int = 20,
        offset: int = 0,
    ) -> Page:
        """Executions, newest first, and how many there are; `labels` may be of an execution or of its nodes."""
        from twingraph.executions.listing import Wanted, executions

        wanted = Wanted(name, status, kind, dict(labels or {}), since, until)
        return executions(self.repository, wanted, limit, offset)

    def execution(self, named: str) -> Execution:
        """One execution."""
        return self.repository.find(named)

    def run(self, named: str) -> RunGraph:
        """One execution with its nodes and edges; `twingraph.graphs` has the forms in which it can be shown."""
        from twingraph.graphs.run import load

        return load(self.repository, named)

    def inputs(self, node: Node) -> dict[str, Any]:
        """What a node was given, by name, as JSON; large values are described, and secrets are `***`."""
        return dict(readable(node.inputs))

    def outputs(self, node: Node) -> dict[str, Any]:
        """What a node gave, in the same way."""
        return dict(readable(node.outputs))

    def logs(self, named: str, *, component: str = "", level: str = "debug", after: int = 0) -> list[LogLine]:
        """What the components of an execution logged, at this level or above."""
        run = self.repository.find(named).id
        return self.repository.logs(run, component=component, severity=LEVELS[level], after=after)

    def lineage(
        self, of: str | Sequence[Node], direction: str = "up", depth: int | None = None, *, same_content: bool = False
    ) -> Lineage:
        """What led to something (`up`) or what it led to (`down`), across executions.

        Args:
            of: `EXECUTION/NODE`, the hash of a node, its content hash, or the beginning of either; or nodes.
            direction: "up" or "down".
            depth: how many edges away; None for all.
            same_content: begin with all nodes of the same code, inputs and parents, whichever execution they are of.
        """
        from twingraph.executions.lineage import lineage, starting

        start = starting(self.repository, of, same_content) if isinstance(of, str) else of
        return lineage(self.repository, start, direction, depth)

    def makers(self, value: Any) -> list[Node]:
        """The nodes that gave this value, or one equal to it; none for what is too short to tell, such as 3."""
        from twingraph.executions.lineage import makers

        identity = identity_of(value)
        return makers(self.repository, identity) if identity else []

    def compare(self, one: str, other: str) -> Comparison:
        """What differs between two executions, and the first node that does."""
        from twingraph.graphs.differences import compare

        return compare(self.run(one), self.run(other))

    def statistics(self, component: str = "", since: float | None = None) -> list[Statistics]:
        """How each component did, or the one that is named: success, durations, what it used."""
        from twingraph.executions.statistics import statistics

        return statistics(self.repository, component, since)

    def close(self) -> None:
        """Close the connections; others are opened when something is asked again."""
        self.repository.close()

    def __enter__(self) -> ExecutionGraph:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
