"""Facts about this process, this machine and the code that runs: who recorded an execution, and from what commit."""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from typing import Any

_GIT_SECONDS = 5
_OF_THE_MACHINE = "pid:[4026531836]"  # how Linux names where all processes have their own numbers


@lru_cache(1)
def host() -> str:
    """The name of this machine; in a container also what tells its processes from others with the same numbers."""
    import socket

    try:
        place = os.readlink("/proc/self/ns/pid")
    except OSError:
        return socket.gethostname()
    return socket.gethostname() if place == _OF_THE_MACHINE else f"{socket.gethostname()}/{place}"


def who() -> dict[str, Any]:
    """This process, as an execution records it."""
    return {"host": host(), "pid": os.getpid(), "process": _own(os.getpid()), "user": _user(), "python": _python()}


@lru_cache(1)
def _own(pid: int) -> str:
    return process_of(pid)


def process_of(pid: int) -> str:
    """When a process of this machine started, which tells it from others with its number; empty when it is no more."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return "" if os.path.isdir("/proc/self") else _asked(pid)
    return "" if fields[0] in ("Z", "X") else f"{_boot()}:{fields[19]}"


@lru_cache(1)
def git() -> dict[str, Any]:
    """The commit, branch and state of the checkout that this process was started in; empty without one."""
    found = _run("git", "status", "--porcelain=v2", "--branch", "--untracked-files=no")
    facts = {"git_commit": "", "git_branch": "", "git_dirty": False}
    for line in found.splitlines():
        if line.startswith("# branch.oid "):
            facts["git_commit"] = line.split()[2].strip("()")
        elif line.startswith("# branch.head "):
            facts["git_branch"] = line.removeprefix("# branch.head ")
        elif not line.startswith("#"):
            facts["git_dirty"] = True
    return facts


@lru_cache(1)
def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""


@lru_cache(1)
def _python() -> str:
    return ".".join(map(str, sys.version_info[:3]))


@lru_cache(1)
def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()[:8]
    except OSError:
        return ""


def _asked(pid: int) -> str:
    """The same, where there is no /proc."""
    return " ".join(_run("ps", "-o", "lstart=", "-p", str(pid)).split())


def _run(*command: str) -> str:
    import subprocess

    try:
        done = subprocess.run(  # noqa: S603 - a list of words, no shell
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_GIT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
