"""A flow file of a name that nobody else uses, and its commands as a person types them."""

from __future__ import annotations

import json
import os
import pty
import re
import runpy
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.aws_calls import noting, recording
from tests.builder.projects import write
from tests.moto_server import LOST, Asked, Relay, Reply, refusal

BIRDS = """
    from lokki import flow, main, step

    @step
    def get_birds(): return ["goose", "duck"]

    @step
    def flap_bird(bird): return f"flappy {bird}"

    @step
    def join_birds(birds): return ", ".join(birds)

    @flow
    def NAME(): return get_birds().map(flap_bird).agg(join_birds)

    if __name__ == "__main__":
        main(NAME)
"""


@dataclass
class Project:
    """A folder with a flow file in it.

    Attributes:
        settings: environment variables of its commands.
    """

    folder: Path
    settings: dict[str, str]
    name: str = field(default_factory=lambda: f"birds_{uuid.uuid4().hex[:10]}")
    text: str = BIRDS
    toml: str = '[lambda]\npackage_type = "zip"\n'

    @property
    def flow(self) -> str:
        """The flow's name."""
        return self.name.replace("_", "-")

    @property
    def stack(self) -> str:
        """The name of its stack."""
        return f"{self.flow}-stack"

    def change(self, old: str, new: str) -> None:
        """Change the text of the flow file."""
        assert old in self.text
        self.text = self.text.replace(old, new)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """A command that runs; it answers to `communicate`."""
        return subprocess.Popen(
            [sys.executable, "watch.py", *arguments],
            cwd=self._written(),
            env=self._environ(),
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )

    def _written(self) -> Path:
        return write(self.folder, {"watch.py": self.text.replace("NAME", self.name), "lokki.toml": self.toml})

    def _environ(self) -> dict[str, str]:
        own = {name: text for name, text in os.environ.items() if not name.startswith("LOKKI_")}
        return {**own, **recording(), **self.settings}

    def run(self, *arguments: str, answer: str | None = None) -> tuple[int, str, str]:
        """The exit code of a command, what it prints and what it says; with an answer, somebody is at the terminal."""
        if answer is None:
            with noting():
                return run_here(self._written(), self._environ(), "watch.py", *arguments)
        here, there = pty.openpty()
        try:
            process = self.start(*arguments, stdin=there)
            os.write(here, answer.encode())
            out, said = process.communicate(timeout=100)
        finally:
            os.close(here)
            os.close(there)
        return process.returncode, out, said

    def done(self, *arguments: str) -> tuple[str, str]:
        """What a command that succeeds prints and says."""
        code, out, said = self.run(*arguments)
        assert code == 0, said
        return out, said

    def refused(self, *arguments: str) -> str:
        """The error of a command that fails."""
        code, _, said = self.run(*arguments)
        assert code == 1, said
        return said


def run_here(folder: Path, environ: Mapping[str, str], *argv: str) -> tuple[int, str, str]:
    """What `python` would do with a file, done in this process, which takes a third of the time."""
    before, modules, code = dict(os.environ), set(sys.modules), 0
    with (
        chdir(folder),
        open(os.devnull) as nobody,
        redirect_stdout(StringIO()) as out,
        redirect_stderr(StringIO()) as said,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.syspath_prepend(folder)
        patch.setattr(sys, "stdin", nobody)
        patch.setattr(sys, "argv", list(argv))
        patch.setattr(tempfile, "tempdir", None)  # where it is may be told by the environment
        for name in before.keys() - environ.keys():
            patch.delenv(name)
        for name, value in environ.items():
            patch.setenv(name, value)
        try:
            runpy.run_path(argv[0], run_name="__main__")
        except SystemExit as end:
            code = int(end.code or 0)
    for name in [name for name in sys.modules if name not in modules and (folder / f"{name}.py").exists()]:
        del sys.modules[name]
    return code, out.getvalue(), said.getvalue()


def plan(out: str) -> list[str]:
    """The lines of the plan in what a deployment printed."""
    return [line.strip() for line in out.splitlines() if line.startswith("  ")]


class Between(Relay):
    """A relay that knows what is asked in the words of AWS.

    Attributes:
        replies: for an action, as in `cloudformation ExecuteChangeSet`, or a pattern, what answers; None passes it on.
        actions: all that was asked.
    """

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.replies: dict[str, Callable[[], Reply | None]] = {}
        self._last = ""
        self._expired = False
        self.actions: list[str] = []

    def answer(self, asked: Asked, body: bytes) -> Reply:
        name = action(asked, body)
        self.actions.append(name)
        own = self._own(name)
        if own is LOST:
            super().answer(asked, body)
        return own or super().answer(asked, body)

    def expire(self, last: str) -> None:
        """The credentials of those who ask expire with the first request that matches."""
        self._last, self._expired = last, False

    def cut(self, pattern: str, after: int, times: int | None = None) -> None:
        """Break the connections of those who send what matches after so many bytes, so many times or for ever."""
        left = count() if times is None else iter(range(times))

        def torn(asked: Asked) -> int | None:
            hit = re.fullmatch(pattern, action(asked, b"")) and next(left, None) is not None
            return after if hit else None

        self.torn = torn

    def _own(self, name: str) -> Reply | None:
        self._expired = self._expired or re.fullmatch(self._last, name) is not None
        if self._expired:
            return _expired(name)
        for pattern, reply in list(self.replies.items()):
            if name == pattern or re.fullmatch(pattern, name):
                return reply()
        return None

    def count(self, pattern: str) -> int:
        """How many of the actions match."""
        return sum(bool(re.fullmatch(pattern, each)) for each in self.actions)

    def project(self, folder: Path, bucket: str) -> Project:
        """A project that is deployed by way of this relay."""
        return Project(folder, {"LOKKI_AWS_ENDPOINT": self.url, "LOKKI_ARTIFACT_BUCKET": bucket})

    def deployed(self, project: Project) -> Project:
        """The same project, deployed; what was asked for that is forgotten."""
        project.done("deploy", "--confirm")
        self.actions.clear()
        return project


def _expired(name: str) -> Reply:
    """That credentials have expired, in the words of the service that is asked; HEAD has none."""
    text = "The security token included in the request is expired"
    service, _, what = name.partition(" ")
    match service:
        case "s3":
            return Reply(400) if what.startswith("HEAD") else refusal(400, "ExpiredToken", text)
        case "cloudformation" | "sts":
            return refusal_of("ExpiredToken", text, 403)
        case _:
            told = {"__type": "ExpiredTokenException", "message": text, "Message": text}
            return Reply(400, json.dumps(told).encode(), {"x-amzn-ErrorType": "ExpiredTokenException"})


def action(asked: Asked, body: bytes) -> str:
    """What is asked, as in `cloudformation DescribeStacks` or `s3 PUT /bucket/key`."""
    found = re.search(r"Credential=[^/]+/\d+/[^/]+/(\w+)/", asked.headers.get("Authorization", ""))
    service = found[1] if found else "?"
    if service in ("cloudformation", "sts"):
        return f"{service} {parse_qs(body.decode()).get('Action', ['?'])[0]}"
    target = asked.headers.get("X-Amz-Target") or asked.headers.get("x-amz-target")
    return f"{service} {target.rpartition('.')[2]}" if target else f"{service} {asked.method} {asked.path}"


def stack_says(status: str, project: Project, tags: Mapping[str, str] | None = None, change_set: str = "") -> Reply:
    """CloudFormation's answer that a stack is in that state."""
    told = {"lokki:managed": "true", "lokki:flow-name": project.flow} if tags is None else tags
    listed = "".join(f"<member><Key>{key}</Key><Value>{value}</Value></member>" for key, value in told.items())
    return answer_of(
        "DescribeStacks",
        f"<Stacks><member><StackId>{_arn(project)}</StackId><StackName>{project.stack}</StackName>"
        f"<ChangeSetId>arn:aws:cloudformation:us-east-1:1:changeSet/{change_set}</ChangeSetId>"
        f"<CreationTime>2026-01-02T03:04:05Z</CreationTime><StackStatus>{status}</StackStatus>"
        f"<Tags>{listed}</Tags></member></Stacks>",
    )


def events_say(project: Project, *events: tuple[str, str, str, str]) -> Reply:
    """CloudFormation's answer about events: logical name, type, status and reason of each, the newest first."""
    listed = "".join(
        f"<member><EventId>{uuid.uuid4()}</EventId><StackId>{_arn(project)}</StackId>"
        f"<StackName>{project.stack}</StackName><LogicalResourceId>{logical}</LogicalResourceId>"
        f"<PhysicalResourceId>{_arn(project) if kind == STACK else logical}</PhysicalResourceId>"
        f"<ResourceType>{kind}</ResourceType><Timestamp>2026-01-02T03:04:{59 - at:02}Z</Timestamp>"
        f"<ResourceStatus>{status}</ResourceStatus><ResourceStatusReason>{reason}</ResourceStatusReason></member>"
        for at, (logical, kind, status, reason) in enumerate(events)
    )
    return answer_of("DescribeStackEvents", f"<StackEvents>{listed}</StackEvents>")


STACK = "AWS::CloudFormation::Stack"
FUNCTION = "AWS::Lambda::Function"


def answer_of(name: str, inside: str) -> Reply:
    """CloudFormation's answer to an action."""
    text = (
        f'<{name}Response xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/">'
        f"<{name}Result>{inside}</{name}Result></{name}Response>"
    )
    return Reply(200, text.encode(), {"Content-Type": "text/xml"})


def refusal_of(code: str, message: str, status: int = 400) -> Reply:
    """A refusal in the words of CloudFormation, STS and their like."""
    error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
    return Reply(status, f"<ErrorResponse>{error}</ErrorResponse>".encode(), {"Content-Type": "text/xml"})


def one_after_another(*replies: Reply | None) -> Callable[[], Reply | None]:
    """Each of these in turn, then None for ever."""
    left: Iterator[Reply | None] = iter(replies)
    return lambda: next(left, None)


def _arn(project: Project) -> str:
    return f"arn:aws:cloudformation:us-east-1:1:stack/{project.stack}/1"
