"""Running a flow on this machine: `LocalRunner` puts together the plan, the pool, the store and the listener.

With a run id what is finished is kept under the state folder, and the same run given again runs only what is missing
or whose inputs, arguments or code changed. Without one, values go through a temporary store that is removed at the
end; with `store_type="memory"` they are handed on as they are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

from lokki.errors import ConfigurationError, GraphTypeError, RunError
from lokki.events import Event, Listener, RunFinished, RunStarted
from lokki.graph import FlowGraph, Map
from lokki.pools import Borrowed, Pool, Processes, Threads, open_pool
from lokki.runs import FAILED, INTERRUPTED, SUCCESS, RunFolder, Runs
from lokki.runtime.failure import StepFailure, summary
from lokki.runtime.invoke import picked
from lokki.runtime.keeping import Keeper, Output, Passing, Storing
from lokki.runtime.plan import plan
from lokki.walk import Walk

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from lokki.config import LoggingConfig, LokkiConfig
    from lokki.store.protocol import TransientStore

_UNNAMED = "local-run"
_MOST_THREADS = 256


class LocalRunner:
    """Runs flows on this machine.

    Args:
        logging_config: how the run is logged to stderr; by default as the configuration says.
        store_type: "local" or "memory"; by default as the environment or the configuration says.
        config: the configuration; by default what `load_config()` finds.
        store: a store object to use instead; a run id given with it resumes from that store.
        executor: "threads", "processes" or "inline"; by default as the configuration says.
        workers: how many items run at once; 0 lets the executor choose (threads: as many as the highest
            `concurrency_limit`, and at least four more than there are processors).
        pool: any `concurrent.futures.Executor` (Dask's, Ray's, loky's, MPI's) to run the items of maps on.
        listen: called with each event of the run, in place of the log.
        items_limit: how many items of each map run at most, to try a flow out; 0 for all.
    """

    def __init__(
        self,
        logging_config: LoggingConfig | None = None,
        store_type: str | None = None,
        *,
        config: LokkiConfig | None = None,
        store: TransientStore | None = None,
        executor: str | None = None,
        workers: int | None = None,
        pool: Executor | None = None,
        listen: Listener | None = None,
        items_limit: int = 0,
    ) -> None:
        if config is None:
            from lokki.config import load_config

            config = load_config()
        self._config = config
        self._logging = logging_config or config.logging
        self._store_type = _choice("local.store_type", store_type or config.local.store_type, ("local", "memory"))
        kinds = ("threads", "processes", "inline")
        self._executor = _choice("local.executor", executor or config.local.executor, kinds)
        self._workers = config.local.workers if workers is None else workers
        if self._workers < 0:
            raise ConfigurationError(f"workers must be 0 (as many as fit) or more, not {workers}.", "local.workers")
        self._store = store
        self._borrowed = pool
        self._listen = listen
        self._items_limit = items_limit or None

    def run(self, graph: FlowGraph, params: Mapping[str, Any] | None = None, *, run_id: str | None = None) -> Any:
        """Run the flow and return its result.

        Args:
            graph: what calling the flow returned.
            params: flow parameters that replace those the graph was made with.
            run_id: keep what is finished under this id, and go on with what an earlier run left under it.

        Raises:
            Exception: what a step raised, with a note that names the step and the item.
        """
        if not isinstance(graph, FlowGraph):
            raise GraphTypeError(f"run() takes the graph that calling a flow returns, not {type(graph).__name__}.")
        if run_id is not None and self._items_limit:
            raise RunError("A run of a part of the items is only for trying out: it cannot be kept under a run id.")
        graph = graph.with_params(params or {})
        with self._kept(graph, run_id) as (keeper, folder):
            return self._run(graph, keeper, folder, run_id or _UNNAMED)

    def _run(self, graph: FlowGraph, keeper: Keeper, folder: RunFolder | None, run_id: str) -> Any:
        planned = plan(graph, graph.params, signed=keeper.durable, most=self._items_limit)
        tell = _one_at_a_time(self._listener(graph.name))
        pool = self._pool(graph)
        walk = Walk(run_id, keeper, pool, tell, threading.Event())
        started = perf_counter()
        tell(RunStarted(run_id, graph.name, kept=folder is not None, resumed=folder is not None and not folder.fresh))
        failure: BaseException
        try:
            results: dict[str, Output] = {graph.output.node: walk.graph(planned, (), {})}
            value = picked(graph.output, results)
        except StepFailure as error:
            failure = error.exception()
        except BaseException as error:  # noqa: BLE001 - it is raised again below, once the run's end is written down
            failure = error
        else:
            pool.close()
            _end(tell, folder, run_id, graph.name, SUCCESS, started)
            return value
        pool.kill() if isinstance(pool, Processes) else pool.close()
        status = INTERRUPTED if isinstance(failure, KeyboardInterrupt) else FAILED
        _end(tell, folder, run_id, graph.name, status, started, summary(failure))
        raise failure

    def _pool(self, graph: FlowGraph) -> Pool:
        if self._borrowed is not None:
            return Borrowed(self._borrowed, self._workers)
        pool = open_pool(self._executor, self._workers)
        if isinstance(pool, Threads) and not self._workers:  # whoever sets a limit wants as many to run
            limits = [node.concurrency_limit or 0 for node in graph.walk() if isinstance(node, Map)]
            pool.workers = max(pool.workers, min(max(limits, default=0), _MOST_THREADS))
        return pool

    @contextmanager
    def _kept(self, graph: FlowGraph, run_id: str | None) -> Iterator[tuple[Keeper, RunFolder | None]]:
        """Where this run's results go, and the folder of a run that is kept."""
        if self._store is not None:
            yield Storing(self._store, graph.name, run_id or _UNNAMED, fresh=run_id is None), None
        elif self._store_type == "memory":
            if run_id is not None:
                raise RunError(
                    'A run with an id is kept on disk, and local.store_type is "memory", which keeps nothing. '
                    'Use store_type "local" (LOKKI_STORE_TYPE=local).'
                )
            yield Passing(), None
        elif run_id is None:
            yield from self._temporary(graph)
        else:
            yield from self._resumable(graph, run_id)

    def _temporary(self, graph: FlowGraph) -> Iterator[tuple[Keeper, None]]:
        from lokki.store.local import LocalStore

        store = LocalStore()
        try:
            yield Storing(store, graph.name, _UNNAMED, fresh=True), None
        finally:
            store.close()
            store.cleanup()

    def _resumable(self, graph: FlowGraph, run_id: str) -> Iterator[tuple[Keeper, RunFolder]]:
        from lokki.store.local import LocalStore

        runs = Runs(self._config.local.state_dir)
        with runs.open(graph.name, run_id) as folder:
            folder.save_params(graph.params)
            store = LocalStore(runs.state_dir)
            try:
                yield Storing(store, graph.name, run_id, folder.fresh), folder
            finally:
                store.close()
                runs.prune(graph.name, self._config.local.keep_runs)

    def _listener(self, flow: str) -> Listener:
        if self._listen is not None:
            return self._listen
        from lokki.logging import listener

        return listener(self._logging, flow=flow)


def _one_at_a_time(listen: Listener) -> Callable[[Event], None]:
    lock = threading.Lock()

    def tell(event: Event) -> None:
        with lock:
            listen(event)

    return tell


def _end(
    tell: Listener, folder: RunFolder | None, run_id: str, flow: str, status: str, started: float, error: str = ""
) -> None:
    if folder is not None:
        folder.finish(status, error)
    tell(RunFinished(run_id, flow, status, perf_counter() - started, error))


def _choice(field: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ConfigurationError(f"{field} must be one of {', '.join(known)}, not {value!r}.", field)
    return value
