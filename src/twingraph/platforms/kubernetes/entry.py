"""The first thing that runs in a pod: it puts the envelope together, from as many files as it took, and opens it.

Beside it lie `worker.py` and either the parts of the envelope, compressed, or the address that it is to be had at. The
answer goes into the log, or to an address. Like the worker it is one file of the standard library's means.
"""

from __future__ import annotations

import glob
import os
import runpy
import sys
import tempfile
import zlib
from typing import BinaryIO


def main() -> None:
    """Open the envelope with the worker, which ends the process."""
    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path.pop(0)  # what lies here is not for the function to import
    envelope, answer = _address(folder, "envelope.url"), _address(folder, "answer.url")
    if envelope == "-":
        parts = []
        for name in sorted(glob.glob(os.path.join(folder, "part-*"))):
            with open(name, "rb") as file:
                parts.append(file.read())
        with _nowhere() as file:
            file.write(zlib.decompress(b"".join(parts)))
            file.flush()
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            os.dup2(file.fileno(), 0)
    worker = os.path.join(folder, "worker.py")
    sys.argv = [worker, envelope, answer]
    runpy.run_path(worker, run_name="__main__")


def _address(folder: str, name: str) -> str:
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        return "-"
    with open(path, encoding="ascii") as file:
        return file.read()


def _nowhere() -> BinaryIO:
    """A file in memory; where there is no such thing, a temporary one."""
    try:
        return os.fdopen(os.memfd_create("envelope"), "w+b")
    except (AttributeError, OSError):
        return tempfile.TemporaryFile()


if __name__ == "__main__":
    main()
