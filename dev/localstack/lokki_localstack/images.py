"""What an image is on this machine: a folder that was put in its place, or an image of the Docker engine.

`PUT /_lokki/images` with `{"birds-flow-batch:latest": "<path of a folder>"}` puts folders in the place of images; a
name may be a pattern such as `birds-flow*`, and null in place of a path takes the folder away. `GET` shows them.
"""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from localstack.services.edge import ROUTER

PLACE = "/_lokki/images"
_folders: dict[str, Path] = {}


def install() -> None:
    """Answer requests for this room."""
    ROUTER.add(PLACE, _answer, methods=["GET", "PUT"])


def folder(image: str) -> Path | None:
    """The folder in the place of an image, if there is one."""
    return next((path for pattern, path in _folders.items() if fnmatch.fnmatchcase(image, pattern)), None)


def in_docker(image: str) -> bool:
    """Whether the Docker engine of this machine has the image."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode == 0


def missing(image: str) -> str:
    """Why an image cannot be run."""
    return f"There is no image {image}: Docker has none of that name, and no folder was put in its place ({PLACE})"


def handler(code: Path) -> str:
    """The handler that the Dockerfile in a folder names."""
    commands = re.findall(r"^CMD\s+(\[.*\])", (code / "Dockerfile").read_text(), re.MULTILINE)
    return str(json.loads(commands[-1])[0])


def _answer(request: Any) -> dict[str, str]:
    if request.method == "PUT":
        for name, path in request.get_json(force=True).items():
            _folders.pop(name, None)
            if path is not None:
                _folders[name] = Path(path)
    return {name: str(path) for name, path in _folders.items()}
