"""A package has the project's files that a flow reaches through its imports, and no others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lokki.builder.source import Source, collect
from lokki.errors import BuildError
from lokki.settings import IncludeConfig, LokkiConfig
from tests.builder.projects import flow_in, write

ITSELF = """
    from lokki import flow, step

    @step
    def sing():
        return "tweet"

    @flow
    def finch_flow():
        return sing()

    if __name__ == "__main__":
        from lokki.builder.source import collect
        from lokki.errors import BuildError
        from lokki.settings import LokkiConfig
        try:
            source = collect(finch_flow, LokkiConfig())
            print(source.module, source.root, *source.files)
        except BuildError as error:
            print(error)
"""


def collected(folder: Path, files: dict[str, str], *include: str) -> Source:
    """What belongs to the flow in finches.py, beside these files."""
    write(folder, {"finches.py": "", **files})
    return collect(flow_in(folder / "finches.py"), LokkiConfig(include=IncludeConfig(include)))


def shipped(folder: Path, files: dict[str, str], *include: str) -> list[str]:
    """The paths in the package, without the flow's own file."""
    return [path for path in collected(folder, files, *include).files if path != "finches.py"]


@pytest.mark.parametrize(
    ("script", "command", "module"),
    [
        ("finches.py", ["finches.py"], "finches"),
        ("finches.py", ["./finches.py"], "finches"),
        ("nest/flows/finches.py", ["-m", "nest.flows.finches"], "nest.flows.finches"),
        ("nest/__main__.py", ["-m", "nest"], "nest.__main__"),
    ],
)
def test_a_flow_is_imported_under_the_name_that_it_was_started_with(
    tmp_path: Path, script: str, command: list[str], module: str
) -> None:
    write(tmp_path, {script: ITSELF})
    assert started(tmp_path, command) == f"{module} {tmp_path} {script}"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("my-finches.py", "for example to my_finches.py"),
        ("2finches.py", "for example to flow_2finches.py"),
        ("calendar.py", "has the name of a module of Python itself"),
        ("handler.py", "handler.py, which is a file that the build itself writes"),
    ],
)
def test_a_name_that_no_function_can_import_is_refused(tmp_path: Path, script: str, said: str) -> None:
    write(tmp_path, {script: ITSELF})
    assert said in started(tmp_path, [script])


def started(folder: Path, command: list[str]) -> str:
    return subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_script_that_a_package_hides_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="hidden by another module named 'finches'"):
        collected(tmp_path, {"finches/__init__.py": ""})


def test_a_flow_without_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="'finch-flow' is not in a Python file"):
        collect(flow_in(tmp_path / "typed in"), LokkiConfig())


@pytest.mark.parametrize(
    "text",
    [
        "import song",
        "import os, song as s",
        "from song import *",
        "from song import verse",
        "def later():\n    import song",
        "try:\n    import song\nexcept ImportError:\n    song = None",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import other\nelse:\n    import song",
        "import importlib\ndef later():\n    return importlib.import_module('song')",
        "import middle",
    ],
)
def test_a_module_that_is_imported_comes_along(tmp_path: Path, text: str) -> None:
    files = {"finches.py": text, "song.py": "", "other.py": "", "middle.py": "import song\nimport finches\n"}
    assert [path for path in shipped(tmp_path, files) if path != "middle.py"] == ["song.py"]


@pytest.mark.parametrize(
    "text",
    [
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import song",
        "import typing\nif typing.TYPE_CHECKING:\n    import song",
        "import lokki, twingraph, boto3, json\nimport os.path\nfrom . import song",
        "song = '\\d'",
    ],
)
def test_a_module_that_is_not_imported_stays_behind(tmp_path: Path, text: str) -> None:
    files = {"finches.py": text, "song.py": "", "lokki/__init__.py": "", "boto3/notes.txt": ""}
    source = collected(tmp_path, files)
    assert (list(source.files), source.third_party) == (["finches.py"], ())


def test_a_package_comes_whole_and_brings_what_its_modules_import(tmp_path: Path) -> None:
    files = {
        "finches.py": "from nest import egg",
        "nest/__init__.py": "",
        "nest/egg.py": "from nest.deep import shell\nfrom . import other\nfrom .deep.shell import colour",
        "nest/other.py": "import numpy.linalg",
        "nest/deep/shell.py": "import song",
        "nest/deep/colours.csv": "blue",
        "nest/__pycache__/egg.cpython-313.pyc": "",
        "nest/stale.pyc": "",
        "nest/.cache/entry": "",
        "nest/.env": "SECRET=1",
        "nest/earlier/lokki-build.json": "{}",
        "nest/earlier/template.yaml": "",
        "nest/env/pyvenv.cfg": "",
        "nest/env/lib.py": "import nothing",
        "lokki-build/statemachine.json": "",
        "song.py": "",
        "README.md": "",
    }
    source = collected(tmp_path, files)
    assert list(source.files) == [
        "finches.py",
        "nest/__init__.py",
        "nest/deep/colours.csv",
        "nest/deep/shell.py",
        "nest/egg.py",
        "nest/other.py",
        "song.py",
    ]
    assert source.files["nest/deep/colours.csv"] == b"blue"
    assert source.third_party == ("numpy",)


def test_what_a_build_wrote_into_a_package_is_not_part_of_it(tmp_path: Path) -> None:
    files = {"finches.py": "import nest", "nest/__init__.py": "", "nest/out/template.yaml": "", "nest/out.py": ""}
    write(tmp_path, files)
    source = collect(flow_in(tmp_path / "finches.py"), LokkiConfig(build_dir="nest/out"))
    assert list(source.files) == ["finches.py", "nest/__init__.py", "nest/out.py"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from notes import first", ["notes/data.csv", "notes/first.py"]),
        ("import notes.first", ["notes/data.csv", "notes/first.py"]),
        ("import notes", []),
        ("from notes import second", []),
        ("import notes\nfrom notes import first", ["notes/data.csv", "notes/first.py"]),
    ],
)
def test_a_folder_without_init_is_meant_only_when_it_has_what_is_wanted(
    tmp_path: Path, text: str, found: list[str]
) -> None:
    source = collected(tmp_path, {"finches.py": text, "notes/first.py": "", "notes/data.csv": ""})
    assert list(source.files) == ["finches.py", *found]
    assert source.third_party == (() if found else ("notes",))


def test_modules_are_found_beside_the_script_and_in_the_project_around_it(tmp_path: Path) -> None:
    files = {
        "pyproject.toml": "[project]\nname = 'finches'\n",
        "flows/finches.py": "import near, song, nest, calendar",
        "flows/near.py": "'here'",
        "near.py": "'there'",
        "src/nest/__init__.py": "",
        "src/song.py": "",
        "calendar.py": "",  # on the path of a project it comes after Python's own
    }
    write(tmp_path, files)
    source = collect(flow_in(tmp_path / "flows/finches.py"), LokkiConfig())
    assert list(source.files) == ["finches.py", "near.py", "nest/__init__.py", "song.py"]
    assert source.files["near.py"] == b"'here'"
    assert (source.project, source.root) == (str(tmp_path), str(tmp_path / "flows"))


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write(tmp_path, {"elsewhere/egg.py": "", "finches.py": "import nest", "nest/__init__.py": ""})
    os.symlink(tmp_path / "elsewhere", tmp_path / "nest" / "eggs")
    os.symlink(tmp_path / "nest", tmp_path / "elsewhere" / "back")
    os.symlink(tmp_path / "gone", tmp_path / "nest" / "broken.py")
    assert shipped(tmp_path, {"finches.py": "import nest"}) == ["nest/__init__.py", "nest/eggs/egg.py"]
    found = shipped(tmp_path, {"finches.py": "import os"}, "nest/**/*.py")
    assert found == ["nest/__init__.py", "nest/eggs/egg.py"]


@pytest.mark.parametrize(("text", "line"), [("x = 1\ndef f(:\n", "line 2"), ("x = '\0'", "not valid Python")])
def test_a_file_that_is_not_python_is_named(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(BuildError, match=rf"song\.py.*{line}"):
        collected(tmp_path, {"finches.py": "import song", "song.py": text})


DATA = {"data/a.parquet": "", "data/more/b.parquet": "", "data/.hidden/c.parquet": "", "queries/q.sql": "", "notes": ""}


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("data/*.parquet", ["data/a.parquet"]),
        ("data/**/*.parquet", ["data/a.parquet", "data/more/b.parquet"]),
        ("data/**", ["data/a.parquet", "data/more/b.parquet"]),
        ("**/q.sql", ["queries/q.sql"]),
        ("./queries/[p-r].*", ["queries/q.sql"]),
        ("data/.hidden/*", ["data/.hidden/c.parquet"]),
        ("n?tes", ["notes"]),
        ("*.py", []),
    ],
)
def test_included_files_keep_their_place(tmp_path: Path, pattern: str, found: list[str]) -> None:
    source = collected(tmp_path, DATA, pattern)
    assert list(source.files) == sorted(["finches.py", *found])
    assert source.warnings == ()


@pytest.mark.parametrize(
    ("pattern", "said"),
    [("*.csv", "'*.csv' matches no file in "), ("data", "; for all that is in that folder write 'data/**'")],
)
def test_a_pattern_that_matches_no_file_is_a_warning(tmp_path: Path, pattern: str, said: str) -> None:
    (warning,) = collected(tmp_path, DATA, pattern, "notes").warnings
    assert said in warning


@pytest.mark.parametrize("pattern", ["../secrets/*", "data/../../x", "/etc/passwd"])
def test_a_pattern_that_leads_out_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(BuildError, match="leads out of the folder") as caught:
        collected(tmp_path, DATA, pattern)
    assert repr(pattern) in str(caught.value)


@pytest.mark.parametrize("path", ["handler.py", "lokki_flow.json", "lokki/data.csv"])
def test_an_included_file_does_not_replace_a_generated_one(tmp_path: Path, path: str) -> None:
    with pytest.raises(BuildError, match=f"include.paths brings {path}"):
        collected(tmp_path, {path: ""}, path)


@pytest.mark.parametrize(
    ("project", "said"),
    [
        (None, r"imports numpy and pandas.*write a pyproject\.toml beside finches\.py .* run `uv lock`"),
        (
            "[project]\nname = 'finches'\ndependencies = ['lokki-twingraph[dask]']",
            r"pyproject\.toml asks for no packages",
        ),
        ("[project]\nname = 'lokki_twingraph'\ndependencies = ['boto3']", r"pyproject\.toml asks for no packages"),
        ("[project]\nname = 'finches'\ndependencies = ['pandas']", None),
    ],
)
def test_a_package_that_nothing_asks_for_is_a_warning(tmp_path: Path, project: str | None, said: str | None) -> None:
    files = {"finches.py": "import pandas as pd\nfrom numpy import array\n"}
    source = collected(tmp_path, files | ({"pyproject.toml": project} if project else {}))
    assert source.third_party == ("numpy", "pandas")
    if said is None:
        assert source.warnings == ()
    else:
        (warning,) = source.warnings
        assert re.search(said, warning)
