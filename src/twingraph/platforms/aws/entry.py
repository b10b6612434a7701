"""What a job starts with: it takes the call out of its parcel, lets the worker run it, and posts the answer.

The text of this file is in the parcel, so it is for Python 3.8 and newer and needs the standard library only. All
children of an array job share the parcel; each posts an answer under its own number.
"""

from __future__ import annotations

import os
import sys
import time
import types
import urllib.error
import urllib.request
from typing import Any

INDEX = "AWS_BATCH_JOB_ARRAY_INDEX"


def run(parcel: dict[str, Any]) -> None:
    """Run the call."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    worker: Any = types.ModuleType("twingraph_worker")
    exec(compile(parcel["worker"], "twingraph_worker.py", "exec"), vars(worker))  # noqa: S102 - it is ours
    answer = worker.answer(parcel["envelope"].encode())
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    fields = dict(parcel["fields"])
    fields["key"] += os.environ.get(INDEX, "0")
    post(parcel["url"], fields, answer)
    os.write(1, f"\x01{parcel['id']} end\n".encode())
    os._exit(0)  # threads that the function left behind do not keep the job


def post(url: str, fields: dict[str, str], content: bytes) -> None:
    """Post a form with a file to S3; what fails on the way is tried again."""
    mark = "twingraph-" + os.urandom(16).hex()
    head = f"--{mark}\r\nContent-Disposition: form-data; name="
    parts = [f'{head}"{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()]
    opening = "".join(parts) + f'{head}"file"; filename="answer"\r\n\r\n'
    body = opening.encode() + content + f"\r\n--{mark}--\r\n".encode()
    kind = {"Content-Type": "multipart/form-data; boundary=" + mark}
    for wait in (0.5, 2, 10, None):
        try:
            urllib.request.urlopen(urllib.request.Request(url, body, kind), timeout=60).close()  # noqa: S310
            return
        except OSError as error:
            if wait is None or (isinstance(error, urllib.error.HTTPError) and error.code < 500):
                raise
            time.sleep(wait)
