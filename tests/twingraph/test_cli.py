"""The `twingraph` command, as somebody types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from tests.twingraph.executions.story import Story
from twingraph.cli import console
from twingraph.executions import requests, schema
from twingraph.executions.recorder import Recorder

Typed = Callable[..., str]


@pytest.fixture
def recorder(at_home: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Two runs, of which the second differs from the first in the code of a component."""
    home = at_home / "graphs"
    monkeypatch.setenv("TWINGRAPH_HOME", str(home))
    made = Recorder(home=str(home))
    for at, (run, code) in enumerate((("run-1a", "1"), ("run-2b", "2"))):
        story = Story(made, run, at=1_700_000_000.0 + 100 * at).begin(inputs={"n": 3, "password": "hunter2"})
        story.start("load", labels={"team": run}, inputs={"n": 3}).log("load", "two birds").log(
            "load", "slow", "warning"
        )
        story.finish("load", 0.5, outputs={"birds": ["owl", "duck"]})
        story.whole("count", ["load"], code=code, content=code, outputs={"result": 2})
        story.start("sing", ["count"], content=code).retry("sing").fail("sing", attempt=1).end(failed_nodes=1)
    made.close()
    return made


@pytest.fixture
def typed(recorder: Recorder, capsys: pytest.CaptureFixture[str]) -> Typed:
    """What a command prints on stdout; it must end well."""

    def run(*words: str) -> str:
        console(list(words))
        return capsys.readouterr().out

    return run


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command that fails prints: one line, and the exit code is 1."""
    with pytest.raises(SystemExit) as ended:
        console(list(words))
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (1, "")
    return said.err


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def objects(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_list(typed: Typed) -> None:
    head, *lines = rows(typed("list"))
    assert head == ["EXECUTION", "NAME", "STATUS", "STARTED", "TOOK", "NODES"]
    assert [line[:3] for line in lines] == [["run-2b", "birds", "completed"], ["run-1a", "birds", "completed"]]
    assert [each["execution_id"] for each in objects(typed("list", "--json", "--label", "team=run-1a"))] == ["run-1a"]
    assert objects(typed("list", "birds", "--json", "--limit", "1", "--page", "2"))[0]["nodes"] == {
        "completed": 2,
        "failed": 1,
    }
    assert typed("list", "--since", "2h") == typed("list", "fish") == typed("list", "--status", "running") == ""
    assert len(rows(typed("list", "--since", "2023-11-01", "--kind", "pipeline"))) == 3


def test_show(typed: Typed) -> None:
    text = typed("show", "run-1")
    assert "sing  (1 s, 2 attempts)" in text
    assert 'password = "***"' in text
    assert "hunter2" not in text
    text = typed("show", "latest", "sing")
    assert "attempt   1: TimeoutError: slow" in text
    assert text.endswith("error     ValueError: no\n\nTraceback: ValueError\n")
    assert 'birds = ["owl", "duck"]' in typed("show", "latest", "load")
    assert typed("show", "latest", "count", "--source") == "def count(): return 2\n"
    (node,) = objects(typed("show", "latest", "sing", "--json"))
    assert (node["retries"][0]["error"], node["properties"]["error_type"]) == ("TimeoutError: slow", "ValueError")
    (run,) = objects(typed("show", "run-2b", "--json"))
    assert ([each["id"] for each in run["nodes"]], run["inputs"]["n"]) == (["load", "count", "sing"], 3)


def test_logs(typed: Typed) -> None:
    assert [line.split(maxsplit=2)[2] for line in typed("logs", "latest").splitlines()] == [
        "INFO    load: two birds",
        "WARNING load: slow",
    ]
    (line,) = objects(typed("logs", "latest", "--level", "warning", "--component", "load", "--json"))
    assert (line["component_id"], line["level"], line["message"]) == ("load", "warning", "slow")
    assert typed("logs", "latest", "--component", "count") == ""


def test_export_writes_whole_executions_oldest_first(typed: Typed, capsys: pytest.CaptureFixture[str]) -> None:
    told = objects(typed("export"))
    assert [each["execution_id"] for each in told] == ["run-1a", "run-2b"]
    assert told[0]["nodes"][0]["properties"]["outputs"] == {"birds": ["owl", "duck"]}
    assert {"from": "load", "to": "count", "label": "data_flow"} in told[0]["edges"]
    events = objects(typed("export", "birds", "--label", "team=run-2b", "--format", "openlineage"))
    assert len({each["run"]["runId"] for each in events if each["job"]["name"] == "birds"}) == 1
    console(["export", "nobody", "-o", "none.jsonl"])
    assert capsys.readouterr().err == "Wrote 0 executions to none.jsonl.\n"
    assert "nowhere/x cannot be written" in refused(capsys, "export", "-o", "nowhere/x")


def test_stop_ends_what_a_server_was_asked_for(
    typed: Typed, recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = recorder.repository()
    requests.ask(graph, [requests.Asked("waits", "w", "W", {}, {})])
    assert objects(typed("stop", "waits", "--json")) == [{"execution": "waits", "status": "stopped"}]
    requests.ask(graph, [requests.Asked("held", "w", "W", {}, {})])
    assert requests.claim(graph, "a server") == "held"
    assert "'held' is asked to end, and still runs after 1 s" in refused(capsys, "stop", "held", "--wait", "1")
    assert requests.seen(graph, {"a server"}, ["held"]) == {"held"}
    assert "'run-1a' is completed, so it cannot be stopped" in refused(capsys, "stop", "run-1a")
    Story(recorder, "elsewhere").begin()
    recorder.flush()
    with graph.engine.begin() as connection:
        connection.execute(update(schema.executions).values(host="desk", pid=7))
    assert refused(capsys, "stop", "elsewhere").endswith("runs as process 7 on desk: stop it there.\n")


def test_logs_are_followed_until_the_execution_is_over(recorder: Recorder, repository_root: Path) -> None:
    story = Story(recorder, "run-3c", at=1_800_000_000.0).begin().start("load").log("load", "first")
    recorder.flush()
    command = [
        sys.executable,
        "-c",
        "from twingraph.cli import console; console()",
        "logs",
        "latest",
        "--follow",
        "--json",
    ]
    with subprocess.Popen(command, cwd=repository_root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["message"] == "first"
        story.log("load", "second")
        recorder.flush()
        assert json.loads(process.stdout.readline())["message"] == "second"
        story.log("load", "last").finish("load").end()
        assert [each["message"] for each in objects(process.stdout.read())] == ["last"]
        assert process.wait(60) == 0
    recorder.close()


def test_graph(typed: Typed, at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("graph", "latest").splitlines()[0] == "birds  run-2b  completed in 9 s"
    document = json.loads(typed("graph", "latest", "--json"))
    assert document["edges"][0] == {"from": "load", "to": "count", "label": "data_flow"}
    for form, begins in {
        "mermaid": "flowchart",
        "svg": "<svg",
        "graphml": "<?xml",
        "openlineage": '{"eventType"',
    }.items():
        assert typed("graph", "latest", "--format", form).startswith(begins)
    console(["graph", "latest", "--format", "svg", "-o", "run.svg"])
    assert capsys.readouterr() == ("", "Wrote run.svg.\n")
    assert (at_home / "run.svg").read_text().startswith("<svg")
    assert "none/run.svg cannot be written" in refused(capsys, "graph", "latest", "-o", "none/run.svg")


def test_a_terminal_that_knows_ascii_only_gets_no_more(recorder: Recorder, repository_root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from twingraph.cli import console; console()", "show", "latest"],
        cwd=repository_root,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        timeout=100,
        check=True,
    )
    assert b"|- + load" in done.stdout


def test_lineage(typed: Typed) -> None:
    _, *lines = rows(typed("lineage", "latest/sing"))
    assert [line[:2] for line in lines] == [["0", "run-2b/sing"], ["1", "run-2b/count"], ["2", "run-2b/load"]]
    _, *lines = rows(typed("lineage", "run-1/load", "--down", "--depth", "1", "--content"))
    assert [line[1] for line in lines] == ["run-1a/load", "run-2b/load", "run-1a/count", "run-2b/count"]
    (found,) = objects(typed("lineage", lines[0][-1], "--json"))
    assert ([each["id"] for each in found["nodes"]], found["edges"], found["complete"]) == (["load"], [], True)


def test_diff(typed: Typed) -> None:
    assert "It begins with count: code. 1 node is the same." in typed("diff", "run-1", "run-2")
    assert typed("diff", "latest", "latest") == "The same: 3 nodes.\n"
    (found,) = objects(typed("diff", "run-1", "run-2", "--json"))
    assert (found["first"], [each["node"] for each in found["differences"]]) == ("count", ["count", "sing"])


def test_stats(typed: Typed) -> None:
    _, *lines = rows(typed("stats"))
    assert [line[:3] for line in lines] == [["count", "2", "100.0%"], ["load", "2", "100.0%"], ["sing", "2", "0.0%"]]
    (load,) = objects(typed("stats", "load", "--json"))
    assert (load["executions"], load["success_rate"], load["p99_duration"]) == (2, 1.0, 0.5)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("show none", "No execution 'none' is recorded here."),
        ("show run", "Several executions begin with 'run': write more of the id."),
        ("show latest none", "Execution run-2b has no node 'none'."),
        ("show latets", "No execution 'latets' is recorded here; did you mean 'latest'?"),
        ("show rnu-2b", "did you mean 'run-2b'?"),
        ("show latest lod", "has no node 'lod'; did you mean 'load'?"),
        ("logs latest --component lod", "has no component and no node 'lod'; did you mean 'load'?"),
        ("stats lod", "No call of a component 'lod' is recorded here; did you mean 'load'?"),
        ("list --status faild", "there is no 'faild'; did you mean 'failed'?"),
        ("list --jsno", "unrecognized arguments: --jsno; did you mean '--json'?"),
        ("stats none", "No call of a component 'none' is recorded here."),
        ("lineage latest/none", "has no node 'none'"),
        ("lineage none", "'none' is no hash"),
        ("diff latest none", "No execution 'none'"),
        ("list --since yesterday", "it takes 30m, 2h, 7d or a date"),
        ("list --label =x", "it takes KEY=VALUE or KEY"),
        ("list --limit 0", "it takes a number of 1 or more"),
        ("list --db mysql://db/graph", "not in mysql://"),
        ("list --db nowhere.db", "Nothing is recorded yet: there is no"),
        ("shwo", "there is no 'shwo'; did you mean 'show'?"),
        ("zzz", "invalid choice: 'zzz'"),
        ("", "commands:"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    words: str, complaint: str, recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert complaint in refused(capsys, *words.split())


def test_a_list_with_nothing_in_it_tells_the_nearest_name(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    console(["list", "brids"])
    console(["list", "birds", "--status", "failed", "--since", "2999-01-01"])
    told = capsys.readouterr()
    assert (told.out, told.err.splitlines()) == (
        "",
        ["No execution like that is recorded here; did you mean 'birds'?", "No execution like that is recorded here."],
    )


def test_help_teaches_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        console(["--help"])
    assert ended.value.code == 0
    listed = capsys.readouterr().out.partition("commands:")[2].partition("\n\n")[0]
    names = [line.split()[0] for line in listed.splitlines()[2:] if line.startswith("    ")]
    assert {"list", "show", "logs", "graph", "lineage", "diff", "stats"} <= set(names)
    for name in names:
        with pytest.raises(SystemExit):
            console([name, "--help"])
        assert f"examples:\n  twingraph {name}" in capsys.readouterr().out


def test_asking_makes_nothing(
    at_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINGRAPH_HOME", str(at_home / "none"))
    assert "Nothing is recorded yet" in refused(capsys, "list")
    assert not (at_home / "none").exists()
