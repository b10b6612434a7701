"""What docs/deploying.md shows for others to copy: its workflow, its policies, its commands and their options."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "deploying.md").read_text("utf-8")
COMMANDS = ("deploy", "invoke", "show", "logs", "redrive", "destroy", "simulate", "build")


@cache
def told_of(command: str) -> str:
    """The help of a command."""
    asked = [sys.executable, str(ROOT / "examples" / "birds.py"), command, "--help"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout


def blocks(language: str) -> list[str]:
    """The blocks of the page that are in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_workflow_is_one() -> None:
    (text,) = blocks("yaml")
    workflow: dict[Any, Any] = yaml.safe_load(text)
    assert workflow[True] == {"pull_request": None, "push": {"branches": ["main"]}}  # YAML takes `on` for a truth
    assert workflow["permissions"]["id-token"] == "write"
    jobs = workflow["jobs"]
    assert jobs["deploy"]["needs"] in jobs
    steps = [each for job in jobs.values() for each in job["steps"]]
    for step in steps:
        assert step.keys() <= {"uses", "with", "run"}
        assert ("uses" in step) != ("run" in step)
        assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "a/b@v1"))
    assert [each["run"].partition("birds.py ")[2] for each in steps if "birds.py" in each.get("run", "")] == [
        "simulate --compare",
        "deploy --confirm",
    ]


def test_its_policies_are_json() -> None:
    policies = [json.loads(each) for each in blocks("json")]
    assert [each["Version"] for each in policies] == ["2012-10-17"] * 2


def test_compose_listens_on_loopback_only() -> None:
    compose = yaml.safe_load((ROOT / "dev" / "docker-compose.yml").read_text("utf-8"))
    for name, service in compose["services"].items():
        assert service["image"], name
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", ()))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_the_options_that_the_page_uses(command: str) -> None:
    used = re.findall(rf"birds\.py {command}\b([^\n`]*)", PAGE)
    section = PAGE.partition(f"\n## {command}\n")[2].partition("\n## ")[0]
    told = re.findall(r"^\| (`--[^|]*) \|", section, re.MULTILINE)
    flags = {flag for text in [*used, *told] for flag in re.findall(r"(?<!\S|-)`?(--[a-z][a-z-]*)", text)}
    assert {flag for flag in flags if not re.search(rf"{flag}\b", told_of(command))} == set()
