"""The objects of a call are such as every Kubernetes of the last years takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from kubernetes_validate import ValidationError, validate
from kubernetes_validate.utils import all_versions

from tests.twingraph.calling import placed
from twingraph.envelope import Frames, pack, unpack
from twingraph.errors import PlatformError
from twingraph.placed import Placed, Returned
from twingraph.placement import Placement
from twingraph.platforms.kubernetes import manifests
from twingraph.platforms.kubernetes.payload import MOST, PART, contents
from twingraph.platforms.kubernetes.wishes import wishes

EVERYTHING = {
    "namespace": "mine", "resources": {"requests": {"cpu": 0.5}, "limits": {"memory": "1Gi"}, "gpu": 2},
    "node_selector": {"disk": "gold", "spot": True}, "pull_policy": "Always", "image_pull_secrets": ["registry"],
    "service_account": "worker", "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoSchedule"}],
    "host_network": True, "start_timeout": 5,
}  # fmt: skip


def double(x: Any) -> Any:
    return x * 2


def call_with(*args: Any, **told: Any) -> Placed:
    return placed(double, *args, place=Placement("kubernetes", **told))


def objects(call: Placed) -> list[dict[str, Any]]:
    held, asked = contents(call, pack(call), None), wishes(call)
    return [*manifests.secrets(call, asked, "process", held), manifests.job(call, asked, "process", held)]


@pytest.mark.parametrize("version", sorted(set(all_versions())))
def test_manifests_pass_the_official_schemas(version: str) -> None:
    labels = {"team": "a b", "x" * 80: "y" * 80, "bad prefix!/key": "v", "-": "nothing"}
    simple, whole = call_with(1), call_with(
        os.urandom(2 * PART), config=EVERYTHING, labels=labels, environment={"A": "b", "not one": "c"}, timeout=0.5
    )  # fmt: skip
    made = [*objects(simple), *objects(whole)]
    assert [each["kind"] for each in made] == ["Secret", "Job", "Secret", "Secret", "Secret", "Job"]
    for each in made:
        validate(each, version, strict=True)
    made[1]["spec"]["template"]["spec"]["containers"][0]["imagePullPolcy"] = "Never"
    with pytest.raises(ValidationError):
        validate(made[1], version, strict=True)


def test_what_is_asked_for_is_said_in_the_words_of_kubernetes() -> None:
    *_, job = objects(call_with(1, config=EVERYTHING, resources={"cpu": 4, "memory": "2G"}, environment={"A": "b"}))
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "0.5", "nvidia.com/gpu": "2"},
        "limits": {"memory": "1Gi", "nvidia.com/gpu": "2"},
    }
    assert pod["nodeSelector"] == {"disk": "gold", "spot": "true"}
    assert (pod["imagePullSecrets"], pod["hostNetwork"]) == ([{"name": "registry"}], True)
    *_, job = objects(call_with(1, resources={"cpu": 1.5, "memory": "512m"}))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == container["resources"]["requests"] == {"cpu": "1500m", "memory": "512Mi"}
    assert "imagePullPolicy" not in container


@pytest.mark.parametrize("size", [1, 3 * PART])
def test_a_pod_puts_the_envelope_together_again(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    call = call_with(data)
    for each in contents(call, pack(call), None):
        for name, content in each.items():
            (tmp_path / name).write_bytes(b64decode(content))
    command = [sys.executable, str(tmp_path / "entry.py")]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True, cwd="/")
    frames = Frames(call)
    frames.write(done.stdout)
    assert frames.answer is not None
    assert unpack(frames.answer, call) == Returned(data * 2)


def test_what_is_too_large_for_secrets_is_refused_with_what_to_do() -> None:
    call = call_with(1)
    with pytest.raises(PlatformError, match=r"fit in Secrets: name a bucket for more with config=\{'store'"):
        contents(call, json.dumps(os.urandom(MOST * PART // 2 + PART).hex() * 2).encode(), None)
