"""Serve until a signal comes: `python -m lokki_kubernetes --port 18080 --kubeconfig FILE`."""

from __future__ import annotations

import argparse
import secrets
import signal
import threading
from pathlib import Path

from lokki_kubernetes.server import StandIn


def main() -> None:
    """Serve on loopback, and write the kubeconfig that leads here when everything is ready."""
    parser = argparse.ArgumentParser(prog="lokki_kubernetes", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 for any free port")
    parser.add_argument("--schema", help="the Kubernetes whose schemas hold, such as 1.32; the newest without")
    parser.add_argument("--backoff", type=float, default=1.0, help="seconds where Kubernetes waits 10 after a failure")
    parser.add_argument("--state", type=Path, help="where volumes of pods are kept; a temporary folder without")
    parser.add_argument("--kubeconfig", type=Path, required=True, help="the file to write")
    options = parser.parse_args()
    # Who may create pods may do anything on this machine: only who reads the kubeconfig may.
    kube = StandIn(options.port, secrets.token_urlsafe(24), options.schema, options.backoff, options.state)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with kube:
        kube.kubeconfig(options.kubeconfig)
        ended.wait()


if __name__ == "__main__":
    main()
