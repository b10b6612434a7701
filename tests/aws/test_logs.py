"""`logs`: lines of all functions and jobs, merged, picked and rendered; followed while they come."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pytest

from lokki.aws.client import Aws
from lokki.aws.log_sources import log_sources
from lokki.aws.logs import Line, follow
from lokki.aws.machines import find_machine
from lokki.commands.log_text import JsonText, LogText
from lokki.errors import LogsError
from tests.aws.deployed import DeployedFlow, call, client, done, lokki
from tests.moto_server import Asked, Relay, Reply

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def flow(aws: None, moto_server: str, monkeypatch: pytest.MonkeyPatch) -> DeployedFlow:
    """A flow of two functions, to which the environment leads."""
    monkeypatch.setenv("LOKKI_AWS_ENDPOINT", moto_server)
    made = DeployedFlow(moto_server)
    made.deploy()
    return made


# --- what is read


def iso(at: int) -> str:
    """A time five hours east of Greenwich, without saying so."""
    return (datetime(1970, 1, 1) + timedelta(milliseconds=at, hours=5)).isoformat()


def test_lines_of_all_functions_are_merged_in_the_order_of_time(flow: DeployedFlow, capsys: Capture) -> None:
    flow.say("get", (0, "a\n"), (20, "c"), (50, "f"))
    flow.say("flap", (10, "b"), (30, "d"), stream="one")
    flow.say("flap", (40, "e"), stream="two")
    answer = lokki(capsys, "logs", flow.name)
    assert answer.texts == ["get: a", "flap: b", "get: c", "flap: d", "flap: e", "get: f"]
    first = datetime.fromtimestamp(flow.base / 1000)
    assert answer.out.startswith(f"{first:%Y-%m-%d %H:%M:%S}.000 get: a\n")
    assert (answer.code, answer.err) == (0, "")


def test_jobs_belong_to_it_each_under_its_step(flow: DeployedFlow, capsys: Capture) -> None:
    with_jobs = DeployedFlow(flow.endpoint, jobs=("train", "train_more"))
    with_jobs.deploy()
    with_jobs.say("get", (0, "a"))
    with_jobs.say("train", (10, "b"))
    with_jobs.say("train_more", (5, "c"))
    assert lokki(capsys, "logs", with_jobs.name).texts == ["get: a", "train_more: c", "train: b"]
    assert lokki(capsys, "logs", with_jobs.name, "--step", "train").texts == ["train: b"]
    assert lokki(capsys, "logs", with_jobs.name, "--step", "get").texts == ["get: a"]


def test_a_log_of_many_pages_is_whole(flow: DeployedFlow, capsys: Capture) -> None:
    flow.say("get", *((at, str(at)) for at in range(10_100)))
    flow.say("flap", (10_050, "between"))
    lines = lokki(capsys, "logs", flow.name).texts
    assert len(lines) == 10_101
    at = lines.index("flap: between")
    assert lines[at - 1 : at + 2] in (
        ["get: 10050", "flap: between", "get: 10051"], ["get: 10049", "flap: between", "get: 10050"]
    )  # fmt: skip


def test_a_group_that_is_missing_is_said(flow: DeployedFlow, capsys: Capture) -> None:
    flow.client("logs").delete_log_group(logGroupName=flow.group("flap"))
    flow.say("get", (0, "a"))
    answer = lokki(capsys, "logs", flow.name)
    assert (answer.code, answer.texts) == (0, ["get: a"])
    assert answer.err.endswith(f"the log group is missing: /aws/lambda/{flow.name}-flap\n")


def test_a_refusal_of_aws_is_one_sentence(
    flow: DeployedFlow, relay: Relay, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay.instead = refusing("AccessDeniedException", 400)
    monkeypatch.setenv("LOKKI_AWS_ENDPOINT", relay.url)
    answer = lokki(capsys, "logs", flow.name)
    assert answer.code == 1
    assert answer.err.startswith(f"error: Could not read /aws/lambda/{flow.name}-get: Not now (AccessDeniedException).")


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        (iso, "", "ab"),
        (lambda base: iso(base + 1000), "", "b"),
        (lambda base: iso(base) + "Z", lambda base: iso(base) + "Z", ""),
        ("11m", "", "ab"),
        ("1h30m", "20m", ""),
        ("1d", lambda base: iso(base + 500), "a"),
        ("", lambda base: iso(base + 500), "a"),
    ],
)
def test_times_pick_lines(flow: DeployedFlow, capsys: Capture, start: Any, end: Any, found: str) -> None:
    flow.say("get", (0, "a"), (2000, "b"))
    given = {"--start": start, "--end": end}
    options = [f"{name}={value(flow.base) if callable(value) else value}" for name, value in given.items() if value]
    with local_zone("Etc/GMT-5"):
        answer = lokki(capsys, "logs", flow.name, *options)
    assert (answer.code, answer.texts) == (0, [f"get: {each}" for each in found])


class local_zone:  # noqa: N801 - used like a function
    """The zone that this machine is in, for a while."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        import time

        self._before = os.environ.get("TZ")
        os.environ["TZ"] = self._name
        time.tzset()

    def __exit__(self, *_: object) -> None:
        import time

        if self._before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = self._before
        time.tzset()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--start", "soon"], "error: --start 'soon' is neither a time, as in 2026-05-01T14:30 (local) or"),
        (["--end", "99999999999w"], "error: --end '99999999999w' is neither a time"),
        (["--start", "10m", "--end", "20m"], "error: --start ("),
        (["--tail", "--end", "1m"], "error: --tail goes on until Ctrl-C: leave out --end."),
        (["--step", "flip"], "error: Nothing of flow '{flow}' is named 'flip'; did you mean 'flap'?"),
        (["nope"], "error: There is no run 'nope' of '{flow}': it has not run yet."),
        (["--stack-name", "hill"], "error: Flow '{flow}' is not deployed in us-east-1: there is no stack 'hill'."),
        (["--region", "eu-west-1"], "error: Flow '{flow}' is not deployed in eu-west-1: there is no stack"),
    ],
)
def test_what_cannot_be_done_is_explained(flow: DeployedFlow, capsys: Capture, arguments: list[str], said: str) -> None:
    answer = lokki(capsys, "logs", flow.name, *arguments)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(said.replace("{flow}", flow.name))
    assert answer.err.count("\n") == 1


def test_nothing_is_said_to_be_nothing(flow: DeployedFlow, capsys: Capture) -> None:
    answer = lokki(capsys, "logs", flow.name)
    assert (answer.code, answer.out) == (0, "")
    assert re.fullmatch(r"Nothing was logged between \d{4}-.*:\d\d and \d{4}-.*:\d\d\.\n", answer.err)


def test_the_step_of_a_function_with_a_shortened_name_is_asked_for(flow: DeployedFlow, capsys: Capture) -> None:
    role = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:*"}]}
    name = f"role-{flow.name}"
    iam = flow.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(role))
    long = DeployedFlow(flow.endpoint, steps=("a_very_long-1a2b3c4d",))
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("handler.py", "")
    flow.client("lambda").create_function(
        FunctionName=f"{long.name}-a_very_long-1a2b3c4d",
        Runtime="python3.13",
        Role=iam["Role"]["Arn"],
        Handler="handler.lambda_handler",
        Code={"ZipFile": code.getvalue()},
        Environment={"Variables": {"LOKKI_STEP_NAME": "a_very_long_name_of_a_step"}},
    )
    long.deploy()
    long.say("a_very_long-1a2b3c4d", (0, "here"))
    answer = lokki(capsys, "logs", long.name, "--step", "a_very_long_name_of_a_step")
    assert answer.texts == ["a_very_long_name_of_a_step: here"]


# --- one run


def test_the_lines_of_a_run_are_those_of_its_calls(flow: DeployedFlow, capsys: Capture) -> None:
    flow.say("get", *call("1", "for A", done("get", "A"), at=0), *call("2", "for B", done("get", "B"), at=100))
    flow.say("flap", *call("3", done("flap", "B", index=[0]), "late for B", at=110), stream="one")
    flow.say("flap", *call("4", "for A too", done("flap", "A", index=[1]), at=105), stream="two")
    answer = lokki(capsys, "logs", flow.name, "A", "--start", "20m")
    assert [line.split("\t")[0] for line in answer.texts] == [
        "get: START RequestId: 1 Version: $LATEST", "get: for A",
        "[INFO] get: completed in 0.100s (status=success)", "get: END RequestId: 1", "get: REPORT RequestId: 1",
        "flap: START RequestId: 4 Version: $LATEST", "flap: for A too",
        "[INFO] flap[1]: completed in 0.100s (status=success)", "flap: END RequestId: 4", "flap: REPORT RequestId: 4",
    ]  # fmt: skip
    assert answer.err == ""
    assert [line for line in lokki(capsys, "logs", flow.name, "B", "--start", "20m").texts if "for" in line] == [
        "get: for B", "flap: late for B"
    ]  # fmt: skip


def test_a_job_is_one_call(capsys: Capture, flow: DeployedFlow) -> None:
    with_jobs = DeployedFlow(flow.endpoint, jobs=("train",))
    with_jobs.deploy()
    with_jobs.say("train", (0, "loading"), (1, done("train", "A")), (2, "bye"), stream="x")
    with_jobs.say("train", (0, "loading for B"), (1, done("train", "B")), stream="y")
    assert lokki(capsys, "logs", with_jobs.name, "A", "--start", "1h").texts == [
        "train: loading", "[INFO] train: completed in 0.100s (status=success)", "train: bye"
    ]  # fmt: skip


def test_calls_that_never_say_whose_they_are_stay_and_that_is_said(flow: DeployedFlow, capsys: Capture) -> None:
    broken = [*call("1", "thinking", at=10), (20, "2026-05-01T00:00:00.000Z 1 Task timed out after 3.00 seconds")]
    flow.say("flap", *call("0", done("flap", "B"), at=0), *broken, *call("2", done("flap", "B"), at=30))
    flow.say("get", (40, "INIT_START Runtime Version: python:3.13"), (41, "no module named birds"), stream="cold")
    answer = lokki(capsys, "logs", flow.name, "A", "--start", "1h")
    assert [line.split("\t")[0] for line in answer.texts] == [
        "flap: START RequestId: 1 Version: $LATEST", "flap: thinking", "flap: END RequestId: 1",
        "flap: REPORT RequestId: 1", "flap: 2026-05-01T00:00:00.000Z 1 Task timed out after 3.00 seconds",
        "get: INIT_START Runtime Version: python:3.13", "get: no module named birds",
    ]  # fmt: skip
    assert answer.err.startswith("7 of these lines are from calls that did not get so far as to say which run")


def test_a_run_is_found_by_the_name_of_its_execution_and_sets_the_times(flow: DeployedFlow, capsys: Capture) -> None:
    flow.start("nightly-20260501-000000-1a2b", run_id="nightly")
    before, now = -1000, 599_000
    flow.say("get", (before, done("get", "nightly", message="earlier")), (now, done("get", "nightly", message="now")))
    for name in ("nightly", "nightly-20260501-000000-1a2b"):
        assert lokki(capsys, "logs", flow.name, name).texts == ["[INFO] get: now"]
    assert lokki(capsys, "logs", flow.name, "nightly", "--start", "15m").texts == [
        "[INFO] get: earlier", "[INFO] get: now"
    ]  # fmt: skip


def test_executions_of_one_run_id_are_told_apart_by_their_names(flow: DeployedFlow, capsys: Capture) -> None:
    names = [f"nightly-20260501-00000{at}-1a2b" for at in range(3)]
    times = [flow.stop(flow.start(name, run_id="nightly")) for name in names]
    for at, (began, ended) in enumerate(times):
        flow.say("get", ((began + ended) // 2 - flow.base, done("get", "nightly", message=f"no. {at}")))
    for at, name in enumerate(names):
        assert lokki(capsys, "logs", flow.name, name).texts == [f"[INFO] get: no. {at}"]
    assert lokki(capsys, "logs", flow.name, "nightly").texts == ["[INFO] get: no. 2"]


REPEATED = "[ERROR] LookupError: LookupError: gone (in step 'flap', item 3: 'dodo')"
TRACE = ["Traceback (most recent call last):", '  File "birds.py", line 4, in flap', "LookupError: gone"]
OURS = '\rTraceback (most recent call last):\r  File "lokki/runtime/handler.py", line 91, in answer\r'


@pytest.mark.parametrize("by_lambda", [[REPEATED, *TRACE, OURS], ["\r".join([REPEATED, *TRACE, OURS])]])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_an_error_is_told_once(flow: DeployedFlow, capsys: Capture, by_lambda: list[str], options: list[str]) -> None:
    told = {**FAILURE, "run_id": "A", "error": "LookupError: gone"}
    first = call("1", "thinking", "[ERROR] my own: gone", told, *by_lambda, at=10)
    flow.say("flap", *first, *call("2", "[ERROR] gone too", at=40))
    answer = lokki(capsys, "logs", flow.name, *options)
    assert answer.out.count("birds.py") == 1
    assert "handler.py" not in answer.out
    for text in ("thinking", "my own: gone", "[ERROR] gone too", "END RequestId: 1", "REPORT RequestId: 1"):
        assert answer.out.count(text) == 1


# --- how lines look


def line(text: str | dict[str, Any]) -> Line:
    written = text if isinstance(text, str) else json.dumps(text)
    return Line(1_777_600_000_123, "flap", "/aws/lambda/birds-flap", "one", "1", written)


FAILURE = {
    "level": "ERROR",
    "ts": "2026-05-01T01:46:40.123Z",
    "event": "step_fail",
    "step": "flap",
    "message": "Step 'flap' failed on item 3 of its map ('dodo') after 0.100s: LookupError: gone",
    "index": [1, 3],
    "traceback": 'Traceback (most recent call last):\n  File "birds.py", line 4, in flap\nLookupError: gone\n',
}
TOLD = """failed on item 3 of its map ('dodo') after 0.100s: LookupError: gone
    Traceback (most recent call last):
      File "birds.py", line 4, in flap
    LookupError: gone"""


@pytest.mark.parametrize(
    ("text", "plain", "coloured"),
    [
        ("hello\n", "flap: hello", "flap: hello"),
        ("two\nlines", "flap: two\n    lines", "flap: two\n    lines"),
        ("[ERROR] A: b\rTraceback", "flap: [ERROR] A: b\n    Traceback", "flap: {red}[ERROR] A: b\n    Traceback{off}"),
        (
            "[WARNING]\t2026-05-01T01:46:40.123Z\t1-2\todd",
            "flap: [WARNING]\t2026-05-01T01:46:40.123Z\t1-2\todd",
            "flap: {yellow}[WARNING]\t2026-05-01T01:46:40.123Z\t1-2\todd{off}",
        ),
        ("REPORT RequestId: 1\tDuration: 2 ms\t\n", "flap: REPORT RequestId: 1\tDuration: 2 ms",
         "flap: {dim}REPORT RequestId: 1\tDuration: 2 ms{off}"),
        ("REPORT RequestId: 1\tStatus: timeout", "flap: REPORT RequestId: 1\tStatus: timeout",
         "flap: {red}REPORT RequestId: 1\tStatus: timeout{off}"),
        ("START of something", "flap: START of something", "flap: START of something"),
        ('{"my": "own"}', 'flap: {"my": "own"}', 'flap: {"my": "own"}'),
        ("{broken", "flap: {broken", "flap: {broken"),
        (done("flap", "A", index=[4], items=10, message="Step 'flap' completed in 1.000s"),
         "[INFO] flap[4-13]: completed in 1.000s", "[INFO] flap[4-13]: completed in 1.000s"),
        ({"level": "WARNING", "ts": "", "event": "slow", "seconds": 3, "run_id": "A"},
         "[WARNING] flap: slow seconds=3", "{yellow}[WARNING]{off} flap: slow seconds=3"),
        (FAILURE, f"[ERROR] flap[1.3]: {TOLD}", f"{{red}}[ERROR]{{off}} flap[1.3]: {TOLD}"),
    ],
)  # fmt: skip
def test_people_read(text: str | dict[str, Any], plain: str, coloured: str) -> None:
    assert LogText(coloured=False)(line(text))[24:] == plain
    colours = {"red": "\x1b[31m", "yellow": "\x1b[33m", "dim": "\x1b[2m", "off": "\x1b[0m"}
    for name, code in colours.items():
        coloured = coloured.replace(f"{{{name}}}", code)
    assert LogText(coloured=True)(line(text))[24:] == coloured


@pytest.mark.parametrize(
    ("text", "message"), [("hello\n", "hello"), ('{"my": "own"\n}', '{"my": "own"\n}'), ("  é\ttab", "  é\ttab")]
)
def test_programs_read_other_lines_as_objects(text: str, message: str) -> None:
    assert json.loads(JsonText()(line(text))) == {
        "ts": "2026-05-01T01:46:40.123Z", "step": "flap", "message": message, "log_group": "/aws/lambda/birds-flap",
        "log_stream": "one",
    }  # fmt: skip


@pytest.mark.parametrize(("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_a_terminal_gets_colours_unless_it_wants_none(
    flow: DeployedFlow, environ: dict[str, str], coloured: bool
) -> None:
    flow.say("get", (0, done("get", "A", level="ERROR", message="no")))
    ours, theirs = pty.openpty()
    own = {name: text for name, text in os.environ.items() if name != "NO_COLOR"}
    command = [sys.executable, "-m", "lokki", "logs", flow.name]
    subprocess.run(command, stdout=theirs, check=True, env={**own, "TERM": "xterm", **environ})
    os.close(theirs)
    written = os.read(ours, 10_000).decode()
    os.close(ours)
    assert written[24:] == ("\x1b[31m[ERROR]\x1b[0m get: no\r\n" if coloured else "[ERROR] get: no\r\n")


def test_programs_read_objects_as_they_are(flow: DeployedFlow, capsys: Capture) -> None:
    own, theirs = json.dumps(done("get", "A")), '{"b":1,  "a": 2}'
    flow.say("get", (0, own + "\n"), (1, theirs))
    assert lokki(capsys, "logs", flow.name, "--json").out == f"{own}\n{theirs}\n"


# --- following


class Once(Aws):
    """Asks once, so that no test waits for the pauses between attempts."""

    def client(self, service: str) -> Any:
        return client(self.endpoint, service)


class Enough(Exception):
    """Ends a test that follows a log."""


def followed(
    flow: DeployedFlow, *meanwhile: Callable[[], None], endpoint: str = ""
) -> tuple[list[list[str]], list[str], list[float]]:
    """What each round brings, with something happening between them; what was said, and how long was waited."""
    aws = Once(flow.config(endpoint))
    sources = log_sources(aws, find_machine(aws, flow.name, kind=LogsError))
    rounds: list[list[str]] = []
    told: list[str] = []
    waits: list[float] = []
    happening = iter(meanwhile)

    def wait(seconds: float) -> None:
        waits.append(seconds)
        try:
            next(happening)()
        except StopIteration:
            raise Enough from None

    with suppress(Enough):
        rounds.extend([each.text for each in lines] for lines in follow(aws, sources, flow.base, told.append, wait))
    return rounds, told, waits


def test_a_followed_log_repeats_nothing_and_misses_nothing(flow: DeployedFlow) -> None:
    flow.say("get", (0, "a"), (1000, "b"), (1000, "b"))
    rounds, told, waits = followed(
        flow,
        lambda: None,
        lambda: flow.say("get", (1000, "b"), (900, "later"), stream="slow"),
        lambda: flow.say("flap", (950, "c"), (60_000, "d")),
        lambda: flow.say("flap", (60_000, "e")),
    )
    assert rounds == [["a", "b", "b"], [], ["later", "b"], ["c", "d"], ["e"]]
    assert (told, waits) == ([], [2.0] * 5)


def test_a_group_may_appear_later(flow: DeployedFlow) -> None:
    flow.client("logs").delete_log_group(logGroupName=flow.group("flap"))
    flow.groups.clear()
    rounds, told, _ = followed(flow, lambda: None, lambda: flow.say("flap", (5, "a")))
    assert rounds == [[], [], ["a"]]
    assert len(told) == 1
    assert told[0].endswith(f"/aws/lambda/{flow.name}-flap")


def refusing(code: str, status: int) -> Callable[[Asked], Reply | None]:
    """An answer for who asks for lines."""
    body = json.dumps({"__type": code, "message": "Not now"}).encode()

    def instead(asked: Asked) -> Reply | None:
        wanted = asked.headers.get("X-Amz-Target", "").endswith("FilterLogEvents")
        return Reply(status, body, {"Content-Type": "application/x-amz-json-1.1"}) if wanted else None

    return instead


@pytest.mark.parametrize(("code", "status"), [("ThrottlingException", 400), ("InternalFailure", 500)])
def test_a_followed_log_survives_that_aws_is_busy(flow: DeployedFlow, relay: Relay, code: str, status: int) -> None:
    flow.say("get", (0, "a"))
    busy = refusing(code, status)

    def set_busy(now: Callable[[Asked], Reply | None]) -> None:
        relay.instead = now

    rounds, told, waits = followed(
        flow,
        lambda: set_busy(busy),
        lambda: flow.say("get", (1, "b")),
        lambda: set_busy(lambda asked: None),
        endpoint=relay.url,
    )
    assert rounds == [["a"], [], [], ["b"]]
    assert told == [f"CloudWatch Logs does not answer ({code}); trying again."]
    assert waits == [2.0, 4.0, 8.0, 2.0]


def test_a_followed_log_ends_when_aws_refuses(flow: DeployedFlow, relay: Relay) -> None:
    relay.instead = refusing("ExpiredTokenException", 400)
    with pytest.raises(LogsError, match="The credentials have expired: sign in again"):
        followed(flow, endpoint=relay.url)


def started(flow: DeployedFlow, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "lokki", "logs", flow.name, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))


@pytest.mark.parametrize("run", [[], ["A"]])
def test_ctrl_c_ends_it_quietly(flow: DeployedFlow, run: list[str]) -> None:
    flow.say("get", (0, "for nobody yet"), (1, done("get", "A", message="a")))
    tail = started(flow, *run, "--tail", "--start", "20m")
    assert tail.stdout is not None
    lines: Iterator[str] = iter(tail.stdout)
    assert [next(lines)[24:], next(lines)[24:]] == ["get: for nobody yet\n", "[INFO] get: a\n"]
    flow.say("get", (2, "b"))
    assert next(lines)[24:] == "get: b\n"
    tail.send_signal(signal.SIGINT)
    out, err = tail.communicate(timeout=60)
    assert (tail.returncode, out, err) == (130, "", "")


def test_a_reader_that_goes_away_ends_it(flow: DeployedFlow) -> None:
    flow.say("get", *((at, "x" * 100) for at in range(5000)))
    reading = started(flow)
    assert reading.stdout is not None
    reading.stdout.readline()
    reading.stdout.close()
    assert reading.wait(60) == 1
    assert reading.stderr is not None
    assert reading.stderr.read() == ""
    reading.stderr.close()
