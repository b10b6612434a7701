"""`twingraph serve` with executions that really run: how they end, and what is left when something is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.docker_engine import Docker as Engine
from tests.twingraph.receiving import receiving
from tests.twingraph.server.served import PIPES, Door, Served
from twingraph.components.llm_server import Fault, LanguageModel
from twingraph.executions.records import progress

CHAIN = ([{"id": "first", "component": "load"}, {"id": "then", "component": "total"}], [("first", "then")])


def test_a_pipeline_of_a_file_runs(served: Served) -> None:
    told = served.run("report", n=5)
    assert (told["status"], told["outputs"], told["success"]) == ("completed", 10, True)
    assert told["progress"] == progress({"completed": 2})
    lines = served.http.get(f"/api/executions/{told['execution_id']}/logs").json()["logs"]
    assert [(each["component_id"], each["message"]) for each in lines] == [("load", "loading 5")]
    workflow = served.http.get("/api/workflows/report").json()
    assert (workflow["name"], workflow["executions"], workflow["success_rate"]) == ("report", 1, 1.0)
    known = {each["name"]: each for each in served.http.get("/api/components").json()["components"]}
    assert known["load"]["inputs"]["properties"]["n"]["default"] == 3
    assert known["Times"]["kind"] == "class"
    assert known["DataTransform"]["settings"]["properties"]["operations"]["description"]
    assert known["DataTransform"]["inputs"]["required"] == ["data"]
    assert (known["DataTransform"]["alias_of"], known["data_transform"]["alias_of"]) == ("", "DataTransform")


def test_what_it_cannot_be_called_with_fails_it(served: Served) -> None:
    told = served.run("report", rows=5)
    assert (told["status"], told["error"]["type"]) == ("failed", "TypeError")
    assert "rows" in told["error"]["message"]


def test_a_workflow_finds_its_components_in_files_and_in_its_own_code(served: Served) -> None:
    nodes = [
        {"id": "first", "component": "load"},
        {"id": "then", "component": "total"},
        {"id": "double", "component": "Times", "config": {"by": 2}},
        {"id": "text", "component": "shown", "code": "def shown(product):\n    return {'text': f'{product} in all'}"},
    ]
    served.store("mixed", nodes, [("first", "then"), ("then", "double"), ("double", "text")])
    told = served.run("mixed", n=4)
    assert told["outputs"] == {"text": "12 in all"}
    assert told["node_outputs"]["double"] == {"product": 12}


def test_components_that_come_with_the_library_are_nodes_of_stored_workflows(served: Served) -> None:
    rows = [{"bird": "owl", "eggs": 3}, {"bird": "jay", "eggs": 5}]
    kept = {"operations": [{"filter": "eggs > least"}], "least": 1}
    nodes = [
        {"id": "keep", "component": "data_transform", "config": {"operations": [{"filter": "eggs > 3"}], "data": rows}},
        {"id": "name", "component": "DataTransform", "config": {"operations": [{"select": ["bird"]}]}},
    ]
    served.store("birds", nodes, [("keep", "name")])
    assert served.run("birds")["outputs"]["data"] == [{"bird": "jay"}]
    served.store("wrong", [{"id": "keep", "component": "DataTransform", "config": kept}], [])
    why = "DataTransform has no setting or input 'least'; it knows operations, output, data."
    assert served.http.get("/api/workflows/wrong").json()["warnings"] == [f"Node 'keep': {why}"]
    assert why in served.run("wrong")["error"]["message"]


def test_a_node_that_nobody_knows_fails_by_name(served: Served) -> None:
    served.store("draft", [{"id": "a", "component": "lod"}], [("a", "nowhere")])
    told = served.run("draft")
    assert (told["status"], told["error"]["node_id"]) == ("failed", "a")
    assert "'lod'" in told["error"]["message"]


def test_an_execution_is_stopped(served: Served, door: Door) -> None:
    execution = served.ask("held", door=door.path)
    pid = door.reached()
    assert served.http.post(f"/api/executions/{execution}/stop").json()["status"] == "stopping"
    told = served.over(execution)
    assert (told["status"], told["progress"]["running_nodes"]) == ("stopped", 0)
    _gone(pid)
    assert served.nodes(execution) == {"load": "completed", "hold": "stopped"}


def test_what_does_not_want_to_end_is_killed_with_its_children(served: Served, door: Door) -> None:
    served.store("stubborn", [{"id": "a", "component": "stubborn"}])
    execution = served.ask("stubborn", door=door.path)
    pid = door.reached()
    served.http.post(f"/api/executions/{execution}/stop")
    assert served.over(execution)["status"] == "stopped"
    _gone(pid)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("exit", "Its process ended with exit code 3 before the execution did."),
        ("signal", "Its process was ended by SIGSEGV."),
    ],
)
def test_a_crash_fails_the_execution_only(served: Served, how: str, why: str) -> None:
    served.store("crash", [{"id": "a", "component": "crash"}])
    told = served.run("crash", how=how)
    assert (told["status"], told["error"]["message"], told["error"]["type"]) == ("failed", why, "crashed")
    assert served.run("report", n=3)["outputs"] == 3


def test_a_stored_workflow_tells_who_is_to_be_told(served: Served) -> None:
    with receiving() as receiver:
        told = {"notifications": {"on_success": receiver.url, "on_failure": {"type": "slack", "url": receiver.url}}}
        served.store("good", [{"id": "a", "component": "load"}], metadata=told)
        good = served.run("good")["execution_id"]
        message = receiver.news.get(timeout=30)
        assert (message["event"], message["workflow"], message["execution_id"]) == ("on_success", "good", good)
        served.store("bad", [{"id": "a", "component": "nowhere"}], metadata=told)
        bad = served.run("bad")["execution_id"]
        assert receiver.news.get(timeout=30)["text"].startswith(f"Workflow 'bad' ({bad}) failed: ")
        served.store("crash", [{"id": "a", "component": "crash"}], metadata=told)
        crashed = served.run("crash")["execution_id"]
        assert receiver.news.get(timeout=30)["text"].startswith(f"Workflow 'crash' ({crashed}) failed: ")


def test_more_than_may_run_at_once_wait(serve: Callable[..., Served], door: Door) -> None:
    served = serve("--workers", "1")
    first, second = served.ask("held", door=door.path), served.ask("report", n=4)
    door.reached()
    assert served.http.get(f"/api/executions/{second}").json()["status"] == "pending"
    door.open()
    assert (served.over(first)["outputs"], served.over(second)["outputs"]) == ([0, 1], 6)


def test_what_failed_is_run_again_and_the_rest_used_again(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "number"
    nodes: list[dict[str, Any]] = [{"id": "first", "component": "load"}, {"id": "then", "component": "total"}]
    nodes += [{"id": "last", "component": "once", "inputs": {"n": "total"}}]
    edges = [{"source": "first", "target": "then"}]
    edges += [{"source": "then", "target": "last", "sourceHandle": "total", "targetHandle": "n"}]
    body = {"name": "repeated", "definition": {"nodes": nodes, "edges": edges}}
    served.http.put("/api/workflows/repeated", json=body)
    failed = served.run("repeated", path=str(file))
    assert (failed["status"], failed["error"]["node_id"]) == ("failed", "last")
    file.write_text("100")

    def again(**start: str) -> tuple[Any, dict[str, str]]:
        answer = served.http.post(f"/api/executions/{failed['execution_id']}/rerun", params=start)
        told = served.over(answer.json()["execution_id"])
        assert told["rerun_of"] == failed["execution_id"]
        return told["outputs"], served.nodes(told["execution_id"])

    assert again() == (103, {"first": "cached", "then": "cached", "last": "completed"})
    assert again(**{"from": "then"}) == (103, {"first": "cached", "then": "completed", "last": "completed"})
    assert file.with_suffix(".tries").read_text() == "xxx"


def test_a_subscriber_hears_of_every_step(served: Served) -> None:
    served.store("chain", *CHAIN)
    with connect(f"{served.url.replace('http', 'ws', 1)}/ws") as talk:
        talk.send(json.dumps({"action": "subscribe"}))
        execution = served.ask("chain", n=4)
        heard = []
        while True:
            told = json.loads(talk.recv(timeout=30))
            if told["data"].get("execution_id") != execution:
                continue
            heard.append(told)
            if told["event"] == "execution:update" and told["data"]["status"] == "completed":
                break
    assert heard[-1]["data"]["progress"]["completed_nodes"] == 2
    ends = [each["data"] for each in heard if each["data"].get("outputs")]
    assert [(each["node_id"], each["status"], each["outputs"]) for each in ends] == [
        ("first", "completed", {"rows": [0, 1, 2, 3]}),
        ("then", "completed", {"total": 6}),
    ]
    lines = [(each["data"]["node_id"], each["data"]["lines"]) for each in heard if each["event"] == "node:log"]
    assert [(node, [line["message"] for line in told]) for node, told in lines] == [("first", ["loading 4"])]


def test_what_a_model_says_is_heard_while_it_says_it(served: Served) -> None:
    with LanguageModel(lambda asked: "First.\nThen it goes on and on, and never comes to an end") as model:
        model.faults.append(Fault(events=3, silent=True))
        config = {"model": "gpt-5", "base_url": model.url, "api_key": model.key, "prompt": "Speak, {who}"}
        served.store("speak", [{"id": "ask", "component": "LLMPrompt", "config": config}])
        with connect(f"{served.url.replace('http', 'ws', 1)}/ws") as talk:
            talk.send(json.dumps({"action": "subscribe"}))
            execution = served.ask("speak", who="goose")
            while (told := json.loads(talk.recv(timeout=30)))["event"] != "node:log":
                assert told["data"].get("status") not in ("completed", "failed")
        assert (told["data"]["node_id"], told["data"]["lines"][0]["message"]) == ("ask", "First.")
        assert model.asked[0].prompt == "Speak, goose"
        served.http.post(f"/api/executions/{execution}/stop")
        assert served.over(execution)["status"] == "stopped"
        assert model.gone.wait(30)


# ---- when something ends that should not


def test_after_kill_9_what_ran_is_marked_and_what_waited_is_run(serve: Callable[..., Served], door: Door) -> None:
    first = serve("--workers", "1")
    with receiving() as receiver:
        whom = {"notifications": {"on_complete": receiver.url}}
        first.store("telling", [{"id": "a", "component": "hold"}], metadata=whom)
        running, waiting = first.ask("telling", door=door.path), first.ask("report", n=4)
        pid = door.reached()
        first.kill()
        second = serve("--workers", "1")
        told = second.over(running)
        assert (told["status"], told["error"]["type"]) == ("failed", "interrupted")
        message = receiver.news.get(timeout=30)
        assert (message["status"], message["execution_id"]) == ("failed", running)
    _gone(pid)
    assert second.over(waiting)["outputs"] == 6


def test_after_kill_9_in_the_midst_of_requests_all_that_was_answered_is_there(
    serve: Callable[..., Served], door: Door, tmp_path: Path
) -> None:
    served = serve("--workers", "1")
    served.ask("held", door=door.path)
    door.reached()
    answered: list[str] = []

    def ask() -> None:
        with httpx.Client(base_url=served.url) as client, suppress(httpx.TransportError):
            while True:
                answer = client.post("/api/executions", json={"workflow_id": "report"})
                answered.append(answer.json()["execution_id"])

    with ThreadPoolExecutor(4) as several:
        for _ in range(4):
            several.submit(ask)
        while len(answered) < 200:
            served.http.get("/health")
        served.kill()
    with closing(sqlite3.connect(tmp_path / "home" / "graph.db")) as graph:
        kept = {row[0] for row in graph.execute("SELECT execution_id FROM requests")}
    assert set(answered) <= kept


def test_after_kill_9_what_resumes_goes_on_where_it_was(
    serve: Callable[..., Served], door: Door, tmp_path: Path
) -> None:
    first = serve()
    nodes = [{"id": "first", "component": "load"}, {"id": "second", "component": "hold"}]
    with receiving() as receiver:
        metadata = {"resume": True, "notifications": {"on_complete": receiver.url}}
        first.store("resuming", nodes, [("first", "second")], metadata=metadata)
        running = first.ask("resuming", door=door.path, value=7)
        door.reached()
        first.kill()
        second = serve()
        door.reached()
        door.open()
        told = second.over(running)
        assert (told["status"], told["outputs"]) == ("completed", 7)
        assert second.nodes(running) == {"first": "cached", "second": "completed"}
        assert receiver.news.get(timeout=30)["status"] == "completed"  # and of the interruption nothing was told


@pytest.mark.docker
def test_after_kill_9_of_all_processes_containers_are_removed(serve: Callable[..., Served], docker: Engine) -> None:
    first = serve()
    node = f"far-{uuid.uuid4().hex[:8]}"
    first.store("far", [{"id": node, "component": "far"}])
    filters = ["--filter=type=container", f"--filter=label=twingraph.node={node}", "--format={{.Action}}"]
    with subprocess.Popen(["docker", "events", *filters], stdout=subprocess.PIPE, text=True) as events:
        assert events.stdout is not None
        execution = first.ask("far")
        next(line for line in events.stdout if line.strip() == "start")
        label = f"--filter=label=twingraph.run={execution}"
        assert docker("ps", "--quiet", label)
        nursery = _children(first.process.pid)
        processes = [child for each in nursery for child in _children(each)]
        for pid in (first.process.pid, *nursery, *processes):
            os.kill(pid, signal.SIGKILL)
        second = serve()
        assert second.over(execution)["error"]["type"] == "interrupted"
        next(line for line in events.stdout if line.strip() == "destroy")
        assert not docker("ps", "--all", "--quiet", label)
        events.terminate()


def test_after_the_forking_process_is_killed_another_serves(serve: Callable[..., Served], door: Door) -> None:
    served = serve()
    execution = served.ask("held", door=door.path)
    pid = door.reached()
    os.kill(_parent(pid), signal.SIGKILL)
    served.hear("another begins")
    assert served.run("report", n=3)["outputs"] == 3
    door.open()
    assert served.over(execution)["outputs"] == [0, 1]


def test_ctrl_c_lets_executions_finish(serve: Callable[..., Served], door: Door) -> None:
    served = serve()
    execution = served.ask("held", door=door.path)
    door.reached()
    served.process.send_signal(signal.SIGINT)
    door.open()
    assert served.over(execution)["outputs"] == [0, 1]
    assert served.process.wait(30) == 0


# ---- files, and where it listens


def test_a_broken_file_leaves_the_others_served(serve: Callable[..., Served], tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_this_name\n")
    served = serve("--reload", files=(broken, PIPES))
    assert served.run("report", n=3)["outputs"] == 3
    said = "".join(served.said)
    assert f"{broken} is not served: ModuleNotFoundError: No module named 'nothing_of_this_name'" in said
    assert 'broken.py", line 1' in said
    broken.write_text("from twingraph import pipeline\n@pipeline\ndef mended():\n    return 'yes'\n")
    served.hear("Serving mended")
    assert served.run("mended")["outputs"] == "yes"


def test_what_a_file_no_longer_defines_is_gone(serve: Callable[..., Served], tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    text = "from twingraph import pipeline\n@pipeline\ndef {}():\n    return 1\n"
    file.write_text(text.format("before"))
    first = serve(files=(file,))
    assert first.http.get("/api/workflows/before").json()["version"] == 1
    first.close()
    file.write_text(text.format("after"))
    second = serve(files=(file,))
    assert second.http.get("/api/workflows/before").status_code == 404
    assert second.run("after")["outputs"] == 1


def test_what_a_file_defines_and_what_is_stored_do_not_replace_each_other(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    file = tmp_path / "mine.py"
    when = "schedule='0 2 * * *', timezone='Europe/Zurich', misfire='once'"
    text = f"from twingraph import pipeline\n@pipeline({when})\ndef {{}}():\n    return 1\n"
    file.write_text(text.format("first"))
    server = serve(files=(file,))
    told = server.http.get("/api/workflows/first/schedule").json()
    assert (told["timezone"], told["misfire"]) == ("Europe/Zurich", "once")
    body = {"name": "Mine", "definition": {"nodes": [{"id": "a", "component": "load"}]}}
    for answer in (server.http.put("/api/workflows/first", json=body), server.http.delete("/api/workflows/first")):
        assert (answer.status_code, answer.json()["code"]) == (409, "served_by_file")
        assert str(file) in answer.json()["detail"]
    assert server.http.put("/api/workflows/second", json=body).status_code == 201
    server.close()
    file.write_text(text.format("second"))
    server = serve(files=(file,))
    assert "is not served: a workflow is stored as 'second'" in "".join(server.said)
    assert server.http.get("/api/workflows/second").json()["name"] == "Mine"


def test_where_it_must_not_or_cannot_listen_is_told(tmp_path: Path) -> None:
    def told(*options: str) -> str:
        command = [sys.executable, "-c", "from twingraph.cli import console; console()", "serve"]
        command += ["--home", str(tmp_path), *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        return done.stderr

    assert "or with --insecure" in told("--host", "0.0.0.0", "--port", "0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1:{port} (Address already in use)" in told("--port", str(port))
    assert "--port is 0 to 65535" in told("--port", "99999")


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(each) for task in tasks for each in (task / "children").read_text().split()]


def _gone(pid: int) -> None:
    """Wait until a process is gone, which is not a child of this one."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        import select

        assert select.select([descriptor], [], [], 30)[0], f"process {pid} is still there"
    finally:
        os.close(descriptor)
