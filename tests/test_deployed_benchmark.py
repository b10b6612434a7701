"""The page shows what the cost model says of a deployed run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "benchmarks" / "deployed.py"
BEGIN, END = "<!-- figures: benchmarks/deployed.py --write -->", "<!-- end of figures -->"


def test_the_page_shows_what_the_model_says_now(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=True)
    _, begin, rest = (ROOT / "docs" / "benchmarks.md").read_text("utf-8").partition(BEGIN)
    assert begin
    shown = rest.partition(END)[0]
    assert shown.strip().splitlines() == done.stdout.splitlines(), (
        "run python benchmarks/deployed.py --simulate --write"
    )
