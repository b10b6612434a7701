"""A small `docker` for tests: a real program on PATH that remembers images, sign-ins and pushes in a folder.

What goes wrong is said by files in the folder: `down`, `forbidden`, `no-buildx`, `broken`, `foreign`.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROGRAM = """#!{python}
import json, os, pathlib, sys
folder = pathlib.Path({folder!r})
words = sys.argv[1:]
given = sys.stdin.read() if "--password-stdin" in words else ""
kept = {{name: os.environ[name] for name in ("DOCKER_BUILDKIT", "BUILDX_NO_DEFAULT_ATTESTATIONS")}}
with (folder / "calls").open("a") as calls:
    calls.write(json.dumps({{"words": words, "given": given, "environ": kept}}) + "\\n")
images, pushed, signed = (folder / name for name in ("images", "pushed", "signed"))

def fail(text):
    sys.exit(text)

def known(path):
    return path.read_text().split() if path.exists() else []

def add(path, name):
    path.write_text("\\n".join([*known(path), name]))

if (folder / "down").exists():
    fail("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?")
if (folder / "forbidden").exists():
    fail("permission denied while trying to connect to the Docker daemon socket")
match words:
    case ["version", *_]:
        print("28.0")
    case ["build", "--platform", platform, "--tag", name, where]:
        if (folder / "no-buildx").exists() and kept["DOCKER_BUILDKIT"] == "1":
            fail("ERROR: BuildKit is enabled but the buildx component is missing or broken.")
        if (folder / "broken").exists():
            fail("Step 1/9\\nno matching distribution")
        if (folder / "foreign").exists():
            fail("exec /bin/sh: exec format error")
        if not (pathlib.Path(where) / "Dockerfile").is_file():
            fail("unable to prepare context")
        add(images, name)
    case ["login", "--username", user, "--password-stdin", host]:
        if not given:
            fail("no password")
        add(signed, host)
    case ["push", name]:
        host = name.partition("/")[0]
        if name not in known(images):
            fail("An image does not exist locally with the tag: " + name)
        if ".dkr.ecr." in host and host not in known(signed):
            fail("no basic auth credentials: denied")
        add(pushed, name)
    case _:
        fail("unknown command")
"""


@dataclass
class DockerStandIn:
    """The folder of a `docker`; `bin` goes before PATH."""

    folder: Path

    def install(self) -> str:
        """Write the program; returns PATH with it in front."""
        bin_folder = self.folder / "bin"
        bin_folder.mkdir(parents=True)
        program = bin_folder / "docker"
        program.write_text(_PROGRAM.format(python=sys.executable, folder=str(self.folder)))
        program.chmod(0o755)
        return f"{bin_folder}{os.pathsep}{os.environ['PATH']}"

    def suffer(self, fault: str) -> None:
        """Let it fail in one of its ways."""
        (self.folder / fault).touch()

    def forget(self) -> None:
        """Forget what it was asked so far."""
        (self.folder / "calls").unlink(missing_ok=True)

    @property
    def calls(self) -> list[dict[str, Any]]:
        """What it was asked."""
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def words(self, command: str) -> list[list[str]]:
        """The words of each call of a command, without the command."""
        return [call["words"][1:] for call in self.calls if call["words"][0] == command]

    def names(self, what: str) -> list[str]:
        """The `images`, the `pushed` ones, or the hosts that it `signed` in to."""
        path = self.folder / what
        return path.read_text().split() if path.exists() else []
