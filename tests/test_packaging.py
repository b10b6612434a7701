"""The distribution `twingraph-sdk`: a name for the client, with the version of the distribution that has the code."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SDK = ROOT / "packaging" / "twingraph-sdk"
MAIN: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=SDK, check=True, capture_output=True, timeout=60)
    (made,) = folder.glob("*.whl")
    return made


def test_the_wheel_needs_the_client_and_has_no_code(wheel: Path) -> None:
    version = MAIN["version"]
    assert wheel.name == f"twingraph_sdk-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as opened:
        names = {name.partition("/")[2] for name in opened.namelist()}
        told = Parser().parsestr(opened.read(f"twingraph_sdk-{version}.dist-info/METADATA").decode())
    assert names == {"METADATA", "WHEEL", "RECORD"}
    needed = told.get_all("Requires-Dist") or []
    assert needed[0] == f"lokki-twingraph[client]=={version}"
    assert f"lokki-twingraph[client,processes,server]=={version}; extra == 'dev'" in needed
    assert (told["Requires-Python"], told["License-Expression"]) == (MAIN["requires-python"], MAIN["license"])
    assert "twingraph.client" in told.get_payload()


def test_the_extra_of_the_client_has_no_server() -> None:
    extras = MAIN["optional-dependencies"]
    assert {each.split(">")[0] for each in extras["client"]} == {"httpx", "pydantic", "websockets"}
