"""`python flow.py build` as a person meets it: what is written and said, what is refused and how."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.builder.projects import write

HEAD = """
from __future__ import annotations
from datetime import date, datetime
from enum import Enum
from typing import Any, Literal
from lokki import RetryConfig, flow, main, step

@step
def visits(*given: Any, **named: Any) -> list[Any]:
    return [*given, *named.values()]

@step
def look(visit: Any) -> Any:
    return visit

@step(job_type="batch")
def study(visits: list[Any]) -> list[Any]:
    return visits
"""
MAIN = """
if __name__ == "__main__":
    main(watch)
"""


@pytest.fixture
def project(at_home: Path) -> Path:
    """A folder for a project, with nothing configured."""
    return write(at_home / "project", {})


def flow_file(folder: Path, body: str, decorator: str = "@flow") -> None:
    write(folder, {"watch.py": f"{HEAD}\n{decorator}\n{body}\n{MAIN}"})


def build(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """`python watch.py build` in this folder."""
    own = {name: text for name, text in os.environ.items() if not name.startswith(("LOKKI_", "AWS_"))}
    return subprocess.run(
        [sys.executable, "watch.py", "build", *arguments],
        cwd=folder,
        env={**own, "LOKKI_ARTIFACT_BUCKET": "bird-artifacts", **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def built(folder: Path, *arguments: str, **environ: str) -> str:
    """What a build that succeeds prints."""
    done = build(folder, *arguments, **environ)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def refused(folder: Path, *arguments: str, **environ: str) -> str:
    """The error of a build that writes nothing."""
    done = build(folder, *arguments, **environ)
    assert (done.returncode, done.stdout) == (1, "")
    assert not (folder / "lokki-build").exists()
    return done.stderr


def defaults(folder: Path) -> Any:
    """The defaults of the machine that was built; None where it has none."""
    machine = json.loads((folder / "lokki-build/statemachine.json").read_text())
    told = machine["States"][machine["StartAt"]]["Parameters"]["Payload"].get("defaults")
    return None if told is None else json.loads(told)


# --- what is written and said


def test_a_zip_is_summed_up(project: Path) -> None:
    flow_file(project, "def watch(days: int = 3): return visits(days).map([look, look], direct_pass=True).agg(look)")
    write(project, {"lokki.toml": '[lambda]\npackage_type = "zip"\n'})
    out = built(project)
    written = sorted(path.name for path in (project / "lokki-build").rglob("*") if path.is_file())
    assert written == [
        ".gitignore",
        "function.zip",
        "lokki-build.json",
        "sam.yaml",
        "statemachine.json",
        "template.yaml",
    ]
    lines = out.splitlines()
    assert lines[0] == "Built watch into lokki-build/"
    for line, name in zip(lines[1:6], ["lambdas/function.zip", *written[2:]], strict=True):
        size = (project / "lokki-build" / name).stat().st_size
        assert re.fullmatch(rf"  {name} +({size} B|{size / 1024:.1f} kB|{size / 1024:.0f} kB)", line)
    assert "functions   3: visits, visits-map, look" in lines
    assert "states      4" in lines
    sizes = r"\d+(\.\d)? kB"
    assert re.search(
        rf"^code        a zip of {sizes}; {sizes} of the 250 MB that Lambda takes unzipped "
        rf"\(lokki {sizes}, lokki_flow\.json {sizes}, watch\.py \d+ B\)$",
        out,
        re.MULTILINE,
    )
    assert "schedule" not in out
    assert "Batch" not in out.partition("Estimate")[0]


def test_an_image_with_jobs_and_a_schedule_is_summed_up(project: Path) -> None:
    flow_file(project, "def watch(): return study([1]).map(look)", '@flow(schedule="rate(2 hours)")')
    out = built(project, LOKKI_BATCH_JOB_QUEUE="jobs")
    folder = project / "lokki-build"
    top = {path.name for path in folder.iterdir()}
    assert top == {
        ".gitignore",
        "batch",
        "lambdas",
        "lokki-build.json",
        "sam.yaml",
        "statemachine.json",
        "template.yaml",
    }
    assert {path.name for path in (folder / "lambdas").iterdir()} >= {"Dockerfile", "handler.py", "watch.py", "lokki"}
    assert {path.name for path in (folder / "batch").iterdir()} >= {"Dockerfile", "batch.py", "batch_main.py"}
    files = sum(1 for path in (folder / "lambdas").rglob("*") if path.is_file())
    assert re.search(rf"^  lambdas/ +\d+ kB  {files} files$", out, re.MULTILINE)
    assert re.search(r"^  batch/ +\d+ kB  \d+ files$", out, re.MULTILINE)
    for line in ("functions   2: start, look", "Batch jobs  study", "states      4", "schedule    rate(2 hours)"):
        assert line in out.splitlines()
    assert re.search(
        r"^code        an image on this machine .*; .* besides the packages that it installs", out, re.MULTILINE
    )


def test_the_cost_is_estimated(project: Path) -> None:
    flow_file(project, "def watch(): return visits().map(look, batch_size=10).agg(look)")
    out = built(project)
    assert "Estimate for 1,000 items through each map" in out
    estimate = out.partition("Estimate")[2]
    for what in ("state transitions", "child executions", "Lambda", "S3 requests", "cost"):
        assert re.search(rf"^  {what} +\S+", estimate, re.MULTILINE)


def test_building_again_gives_the_same_and_leaves_nothing_beside_it(project: Path) -> None:
    flow_file(project, "def watch(): return visits()")
    assert built(project) == built(project, "--log-level", "ERROR")
    assert {path.name for path in project.iterdir()} == {"watch.py", "lokki-build"}


def test_a_build_may_go_elsewhere(project: Path, at_home: Path) -> None:
    flow_file(project, "def watch(): return visits()")
    out = built(project, LOKKI_BUILD_DIR=str(at_home / "out" / "watch"))
    assert out.startswith(f"Built watch into {at_home}/out/watch/\n")
    assert (at_home / "out/watch/template.yaml").exists()


def test_a_warning_is_told_beside_the_summary(project: Path) -> None:
    flow_file(project, "def watch(): return visits()")
    write(project, {"lokki.toml": '[include]\npaths = ["*.csv"]\n'})
    done = build(project)
    assert done.returncode == 0
    assert re.fullmatch(r"\[WARNING\] include\.paths: '\*\.csv' matches no file in .*project\n", done.stderr)
    assert done.stdout.startswith("Built watch into")


# --- parameters


def test_required_parameters_need_no_values(project: Path) -> None:
    flow_file(
        project, "def watch(place: str, since: date, kind: Literal['owl', 'gull'], days: int = 1): return visits()"
    )
    built(project)
    assert defaults(project) is None
    built(project, "--place", "${FlowName}", "--since=2026-03-01", "--days", "7")
    assert defaults(project) == {"place": "${FlowName}", "since": {"$date": "2026-03-01"}, "days": 7}


def test_a_flow_that_computes_with_its_parameters_is_built(project: Path) -> None:
    flow_file(
        project,
        "def watch(begin: str, days: str, places: list[str]):\n"
        "    first = datetime.strptime(begin, '%Y-%m-%d')\n"
        "    return visits(first.year + int(days), places[0].title())",
    )
    built(project)
    told = (project / "lokki-build/lambdas/lokki_flow.json").read_text()
    assert "2000" not in told


def test_a_member_of_an_enum_becomes_a_default(project: Path) -> None:
    flow_file(
        project, "def watch(kind: Kind): return visits()\n", "class Kind(Enum):\n    OWL = 1\n    GULL = 2\n@flow"
    )
    built(project, "--kind", "GULL")
    assert defaults(project) == {"kind": "GULL"}


def test_a_flow_that_no_sample_suits_asks_for_values(project: Path) -> None:
    flow_file(project, "def watch(kind: str, day: int): return visits({'owl': 1}[kind])")
    assert refused(project) == (
        "error: The flow function 'watch' fails with sample values for its required parameters "
        "(with --kind 'sample', --day 1: KeyError: 'sample'). "
        "Give it values that it can be built with: build --kind ... --day ...; they become the defaults of the "
        "deployed flow.\n"
    )
    built(project, "--kind", "owl")
    assert defaults(project) == {"kind": "owl"}


def test_a_mistake_in_the_flow_function_is_shown_as_the_users(project: Path) -> None:
    flow_file(project, "def watch(days: int = 1): return visits(1 / (days - 1))")
    error = refused(project)
    assert "in watch\n" in error
    assert "ZeroDivisionError" in error
    assert "lokki/" not in error
    assert error.endswith("error: The flow function 'watch' failed before any step ran.\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--days", "two"], "error: Invalid value for '--days': 'two' is not a valid integer\n"),
        (["--dayz", "2"], "error: Unexpected parameter: '--dayz'; did you mean '--days'?\n"),
        (["days"], "error: Unexpected argument: 'days'; a parameter is written as '--days value'\n"),
    ],
)
def test_wrong_flags_are_explained(project: Path, arguments: list[str], said: str) -> None:
    flow_file(project, "def watch(days: int): return visits(days)")
    assert refused(project, *arguments) == said


def test_a_schedule_needs_every_parameter(project: Path) -> None:
    flow_file(project, "def watch(days: int): return visits(days)", '@flow(schedule="rate(1 day)")')
    assert refused(project) == (
        "error: Flow 'watch' starts by itself (rate(1 day)), and nothing gives it --days: give a default in its "
        "signature, or build with --days ...\n"
    )
    assert "schedule    rate(1 day)" in built(project, "--days", "3")


# --- what is refused


def test_no_bucket_is_one_sentence_that_names_it(project: Path) -> None:
    flow_file(project, "def watch(): return visits()")
    error = refused(project, LOKKI_ARTIFACT_BUCKET="")
    assert error.startswith("error: aws.artifact_bucket is not set: name the S3 bucket")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("body", "decorator", "said"),
    [
        ("def watch(): return study([1])", "@flow", r"batch\.job_queue is not set, and 'study' runs on AWS Batch"),
        ("def watch(): return slow()", "@step(timeout_seconds=901)\ndef slow(): ...\n@flow", "allows 900: lower it"),
        ("def watch(): return big()", "@step(memory_mb=99)\ndef big(): ...\n@flow", "allows 128 to 10240: change it"),
        (
            "def watch(): return inner()",
            "def made():\n    @step\n    def inner(): ...\n    return inner\ninner = made()\n@flow",
            "Step 'inner' is defined inside a function",
        ),
        (
            "def watch(): return first()",
            "@step\ndef look2(): ...\nfirst, look2 = look2, None\n@flow",
            r"Step 'look2' is not what __main__\.look2 names",
        ),
    ],
)
def test_what_cannot_be_compiled_is_one_sentence(project: Path, body: str, decorator: str, said: str) -> None:
    flow_file(project, body, decorator)
    error = refused(project)
    assert re.match(f"error: .*{said}", error)
    assert error.count("\n") == 1


def test_a_flow_inside_a_function_is_refused(project: Path) -> None:
    inside = "\ndef hidden():\n    @flow\n    def watch(): return visits()\n    main(watch)\nhidden()\n"
    write(project, {"watch.py": HEAD + inside})
    error = "error: Flow 'watch' is not at the top of its module '__main__', so a deployed function cannot import it."
    assert refused(project) == f"{error} Move it there.\n"


def test_a_folder_that_is_not_ours_is_left_alone(project: Path) -> None:
    flow_file(project, "def watch(): return visits()")
    write(project, {"lokki-build/diary.txt": "dear diary"})
    done = build(project)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: lokki-build holds files that no build has made")
    assert [path.name for path in (project / "lokki-build").iterdir()] == ["diary.txt"]
    done = build(project, LOKKI_BUILD_DIR="watch.py")
    assert (done.returncode, done.stderr) == (1, "error: watch.py is a file: set build_dir to another folder.\n")


# --- help


def test_help_teaches(project: Path) -> None:
    flow_file(project, "def watch(place: str, days: int = 3): return visits()")
    done = build(project, "--help")
    assert done.returncode == 0
    for line in (
        "usage: python watch.py build [options] [--place ...] [--days ...]",
        "Nothing is sent anywhere. Parameters given here become the defaults of the deployed flow; required ones may",
        "  python watch.py build",
        "  python watch.py build",
    ):
        assert line in done.stdout.splitlines()
    assert re.search(r"^  --place text +required$", done.stdout, re.MULTILINE)
    assert re.search(r"^  --days integer +default: 3$", done.stdout, re.MULTILINE)
