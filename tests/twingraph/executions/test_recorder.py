"""The recorder: what it does when databases, processes and values are not as they should be."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.twingraph.executions.story import Story, hash_of
from twingraph.events import ExecutionFinished
from twingraph.executions.recorder import Recorder, open_recorder
from twingraph.executions.records import Kept

CONTENT = hash_of("content", "flap", "1", "")


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    made = Recorder(home=str(tmp_path / "graph"))
    yield made
    made.close()


def python(code: str, root: Path, *arguments: str) -> str:
    """What a process that runs the code prints; it must end well and say nothing else."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=root, capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_importing_it_loads_neither_sqlalchemy_nor_alembic(repository_root: Path) -> None:
    code = (
        "import sys, twingraph.executions.recorder; print([n for n in ('sqlalchemy', 'alembic') if n in sys.modules])"
    )
    assert python(code, repository_root) == "[]\n"


def test_a_new_database_needs_no_alembic(repository_root: Path, tmp_path: Path) -> None:
    code = """
import sys
from tests.twingraph.executions.story import Story
from twingraph.executions.recorder import Recorder
Story(Recorder(sys.argv[1]), "run").begin().whole("flap").end()
print("sqlalchemy" in sys.modules, "alembic" in sys.modules)
"""
    assert python(code, repository_root, str(tmp_path / "graph.db")) == "True False\n"


@pytest.mark.parametrize("trouble", ["a file in the way", "no database", "gone"])
def test_a_database_that_cannot_be_written_is_told_once(
    trouble: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "graph"
    recorder = Recorder(home=str(folder))
    match trouble:
        case "a file in the way":
            folder.write_text("")
        case "no database":
            folder.mkdir()
            (folder / "graph.db").write_text("This is no database. " * 100)
        case "gone":
            Story(recorder, "before").begin().end()
            recorder.close()
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
            folder.write_text("")
    with caplog.at_level(logging.WARNING, "twingraph"):
        for run in ("one", "two"):
            Story(recorder, run).begin().whole("flap", keep=True, outputs={"big": [1] * 100_000}).end()
        recorder.close()
    (told,) = caplog.messages
    assert str(folder) in told
    assert told.endswith("Runs go on, but are not recorded.")
    assert "\n" not in told
    assert recorder.recall(CONTENT) is None


FULL = """
import resource, sys
from tests.twingraph.executions.story import Story
from twingraph.executions.recorder import Recorder
recorder = Recorder(home=sys.argv[1])
Story(recorder, "before").begin().end()
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))  # as on a disk that is full
story = Story(recorder, "during").begin()
for at in range(100):
    story.whole(f"flap#{at}", outputs={"text": "x" * 60_000, "more": bytes(range(256)) * 1_000})
story.end()
recorder.close()
print(recorder.repository().find("before").status)
"""


def test_a_full_disk_is_told_once(tmp_path: Path, repository_root: Path) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path / "graph")]
    done = subprocess.run(command, cwd=repository_root, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, "completed\n")
    (told,) = done.stderr.splitlines()
    assert told.endswith("Runs go on, but are not recorded.")


def test_a_server_that_does_not_answer_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        recorder = Recorder(f"postgresql://ada:hunter2@127.0.0.1:{port}/graph", home=str(tmp_path))
        Story(recorder, "one").begin().whole("flap").end()
        Story(recorder, "two").begin().whole("flap").end()
        recorder.close()
    (told,) = caplog.messages
    assert "ada:***@127.0.0.1" in told
    assert "hunter2" not in told


def test_recording_goes_on_when_the_database_is_free_again(
    tmp_path: Path, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    import sqlite3

    Story(recorder, "before").begin().end()
    locked = sqlite3.connect(tmp_path / "graph" / "graph.db", isolation_level=None)
    locked.execute("BEGIN IMMEDIATE")
    story = Story(recorder, "during").begin().whole("flap")
    assert not recorder.flush(timeout=0.2)
    locked.execute("COMMIT")
    story.end()
    assert recorder.repository().find("during").status == "completed"
    assert caplog.messages == []


def test_an_event_that_cannot_be_understood_fails_no_run(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    recorder(ExecutionFinished("run", "birds", "completed", 1.0, outputs={1: threading.Lock()}, at=1.0))
    assert json.loads(recorder.repository().find("run").outputs)["result"]["$described"]["type"] == "dict"
    Story(recorder, "other").begin(config={"labels": 3}).whole("flap", labels={object(): object()}).end()
    recorder(None)  # type: ignore[arg-type]
    assert "not recorded" in caplog.messages[0]


def test_what_is_recalled_is_whole_or_nothing(tmp_path: Path, recorder: Recorder) -> None:
    big = {"result": list(range(100_000))}
    Story(recorder, "run").begin().whole("flap", keep=True, outputs=big).end()
    assert recorder.recall(CONTENT) == Kept(big, "")
    (file,) = (tmp_path / "graph" / "objects").rglob("*.gz")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert recorder.recall(CONTENT) is None
    file.unlink()
    assert recorder.recall(CONTENT) is None
    Story(recorder, "again").begin().whole("flap", keep=True, outputs=big).end()
    assert file.read_bytes() == whole


def test_a_session_ends_with_its_recorder(recorder: Recorder, tmp_path: Path) -> None:
    Story(recorder, "session-1").begin("birds.py", kind="session").whole("flap")
    recorder.close()
    assert recorder.repository().find("session-1").status == "completed"


def test_the_commit_is_recorded(tmp_path: Path, repository_root: Path) -> None:
    code = """
import sys
from tests.twingraph.executions.story import Story
from twingraph.executions.recorder import Recorder
recorder = Recorder(sys.argv[1])
import os
os.chdir(sys.argv[2])
Story(recorder, "run").begin().end()
found = recorder.repository().find("run")
print([found.git_commit, found.git_branch, found.git_dirty])
"""
    graph, checkout = tmp_path / "graph.db", tmp_path / "checkout"
    checkout.mkdir()
    assert python(code, repository_root, str(graph), str(checkout)) == "['', '', False]\n"

    def git(*arguments: str) -> str:
        told = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", *arguments]
        return subprocess.run(told, cwd=checkout, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "--quiet", "--initial-branch=sky")
    (checkout / "birds.py").write_text("")
    git("add", "birds.py")
    git("commit", "--quiet", "--message=birds")
    commit = git("rev-parse", "HEAD")
    assert python(code, repository_root, str(graph), str(checkout)) == f"['{commit}', 'sky', False]\n"
    (checkout / "birds.py").write_text("owls")
    assert python(code, repository_root, str(graph), str(checkout)) == f"['{commit}', 'sky', True]\n"


FORKED = """
import multiprocessing, os, sys
from tests.twingraph.executions.story import Story
from twingraph.executions.recorder import open_recorder
recorder = open_recorder(sys.argv[1])

def work(run):
    assert open_recorder(sys.argv[1]) is recorder
    Story(recorder, run).begin().whole("flap", keep=True, outputs={"n": 1})

if __name__ == "__main__":
    story = Story(recorder, "parent").begin().whole("flap")
    child = os.fork()  # while the parent's events wait to be written
    if child == 0:
        work("child")
        recorder.flush()
        os._exit(0)
    assert os.waitpid(child, 0) == (child, 0)
    process = multiprocessing.get_context("fork").Process(target=work, args=("process",))
    process.start()
    process.join()
    story.whole("sing").end()
    graph = recorder.repository()
    for run in ("parent", "child", "process"):
        print(run, [(node.node_id, node.status) for node in graph.nodes(run)])
    Story(recorder, "unfinished").begin().whole("flap")
"""


def test_forked_processes_record_too(tmp_path: Path, repository_root: Path) -> None:
    graph = tmp_path / "graph.db"
    assert python(FORKED, repository_root, str(graph)).splitlines() == [
        "parent [('flap', 'completed'), ('sing', 'completed')]",
        "child [('flap', 'completed')]",
        "process [('flap', 'completed')]",
    ]
    found = Recorder(str(graph)).repository()
    assert [node.status for node in found.nodes("unfinished")] == ["completed"]  # flushed when the process ended
    assert {found.find(run).status for run in ("child", "process", "unfinished")} == {"failed"}
    found.close()


def test_a_process_shares_one_recorder_of_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINGRAPH_HOME", str(tmp_path / "graph"))
    own, other = open_recorder(), open_recorder(str(tmp_path / "other.db"))
    assert own is open_recorder()
    assert own is not other
    assert own.url == f"sqlite:///{tmp_path}/graph/graph.db"
    assert os.listdir(tmp_path) == []  # nothing is made before something is told
