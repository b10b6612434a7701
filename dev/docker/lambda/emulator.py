"""Answers calls of the function in an image on port 8080, one at a time, as the emulator in Lambda's own images does.

The process starts with the first call. A failure is answered with status 200 and says what it is. The output of the
function and Lambda's START, END and REPORT go to standard output. AWS_LAMBDA_FUNCTION_TIMEOUT is kept (300 seconds);
memory is for the container to limit.
"""

from __future__ import annotations

import os
import signal
import sys
import uuid
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from lokki_localstack.environment import Environment, Limits
from lokki_localstack.process import Launch
from lokki_localstack.runtime_api import Invocation

NAME = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "test_function")
CALLS = {f"/2015-03-31/functions/{name}/invocations" for name in ("function", NAME)}
TIMEOUT = float(os.environ.get("AWS_LAMBDA_FUNCTION_TIMEOUT", "300"))
MEMORY_MB = int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "3008"))
VARIABLES = {
    "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/Functions",
    "AWS_LAMBDA_LOG_STREAM_NAME": "$LATEST",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(MEMORY_MB),
    "AWS_LAMBDA_FUNCTION_NAME": NAME,
}


class Handler(BaseHTTPRequestHandler):
    environment = Environment(
        Launch(["/var/runtime/bootstrap"], {**VARIABLES, **os.environ}, Path.cwd()), Limits(TIMEOUT, MEMORY_MB)
    )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path not in CALLS:
            return self.send_error(404)
        arn = f"arn:aws:lambda:us-east-1:012345678912:function:{NAME}"
        call = Invocation(str(uuid.uuid4()), body, arn, self.headers.get("X-Amzn-Trace-Id", ""))
        outcome = self.environment.invoke(call)
        sys.stdout.write(outcome.logs)
        sys.stdout.flush()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(outcome.payload)))
        self.end_headers()
        self.wfile.write(outcome.payload)
        return None

    def log_message(self, *_: Any) -> None:
        """Requests are not worth a line."""


def end(*_: object) -> None:
    Handler.environment.stop()
    os._exit(0)


signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, end)
HTTPServer(("", 8080), Handler).serve_forever()  # all of the container's interfaces
