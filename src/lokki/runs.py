"""The runs that are kept on this machine: one folder each under the state folder, locked while it runs.

.lokki/<flow>/runs/<run_id>/run.json        what it was and how it ended
.lokki/<flow>/runs/<run_id>/plan.pkl.gz     the parameters it was given
.lokki/<flow>/runs/<run_id>/<step>/...      the outputs (see lokki.store)
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

from lokki.codec import seal, unseal
from lokki.errors import LokkiError, RunError, StoreError, nearest

RUNNING, SUCCESS, FAILED, INTERRUPTED, KILLED = "running", "success", "failed", "interrupted", "killed"


_held: set[int] = set()  # the locks of this process


class RunRecord(NamedTuple):
    """What is known of a run; times are ISO 8601 in UTC."""

    flow: str
    run_id: str
    status: str = RUNNING
    started: str = ""
    finished: str = ""
    error: str = ""


class RunFolder:
    """A run of this process: its folder is locked until the run is over. `fresh` says that it has no earlier part."""

    def __init__(self, path: str, flow: str, run_id: str) -> None:
        earlier = _read(path)
        self.fresh = earlier is None
        self._path = path
        self.record = RunRecord(flow, run_id, started=_now())
        self._write()

    def finish(self, status: str, error: str = "") -> None:
        """Write down how the run ended, if that can be done: its result or failure counts for more."""
        self.record = self.record._replace(status=status, finished=_now(), error=error)
        with suppress(StoreError):
            self._write()

    def save_params(self, params: Mapping[str, Any]) -> None:
        """Keep the parameters for a run that goes on with this one."""
        parts: list[bytes] = []
        try:
            seal({"params": dict(params)}, lambda data: parts.append(bytes(data)))
        except StoreError as error:
            raise StoreError(f"The parameters of the flow cannot be kept for resuming: {error}") from error
        _replace_file(os.path.join(self._path, "plan.pkl.gz"), b"".join(parts))

    def _write(self) -> None:
        _replace_file(
            os.path.join(self._path, "run.json"), json.dumps(self.record._asdict(), indent=2).encode() + b"\n"
        )


class Runs:
    """The kept runs under one state folder."""

    def __init__(self, state_dir: str | os.PathLike[str]) -> None:
        self.state_dir = os.path.abspath(os.path.expanduser(state_dir))

    @contextmanager
    def open(self, flow: str, run_id: str) -> Iterator[RunFolder]:
        """Start a run or go on with one; only one process at a time may."""
        _check_id(run_id)
        path = self._folder(flow, run_id)
        try:
            os.makedirs(path, exist_ok=True)
            self._ignore_in_git()
            lock = os.open(os.path.join(path, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise RunError(
                f"Run {run_id!r} cannot be kept in {self.state_dir}: {error.strerror}. Choose another folder "
                "(LOKKI_STATE_DIR), or keep nothing (LOKKI_STORE_TYPE=memory)."
            ) from error
        try:
            if not _locked(lock):
                holder = os.pread(lock, 20, 0).decode() or "another process"
                raise RunError(
                    f"Run {run_id!r} of {flow} is running already (process {holder}). "
                    "Wait for it, stop it, or give this run another --run-id."
                )
            _held.add(lock)
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
            folder = RunFolder(path, flow, run_id)
            try:
                yield folder
            except BaseException as error:
                if folder.record.status == RUNNING:
                    folder.finish(FAILED, f"{type(error).__name__}: {error}")
                raise
        finally:
            _held.discard(lock)
            os.close(lock)

    def all(self, flow: str | None = None) -> list[RunRecord]:
        """The kept runs, the newest first."""
        found = []
        for each in [flow] if flow else _names(self.state_dir):
            for run_id in _names(os.path.join(self.state_dir, each, "runs")):
                path = self._folder(each, run_id)
                record = _read(path)
                if record is not None:
                    record = record._replace(flow=each, run_id=run_id)  # the folders say where it lies
                    dead = record.status == RUNNING and not self._is_running(path)
                    found.append(record._replace(status=KILLED) if dead else record)
        return sorted(found, key=lambda record: record.started, reverse=True)

    def last(self, flow: str) -> str:
        """The id of the newest run of a flow."""
        for record in self.all(flow):
            return record.run_id
        others = sorted({record.flow for record in self.all()})
        raise RunError(
            f"There is no run of {flow} to resume in {self.state_dir}"
            + (f"{nearest(flow, others)}; it keeps runs of {', '.join(others)}." if others else ".")
            + " Start one with: run"
        )

    def params(self, flow: str, run_id: str) -> dict[str, Any]:
        """The parameters that a kept run was given."""
        path = os.path.join(self._folder(flow, run_id), "plan.pkl.gz")
        try:
            with open(path, "rb") as file:
                params: dict[str, Any] = unseal(file.read())["params"]
                return params
        except FileNotFoundError:
            raise RunError(
                f"There is no run {run_id!r} of {flow} to resume in {self.state_dir}; see `lokki list`."
            ) from None
        except LokkiError as error:
            raise StoreError(f"{path} is damaged ({error}); start the run again with its parameters.", path) from error

    def prune(self, flow: str, keep: int) -> None:
        """Keep the newest runs of a flow: so many that succeeded, and as many that can still be resumed."""
        if len(_names(os.path.join(self.state_dir, flow, "runs"))) > keep:
            records = self.all(flow)
            done = [record for record in records if record.status == SUCCESS]
            open_ = [record for record in records if record.status != SUCCESS]
            for record in done[keep:] + open_[keep:]:
                self._remove(record)

    def clean(self, flow: str | None = None, run_id: str | None = None) -> list[RunRecord]:
        """Remove kept runs; returns those that are gone. Runs that are going on stay."""
        chosen = [record for record in self.all(flow) if run_id in (None, record.run_id)]
        return [record for record in chosen if self._remove(record)]

    def _remove(self, record: RunRecord) -> bool:
        path = self._folder(record.flow, record.run_id)
        if self._is_running(path):
            return False
        import shutil

        shutil.rmtree(path, ignore_errors=True)
        for folder in (os.path.dirname(path), os.path.dirname(os.path.dirname(path))):
            with suppress(OSError):
                os.rmdir(folder)
        return True

    def _is_running(self, path: str) -> bool:
        try:
            lock = os.open(os.path.join(path, ".lock"), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _locked(lock)
        finally:
            os.close(lock)

    def _folder(self, flow: str, run_id: str) -> str:
        return os.path.join(self.state_dir, flow, "runs", run_id)

    def _ignore_in_git(self) -> None:
        path = os.path.join(self.state_dir, ".gitignore")
        if not os.path.exists(path):
            _replace_file(path, b"*\n")


def _let_go() -> None:
    """A forked child must not hold the locks of its parent, which it may outlive."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)


def new_id() -> str:
    """An id for a run: when it started, and four characters that make it its own."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.urandom(2).hex()}"


def _check_id(run_id: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}", run_id):
        raise RunError(
            f"{run_id!r} cannot be a run id: "
            "it has up to 80 letters, digits, '-', '_' and '.', and starts with neither '.' nor '-'."
        )


def _locked(lock: int) -> bool:
    """Try to take the lock; it is let go when the file is closed, also by the system after a kill."""
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: str) -> RunRecord | None:
    try:
        with open(os.path.join(path, "run.json"), "rb") as file:
            record = RunRecord(**json.load(file))
            return record if all(isinstance(each, str) for each in record) else None
    except (OSError, ValueError, TypeError):
        return None


def _replace_file(path: str, data: bytes) -> None:
    new = f"{path}.{os.getpid()}.new"
    try:
        with open(new, "wb") as file:
            file.write(data)
        os.replace(new, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(new)
        raise StoreError(
            f"{path} cannot be written: {error.strerror}. Free some space or check its permissions.", path
        ) from error


def _names(path: str) -> list[str]:
    try:
        return sorted(each.name for each in os.scandir(path) if each.is_dir() and not each.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
