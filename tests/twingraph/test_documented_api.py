"""What docs/sdk.md and docs/rest.md show is what a server does: their programs, commands and answers, on a real one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, OutputChecker
from pathlib import Path
from typing import NamedTuple

import pytest
from websockets.sync.client import connect

from tests.twingraph.server.served import Served

DOCS = Path(__file__).resolve().parents[2] / "docs"
FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = "localhost:8000"
SERVED = """
from twingraph import component


@component
def load_data(source: str, count: int = 5):
    print("loading", source)
    return {"rows": list(range(count))}


@component
def process_data(rows: list, threshold: float = 0.5):
    kept = [each for each in rows if each >= threshold]
    return {"kept": kept, "processed_records": len(kept)}
"""


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    body: str


def blocks(page: str, served: Served) -> list[Block]:
    """The blocks of a page, which speak to this server."""
    text = (DOCS / page).read_text("utf-8").replace(ADDRESS, served.url.removeprefix("http://"))
    return [Block(found["language"], found["body"]) for found in FENCE.finditer(text)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    file = tmp_path / "steps.py"
    file.write_text(SERVED, "utf-8")
    made = Served([file], "--home", str(tmp_path / "home"))
    yield made
    made.close()


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Served]:
    """A server that has no file."""
    made = Served([], "--home", str(tmp_path / "home"))
    yield made
    made.close()


def test_the_programs_of_the_sdk_run(bare: Served, tmp_path: Path) -> None:
    programs = [each.body for each in blocks("sdk.md", bare) if each.language == "py"]
    assert len(programs) >= 9
    script = tmp_path / "sdk.py"
    script.write_text("\n".join(programs), "utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "workflow-123 My Pipeline ['production']" in done.stdout
    assert "Execution completed: {'kept': [4, 5], 'processed_records': 2}" in done.stdout
    assert "node:status process completed" in done.stdout


def test_the_commands_of_the_page_answer_as_it_shows(server: Served, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: apt-get install curl")
    environment = dict(os.environ)
    shown = blocks("rest.md", server)
    compared = 0
    for block, following in zip(shown, [*shown[1:], Block("", "")], strict=True):
        if block.language != "sh":
            continue
        done = subprocess.run(
            ["bash", "-c", block.body], capture_output=True, text=True, check=True, timeout=90, env=environment
        )
        assert done.stdout, block.body
        if following.language == "json":
            assert same(following.body, done.stdout), (
                f"{block.body}\n--- shown\n{following.body}--- came\n{done.stdout}"
            )
            compared += 1
        if found := re.search(r'"execution_id":"(exec-[^"]+)"', done.stdout):
            environment.setdefault("EXECUTION", found[1])
    assert compared >= 7


def same(shown: str, came: str) -> bool:
    """Whether an answer is as it is shown; white space does not count, and `...` stands for anything."""
    told = json.dumps(json.loads(came), indent=4)
    wanted, got = (re.sub(r"\s*([\[\]{}:,])\s*", r"\1", text) for text in (shown.strip(), told))
    return OutputChecker().check_output(wanted, got, ELLIPSIS | NORMALIZE_WHITESPACE)


def test_the_message_of_the_page_subscribes(server: Served) -> None:
    (script,) = [each.body for each in blocks("rest.md", server) if each.language == "js"]
    address = re.search(r"WebSocket\('([^']+)'\)", script)
    message = re.search(r"JSON\.stringify\((\{.*?\})\)", script)
    assert address
    assert message
    sent = json.loads(re.sub(r"'([^']*)'", r'"\1"', re.sub(r"(\w+):", r'"\1":', message[1])))
    server.store("w", [{"id": "node-1", "component": "load_data"}])
    ran = server.run("w", source="here")["execution_id"]
    with connect(address[1]) as socket:
        socket.send(json.dumps({**sent, "execution_id": ran}))
        first, second = json.loads(socket.recv()), json.loads(socket.recv())
    assert (first["event"], first["data"]["status"]) == ("execution:update", "completed")
    assert first["data"]["progress"].items() >= {"total_nodes": 1, "completed_nodes": 1, "failed_nodes": 0}.items()
    assert (second["event"], second["data"]["node_id"]) == ("node:status", "node-1")
    assert second["data"]["outputs"] == {"rows": [0, 1, 2, 3, 4]}
