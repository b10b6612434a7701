"""The documentation is true: its programs run, its sessions print what they show, and the API pages are current.

The language of a fenced block says what is done with it. `python` is a program and is run; one that calls `main(...)`
is a flow file, which a session on the same page runs. `console` is a session: each line after `$ ` is run by a shell,
and what follows is what it must print. `pycon` is a session with Python, run as a doctest. All else is left alone, also
`python no-run`. `json part of FILE`, in whatever language, is a passage of a file that the page's sessions have made,
however it is broken into lines. A first line `# name.py` or `# lokki.toml` is the name that a block is saved under. A
page is read from top to bottom, in a folder of its own.
"""

from __future__ import annotations

import inspect
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, OutputChecker
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

import lokki
import twingraph
import twingraph.components

ROOT = Path(__file__).resolve().parents[1]
API = {lokki: ROOT / "docs" / "api.md", twingraph: ROOT / "docs" / "twingraph-api.md"}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTED = {
    lokki: ("decorators", "graph", "policy", "events", "store", "runner", "config", "errors"),
    twingraph: ("events", "errors"),
}

FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
PART = re.compile(r"\w+ part of (?P<file>\S+)")
NAMED = re.compile(r"# (?P<name>[\w.-]+\.(py|toml))\n")
COMMAND = re.compile(r"^\$ (?P<command>.*)\n(?P<output>(?:(?!\$ ).*\n)*)", re.MULTILINE)

# What differs from one run to the next, or from one Python to the next.
VARYING = [
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d"), "<time>"),
    (re.compile(r"\b\d{8}-\d{6}-[0-9a-f]{4}\b"), "<run>"),
    (re.compile(r"\b\d+\.\d{3}s"), "<seconds>"),
    (re.compile(r"^ +\[=*>? *\] \d+/\d+ \(\d+%\) completed\n", re.MULTILINE), ""),
    (re.compile(r"^ +[~^]+ *\n", re.MULTILINE), ""),
    (re.compile(r"[ \t]+$", re.MULTILINE), ""),
]


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    body: str
    line: int

    @property
    def name(self) -> str:
        """What the block is saved as."""
        found = NAMED.match(self.body)
        return found["name"] if found else f"line_{self.line}.py"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text("utf-8")
    for found in FENCE.finditer(text):
        yield Block(found["info"], found["body"], text.count("\n", 0, found.start()) + 1)


def shell(command: str) -> str:
    """What a command prints on both its streams, as a reader with lokki installed sees it."""
    scripts = os.pathsep.join([os.path.dirname(sys.executable), sysconfig.get_path("scripts"), os.environ["PATH"]])
    environment = {**os.environ, "PATH": scripts, "PYTHONUNBUFFERED": "1", "COLUMNS": "120"}
    done = subprocess.run(
        ["bash", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )
    return done.stdout


def settled(text: str) -> str:
    """The text without what varies; a file of this folder is called by its name alone."""
    text = text.replace(f"{os.getcwd()}{os.sep}", "")
    for pattern, instead in VARYING:
        text = pattern.sub(instead, text)
    return text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_shows_is_what_happens(page: Path) -> None:
    for block in blocks(page):
        where = f"{page.relative_to(ROOT)}, line {block.line}"
        match block.language:
            case "python":
                run_program(block, page, where)
            case "toml" if NAMED.match(block.body):
                Path(block.name).write_text(block.body, "utf-8")
            case "pycon":
                run_doctest(block, where)
            case language if part := PART.fullmatch(language):
                assert holds(part["file"], block.body), f"{where}: {part['file']} holds no such passage"
            case "console":
                for command in COMMAND.finditer(block.body):
                    wanted, got = settled(command["output"]), settled(shell(command["command"]))
                    same = OutputChecker().check_output(wanted, got, ELLIPSIS)
                    assert same, f"{where}: $ {command['command']}\n--- shown\n{wanted}--- printed\n{got}"


def holds(file: str, passage: str) -> bool:
    """Whether a file has this passage, in which `...` stands for anything and no white space counts."""
    text = Path(file).read_text("utf-8")
    return OutputChecker().check_output(f"...{passage.strip()}...", text, ELLIPSIS | NORMALIZE_WHITESPACE)


def run_program(block: Block, page: Path, where: str) -> None:
    Path(block.name).write_text(block.body, "utf-8")
    if "main(" not in block.body:
        done = subprocess.run([sys.executable, block.name], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{where}: {done.stderr}"
    else:
        compile(block.body, where, "exec")
        sessions = "".join(each.body for each in blocks(page) if each.language == "console")
        assert block.name in sessions, f"{where}: no session runs this flow; name it in its first line and show one"


def run_doctest(block: Block, where: str) -> None:
    Path(block.name).write_text(block.body, "utf-8")
    flags = "doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE"
    program = f"import doctest; doctest.testfile({block.name!r}, False, optionflags={flags})"
    printed = shell(shlex.join([sys.executable, "-c", program]))
    assert printed == "", f"{where}\n{printed}"


def test_blocks_are_found_and_sessions_are_compared() -> None:
    page = Path("page.md")
    page.write_text(
        "a\n```python\n# one.py\nprint(1)\n```\n\n```console\n$ python one.py\n1\n$ echo two\n2\n```\n", "utf-8"
    )
    assert [(each.language, each.name, each.line) for each in blocks(page)] == [
        ("python", "one.py", 2),
        ("console", "line_7.py", 7),
    ]
    found = {each["command"]: each["output"] for each in COMMAND.finditer([*blocks(page)][1].body)}
    assert found == {"python one.py": "1\n", "echo two": "2\n"}
    assert shell("echo out; echo err >&2") == "out\nerr\n"
    took = "Run '20260101-120000-ab12' at 2026-01-01T12:00:00 took 1.234s\n  [==>   ] 2/9 (22%) completed\n"
    assert holds("page.md", "$ echo\ntwo ... ```")
    assert not holds("page.md", "echo three")
    assert settled(took) == "Run '<run>' at <time> took <seconds>\n"


@pytest.mark.parametrize(("package", "page"), API.items(), ids=lambda each: getattr(each, "__name__", ""))
def test_the_api_page_is_current(package: ModuleType, page: Path) -> None:
    made = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "api"), "--print", package.__name__],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert made.stdout == page.read_text("utf-8"), f"docs/{page.name} is out of date; renew it with: scripts/api"


def public(module: ModuleType) -> dict[str, Any]:
    """The names that a module lists, or else the classes and functions that it defines, all with their objects."""
    if hasattr(module, "__all__"):
        return {name: getattr(module, name) for name in module.__all__}
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    }


PUBLIC = {
    f"{module.__name__}.{name}": value
    for package, rooms in DOCUMENTED.items()
    for module in (package, *(import_module(f"{package.__name__}.{room}") for room in rooms))
    for name, value in public(module).items()
}


def test_public_names_are_offered_to_whoever_types_a_dot() -> None:
    for package in (lokki, twingraph, twingraph.components):
        assert set(package.__all__) <= set(dir(package))


def test_no_public_name_is_missing_from_the_api_pages() -> None:
    anchors = [each for page in API.values() for each in re.findall(r'<a id="([\w.]+)">', page.read_text("utf-8"))]
    assert sorted(PUBLIC.keys() - set(anchors)) == []
    assert sorted({each for each in anchors if anchors.count(each) > 1}) == []


@pytest.mark.parametrize("page", API.values(), ids=lambda page: page.stem)
def test_a_link_within_an_api_page_leads_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    assert set(re.findall(r"\]\(#([\w.]+)\)", text)) <= set(re.findall(r'<a id="([\w.]+)">', text))


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_a_docstring(name: str) -> None:
    value = PUBLIC[name]
    # A dataclass or named tuple without one gets its signature, or the words of a tuple, in place of it.
    assert (value.__doc__ or "").partition("(")[0] not in ("", value.__name__)
    told = (
        {each for base in (*value.__mro__, lokki.store.TransientStore) for each in documented(base)}
        if inspect.isclass(value)
        else set()
    )
    silent = [each for each in own_methods(value) if each not in told]
    assert silent == []


def own_methods(value: Any) -> list[str]:
    if not inspect.isclass(value):
        return []
    members = {each: getattr(member, "__func__", member) for each, member in vars(value).items()}
    return [
        each
        for each, member in members.items()
        if not each.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
    ]


def documented(cls: type) -> Iterator[str]:
    for name, member in vars(cls).items():
        if getattr(member, "__doc__", None):
            yield name
