"""The project keeps its own promises: what is in git, what is pinned, how modules are cut, what the README leads to."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
MODULES = [path for package in ("lokki", "twingraph") for path in sorted((ROOT / "src" / package).rglob("*.py"))]
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").rglob("*.md"))

DOCUMENTS = [*sorted(ROOT.glob("*.md")), *PAGES, *sorted((ROOT / "dev").glob("*.md"))]

PIN = re.compile(r"(?P<name>[a-z0-9][a-z0-9.-]*)==[0-9][\w.!+]*( ; [\w.'\" <>=!()]+)?")
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|mailto:|#)(?P<target>[^)\s#]+)")

LOCKED_ADDRESS = re.compile(
    r"""
      "resolved": \s* "https?:                               # a JavaScript lock
    | source \s* = \s* \{ \s* (?:registry|url) \s* =         # a uv lock
    | ^source \s* = \s* "registry\+                          # a Cargo lock
    | --(?:extra-)?(?:index-url|find-links) [ =] \s* https?:   # a requirements file
    | https?://[^\s"'<>]+\.(?:whl|tgz|tar\.gz)[#"']          # one file of a release
    """,
    re.VERBOSE | re.MULTILINE,
)
HOME_PATH = re.compile(r"(?<![\w.~/-])/(?:home/\w+|Users/\w+|root)(?=/)")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def links(page: Path) -> set[str]:
    return {match["target"] for match in LINK.finditer(CODE.sub("", page.read_text("utf-8")))}


def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def checkout() -> None:
    """Skips where the tests do not stand in a git checkout of this project, as when they come out of an sdist."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    if git("rev-parse", "--show-prefix").stdout != "\n":
        pytest.skip("git sees no checkout that starts at this folder")


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize(
    "forbidden",
    [pytest.param(LOCKED_ADDRESS, id="download address"), pytest.param(HOME_PATH, id="home path")],
)
def test_no_file_in_git_names_where_somebody_else_keeps_things(forbidden: re.Pattern[str]) -> None:
    # A new file that git does not ignore counts too, so that this fails before the commit rather than after it.
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout.split("\0")
    files = [ROOT / name for name in listed if name and (ROOT / name).is_file()]
    assert ROOT / "pyproject.toml" in files
    found = {
        relative(file): match.group()
        for file in files
        if (match := forbidden.search(file.read_text("utf-8", errors="ignore")))
    }
    assert found == {}


@pytest.mark.usefixtures("checkout")
def test_a_lock_that_names_addresses_stays_out_of_git() -> None:
    assert git("check-ignore", "--no-index", "uv.lock").stdout == "uv.lock\n"
    assert git("ls-files", "uv.lock").stdout == ""


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (LOCKED_ADDRESS, '  "resolved": ' + '"https://registry.invalid/left-pad"'),
        (LOCKED_ADDRESS, "name = 'x'\nsource = { " + 'registry = "https://index.invalid/simple" }'),
        (LOCKED_ADDRESS, "--index-url" + " https://index.invalid/simple"),
        (LOCKED_ADDRESS, 'wheels = [{ url = "https://files.invalid/x-1-py3-none-any' + '.whl" }]'),
        (HOME_PATH, "cd /ho" + "me/ada/lokki"),
        (HOME_PATH, '"/ro' + 'ot/lokki"'),
    ],
)
def test_what_is_forbidden_is_recognised(pattern: re.Pattern[str], text: str) -> None:
    assert pattern.search(text)


def test_constraints_are_versions_and_nothing_else() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#") and not PIN.fullmatch(line)] == []


def test_all_that_the_project_asks_for_is_pinned() -> None:
    asked = [
        *PROJECT["project"]["dependencies"],
        *(one for extra in PROJECT["project"]["optional-dependencies"].values() for one in extra),
        *PROJECT["dependency-groups"]["dev"],
    ]
    names = {re.split(r"[^\w.-]", one)[0].lower().replace("_", "-") for one in asked}
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = {match["name"] for line in lines if (match := PIN.fullmatch(line))}
    assert names - pinned == {PROJECT["project"]["name"]}, "run scripts/pins"  # an extra names others of its own


ONE_FILE = {"src/twingraph/platforms/worker.py"}
"""Modules that are sent elsewhere as they are, and so cannot be cut in two."""


@pytest.mark.parametrize("module", MODULES, ids=relative)
def test_a_module_says_what_it_is_for_and_stays_small_enough_to_read(module: Path) -> None:
    text = module.read_text("utf-8")
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 400 or relative(module) in ONE_FILE


def test_the_readme_leads_to_every_page() -> None:
    assert PAGES, "docs/ holds no page"
    assert [page for page in map(relative, PAGES) if page not in links(README)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_a_link_inside_the_project_leads_somewhere(document: Path) -> None:
    assert [target for target in links(document) if not (document.parent / target).exists()] == []


def test_every_extra_is_documented_and_every_documented_extra_exists() -> None:
    text = "\n".join(page.read_text("utf-8") for page in [README, *PAGES])
    named = re.findall(rf"{PROJECT['project']['name']}\[([\w,-]+)\]", text)
    assert {extra for names in named for extra in names.split(",")} == set(PROJECT["project"]["optional-dependencies"])
