"""One execution in each form, and what differs between two."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.twingraph.executions.story import Story, hash_of
from twingraph.errors import GraphError
from twingraph.executions.recorder import Recorder
from twingraph.graphs.differences import Comparison
from twingraph.graphs.document import document
from twingraph.graphs.graphml import graphml
from twingraph.graphs.mermaid import mermaid
from twingraph.graphs.openlineage import events
from twingraph.graphs.picture import svg
from twingraph.graphs.run import RunGraph
from twingraph.graphs.tree import in_ascii, tree
from twingraph.graphs.written import written
from twingraph.questions import ExecutionGraph

ELSEWHERE = hash_of("another run", "load")


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    made = Recorder(home=str(tmp_path / "graph"))
    yield made
    made.close()


@pytest.fixture
def graph(recorder: Recorder) -> ExecutionGraph:
    return ExecutionGraph(recorder.repository())


@pytest.fixture
def run(recorder: Recorder, graph: ExecutionGraph) -> RunGraph:
    """A run with everything: retries, a nested pipeline, a cached, a failed, a skipped and a running call."""
    story = Story(recorder, "run-1").begin("birds & bees")
    story.start("load", labels={"team": "sky"}, platform="docker", inputs={"n": 2}).retry("load")
    story.finish("load", 0.25, attempt=1, outputs={"birds": ["owl"]}, usage={"cpu_seconds": 0.2})
    story.start("count<1>", ["load"]).finish("count<1>", reused=True)
    story.start("inner", ["load"], kind="pipeline").whole("deep", ["load"], within="inner").finish("inner", 75.0)
    story.start("sing", ["count<1>", "inner"], parents=(ELSEWHERE,)).fail("sing")
    story.submit("report", ["sing"]).fail("report", "UpstreamFailedError", "skipped").start("watch").end(failed_nodes=1)
    return graph.run("run-1")


def test_a_tree(run: RunGraph) -> None:
    assert tree(run).splitlines() == [
        "birds & bees  run-1  completed in 9 s",
        "├─ ✓ load  (250 ms, docker, 2 attempts)",
        "├─ ⟳ count<1>  (1 s, cached)",
        "├─ ✓ inner  (1 min 15 s, after load)",
        "│  └─ ✓ deep  (1 s, after load)",
        f"├─ ✗ sing  (1 s, after count<1>, inner and {ELSEWHERE[:12]}…)  ValueError: no",
        "├─ ○ report  (1 s, skipped)  UpstreamFailedError: no",
        "└─ ▶ watch  (running, from the start)",
    ]
    assert in_ascii(tree(run)).splitlines()[4:6] == [
        "|  `- + deep  (1 s, after load)",
        f"|- x sing  (1 s, after count<1>, inner and {ELSEWHERE[:12]}...)  ValueError: no",
    ]


def test_a_document(run: RunGraph) -> None:
    told = document(run)
    load = told["nodes"][0]
    assert {key: load[key] for key in load if key != "properties"} == {
        "id": "load",
        "label": "load",
        "status": "completed",
        "platform": "docker",
        "started_at": "2023-11-14T22:13:21.000Z",
        "completed_at": "2023-11-14T22:13:23.000Z",
        "duration": 0.25,
    }
    assert (load["properties"]["labels"], load["properties"]["attempts"]) == ({"team": "sky"}, 2)
    assert {"from": "inner", "to": "sing", "label": "data_flow"} in told["edges"]
    assert len(told["edges"]) == 6
    statuses = {node["id"]: node["status"] for node in told["nodes"]}
    assert (statuses["report"], statuses["watch"]) == ("skipped", "running")
    (sing,) = (node for node in told["nodes"] if node["id"] == "sing")
    assert (sing["properties"]["parents_outside"], sing["properties"]["error_type"]) == ([ELSEWHERE], "ValueError")
    assert json.loads(json.dumps(document(run, values=True)))["nodes"][0]["properties"]["outputs"] == {"birds": ["owl"]}


def test_the_text_of_a_graph_is_that_of_its_document(run: RunGraph, recorder: Recorder, graph: ExecutionGraph) -> None:
    odd = {
        "text": "ü\x00\u2028",
        "half": "\ud800",
        "nan": float("nan"),
        "set": {1},
        "tuple": (1, ("a",)),
        "$": {"$b": 1},
    }
    other = Story(recorder, "run-2").begin().whole("load", inputs=odd, outputs=odd, resources={"cpu": 1.0})
    other.whole(
        'a "quoted" one', ["load", "load"], labels={"ü": "<&>"}, outputs={"b": b"1", "link": "https://x:y@z"}
    ).end()
    recorder.flush()
    for each in (run, graph.run("run-2")):
        assert written(graph.repository, each.execution.id) == json.dumps(document(each, values=True))


def test_a_flowchart(run: RunGraph) -> None:
    lines = [line.strip() for line in mermaid(run).splitlines()]
    assert lines[0] == "flowchart TD"
    assert 'n1["count#60;1#62;<br/>cached 1 s"]:::cached' in lines
    assert {"n0 --> n1", "n1 --> n4", "n2 --> n4"} <= set(lines)
    used = {line.split()[1] for line in lines if line.startswith("classDef")}
    assert used == {node.status for node in run.nodes}


def test_a_picture(run: RunGraph, recorder: Recorder, graph: ExecutionGraph) -> None:
    root = ET.fromstring(svg(run))
    kind = "{http://www.w3.org/2000/svg}"
    texts = [each.text for each in root.iter(f"{kind}text")]
    assert {"birds & bees", "count<1>", "failed · 1 s", "running"} <= set(texts)
    boxes = [each.get("class") for each in root.iter(f"{kind}rect")]
    assert (boxes.count("failed"), boxes.count("cached"), boxes.count("other")) == (1, 1, 1)
    assert len([each for each in root.iter(f"{kind}path") if each.get("class") == "head"]) == 6
    Story(recorder, "empty").begin().end()
    assert "no node was run" in svg(graph.run("empty"))


def test_a_picture_of_too_much_is_refused(recorder: Recorder, graph: ExecutionGraph) -> None:
    story = Story(recorder, "many").begin()
    for at in range(2_001):
        story.submit(f"flap#{at}")
    story.end()
    with pytest.raises(GraphError, match="2,001 nodes, too many for a picture: take the format graphml"):
        svg(graph.run("many"))


def test_a_cycle_that_broken_records_have_is_drawn(recorder: Recorder, graph: ExecutionGraph) -> None:
    Story(recorder, "odd").begin().whole("a", ["b"]).whole("b", ["a"]).whole("c", ["c"]).end()
    odd = graph.run("odd")
    assert svg(odd).count('class="head"') == 1
    assert len(tree(odd).splitlines()) == 4
    assert [each.distance for each in graph.lineage("odd/a").relatives] == [0, 1]


def test_graphml(run: RunGraph) -> None:
    root = ET.fromstring(graphml(run))
    kind = "{http://graphml.graphdrawing.org/xmlns}"
    declared = {each.get("id") for each in root.iter(f"{kind}key")}
    nodes = {each.get("id"): {data.get("key"): data.text for data in each} for each in root.iter(f"{kind}node")}
    assert (nodes["count<1>"]["status"], nodes["load"]["labels"], nodes["load"]["duration"]) == (
        "cached", "team=sky", "0.25",
    )  # fmt: skip
    assert nodes[ELSEWHERE] == {"hash": ELSEWHERE}
    assert {key for told in nodes.values() for key in told} <= declared
    edges = [(each.get("source"), each.get("target")) for each in root.iter(f"{kind}edge")]
    assert (ELSEWHERE, "sing") in edges
    assert {end for edge in edges for end in edge} <= nodes.keys()


def test_openlineage_events_have_all_that_the_specification_requires(run: RunGraph) -> None:
    told = events(run)
    assert told == json.loads(json.dumps(told))
    for event in told:
        assert {"eventType", "eventTime", "run", "job", "producer", "schemaURL"} <= event.keys()
        assert datetime.fromisoformat(event["eventTime"]).tzinfo is not None
        uuid.UUID(event["run"]["runId"])
        assert event["eventType"] in ("START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER")
        assert re.fullmatch(r"[a-z]+:\S+", event["producer"])
        assert event["schemaURL"].startswith("https://openlineage.io/spec/")
        for named in (event["job"], *event["inputs"], *event["outputs"]):
            assert named["namespace"]
            assert named["name"]
        for facet in (*event["run"].get("facets", {}).values(), *event["job"].get("facets", {}).values()):
            assert re.fullmatch(
                r"https://openlineage\.io/spec/facets/[\d-]+/\w+\.json#/\$defs/\w+", facet["_schemaURL"]
            )
            assert facet["_producer"] == event["producer"]


def test_openlineage_events_tell_the_run(run: RunGraph) -> None:
    told = events(run)
    by_job: dict[str, list[str]] = {}
    for event in told:
        by_job.setdefault(event["job"]["name"], []).append(event["eventType"])
    assert by_job["birds & bees"] == ["START", "COMPLETE"]
    assert by_job["birds & bees.sing"] == ["START", "FAIL"]
    assert by_job["birds & bees.report"] == ["START", "ABORT"]
    assert by_job["birds & bees.watch"] == ["START"]
    (failed,) = (event for event in told if event["eventType"] == "FAIL")
    assert failed["run"]["facets"]["errorMessage"]["stackTrace"] == "Traceback: ValueError"
    assert failed["run"]["facets"]["parent"]["run"] == told[0]["run"]
    made = {each["name"] for event in told for each in event["outputs"]}
    assert {each["name"] for each in failed["inputs"]} - made == {ELSEWHERE}
    assert failed["job"]["facets"]["sourceCode"]["sourceCode"] == "def sing(): return 1"


def reasons(found: Comparison) -> dict[str, tuple[str, ...]]:
    return {each.node: each.reasons for each in found.differences}


def test_what_differs_and_where_it_begins(recorder: Recorder, graph: ExecutionGraph) -> None:
    Story(recorder, "a").begin().whole("load", inputs={"n": 1}).whole("clean", ["load"]).whole("old").whole(
        "report", ["clean"], outputs={"n": 1}
    ).whole("time", outputs={"now": 1}).start("end").fail("end").end()
    Story(recorder, "b").begin().whole("load", inputs={"n": 1}).whole(
        "clean", ["load"], code="2", content="changed"
    ).whole("report", ["clean"], content="changed", outputs={"n": 2}).whole("new").whole(
        "time", outputs={"now": 2}
    ).whole("end").end()
    found = graph.compare("a", "b")
    assert reasons(found) == {
        "clean": ("code",),
        "report": ("parents",),
        "new": ("only in the second",),
        "time": ("outputs",),
        "end": ("status",),
        "old": ("only in the first",),
    }
    assert found.same == 1
    assert found.first is not None
    assert found.first.node == "clean"
    assert [each.node for each in found.differences if not each.origin] == ["report"]
    same = graph.compare("a", "a")
    assert (same.same, same.differences, same.first) == (6, (), None)


def test_inputs_and_parents_of_other_runs_differ_too(recorder: Recorder, graph: ExecutionGraph) -> None:
    first = Story(recorder, "first").begin().whole("load").end()
    second = Story(recorder, "second").begin().whole("load", content="other").end()
    Story(recorder, "a").begin().whole("use", parents=(first.hash("load"),)).whole("add", inputs={"n": 1}).end()
    Story(recorder, "b").begin().whole("use", parents=(second.hash("load"),), content="x").whole(
        "add", inputs={"n": 2}, content="x"
    ).end()
    assert reasons(graph.compare("a", "b")) == {"use": ("parents",), "add": ("inputs",)}
