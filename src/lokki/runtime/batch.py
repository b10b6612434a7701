"""The entry of every Batch job: translates its environment into a `Task`. Steps are tried again here, in the job.

The state machine says what to do: `LOKKI_NODE` names the node, `LOKKI_STATE` is the state's data.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from lokki.errors import ConfigurationError
from lokki.runtime.event import State
from lokki.runtime.handler import open_worker
from lokki.runtime.report import explained


def run_job(environ: Mapping[str, str] | None = None, package: str | None = None) -> int:
    """Run the job that the environment describes; returns the exit code. What went wrong is in the log."""
    environ = os.environ if environ is None else environ
    node = environ.get("LOKKI_NODE", "")
    try:
        with explained(node):
            module, state = _asked(environ)
        worker = open_worker(module, node, package)
        with explained(node) as facts:
            worker.run(node, state, facts, here=True)
    except BaseException:  # noqa: BLE001 - it is told already, and nothing that a module does may look like success
        return 1
    return 0


def _asked(environ: Mapping[str, str]) -> tuple[str, State]:
    """The flow's module, and the data of the state that started this job."""
    for name in ("LOKKI_NODE", "LOKKI_STATE", "LOKKI_MODULE_NAME"):
        if not environ.get(name):
            raise ConfigurationError(f"This job was not started by a lokki state machine: {name} is not set.", name)
    try:
        return environ["LOKKI_MODULE_NAME"], State.from_dict(json.loads(environ["LOKKI_STATE"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"LOKKI_STATE is not the data of a state ({type(error).__name__}: {error}).", "LOKKI_STATE"
        ) from error
