"""The entry of every Batch job: translates its environment into a `Task`. Steps are tried again here, in the job.

The state machine says what to do: `LOKKI_NODE` names the node, `LOKKI_STATE` is the state's data.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from lokki.errors import ConfigurationError, LokkiError
from lokki.runtime.event import State
from lokki.runtime.handler import open_worker
from lokki.runtime.report import explained


def run_job(environ: Mapping[str, str] | None = None, package: str | None = None) -> int:
    """Run the job that the environment describes; returns the exit code. What went wrong is in the log."""
    environ = os.environ if environ is None else environ
    node = environ.get("LOKKI_NODE", "")
    try:
        with explained(node) as facts:
            if not node or "LOKKI_STATE" not in environ:
                raise ConfigurationError(
                    "This job was not started by a lokki state machine: LOKKI_NODE and LOKKI_STATE are not set.",
                    "LOKKI_NODE",
                )
            state = State.from_dict(json.loads(environ["LOKKI_STATE"]))
            worker = open_worker(environ["LOKKI_MODULE_NAME"], node, package)
            worker.run(node, state, facts, here=True)
    except LokkiError:
        return 1
    return 0
