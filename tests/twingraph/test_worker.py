"""The file that runs calls elsewhere, as a real process, on every Python that is to be had here."""

# ruff: noqa: T201 - components print
from __future__ import annotations

import ast
import json
import os
import re
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pandas as pd
import pytest

from tests.twingraph import cargo
from tests.twingraph.calling import WORKER, Heard, placed, there
from twingraph import envelope
from twingraph.errors import TravelError
from twingraph.placed import Outcome, Placed, Raised, Returned
from twingraph.platforms.worker import lambda_handler


def pythons() -> list[str]:
    """The Pythons of 3.8 and newer that pyenv has here."""
    homes = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions").glob("3.*/bin/python")
    found = {".".join(each.parts[-3].split(".")[:2]): str(each) for each in homes}
    return [found[each] for each in sorted(found, key=lambda one: int(one[2:])) if int(each[2:]) >= 8]


OTHERS = pythons() or [sys.executable]


def test_its_text_is_python_of_3_8() -> None:
    tree = ast.parse(envelope.worker_source(), feature_version=(3, 8))
    imported = {
        name.partition(".")[0]
        for each in ast.walk(tree)
        for name in (
            [one.name for one in each.names]
            if isinstance(each, ast.Import)
            else [each.module or ""]
            if isinstance(each, ast.ImportFrom)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names


class Sized(NamedTuple):
    size: int
    name: str = "none"


@pytest.mark.parametrize("python", OTHERS, ids=lambda each: Path(each).parts[-3])
def test_every_python_runs_a_call(python: str) -> None:
    def work(n: int, *more: int, scale: float = 2.0) -> Any:
        print("running")
        total = sum(each for each in (n, *more))
        return (
            Sized(int(total * scale)),
            cargo.double(n),
            cargo.fibonacci(20),
            cargo.Grown(n).scaled(),
            [cargo.Point(n)],
        )

    heard = Heard()
    got = there(work, 3, 4, python=python, heard=heard, scale=1.5)
    assert got == (Sized(10), 6, 6765, 16, [cargo.Point(3)])
    assert heard.lines == [("info", "running")]

    def fail() -> None:
        raise cargo.OwnError(3, "no")

    with pytest.raises(cargo.OwnError) as caught:
        there(fail, python=python)
    assert 'in fail\n    raise cargo.OwnError(3, "no")' in caught.value.__notes__[-1]


def test_what_another_python_cannot_read_is_said() -> None:
    old = OTHERS[0]
    if "3.8" not in old and "3.9" not in old:
        pytest.skip("No Python older than 3.10 is here: pyenv install 3.9")

    def work(x: object) -> str:
        match x:
            case int():
                return "whole"
            case _:
                return "other"

    with pytest.raises(SyntaxError, match=r"'work' cannot be read by Python 3\.\d+: ") as caught:
        there(work, 1, python=old)
    assert caught.value.lineno == work.__code__.co_firstlineno + 1
    space: dict[str, Any] = {"__name__": "__main__"}
    exec("def work(): return 1", space)
    with pytest.raises(TravelError, match=r"no source text that could be sent, only code of Python 3\.1\d, and"):
        there(space["work"], python=old)
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'pandas'; component .* needs it where it runs"):
        there(lambda: len(pd.DataFrame()), python=old)


class Child:
    """`worker.py --serve`, as a platform talks to it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def ask(self, call: Placed) -> Outcome:
        assert self.process.stdin
        assert self.process.stdout
        assert self.process.stderr
        body = envelope.pack(call)
        self.process.stdin.write(struct.pack(">I", len(body)) + body)
        self.process.stdin.flush()
        frames = envelope.Frames(call)
        while not frames.ended:
            frames.write(self.process.stderr.readline())
        (length,) = struct.unpack(">I", self.process.stdout.read(4))
        return envelope.unpack(self.process.stdout.read(length), call)

    def end(self) -> int:
        self.process.communicate(timeout=30)
        return self.process.returncode


@pytest.fixture
def child() -> Iterator[Child]:
    made = Child()
    yield made
    made.process.kill()
    made.process.wait()
    for stream in (made.process.stdin, made.process.stdout, made.process.stderr):
        if stream:
            stream.close()


def test_a_serving_worker_answers_one_call_after_the_other(child: Child, tmp_path: Path) -> None:
    def first() -> None:
        os.environ["LEFT"] = "behind"
        os.chdir("/")
        sys.path.insert(0, "elsewhere")
        os.system("echo from a shell; cat")
        print(cargo.LIMIT)
        raise ValueError("first")

    def second() -> Any:
        return os.environ.get("LEFT"), os.getcwd(), sys.path[0], "tests.twingraph.cargo" in sys.modules

    heard = Heard()
    failed = child.ask(placed(first, heard=heard))
    assert isinstance(failed, Raised)
    assert isinstance(failed.error, ValueError)
    assert heard.lines == [("info", "from a shell"), ("info", "10")]
    assert child.ask(placed(second)) == Returned((None, str(tmp_path), str(WORKER.parent), False))
    assert child.end() == 0


def test_a_worker_that_dies_says_nothing(child: Child) -> None:
    with pytest.raises(struct.error):
        child.ask(placed(lambda: (os.write(2, b"\n\x01" + CALL.encode() + b" end\n"), os._exit(7)), call=CALL))
    assert child.end() == 7


CALL = "tg-test-dies"


class Shelf(BaseHTTPRequestHandler):
    """Keeps what is put, as a bucket does for those with a signed address."""

    kept: ClassVar[dict[str, bytes]] = {}
    failing: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        if self.failing:
            self.send_error(self.failing.pop())
            return
        self._say(self.kept[self.path])

    def do_PUT(self) -> None:
        self.kept[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self._say(b"")

    def _say(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
        pass


@pytest.fixture
def shelf() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shelf)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
    Shelf.kept.clear()


def test_envelopes_and_answers_may_be_files_or_addresses(shelf: str, tmp_path: Path) -> None:
    call = placed(cargo.double, 4)
    (tmp_path / "in").write_bytes(envelope.pack(call))
    subprocess.run([sys.executable, str(WORKER), str(tmp_path / "in"), str(tmp_path / "out")], check=True)
    assert envelope.unpack((tmp_path / "out").read_bytes(), call) == Returned(8)
    Shelf.kept["/in"] = envelope.pack(call)
    Shelf.failing.append(503)
    subprocess.run([sys.executable, str(WORKER), f"{shelf}/in", f"{shelf}/out"], check=True)
    assert envelope.unpack(Shelf.kept["/out"], call) == Returned(8)


def test_the_handler_of_lambda_takes_envelopes_and_addresses(shelf: str) -> None:
    call = placed(cargo.double, 4)
    event = json.loads(envelope.pack(call))
    assert envelope.unpack(json.dumps(lambda_handler(event, None)).encode(), call) == Returned(8)
    big = placed(lambda: b"x" * 6_000_000)
    Shelf.kept["/big"] = envelope.pack(big)
    said = lambda_handler({"envelope": f"{shelf}/big", "answer": f"{shelf}/answer"}, None)
    assert said == {"answer": f"{shelf}/answer"}
    outcome = envelope.unpack(Shelf.kept["/answer"], big)
    assert isinstance(outcome, Returned)
    assert len(outcome.value) == 6_000_000
    outcome = envelope.unpack(json.dumps(lambda_handler(json.loads(Shelf.kept["/big"]), None)).encode(), big)
    assert isinstance(outcome, Raised)
    assert re.search(r"too large for an answer of Lambda: \d+ bytes", str(outcome.error))
