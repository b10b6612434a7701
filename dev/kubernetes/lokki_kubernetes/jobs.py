"""The Job controller: pods for jobs, and jobs' status from their pods."""

from __future__ import annotations

import contextlib
import copy
import itertools
import threading
import time
import uuid
from collections.abc import Iterable
from typing import Any

from lokki_kubernetes.errors import ApiError, Object
from lokki_kubernetes.recorder import record
from lokki_kubernetes.resources import now, parse_time
from lokki_kubernetes.store import Change, Store

_ROUND = 0.3  # seconds
INDEX = "batch.kubernetes.io/job-completion-index"


def owned_by(owner: Object) -> Any:
    uid = owner["metadata"]["uid"]
    return lambda o: any(ref.get("uid") == uid for ref in o["metadata"].get("ownerReferences") or [])


def prepare(job: Object) -> None:
    """Selector and labels that tie pods to their job, as the server adds them to a new job."""
    metadata = job["metadata"]
    uid = metadata["uid"] = str(uuid.uuid4())
    name = metadata.setdefault("name", metadata.get("generateName", "") + uid[:5])
    labels = {"batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": name}
    labels.update({"controller-uid": uid, "job-name": name})
    head = job["spec"]["template"].setdefault("metadata", {})
    head["labels"] = {**(head.get("labels") or {}), **labels}
    job["spec"]["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    job.setdefault("status", {})


def finished(job: Object) -> Object | None:
    for condition in job.get("status", {}).get("conditions") or []:
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return dict(condition)
    return None


class JobController(threading.Thread):
    def __init__(self, store: Store, backoff: float) -> None:
        super().__init__(name="job-controller", daemon=True)
        self._store, self._backoff = store, backoff
        self._seen: dict[str, dict[str, str]] = {}  # job uid -> pod uid -> succeeded, failed or ignored
        self._not_before: dict[str, float] = {}
        self._ended = threading.Event()

    def stop(self) -> None:
        self._ended.set()

    def run(self) -> None:
        """Look at the jobs that something happened to, and now and then, for deadlines, at all."""
        version, next_round = self._store.version, 0.0
        while not self._ended.is_set():
            changes = self._store.after(version, _ROUND)
            version = changes[-1].version if changes else version
            touched = {each for change in changes for each in _jobs_of(change)}
            is_round = time.monotonic() >= next_round
            if is_round:
                next_round = time.monotonic() + _ROUND
            for job in self._store.list("jobs", match=lambda job: is_round or job["metadata"]["uid"] in touched):  # noqa: B023
                with contextlib.suppress(ApiError):  # changed or gone meanwhile: the next round sees it
                    self._reconcile(job)

    def _reconcile(self, job: Object) -> None:
        if job["metadata"].get("deletionTimestamp"):
            return
        if finished(job):
            self._expire(job)
            return
        pods = self._store.list("pods", job["metadata"]["namespace"], owned_by(job))
        active = [p for p in pods if _is_active(p)]
        status, done = self._status(job, pods, active)
        succeeded, failed = status["succeeded"], status["failed"]
        end = self._end(job, status, pods, active, failed, succeeded)
        if end is not None:
            self._finish(job, status, active, *end)
        elif job["spec"].get("suspend"):
            self._suspend(job, status, active)
        else:
            status["conditions"] = [c for c in status.get("conditions", []) if c["type"] != "Suspended"]
            self._write(job, status)
            self._create_missing(job, pods, active, succeeded, failed, done)

    def _status(self, job: Object, pods: list[Object], active: list[Object]) -> tuple[Object, set[int] | None]:
        """What the job's status is now and, of an indexed job, the indexes that are done."""
        outcomes = list(self._count(job, pods).values())
        status: Object = {
            **job.get("status", {}),
            "active": len(active),
            "ready": sum(1 for p in active if p["status"]["phase"] == "Running"),
            "succeeded": outcomes.count("succeeded"),
            "failed": outcomes.count("failed"),
        }
        if not job["spec"].get("suspend"):
            status.setdefault("startTime", now())
        if job["spec"].get("completionMode") != "Indexed":
            return status, None
        done = self._completed_indexes(pods, job)
        status.update(succeeded=len(done), completedIndexes=_ranges(done))
        return status, done

    def _finish(self, job: Object, status: Object, active: list[Object], kind: str, reason: str, message: str) -> None:
        for pod in active:
            self._delete_pod(job, pod)
        status.update(active=0, ready=0)
        condition = _true(kind, reason, message)
        status["conditions"] = [c for c in status.get("conditions", []) if c["type"] != kind] + [condition]
        if kind == "Complete":
            status["completionTime"] = now()
        self._write(job, status)
        severity = "Normal" if kind == "Complete" else "Warning"
        record(self._store, job, severity, reason or "Completed", message, "job-controller")

    def _suspend(self, job: Object, status: Object, active: list[Object]) -> None:
        for pod in active:
            self._delete_pod(job, pod)
        status.pop("startTime", None)
        was = job.get("status", {}).get("conditions", [])
        if not any(c["type"] == "Suspended" and c["status"] == "True" for c in was):
            status["conditions"] = [_true("Suspended", "JobSuspended", "Job suspended")]
            self._write(job, status)

    def _count(self, job: Object, pods: list[Object]) -> dict[str, str]:
        """Each ended pod counts once, also after it is gone."""
        seen = self._seen.setdefault(job["metadata"]["uid"], {})
        for pod in pods:
            uid, phase = pod["metadata"]["uid"], pod["status"].get("phase")
            if uid in seen or phase not in ("Succeeded", "Failed"):
                continue
            if phase == "Succeeded":
                seen[uid] = "succeeded"
                continue
            rule = _failure_rule(job, pod)
            seen[uid] = "ignored" if rule and rule["action"] == "Ignore" else "failed"
            failures = sum(1 for outcome in seen.values() if outcome == "failed")
            wait = self._backoff * 2 ** max(failures - 1, 0)
            self._not_before[job["metadata"]["uid"]] = time.monotonic() + min(wait, self._backoff * 36)
        return seen

    def _end(
        self, job: Object, status: Object, pods: list[Object], active: list[Object], failed: int, succeeded: int
    ) -> tuple[str, str, str] | None:
        spec = job["spec"]
        for pod in pods:
            rule = _failure_rule(job, pod) if pod["status"].get("phase") == "Failed" else None
            if rule and rule["action"] == "FailJob":
                name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
                return "Failed", "PodFailurePolicy", f"Container for pod {name} failed matching FailJob rule"
        limit, restarts = spec["backoffLimit"], 0
        if spec["template"]["spec"].get("restartPolicy") == "OnFailure":
            restarts = sum(c.get("restartCount", 0) for p in active for c in p["status"].get("containerStatuses", []))
        if failed > limit or (restarts and restarts >= max(limit, 1)):
            return "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        deadline = spec.get("activeDeadlineSeconds")
        if deadline is not None and status.get("startTime") and _seconds_since(status["startTime"]) >= deadline:
            return "Failed", "DeadlineExceeded", "Job was active longer than specified deadline"
        wanted = spec.get("completions")
        if (succeeded > 0 and not active) if wanted is None else succeeded >= wanted:
            return "Complete", "", "Job completed"
        return None

    def _create_missing(
        self, job: Object, pods: list[Object], active: list[Object], succeeded: int, failed: int, done: set[int] | None
    ) -> None:
        spec = job["spec"]
        wanted = spec.get("completions")
        if wanted is None:
            room = 0 if succeeded else spec["parallelism"] - len(active)
        else:
            room = min(spec["parallelism"], wanted - succeeded) - len(active)
        for pod in active[: max(-room, 0)]:  # parallelism was lowered
            self._delete_pod(job, pod)
        if room <= 0 or time.monotonic() < self._not_before.get(job["metadata"]["uid"], 0):
            return
        free: Iterable[int | None] = [None] * room
        if done is not None:
            taken = done | {int(p["metadata"]["annotations"][INDEX]) for p in active}
            free = itertools.islice((i for i in range(wanted or 0) if i not in taken), room)
        account = spec["template"]["spec"].get("serviceAccountName") or "default"
        if self._store.find("serviceaccounts", job["metadata"]["namespace"], account) is None:
            self._refuse_pod(job, account)
            return
        for index in free:
            self._create_pod(job, index)

    def _refuse_pod(self, job: Object, account: str) -> None:
        """What admission says of a pod whose service account is not there; it is asked again later."""
        name, space = job["metadata"]["name"], job["metadata"]["namespace"]
        why = f'error looking up service account {space}/{account}: serviceaccount "{account}" not found'
        self._not_before[job["metadata"]["uid"]] = time.monotonic() + self._backoff
        message = f'Error creating: pods "{name}-" is forbidden: {why}'
        record(self._store, job, "Warning", "FailedCreate", message, "job-controller")

    def _create_pod(self, job: Object, index: int | None) -> None:
        metadata, template = job["metadata"], copy.deepcopy(job["spec"]["template"])
        name = metadata["name"] + (f"-{index}" if index is not None else "")
        head = template.get("metadata") or {}
        pod: Object = {
            "metadata": {
                "name": f"{name[:57]}-{uuid.uuid4().hex[:5]}",
                "generateName": f"{name}-",
                "namespace": metadata["namespace"],
                "labels": dict(head.get("labels") or {}),
                "annotations": dict(head.get("annotations") or {}),
                "ownerReferences": [
                    {
                        "apiVersion": "batch/v1",
                        "kind": "Job",
                        "name": metadata["name"],
                        "uid": metadata["uid"],
                        "controller": True,
                        "blockOwnerDeletion": True,
                    }
                ],
            },
            "spec": template["spec"],
            "status": {"phase": "Pending"},
        }
        if index is not None:
            pod["metadata"]["annotations"][INDEX] = pod["metadata"]["labels"][INDEX] = str(index)
            pod["spec"].setdefault("hostname", name)
            field = {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}}
            for container in pod["spec"]["containers"]:
                container.setdefault("env", []).append({"name": "JOB_COMPLETION_INDEX", "valueFrom": field})
        with self._store.changed:
            found = self._store.find("jobs", metadata["namespace"], metadata["name"])
            if found is None or found["metadata"]["uid"] != metadata["uid"]:  # it was deleted since it was looked at
                return
            created = self._store.create("pods", pod)
        message = f"Created pod: {created['metadata']['name']}"
        record(self._store, job, "Normal", "SuccessfulCreate", message, "job-controller")

    def _delete_pod(self, job: Object, pod: Object) -> None:
        metadata = pod["metadata"]
        grace = pod["spec"].get("terminationGracePeriodSeconds", 30)
        self._store.mark_deleted("pods", metadata["namespace"], metadata["name"], grace)
        record(self._store, job, "Normal", "SuccessfulDelete", f"Deleted pod: {metadata['name']}", "job-controller")

    def _completed_indexes(self, pods: list[Object], job: Object) -> set[int]:
        known = _indexes(job.get("status", {}).get("completedIndexes", ""))
        return known | {
            int(p["metadata"]["annotations"][INDEX]) for p in pods if p["status"].get("phase") == "Succeeded"
        }

    def _write(self, job: Object, status: Object) -> None:
        clean = {key: value for key, value in status.items() if value not in (0, [], None, "")}
        metadata = job["metadata"]

        def edit(current: Object) -> None:
            current["status"] = clean

        self._store.change("jobs", metadata["namespace"], metadata["name"], edit)

    def _expire(self, job: Object) -> None:
        seconds, end = job["spec"].get("ttlSecondsAfterFinished"), finished(job)
        if seconds is None or end is None:
            return
        if _seconds_since(end["lastTransitionTime"]) >= seconds:
            remove_with_dependents(self._store, job)


def remove_with_dependents(store: Store, job: Object) -> None:
    metadata = job["metadata"]
    with store.changed:
        store.remove("jobs", metadata["namespace"], metadata["name"])
        for pod in store.list("pods", metadata["namespace"], owned_by(job)):
            grace = pod["spec"].get("terminationGracePeriodSeconds", 30)
            store.mark_deleted("pods", metadata["namespace"], pod["metadata"]["name"], grace)
        for plural in ("secrets", "configmaps"):
            for owned in store.list(plural, metadata["namespace"], owned_by(job)):
                store.remove(plural, metadata["namespace"], owned["metadata"]["name"])


def _failure_rule(job: Object, pod: Object) -> Object | None:
    """The first rule of the pod failure policy that a failed pod matches."""
    ended = {
        c["name"]: c["state"]["terminated"]["exitCode"]
        for c in pod["status"].get("initContainerStatuses", []) + pod["status"].get("containerStatuses", [])
        if "terminated" in c.get("state", {})
    }
    conditions = {(c["type"], c["status"]) for c in pod["status"].get("conditions", [])}
    for rule in (job["spec"].get("podFailurePolicy") or {}).get("rules", []):
        codes = rule.get("onExitCodes")
        if codes:
            name = codes.get("containerName")
            found = [code for n, code in ended.items() if code != 0 and name in (None, n)]
            if any((code in codes["values"]) == (codes["operator"] == "In") for code in found):
                return dict(rule)
        elif any((c["type"], c.get("status", "True")) in conditions for c in rule.get("onPodConditions") or []):
            return dict(rule)
    return None


def _jobs_of(change: Change) -> list[str]:
    """The uids of the jobs that a change is of interest to."""
    metadata = change.object["metadata"]
    if change.plural == "jobs":
        return [metadata["uid"]]
    if change.plural == "pods":
        return [owner["uid"] for owner in metadata.get("ownerReferences") or ()]
    return []


def _is_active(pod: Object) -> bool:
    return pod["status"].get("phase") in ("Pending", "Running") and not pod["metadata"].get("deletionTimestamp")


def _true(kind: str, reason: str = "", message: str = "") -> Object:
    told = {"reason": reason, "message": message} if reason else {}
    return {"type": kind, "status": "True", "lastProbeTime": now(), "lastTransitionTime": now(), **told}


def _seconds_since(moment: str) -> float:
    return time.time() - parse_time(moment).timestamp()


def _ranges(indexes: set[int]) -> str:
    parts: list[list[int]] = []
    for index in sorted(indexes):
        if parts and parts[-1][1] == index - 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def _indexes(text: str) -> set[int]:
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found
