"""Projects that tests make in a folder of their own."""

from __future__ import annotations

import textwrap
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lokki.decorators import Flow


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """The folder with these files in it."""
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(textwrap.dedent(text), "utf-8")
    return folder


def flow_in(path: Path, module: str = "") -> Flow:
    """A flow that says to be defined in this file, which is not run."""
    scope: dict[str, Any] = {"__name__": module or path.stem}
    exec(compile("def finch_flow(): ...", str(path), "exec"), scope)
    return Flow(scope["finch_flow"])


def wheel(folder: Path, name: str, tag: str = "py3-none-any", large: int = 0) -> Path:
    """The smallest package that can be installed: a module that says what it is called, and is so many bytes larger."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}/__init__.py": f"NAME = {name!r}\n" + "#" * large,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:NAME\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    path = folder / f"{name}-1.0-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for each, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(each, text)
    return path
