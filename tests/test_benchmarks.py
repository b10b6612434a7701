"""The benchmarks still run; what they measure is no business of a test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks" / "local.py"


def local(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


def test_a_row_is_a_line_of_a_table_and_a_resumed_run_runs_only_the_failed_item_again(tmp_path: Path) -> None:
    done = local(tmp_path, "--quick", "--rows", "resume")
    assert (done.returncode, done.stderr) == (0, "")
    head, rule, row = ([cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines())
    assert head == ["what", "bar", "lokki", "beside", "ratio", ""]
    assert rule == ["---"] * len(head)
    assert row == ["run again after item 90 of 100 failed: items that run twice", "≤ 1", "1", "-", "-", "holds"]


def test_a_row_that_does_not_exist_is_refused_with_the_names_of_those_that_do(tmp_path: Path) -> None:
    done = local(tmp_path, "--rows", "speed")
    assert done.returncode == 1
    assert "No row is called 'speed'" in done.stderr
    assert "map-durable" in done.stderr
