"""The Dockerfiles of functions and of jobs: two stages, the packages in the first, what runs in the second."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from lokki.builder.source import RUNTIME

REQUIREMENTS = "requirements.txt"

_UV_VERSION = "0.13.8"
_PACKAGES = "/packages"


def function_image(base: str, shipped: Iterable[str], beside: Iterable[str]) -> str:
    """The Dockerfile of the image that all functions share.

    Args:
        base: an image of Lambda's, with Python and Lambda's runtime interface.
        shipped: the paths of the files that a function has.
        beside: the files that only the installation of packages reads.
    """
    return _dockerfile(base, "/var/task", shipped, beside, ["handler.lambda_handler"])


def job_image(base: str, shipped: Iterable[str], beside: Iterable[str]) -> str:
    """The Dockerfile of the image of Batch jobs; its arguments are those of `function_image`."""
    return _dockerfile(base, "/app", shipped, beside, ["python", "batch_main.py"])


def _dockerfile(base: str, home: str, shipped: Iterable[str], beside: Iterable[str], command: list[str]) -> str:
    lines = [
        f"FROM {base} AS builder",
        f"ARG UV_VERSION={_UV_VERSION}",
        'RUN python -m pip install --no-cache-dir "uv==${UV_VERSION}"',
        "WORKDIR /build",
        f"COPY {' '.join([*beside, REQUIREMENTS])} ./",
        f"RUN uv pip install --no-deps --requirement {REQUIREMENTS} --target {_PACKAGES} --compile-bytecode",
        "",
        f"FROM {base}",
        f"WORKDIR {home}",
        f"COPY --from=builder {_PACKAGES}/ ./",
        *_copies(shipped),
        f"RUN python -m compileall -q {RUNTIME}",
        f"CMD {json.dumps(command)}",
    ]
    return "\n".join(lines) + "\n"


def _copies(shipped: Iterable[str]) -> list[str]:
    """A line for the files at the top and one for each folder."""
    paths = sorted(shipped)
    files = [path for path in paths if "/" not in path]
    folders = dict.fromkeys(path.partition("/")[0] for path in paths if "/" in path)
    return [_copy(files, "./"), *(_copy([f"{folder}/"], f"./{folder}/") for folder in folders)]


def _copy(sources: list[str], target: str) -> str:
    words = [*sources, target]
    plain = all(re.fullmatch(r"[\w./+@=-]+", word, re.ASCII) for word in words)
    return f"COPY {' '.join(words) if plain else json.dumps(words)}"
