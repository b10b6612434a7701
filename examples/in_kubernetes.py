"""Components as jobs of Kubernetes, three of them side by side.

It needs a kubeconfig (KUBECONFIG, or ~/.kube/config), and pip install 'lokki-twingraph[kubernetes]'.

Try:
    python examples/in_kubernetes.py
    python examples/in_kubernetes.py my-namespace
"""

from __future__ import annotations

import sys

from twingraph import component, pipeline

NAMESPACE = sys.argv[1] if len(sys.argv) > 1 else "default"


@component
def ranges():
    return {"ranges": [[1, 100], [101, 200], [201, 300]]}


@component(
    platform="kubernetes",
    docker_image="python:3.13-slim",
    config={
        "namespace": NAMESPACE,
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
    },
    timeout=300,
    retry_policy={"max_attempts": 2, "exceptions": ["PlatformError"]},
    labels={"team": "numbers"},
)
def primes(low, high):
    return [each for each in range(max(low, 2), high + 1) if all(each % other for other in range(2, each))]


@pipeline
def all_primes():
    found = ranges()
    parts = [primes(low, high, parent_hash=found) for low, high in found["ranges"]]
    return [len(each.value) for each in parts]


if __name__ == "__main__":
    print("primes:", *all_primes())
