"""A component in a container: any image with Python 3.8 or newer will do, and the function travels there as it is.

It needs Docker, and pip install 'lokki-twingraph[docker]'.

Try:
    python examples/in_docker.py
    python examples/in_docker.py python:3.9-slim
"""

from __future__ import annotations

import sys

from twingraph import component, pipeline

IMAGE = sys.argv[1] if len(sys.argv) > 1 else "python:3.13-slim"
LONG = 5


def is_long(word):
    return len(word) >= LONG


@component
def load():
    return {"words": ["goose", "duck", "seagull"]}


@component(
    platform="docker",
    docker_image=IMAGE,
    config={"memory": "256M", "cpu": "1.0", "network": "none"},
    timeout=60,
)
def long_ones(words):
    import platform

    print("counting in", platform.node())  # kept in the execution graph
    return {"found": [each for each in words if is_long(each)], "python": platform.python_version()}


@pipeline
def count():
    found = long_ones(load()["words"])
    return f"{len(found['found'])} long words, found by Python {found['python']}"


if __name__ == "__main__":
    print(count())
