"""One pod, from its scheduling to its removal."""

from __future__ import annotations

import contextlib
import queue
import shutil
import threading
import time
from typing import TYPE_CHECKING, Any

import requests
from docker.errors import APIError, DockerException, NotFound
from docker.models.containers import Container

from lokki_kubernetes.containers import INSTANCE_LABEL, NODE, STAND_IN_LABEL, Waiting, ensure_image, options
from lokki_kubernetes.errors import ApiError, Object
from lokki_kubernetes.projection import Projection, expand
from lokki_kubernetes.recorder import record
from lokki_kubernetes.resources import now
from lokki_kubernetes.status import condition, terminated, waiting_status

if TYPE_CHECKING:
    from lokki_kubernetes.kubelet import Kubelet


class PodWorker(threading.Thread):
    """One pod, from its scheduling to its removal."""

    def __init__(self, kubelet: Kubelet, pod: Object) -> None:
        super().__init__(name=f"pod-{pod['metadata']['name']}", daemon=True)
        self._kubelet, self._store = kubelet, kubelet.store
        self.pod = pod
        self._namespace, self._name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        self._folder = kubelet.state / "pods" / pod["metadata"]["uid"]
        self._projection = Projection(kubelet.store, kubelet.capacity, pod, self._folder)
        self.runs: dict[str, list[Container]] = {}
        self._statuses: dict[str, Object] = {}
        self._grace: int | None = None
        self._wake: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._exited: tuple[str, Any] = ("", None)
        self._deleting = threading.Event()
        self._started_at = 0.0

    def delete(self, grace: int) -> None:
        self._grace = grace
        self._deleting.set()
        self._wake.put(("", None))

    def run(self) -> None:
        try:
            self._live()
        except (DockerException, ApiError, OSError, requests.RequestException) as error:
            if not self._deleting.is_set():
                self._set_phase("Failed", "ContainerRuntimeError", str(error))
        finally:
            self._deleting.wait()
            self._end()

    def _live(self) -> None:
        if not self._schedule():
            return
        spec = self.pod["spec"]
        for container in (spec.get("initContainers") or []) + spec["containers"]:
            self._statuses[container["name"]] = waiting_status(
                container, "PodInitializing" if spec.get("initContainers") else "ContainerCreating"
            )
        self._write()
        for container in spec.get("initContainers") or []:
            if not self._run_init(container):
                return
        owner: Container | None = None
        for container in spec["containers"]:
            started = self._start_when_possible(container, owner)
            if started is None:
                return
            owner = owner or started
        self._follow(spec)

    def _schedule(self) -> bool:
        told = ""
        while message := self._placed():

            def unscheduled(pod: Object, text: str = message) -> None:
                pod["status"]["conditions"] = [condition("PodScheduled", False, "Unschedulable", text)]

            if message != told:
                told = message
                self._change(unscheduled)
                self._event("Warning", "FailedScheduling", message, "default-scheduler")
            if self._deleting.wait(1):
                return False
        message = f"Successfully assigned {self._namespace}/{self._name} to {NODE}"
        self._event("Normal", "Scheduled", message, "default-scheduler")
        return not self._deleting.is_set()

    def _placed(self) -> str:
        """Put the pod on the node; why it cannot be, if it cannot."""

        def scheduled(pod: Object) -> None:
            pod["spec"]["nodeName"] = NODE
            pod["status"].update(
                phase="Pending", startTime=now(), hostIP="127.0.0.1", conditions=[condition("PodScheduled", True)]
            )

        with self._store.changed:
            message = self._kubelet.unschedulable(self.pod)
            if not message:
                self._started_at = time.time()
                self._change(scheduled)
        return message

    def _run_init(self, container: Object) -> bool:
        attempt = 0
        while True:
            started = self._start_when_possible(container, None)
            if started is None:
                return False
            if not self._await_exit():
                return False
            if self._record_exit(container, started) == 0:
                self._write()
                return True
            if self.pod["spec"]["restartPolicy"] == "Never":
                self._set_phase("Failed")
                return False
            attempt += 1
            if not self._back_off(container, attempt):
                return False

    def _follow(self, spec: Object) -> None:
        """Until every container has ended for good, or the pod is to go."""
        self._set_phase("Running")
        running = {c["name"] for c in spec["containers"]}
        attempts: dict[str, int] = {}
        while running:
            if not self._await_exit():
                return
            name, container = self._exited
            if name not in running or container is not self.runs[name][-1]:
                continue
            described = next(c for c in spec["containers"] if c["name"] == name)
            code = self._record_exit(described, container)
            policy = spec["restartPolicy"]
            if policy == "Always" or (policy == "OnFailure" and code != 0):
                self._write()
                attempts[name] = attempts.get(name, 0) + 1
                first = self.runs[spec["containers"][0]["name"]][0]
                is_owner = name == spec["containers"][0]["name"]
                if not self._back_off(described, attempts[name]):
                    return
                if self._start_when_possible(described, None if is_owner else first) is None:
                    return
            else:
                running.discard(name)
            if running:
                self._write()
        codes = [self._statuses[c["name"]]["state"]["terminated"]["exitCode"] for c in spec["containers"]]
        self._set_phase("Failed" if any(codes) else "Succeeded")

    def _await_exit(self) -> bool:
        """True when a container ended; False when the pod is being deleted or is overdue."""
        limit = self.pod["spec"].get("activeDeadlineSeconds")
        while True:
            left = None if limit is None else self._started_at + limit - time.time()
            if left is not None and left <= 0:
                self._stop_containers(self.pod["spec"].get("terminationGracePeriodSeconds", 30))
                self._set_phase(
                    "Failed", "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
                )
                return False
            try:
                self._exited = self._wake.get(timeout=left)
            except queue.Empty:
                continue
            return not self._deleting.is_set()

    def _back_off(self, container: Object, attempt: int) -> bool:
        """At once the first time, then longer and longer, as a kubelet does."""
        seconds = 0.0 if attempt == 1 else self._kubelet.backoff * 2 ** (attempt - 2)
        if seconds:
            what = f"container={container['name']} pod={self._name}_{self._namespace}"
            message = f"back-off {seconds:g}s restarting failed {what}"
            status = self._statuses[container["name"]]
            status["state"] = {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
            self._write()
            self._event("Warning", "BackOff", "Back-off restarting failed container")
        self._statuses[container["name"]]["restartCount"] = attempt
        return not self._deleting.wait(seconds)

    def _start_when_possible(self, container: Object, owner: Container | None) -> Container | None:
        delay = 0.3
        while not self._deleting.is_set():
            try:
                return self._start(container, owner)
            except Waiting as why:
                self._statuses[container["name"]]["state"] = {"waiting": {"reason": why.reason, "message": why.message}}
                self._write()
                self._event("Warning", "FailedMount" if why.reason == "ContainerCreating" else "Failed", why.message)
            limit = self.pod["spec"].get("activeDeadlineSeconds")
            if limit is not None and time.time() >= self._started_at + limit:
                self._set_phase(
                    "Failed", "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
                )
                return None
            self._deleting.wait(delay)
            delay = min(delay * 2, 5)
        return None

    def _start(self, container: Object, owner: Container | None) -> Container:
        metadata, name = self.pod["metadata"], container["name"]
        waiting = self._statuses[name]["state"].get("waiting", {}).get("reason")
        ensure_image(self._kubelet.docker, container, lambda text: self._event("Normal", "Pulling", text), waiting)
        attempt = len(self.runs.get(name, []))
        environment = self._projection.environment(container)
        mounts = self._projection.mounts(container)
        message_file = self._folder / "containers" / name / str(attempt)
        message_file.parent.mkdir(parents=True, exist_ok=True)
        message_file.touch()
        message_file.chmod(0o666)
        mounts.append(f"{message_file}:{container['terminationMessagePath']}:rw")
        try:
            created = self._kubelet.docker.containers.create(
                container["image"],
                command=[expand(a, environment) for a in container.get("args") or []] or None,
                entrypoint=[expand(a, environment) for a in container.get("command") or []] or None,
                environment=environment,
                volumes=mounts,
                working_dir=container.get("workingDir"),
                name=f"k8s_{name}_{self._name}_{self._namespace}_{metadata['uid']}_{attempt}",
                labels={
                    STAND_IN_LABEL: "true",
                    INSTANCE_LABEL: self._kubelet.instance,
                    "io.kubernetes.container.name": name,
                    "io.kubernetes.pod.name": self._name,
                    "io.kubernetes.pod.namespace": self._namespace,
                    "io.kubernetes.pod.uid": metadata["uid"],
                },
                **options(self.pod, container, owner),
            )
            self._event("Normal", "Created", f"Created container {name}")
        except APIError as error:
            raise Waiting("CreateContainerError", str(error.explanation or error)) from None
        self.runs.setdefault(name, []).append(created)
        status = self._statuses[name]
        try:
            created.start()
        except APIError as error:
            # the engine says so at once; for a kubelet it is a container that ended with 128
            status["state"] = {"terminated": terminated(128, "StartError", str(error.explanation or error), created)}
            self._write()
            self._wake.put((name, created))
            return created
        status.update(containerID=f"docker://{created.id}", ready=True, started=True)
        status["state"] = {"running": {"startedAt": now()}}
        self._event("Normal", "Started", f"Started container {name}")
        threading.Thread(target=self._watch, args=(name, created), daemon=True).start()
        return created

    def _watch(self, name: str, container: Container) -> None:
        while True:
            try:
                container.wait(timeout=3600)
            except NotFound:
                pass
            except requests.RequestException:
                if not self._deleting.is_set():
                    continue
            self._wake.put((name, container))
            return

    def _stop_containers(self, grace: int) -> None:
        def stop(container: Container) -> None:
            with contextlib.suppress(DockerException, requests.RequestException):
                container.stop(timeout=grace) if grace else container.kill()

        live = [runs[-1] for runs in self.runs.values() if runs]
        threads = [threading.Thread(target=stop, args=(container,), daemon=True) for container in live]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        described = self.pod["spec"]["containers"] + (self.pod["spec"].get("initContainers") or [])
        for container in described:
            if "running" in self._statuses.get(container["name"], {}).get("state", {}):
                self._record_exit(container, self.runs[container["name"]][-1])

    def _end(self) -> None:
        if any("running" in s.get("state", {}) for s in self._statuses.values()):
            self._event("Normal", "Killing", "Stopping containers")
        self._stop_containers(self._grace if self._grace is not None else 30)
        with contextlib.suppress(ApiError):
            self._write()
        for runs in self.runs.values():
            for container in runs:
                with contextlib.suppress(DockerException, requests.RequestException):
                    container.remove(force=True, v=True)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._store.remove("pods", self._namespace, self._name)
        self._kubelet.workers.pop(self.pod["metadata"]["uid"], None)

    def _record_exit(self, container: Object, ended: Container) -> int:
        status = self._statuses[container["name"]]
        if "terminated" in status["state"] and status["state"]["terminated"].get("reason") == "StartError":
            return int(status["state"]["terminated"]["exitCode"])
        try:
            ended.reload()
            state = ended.attrs["State"]
            code = int(state["ExitCode"])
            reason = "OOMKilled" if state["OOMKilled"] else "Completed" if code == 0 else "Error"
        except NotFound:
            code, reason = 137, "Error"
        attempt = self.runs[container["name"]].index(ended)
        file = self._folder / "containers" / container["name"] / str(attempt)
        text = file.read_bytes()[:4096].decode(errors="replace") if file.exists() else ""
        if not text and code and container["terminationMessagePolicy"] == "FallbackToLogsOnError":
            with contextlib.suppress(DockerException):
                text = ended.logs(tail=80)[-2048:].decode(errors="replace")
        status["state"] = {"terminated": terminated(code, reason, text, ended)}
        status["lastState"] = (
            {"terminated": status["state"]["terminated"]} if self.pod["spec"]["restartPolicy"] != "Never" else {}
        )
        status.update(ready=False, started=False)
        return code

    def _write(self) -> None:
        def edit(pod: Object) -> None:
            status, spec = pod["status"], pod["spec"]
            status["containerStatuses"] = [
                self._statuses[c["name"]] for c in spec["containers"] if c["name"] in self._statuses
            ]
            inits = [self._statuses[c["name"]] for c in spec.get("initContainers") or [] if c["name"] in self._statuses]
            if inits:
                status["initContainerStatuses"] = inits
            ready = bool(status["containerStatuses"]) and all(c["ready"] for c in status["containerStatuses"])
            initialized = all(c["state"].get("terminated", {}).get("exitCode") == 0 for c in inits)
            kept = [c for c in status.get("conditions", []) if c["type"] in ("PodScheduled", "DisruptionTarget")]
            status["conditions"] = [
                *kept,
                condition("Initialized", initialized),
                condition("Ready", ready, "" if ready else "ContainersNotReady"),
                condition("ContainersReady", ready, "" if ready else "ContainersNotReady"),
            ]

        self._change(edit)

    def _set_phase(self, phase: str, reason: str = "", message: str = "") -> None:
        address = self._address() if phase == "Running" else ""

        def edit(pod: Object) -> None:
            pod["status"]["phase"] = phase
            if address:
                pod["status"].update(podIP=address, podIPs=[{"ip": address}])
            if reason:
                pod["status"].update(reason=reason, message=message)

        with self._store.changed:
            self._write()
            self._change(edit)

    def _address(self) -> str:
        first = self.runs[self.pod["spec"]["containers"][0]["name"]][-1]
        with contextlib.suppress(DockerException):
            first.reload()
            return str(first.attrs["NetworkSettings"].get("IPAddress") or "")
        return ""

    def _change(self, edit: Any) -> None:
        self._store.change("pods", self._namespace, self._name, edit)

    def _event(self, kind: str, reason: str, message: str, source: str = "kubelet") -> None:
        record(self._store, self.pod, kind, reason, message, source)
