"""What the execution graph does in every database: the tests that the tests of each database inherit."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.twingraph.executions.story import NOON, Story, hash_of
from twingraph.errors import GraphError
from twingraph.executions.lineage import lineage
from twingraph.executions.recorder import Recorder
from twingraph.executions.records import Kept
from twingraph.executions.repository import Repository
from twingraph.questions import ExecutionGraph

KILLED = """
import os, signal, sys
from tests.twingraph.executions.story import Story
from twingraph.executions.recorder import Recorder
recorder = Recorder(sys.argv[1])
done = Story(recorder, "done").begin().whole("flap", outputs={"n": 1}).end()
cut = Story(recorder, "cut").begin().whole("flap", outputs={"n": 2}).start("sing").submit("eat")
recorder.flush()
print("flushed", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""

TOGETHER = """
import sys
from tests.twingraph.executions.story import Story
from twingraph.executions.recorder import Recorder
recorder = Recorder(sys.argv[1])
story = Story(recorder, sys.argv[2]).begin()
for at in range(300):
    story.whole(f"flap#{at}", outputs={"n": at})
story.end()
"""


class RepositoryContract:
    """The tests of a database inherit this and say where one with nothing in it is."""

    @pytest.fixture
    def url(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def recorder(self, url: str, tmp_path: Path) -> Iterator[Recorder]:
        made = Recorder(url, home=str(tmp_path / "home"))
        yield made
        made.close()

    @pytest.fixture
    def graph(self, recorder: Recorder) -> Repository:
        return recorder.repository()

    def test_a_run_is_found_as_it_was_told(self, recorder: Recorder, graph: Repository) -> None:
        story = Story(recorder, "run-1").begin(inputs={"birds": ["owl", "duck"]}, config={"max_parallel": 4})
        story.submit("load", labels={"team": "sky"}).start("load", labels={"team": "sky"}, inputs={"n": 2})
        story.log("load", "two birds").retry("load").log("load", "slow", "warning")
        story.finish("load", 2.5, attempt=1, outputs={"birds": (1, 2)}, usage={"cpu_seconds": 0.5})
        story.whole("count", ["load"], inputs={"birds": (1, 2)}, outputs={"result": 2})
        story.fail("sing").end(outputs={"result": 2}, failed_nodes=1)

        run = graph.find("run-1")
        assert (run.name, run.kind, run.status, run.failed_nodes) == ("birds", "pipeline", "completed", 1)
        assert (run.started_at, run.duration, run.host) == (NOON, 9.0, socket.gethostname())
        assert json.loads(run.inputs) == {"birds": ["owl", "duck"]}
        assert json.loads(run.outputs) == {"result": 2}
        assert json.loads(run.config) == {"max_parallel": 4}

        load, count, sing = graph.nodes("run-1")
        assert (load.node_id, load.status, load.attempts, load.duration) == ("load", "completed", 2, 2.5)
        assert (load.component, load.platform, load.kind) == ("load", "local", "component")
        assert (load.hash, load.content_hash) == (story.hash("load"), hash_of("content", "load", "1", ""))
        assert load.submitted_at is not None
        assert load.started_at is not None
        assert load.finished_at is not None
        assert load.submitted_at < load.started_at < load.finished_at
        assert json.loads(load.labels) == {"team": "sky"}
        assert json.loads(load.outputs) == {"birds": {"$tuple": [1, 2]}}
        assert load.cpu_seconds == 0.5
        assert (sing.status, sing.error_type, sing.error) == ("failed", "ValueError", "ValueError: no")
        assert sing.trace == "Traceback: ValueError"
        assert graph.edges("run-1") == [(count.hash, load.hash)]
        assert graph.source(load.code_hash) == "def load(): return 1"
        assert [(each.attempt, each.error) for each in graph.attempts("run-1", "load")] == [(0, "TimeoutError: slow")]
        assert [(line.message, line.level, line.component) for line in graph.logs("run-1")] == [
            ("two birds", "info", "load"),
            ("slow", "warning", "load"),
        ]

    def test_parts_of_a_node_are_written_as_they_come(self, recorder: Recorder, graph: Repository) -> None:
        story = Story(recorder, "run-1").begin()
        seen = []
        for tell in (story.submit, story.start, story.retry, story.start, story.finish):
            tell("flap")
            recorder.flush()
            seen.append(graph.node("run-1", "flap").status)
        assert seen == ["pending", "running", "retrying", "running", "completed"]
        assert graph.progress(["run-1", "none"]) == {"run-1": {"completed": 1}, "none": {}}

    def test_edges_cross_executions_and_may_dangle(self, recorder: Recorder, graph: Repository) -> None:
        first = Story(recorder, "run-1").begin().whole("load").end()
        second = Story(recorder, "run-2").begin()
        second.start("use", parents=(first.hash("load"), "f" * 64, first.hash("load"))).finish("use").end()
        assert {each.parent for each in graph.edges("run-2")} == {first.hash("load"), "f" * 64}

    def test_an_execution_is_found_by_what_is_unique(self, recorder: Recorder, graph: Repository) -> None:
        with pytest.raises(GraphError, match="No execution is recorded yet"):
            graph.find("latest")
        for at, run in enumerate(("abc-1", "abd-2", "a%")):
            Story(recorder, run, at=NOON + 100 * at).begin().end()
        assert graph.find("abc").id == "abc-1"
        assert graph.find("latest").id == "a%"
        assert graph.find("a%").id == "a%"
        with pytest.raises(GraphError, match="Several executions begin with 'ab'"):
            graph.find("ab")
        for missing in ("x", "", "a_"):
            with pytest.raises(GraphError, match="is recorded here"):
                graph.find(missing)
        with pytest.raises(GraphError, match="abc-1 has no node 'no'"):
            graph.node("abc-1", "no")

    def test_lines_of_the_log_are_chosen(self, recorder: Recorder, graph: Repository) -> None:
        story = Story(recorder, "run-1").begin().start("load").start("sing#2")
        for node, message, level in [
            ("load", "a", "debug"),
            ("sing#2", "b", "warning"),
            ("load", "c\0\ud800", "error"),
            ("sing#2", "d", "info"),
        ]:
            story.log(node, message, level)
        recorder.flush()
        lines = graph.logs("run-1")
        assert [line.message for line in lines] == ["a", "b", "c\ufffd?", "d"]
        assert [line.message for line in graph.logs("run-1", severity=30)] == ["b", "c\ufffd?"]
        assert [line.message for line in graph.logs("run-1", component="sing")] == ["b", "d"]
        assert [line.message for line in graph.logs("run-1", node="sing#2", after=lines[1].key)] == ["d"]
        assert graph.logs("run-1", since=lines[1].at, until=lines[2].at) == lines[1:3]

    def test_a_result_is_recalled_by_its_content(self, recorder: Recorder) -> None:
        content = hash_of("content", "flap", "1", "")
        assert recorder.recall(content) is None
        values = {"pair": (1, {2}), "big": list(range(200_000)), "none": None}
        Story(recorder, "run-1", at=NOON).begin().whole("flap", keep=True, outputs={"old": True})
        Story(recorder, "run-2", at=NOON + 100).begin().whole("flap", keep=True, outputs=values)
        Story(recorder, "run-3", at=NOON + 200).begin().start("flap").fail("flap")
        assert recorder.recall(content) == Kept(values, "")  # though nobody has waited for it to be written
        assert recorder.recall(content, ttl=60) is None

    def test_secrets_are_neither_kept_nor_recalled(self, recorder: Recorder, graph: Repository) -> None:
        outputs = {"user": "ada", "password": "hunter2", "nested": {"apiToken": "hunter2"}}
        Story(recorder, "run-1").begin().whole("flap", keep=True, outputs=outputs)
        assert recorder.recall(hash_of("content", "flap", "1", "")) is None
        (node,) = graph.nodes("run-1")
        assert json.loads(node.outputs) == {"user": "ada", "password": "***", "nested": {"apiToken": "***"}}

    def test_all_that_was_acknowledged_outlives_a_killed_process(
        self, url: str, tmp_path: Path, repository_root: Path
    ) -> None:
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, url],
            cwd=repository_root,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert (killed.returncode, killed.stdout) == (-9, "flushed\n")
        graph = Recorder(url, home=str(tmp_path)).repository()
        done, cut = graph.find("done"), graph.find("cut")
        assert (done.status, done.interrupted) == ("completed", False)
        assert (cut.status, cut.interrupted) == ("failed", True)
        assert "ended before it did" in cut.error
        assert [(node.node_id, node.status, node.error_type) for node in graph.nodes("cut")] == [
            ("flap", "completed", ""),
            ("sing", "failed", "interrupted"),
            ("eat", "failed", "interrupted"),
        ]
        graph.close()

    def test_processes_record_at_once(self, url: str, recorder: Recorder, repository_root: Path) -> None:
        runs = ["one", "two", "three"]
        processes = [subprocess.Popen([sys.executable, "-c", TOGETHER, url, run], cwd=repository_root) for run in runs]
        assert [process.wait(100) for process in processes] == [0, 0, 0]
        graph = recorder.repository()
        assert [len(graph.nodes(run)) for run in runs] == [300, 300, 300]
        assert [graph.find(run).status for run in runs] == ["completed"] * 3

    def test_threads_record_at_once(self, recorder: Recorder, graph: Repository) -> None:
        story, ready = Story(recorder, "run-1").begin(), threading.Barrier(8)

        def work(at: int) -> None:
            ready.wait()
            for each in range(50):
                story.whole(f"flap#{at}-{each}", outputs={"n": each})

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        story.end()
        nodes = graph.nodes("run-1")
        assert len(nodes) == 400
        assert {node.status for node in nodes} == {"completed"}

    def test_executions_are_listed_by_what_is_wanted(self, recorder: Recorder, graph: Repository) -> None:
        Story(recorder, "a", at=NOON).begin("birds").start("flap", labels={"team": "sky"}).fail("flap").end("failed")
        Story(recorder, "b", at=NOON + 100).begin("birds", config={"labels": {"team": "sea"}}).whole("flap").end()
        Story(recorder, "c", at=NOON + 200).begin("fish", kind="workflow").whole("swim", labels={"team": "sea"}).end()
        Story(recorder, "d", at=NOON + 300).begin("script.py", kind="session").whole("swim")
        recorder.flush()
        asked = ExecutionGraph(graph)

        def listed(**wanted: Any) -> tuple[str, int]:
            page = asked.executions(**wanted)
            return "".join(each.id for each in page.executions), page.total

        assert listed() == ("dcba", 4)
        assert listed(limit=2) == ("dc", 4)
        assert listed(limit=2, offset=2) == ("ba", 4)
        assert listed(limit=2, offset=9) == ("", 4)
        assert listed(name="birds") == ("ba", 2)
        assert listed(name="birds", status="failed") == ("a", 1)
        assert listed(status="running") == ("d", 1)
        assert listed(kind="workflow") == ("c", 1)
        assert listed(labels={"team": "sea"}) == ("cb", 2)
        assert listed(labels={"team": ""}) == ("cba", 3)
        assert listed(labels={"team": "sea", "other": ""}) == ("", 0)
        assert listed(since=NOON + 100, until=NOON + 200) == ("cb", 2)

    def test_lineage_crosses_executions(self, recorder: Recorder, graph: Repository) -> None:
        one = Story(recorder, "one").begin()
        one.whole("load", outputs={"birds": ["owl", "duck"]})
        one.whole("left", ["load"]).whole("right", ["load"]).whole("join", ["left", "right", "load"]).end()
        two = Story(recorder, "two").begin().whole("use", parents=(one.hash("join"), "e" * 64)).end()
        Story(recorder, "three", at=NOON + 100).begin().whole("load", outputs={"birds": ["owl", "duck"]}).whole(
            "left", ["load"]
        ).end()
        asked = ExecutionGraph(graph)

        def reached(*of: Any, **how: Any) -> list[tuple[str, int]]:
            found = asked.lineage(*of, **how)
            assert found.complete
            told = [(f"{x.node.execution_id}/{x.node.node_id}" if x.node else "?", x.distance) for x in found.relatives]
            return sorted(told, key=lambda each: (each[1], each[0]))

        everything = [
            ("two/use", 0), ("?", 1), ("one/join", 1), ("one/left", 2), ("one/load", 2), ("one/right", 2),
        ]  # fmt: skip
        assert reached("two/use") == everything
        assert reached(two.hash("use")) == everything
        assert reached(two.hash("use")[:10], depth=1) == everything[:3]
        assert reached("latest/load") == [("three/load", 0)]
        assert reached("one/left", "down") == [("one/left", 0), ("one/join", 1), ("two/use", 2)]
        assert reached("one/load", "down", 1) == [
            ("one/load", 0), ("one/join", 1), ("one/left", 1), ("one/right", 1),
        ]  # fmt: skip
        by_content = [("one/left", 0), ("three/left", 0), ("one/load", 1), ("three/load", 1)]
        assert reached("one/left", same_content=True) == by_content
        assert reached(hash_of("content", "left", "1", "")) == by_content
        assert [node.execution_id for node in asked.makers(["owl", "duck"])] == ["one", "three"]
        assert asked.makers(["owl"]) == asked.makers(3) == []
        assert len(asked.lineage("two/use").edges) == 7
        for wrong, complaint in [
            ("one/none", "no node"), ("none/load", "No execution"), ("abc", "is no hash"), ("0" * 64, "No node and"),
        ]:  # fmt: skip
            with pytest.raises(GraphError, match=complaint):
                asked.lineage(wrong)

    def test_a_long_lineage_is_whole_or_says_that_it_is_not(self, recorder: Recorder, graph: Repository) -> None:
        story = Story(recorder, "run").begin()
        for at in range(1_200):
            story.whole(f"step#{at}", [f"step#{each}" for each in (at - 1, at - 3) if each >= 0])
        story.end()
        asked = ExecutionGraph(graph)
        distances = sorted(back // 3 + back % 3 for back in range(1_200))
        for depth in (None, 12, 13, 40):
            found = asked.lineage("run/step#1199", depth=depth)
            assert [each.distance for each in found.relatives] == [x for x in distances if depth is None or x <= depth]
            assert all(each.node for each in found.relatives)
            assert (len(set(found.edges)), found.complete) == (len(found.edges), True)
        cut = lineage(graph, [graph.node("run", "step#1199")], limit=10)
        assert (len(cut.edges), cut.complete) == (10, False)

    def test_components_are_counted_and_timed(self, recorder: Recorder, graph: Repository) -> None:
        story = Story(recorder, "run").begin()
        for at in range(1, 101):
            usage = {"cpu_seconds": 0.5 * at, "peak_memory_bytes": 1e6 * at} if at <= 2 else {}
            story.whole(f"flap#{at}", seconds=float(at), usage=usage)
        story.start("flap#101").fail("flap#101").start("flap#102").finish("flap#102", reused=True)
        story.whole("nested", kind="pipeline").start("sing").fail("sing").submit("eat").fail("eat", status="skipped")
        recorder.flush()
        asked = ExecutionGraph(graph)
        (flap,) = asked.statistics("flap")
        assert (flap.executions, flap.completed, flap.failed, flap.cached) == (101, 100, 1, 1)
        assert flap.success_rate == 100 / 101
        assert (flap.avg_duration, flap.p50_duration, flap.p95_duration, flap.p99_duration) == (50.5, 50.0, 95.0, 99.0)
        assert (flap.avg_cpu, flap.avg_memory_bytes, flap.peak_memory_bytes) == (0.5, 1.5e6, 2e6)
        eat, _, sing = asked.statistics()
        assert (sing.component, sing.executions, sing.success_rate, sing.avg_duration) == ("sing", 1, 0.0, None)
        assert (eat.executions, eat.skipped, eat.success_rate) == (0, 1, 0.0)
        assert asked.statistics("flap#7")[0].executions == 1
        assert asked.statistics("none") == asked.statistics("flap", since=NOON * 2) == []
