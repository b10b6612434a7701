"""Array jobs of Batch: a parent that runs nothing itself, and children that share its request and know their number."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from lokki_localstack.jobs import ENDED, Job

if TYPE_CHECKING:
    from lokki_localstack.batch import Store

_LARGEST = 10_000
_STATUSES = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED")
Request = dict[str, Any]


class Child(Job):
    """One of the jobs of an array."""

    def __init__(self, parent: ArrayJob, index: int) -> None:
        super().__init__(parent.store, parent.request, parent.queue, parent.definition)
        self.index = index
        self.id, self.arn = f"{parent.id}:{index}", f"{parent.arn}:{index}"

    def describe(self) -> Request:
        return {**super().describe(), "arrayProperties": {"index": self.index}}

    def _from_batch(self, number: int) -> dict[str, str]:
        return {**super()._from_batch(number), "AWS_BATCH_JOB_ARRAY_INDEX": str(self.index)}


class ArrayJob(Job):
    """The parent: it is pending until all of its children have ended."""

    def __init__(self, store: Store, request: Request, queue: Request, definition: Request) -> None:
        super().__init__(store, request, queue, definition)
        self.size = int(request["arrayProperties"]["size"])
        if not 1 < self.size <= _LARGEST:
            raise ValueError(f"Array size must be between 2 and {_LARGEST}")
        self.children = [Child(self, index) for index in range(self.size)]
        store.jobs.update({child.id: child for child in self.children})

    def run(self) -> None:
        self._set("PENDING")
        runs = [threading.Thread(target=child.run, daemon=True) for child in self.children]
        for each in runs:
            each.start()
        for each in runs:
            each.join()
        failed = any(child.status == "FAILED" for child in self.children)
        self._ended("Array Child Job failed" if failed else "")

    def terminate(self, reason: str) -> None:
        for child in self.children:
            if child.status not in ENDED:
                child.terminate(reason)

    def describe(self) -> Request:
        counts = Counter(child.status for child in self.children)
        summary = {status: counts[status] for status in _STATUSES}
        return {**super().describe(), "arrayProperties": {"size": self.size, "statusSummary": summary}}
