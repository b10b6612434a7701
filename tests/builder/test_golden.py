"""What four representative flows are built into, held as files that people can read and reviews can compare."""

from __future__ import annotations

import difflib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
RENEW = "RENEW_GOLDEN=1 pytest tests/builder/test_golden.py"
FILES = ("statemachine.json", "template.yaml", "sam.yaml", "lokki_flow.json")

BIRDS = """
[lambda]
package_type = "zip"
"""
SIGHTINGS = """
[aws]
prefix = "teams/birds"
[lambda]
package_type = "zip"
timeout = 20
architecture = "arm64"
"""
TRAINING = """
[aws]
image_repository = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/team"
lambda_execution_role = "arn:aws:iam::123456789012:role/birds"
[lambda]
package_type = "zip"
[batch]
job_queue = "gpus"
job_definition_name = "songs"
env = { THREADS = "8" }
"""
NIGHTLY = """
[aws]
image_repository = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/team"
[lambda]
image_tag = "v7"
env = { TZ = "Europe/Zurich", LEVEL = "debug" }
[secrets.secret_arns]
API_TOKEN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:api-a1B2c3"
DB_PASSWORD = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-d4E5f6:SecretString:password"
"""
CASES = {
    "birds": (ROOT / "examples" / "birds.py", BIRDS, []),
    "sightings": (GOLDEN / "sightings.py", SIGHTINGS, ["--species", "goose,duck", "--since", "2026-03-01"]),
    "training": (GOLDEN / "training.py", TRAINING, []),
    "nightly": (GOLDEN / "nightly.py", NIGHTLY, ["--tag", "${FlowName} $.y"]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_build_gives_what_it_gave_before(name: str, tmp_path: Path) -> None:
    found = built(name, tmp_path)
    folder = GOLDEN / name
    if os.environ.get("RENEW_GOLDEN"):
        folder.mkdir(exist_ok=True)
        for file, text in found.items():
            (folder / file).write_text(text, "utf-8")
    changes = [line for file in FILES for line in changed(folder / file, found[file])]
    if changes:
        pytest.fail("\n".join([*changes, f"If that is meant, renew what is kept with: {RENEW}"]), pytrace=False)


def changed(path: Path, text: str) -> list[str]:
    """How a text differs from what is kept of it."""
    kept = path.read_text("utf-8") if path.exists() else ""
    name = path.relative_to(ROOT).as_posix()
    return list(difflib.unified_diff(kept.splitlines(), text.splitlines(), name, f"{name}, as built now", lineterm=""))


def built(name: str, folder: Path) -> dict[str, str]:
    """The texts of a build, with zeros for the hash of the code: that changes with each edit of this library."""
    script, settings, flags = CASES[name]
    (folder / "lokki.toml").write_text(settings, "utf-8")
    own = {name: text for name, text in os.environ.items() if not name.startswith(("LOKKI_", "AWS_"))}
    environ = {**own, "LOKKI_ARTIFACT_BUCKET": "birds-artifacts"}
    command = [sys.executable, str(script), "build", *flags]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = folder / "lokki-build"
    texts = {file: (made / file).read_text("utf-8") for file in FILES[:3]} | {FILES[3]: program(made / "lambdas")}
    code = json.loads((made / "lokki-build.json").read_text("utf-8"))["code"]
    assert code in texts["template.yaml"]
    return {file: _zeroed(text, code) for file, text in texts.items()}


def program(package: Path) -> str:
    """The program of a package, in its zip or in the folder of its image."""
    if not (package / "function.zip").exists():
        return (package / "lokki_flow.json").read_text("utf-8")
    with zipfile.ZipFile(package / "function.zip") as archive:
        return archive.read("lokki_flow.json").decode()


def _zeroed(text: str, code: str) -> str:
    return text.replace(code, "0" * len(code)).replace(code[:16], "0" * 16)
