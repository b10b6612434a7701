"""A function starts quickly, and needs no module that its package lacks, whatever the flow looks like."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLACES = [str(ROOT), str(ROOT / "tests" / "shipped")]
HEAVY = {
    "argparse", "asyncio", "boto3", "botocore", "cloudpickle", "isal", "yaml",
    "lokki.cli", "lokki.config", "lokki.console", "lokki.hints", "lokki.logging", "lokki.runner", "lokki.settings",
    "lokki.store.local", "lokki.store.memory",
}  # fmt: skip


def told_by(code: str, folder: Path) -> list[str]:
    """The words that a Python of its own prints, which knows this project's folders."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {PLACES}\n{code}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("module", ["lokki.runtime.handler", "lokki.runtime.batch"])
def test_an_entry_loads_nothing_heavy(tmp_path: Path, module: str) -> None:
    loaded = told_by(f"import {module}; print(*sys.modules)", tmp_path)
    assert module in loaded
    assert HEAVY & set(loaded) == set()
    assert [name for name in loaded if name.startswith(("lokki.builder", "lokki.simulate", "lokki.commands"))] == []


def test_a_flow_adds_only_what_it_is_written_with(tmp_path: Path) -> None:
    code = "import lokki.runtime.handler, built_flows; print(*sys.modules)"
    assert HEAVY & set(told_by(code, tmp_path)) == set()


EVERY_FLOW = """
from lokki.builder.package import runtime_files
from built_flows import FLOWS, config
from tests.runtime.machine import Machine

machines = {name: Machine(made(), config()) for name, made in FLOWS.items()}
paths = [path.removesuffix(".py").removesuffix("/__init__") for path in runtime_files()]
packaged = {path.replace("/", ".") for path in paths}


class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "lokki" and name not in packaged:
            lacked.append(name)
            raise ModuleNotFoundError(f"a package lacks {name}")


lacked = []
for name in [each for each in sys.modules if each.partition(".")[0] == "lokki" and each not in packaged]:
    del sys.modules[name]
sys.meta_path.insert(0, Lacking())
said, sys.stdout = sys.stdout, open("log", "w")
try:
    import lokki.config
except ModuleNotFoundError:
    assert lacked.pop() == "lokki.config"
for name, machine in machines.items():
    results = [machine.execute("e1"), machine.execute("e2", run_id="mine"), machine.execute("e3", run_id="mine")]
    assert results[0] == results[1] == results[2], name
print(*lacked, *(each for each in sys.modules if each.startswith("lokki.") and each not in packaged), file=said)
"""


def test_every_flow_runs_on_what_a_package_has(tmp_path: Path) -> None:
    assert told_by(EVERY_FLOW, tmp_path) == []
    assert (tmp_path / "log").read_text().count('"step_complete"') > 100
