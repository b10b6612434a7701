"""Runs pods: every container of a pod is a container of the local Docker engine."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError

from lokki_kubernetes.causes import quantity
from lokki_kubernetes.containers import INSTANCE_LABEL, NODE
from lokki_kubernetes.errors import Object, bad_request
from lokki_kubernetes.pod import PodWorker
from lokki_kubernetes.resources import now
from lokki_kubernetes.status import waiting_reason
from lokki_kubernetes.store import Store

NODE_LABELS = {"kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux"}
PODS = 110  # that run at once


class Kubelet(threading.Thread):
    def __init__(self, store: Store, state: Path, instance: str, backoff: float) -> None:
        super().__init__(name="kubelet", daemon=True)
        self.store, self.state, self.instance, self.backoff = store, state, instance, backoff
        self.docker = docker.from_env(timeout=120)
        info = self.docker.info()
        self.capacity = {"cpu": float(info["NCPU"]), "memory": float(info["MemTotal"])}
        self._about = {
            "architecture": str(info["Architecture"]),
            "bootID": "",
            "containerRuntimeVersion": f"docker://{info['ServerVersion']}",
            "kernelVersion": str(info["KernelVersion"]),
            "kubeProxyVersion": "",
            "kubeletVersion": "stand-in",
            "machineID": "",
            "operatingSystem": "linux",
            "osImage": str(info["OperatingSystem"]),
            "systemUUID": "",
        }
        self.workers: dict[str, PodWorker] = {}
        self._ended = threading.Event()

    def node(self) -> Object:
        amounts = {
            "cpu": str(int(self.capacity["cpu"])),
            "memory": f"{int(self.capacity['memory'] // 1024)}Ki",
            "pods": str(PODS),
        }
        return {
            "metadata": {"name": NODE, "labels": NODE_LABELS},
            "spec": {},
            "status": {
                "capacity": amounts,
                "allocatable": amounts,
                "conditions": [
                    {
                        "type": "Ready",
                        "status": "True",
                        "reason": "KubeletReady",
                        "message": "",
                        "lastTransitionTime": now(),
                    }
                ],
                "nodeInfo": self._about,
            },
        }

    def run(self) -> None:
        everything = self.store.watch("pods", "", lambda _: True, None, 10**9)
        for kind, pod in everything:
            if self._ended.is_set():
                return
            uid = pod["metadata"]["uid"]
            worker = self.workers.get(uid)
            if worker is None and kind != "DELETED":
                worker = self.workers[uid] = PodWorker(self, pod)
                worker.start()
            if worker is not None and pod["metadata"].get("deletionTimestamp"):
                worker.delete(pod["metadata"].get("deletionGracePeriodSeconds", 30))

    def stop(self) -> None:
        self._ended.set()
        for worker in list(self.workers.values()):
            worker.delete(0)
        self.sweep()

    def sweep(self) -> None:
        """Remove the containers of this server's pods, also those of a predecessor at its port."""
        for container in self.docker.containers.list(all=True, filters={"label": f"{INSTANCE_LABEL}={self.instance}"}):
            with contextlib.suppress(APIError):
                container.remove(force=True, v=True)

    def unschedulable(self, pod: Object) -> str:
        """Why the pod cannot be put on the node now; empty when it can."""
        wanted = (pod["spec"].get("nodeSelector") or {}).items()
        if not wanted <= NODE_LABELS.items():
            return "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
        asked = _requested(pod)
        with self.store.changed:
            others = [other for other in self.store.each("pods") if _is_placed(other, pod)]
            used = [_requested(other) for other in others]
        short = [
            f"1 Insufficient {name}"
            for name, amount in asked.items()
            if amount > self.capacity.get(name, 0.0) - sum(each.get(name, 0.0) for each in used)
        ]
        if len(others) >= PODS:
            short.append("1 Too many pods")
        return f"0/1 nodes are available: {', '.join(short)}." if short else ""

    def logs(self, pod: Object, query: dict[str, str]) -> Iterator[bytes]:
        names = [c["name"] for c in pod["spec"]["containers"]]
        every = names + [c["name"] for c in pod["spec"].get("initContainers") or []]
        name = query.get("container") or (names[0] if len(every) == 1 else "")
        pod_name = pod["metadata"]["name"]
        if not name:
            raise bad_request(
                f"a container name must be specified for pod {pod_name}, choose one of: [{' '.join(names)}]"
            )
        if name not in every:
            raise bad_request(f"container {name} is not valid for pod {pod_name}")
        worker = self.workers.get(pod["metadata"]["uid"])
        runs = worker.runs.get(name, []) if worker else []
        previous = query.get("previous", "").lower() == "true"
        if len(runs) < (2 if previous else 1):
            if previous:
                raise bad_request(f'previous terminated container "{name}" in pod "{pod_name}" not found')
            reason = waiting_reason(pod, name)
            raise bad_request(f'container "{name}" in pod "{pod_name}" is waiting to start: {reason}')
        options: dict[str, Any] = {"timestamps": query.get("timestamps", "").lower() == "true"}
        if "tailLines" in query:
            options["tail"] = int(query["tailLines"])
        if "sinceSeconds" in query:
            options["since"] = int(time.time()) - int(query["sinceSeconds"])
        container = runs[-2 if previous else -1]
        if query.get("follow", "").lower() == "true":
            stream: Iterator[bytes] = container.logs(stream=True, follow=True, **options)
            return stream
        text: bytes = container.logs(**options)
        if "limitBytes" in query:
            text = text[: int(query["limitBytes"])]
        return iter([text])


def _is_placed(other: Object, pod: Object) -> bool:
    is_live = other["status"].get("phase") in ("Pending", "Running") and other["spec"].get("nodeName")
    return bool(is_live) and other["metadata"]["uid"] != pod["metadata"]["uid"]


def _requested(pod: Object) -> dict[str, float]:
    amounts: dict[str, float] = {}
    for container in pod["spec"]["containers"]:
        for name, amount in ((container.get("resources") or {}).get("requests") or {}).items():
            amounts[name] = amounts.get(name, 0.0) + quantity(amount)
    return {name: amount for name, amount in amounts.items() if amount > 0}
