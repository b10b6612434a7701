"""Modules that tests write and import, as a project's own."""

from __future__ import annotations

import sys
import textwrap
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

START = """
from __future__ import annotations
from typing import Any
from lokki import RetryConfig, flow, main, step
"""


def imported(patch: pytest.MonkeyPatch, folder: Path, name: str, text: str) -> ModuleType:
    """A module of this name with the text in it, in a file of the folder; it is known for as long as the test runs."""
    path = folder / f"{name}.py"
    path.write_text(START + textwrap.dedent(text), "utf-8")
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    patch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module
