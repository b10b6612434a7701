"""The jobs of Batch: processes of this machine, or containers where Docker has the image."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import logging
import os
import re
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from localstack import config

from lokki_localstack import images
from lokki_localstack.executor import HOST, SYSTEM_PATH, python_of
from lokki_localstack.process import end

if TYPE_CHECKING:
    from lokki_localstack.batch import Store

_LOG = logging.getLogger(__name__)
_LOG_GROUP = "/aws/batch/job"
_LINES_PER_CALL = 1000
_LOG_SECONDS = 0.5
_EXITED = "Essential container in task exited"
ENDED = ("SUCCEEDED", "FAILED")
"""The statuses that a job keeps."""
Request = dict[str, Any]


class Job:
    """A job, from its submission to its end."""

    _slots = threading.Semaphore(os.cpu_count() or 1)

    def __init__(self, store: Store, request: Request, queue: Request, definition: Request) -> None:
        self.store, self.request = store, request
        self.queue, self.definition = queue, definition
        self.id = str(uuid.uuid4())
        self.arn = store.arn("job", self.id)
        self.status, self.reason = "SUBMITTED", ""
        self.created = _now()
        self.attempts: list[Request] = []
        self.info: Request = {}
        self._terminated = ""
        self._pid, self._name = 0, ""
        self._lock = threading.Lock()
        properties = dict(definition.get("containerProperties", {}))
        overrides = dict(request.get("containerOverrides") or {})
        self.environment = {
            each["name"]: each.get("value", "")
            for source in (properties, overrides)
            for each in source.pop("environment", None) or []
        }
        self.container = {**properties, **overrides}
        parameters = {**definition.get("parameters", {}), **(request.get("parameters") or {})}
        command = self.container.get("command") or []
        self.command = [
            parameters.get(part.removeprefix("Ref::"), part) if part.startswith("Ref::") else part for part in command
        ]
        timeout = request.get("timeout") or definition.get("timeout") or {}
        self.timeout = timeout.get("attemptDurationSeconds")
        self.retry = request.get("retryStrategy") or definition.get("retryStrategy") or {}

    def run(self) -> None:
        """Run all attempts of the job."""
        try:
            self._set("RUNNABLE")
            with self._slots:
                self._ended(self._attempts())
        except Exception as error:
            _LOG.exception("Batch job %s", self.id)
            self._ended(f"{type(error).__name__}: {error}")

    def terminate(self, reason: str) -> None:
        """End the job; the reason is what its status says."""
        self._terminated = reason or "Terminated"
        self._kill()

    def describe(self) -> Request:
        """The job as `DescribeJobs` shows it."""
        variables = [{"name": name, "value": value} for name, value in self.environment.items()]
        container = {**self.container, "command": self.command, "environment": variables}
        shown: Request = {
            "jobArn": self.arn,
            "jobId": self.id,
            "jobName": self.request["jobName"],
            "jobQueue": self.queue["jobQueueArn"],
            "jobDefinition": self.definition["jobDefinitionArn"],
            "status": self.status,
            "createdAt": self.created,
            "attempts": self.attempts,
            "dependsOn": [],
            "parameters": self.request.get("parameters") or {},
            "retryStrategy": {"attempts": self.retry.get("attempts", 1)},
            "tags": self.request.get("tags") or {},
            "platformCapabilities": self.definition.get("platformCapabilities") or [],
            **self.info,
            "container": {**container, **self.info.get("container", {})},
        }
        if self.timeout:
            shown["timeout"] = {"attemptDurationSeconds": self.timeout}
        if self.reason:
            shown["statusReason"] = self.reason
        return shown

    def _attempts(self) -> str:
        """Why the job failed, nothing if it did not."""
        for number in range(1, int(self.retry.get("attempts", 1)) + 1):
            if self._terminated:
                break
            self._set("STARTING")
            exit_code, reason = self._attempt(number)
            if exit_code == 0 and not reason:
                return ""
            if self._terminated or not self._retries(exit_code, reason):
                break
            self._set("RUNNABLE")
        return self._terminated or reason or _EXITED

    def _attempt(self, number: int) -> tuple[int | None, str]:
        stream = f"{self.definition['jobDefinitionName']}/default/{uuid.uuid4().hex}"
        container: Request = {"logStreamName": stream}
        attempt: Request = {"container": container, "startedAt": _now()}
        self.info = {"container": container, "startedAt": attempt["startedAt"]}
        reason, exit_code = "", None
        with tempfile.TemporaryDirectory(prefix="batch-") as tmp, tempfile.NamedTemporaryFile() as log:
            try:
                process = self._start(number, tmp, log)
            except OSError as error:
                reason = container["reason"] = f"CannotPullContainerError: {error}"
            else:
                self._set("RUNNING")
                with self._sending_log(stream, log.name):
                    exit_code, reason = self._wait(process)
                container["exitCode"] = exit_code
        attempt["stoppedAt"] = self.info["stoppedAt"] = _now()
        attempt["statusReason"] = reason or _EXITED
        self.attempts.append(attempt)
        return exit_code, reason

    def _wait(self, process: subprocess.Popen[bytes]) -> tuple[int, str]:
        reason = ""
        try:
            code = process.wait(self.timeout)
        except subprocess.TimeoutExpired:
            reason = "Job attempt duration exceeded timeout"
            self._kill()
            code = process.wait()
        with self._lock:
            self._pid = 0
        return (128 - code if code < 0 else code), reason

    def _start(self, number: int, tmp: str, log: Any) -> subprocess.Popen[bytes]:
        image = self.container.get("image", "")
        given = {**self.environment, **self._from_batch(number)}
        if folder := images.folder(image):
            python = python_of(None)
            env = {"HOME": tmp, "TMPDIR": tmp, "LANG": "C.UTF-8", "PATH": f"{python.parent}:{SYSTEM_PATH}", **given}
            return self._popen(["/usr/bin/env", *self.command], env, str(folder), log)  # env finds it in this PATH
        if not images.in_docker(image):
            raise OSError(images.missing(image))
        self._name = f"lokki-batch-{uuid.uuid4().hex}"
        handed = [f"--env={name}" for name in given]
        run = ["docker", "run", "--rm", "--network=host", f"--name={self._name}", *handed, image, *self.command]
        return self._popen(run, {**os.environ, **given}, tmp, log)

    def _popen(self, command: list[str], env: Mapping[str, str], cwd: str, log: Any) -> subprocess.Popen[bytes]:
        with self._lock:
            process = subprocess.Popen(
                command,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._pid = process.pid
        if self._terminated:  # while it was started
            self._kill()
        return process

    def _from_batch(self, number: int) -> dict[str, str]:
        """The variables that Batch and its agent add."""
        env = {
            "AWS_BATCH_JOB_ID": self.id,
            "AWS_BATCH_JOB_ATTEMPT": str(number),
            "AWS_BATCH_JQ_NAME": self.queue["jobQueueName"],
            "AWS_REGION": self.store.region,
            "AWS_DEFAULT_REGION": self.store.region,
            "AWS_ENDPOINT_URL": f"http://{HOST}:{config.GATEWAY_LISTEN[0].port}",
            "AWS_ACCESS_KEY_ID": self.store.account,
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        if role := self.container.get("jobRoleArn"):
            answer = self.store.client("sts").assume_role(RoleArn=role, RoleSessionName=self.id)
            env["AWS_ACCESS_KEY_ID"] = answer["Credentials"]["AccessKeyId"]
            env["AWS_SECRET_ACCESS_KEY"] = answer["Credentials"]["SecretAccessKey"]
            env["AWS_SESSION_TOKEN"] = answer["Credentials"]["SessionToken"]
        for each in self.container.get("secrets") or []:
            env[each["name"]] = self._secret(each["valueFrom"])
        return env

    def _secret(self, source: str) -> str:
        if ":secretsmanager:" not in source:
            name = re.sub(r"^arn:.*:parameter", "", source)
            return str(self.store.client("ssm").get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"])
        *_, field = parts = [*source.split(":"), "", ""][:8]
        value = str(self.store.client("secretsmanager").get_secret_value(SecretId=":".join(parts[:7]))["SecretString"])
        return str(json.loads(value)[field]) if field else value

    def _retries(self, exit_code: int | None, reason: str) -> bool:
        said = {
            "onExitCode": "" if exit_code is None else str(exit_code),
            "onStatusReason": reason or _EXITED,
            "onReason": self.info.get("container", {}).get("reason", ""),
        }
        for rule in self.retry.get("evaluateOnExit") or []:
            if all(fnmatch.fnmatchcase(said[key], rule[key]) for key in said if key in rule):
                return str(rule["action"]).upper() == "RETRY"
        return True

    @contextlib.contextmanager
    def _sending_log(self, stream: str, path: str) -> Iterator[None]:
        """What the job writes goes to CloudWatch while it runs."""
        ended = threading.Event()

        def send() -> None:
            begun = b""
            with open(path, "rb") as log:
                while True:
                    last = ended.wait(_LOG_SECONDS)
                    lines, newline, begun = (begun + log.read()).rpartition(b"\n")
                    text = lines + newline + begun if last else lines
                    self._write_log(stream, text.decode(errors="replace"))
                    if last:
                        return

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _write_log(self, stream: str, text: str) -> None:
        if not text:
            return
        options = (self.container.get("logConfiguration") or {}).get("options") or {}
        group = options.get("awslogs-group", _LOG_GROUP)
        logs = self.store.client("logs")
        with contextlib.suppress(logs.exceptions.ResourceAlreadyExistsException):
            logs.create_log_group(logGroupName=group)
        with contextlib.suppress(logs.exceptions.ResourceAlreadyExistsException):
            logs.create_log_stream(logGroupName=group, logStreamName=stream)
        now = _now()
        events = [{"timestamp": now, "message": line} for line in text.split("\n") if line]
        for first in range(0, len(events), _LINES_PER_CALL):
            some = events[first : first + _LINES_PER_CALL]
            logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=some)

    def _kill(self) -> None:
        with self._lock:
            if self._pid:
                end(self._pid, self._name)

    def _ended(self, reason: str) -> None:
        self.reason = reason
        self.info.setdefault("stoppedAt", _now())
        self._set("FAILED" if reason else "SUCCEEDED")

    def _set(self, status: str) -> None:
        """The status, for whoever asks and as an event, by which a state machine that waits would learn of it."""
        self.status = status
        entry = {
            "Source": "aws.batch",
            "DetailType": "Batch Job State Change",
            "Resources": [self.arn],
            "Detail": json.dumps(self.describe(), default=str),
        }
        try:
            self.store.client("events").put_events(Entries=[entry])
        except Exception as error:
            _LOG.debug("The event of job %s was not sent: %s", self.id, error)


def _now() -> int:
    return int(time.time() * 1000)
