"""A call as a job: what is known of its pod, what it has printed, and what became of it."""

from __future__ import annotations

import threading
import time
from typing import Any

from twingraph.envelope import Frames, unpack
from twingraph.errors import ComponentTimeoutError, PlatformError
from twingraph.placed import Outcome, Placed, Raised, Returned
from twingraph.platforms.kubernetes import pods
from twingraph.platforms.kubernetes.cluster import Away, Cluster, Refused
from twingraph.platforms.kubernetes.manifests import CONTAINER, image
from twingraph.platforms.kubernetes.payload import Parcel

_NO_POD, _NO_START, _LOOKS = 2.0, 30.0, 5.0  # seconds until events are asked for, and between two times
_SETTLE = 10.0  # seconds in which a pod whose log is over is known to be over, too
_QUIET = 120.0  # seconds without a line after which a log is asked for again: the connection may be dead
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0  # seconds until a log is asked for again
_MISSING, _GONE = 404, "its pod was deleted before it returned (evicted, preempted, or by somebody): run it again"


class Job:
    """A call on Kubernetes.

    Args:
        call: the call.
        cluster: where it runs.
        start_timeout: seconds that its pod may wait to start.
        parcel: its objects in a bucket, if it has a store.
    """

    def __init__(self, call: Placed, cluster: Cluster, start_timeout: float, parcel: Parcel | None) -> None:
        limit = call.placement.timeout
        self.call, self.cluster, self.parcel = call, cluster, parcel
        self.name = call.id
        self.secrets: list[str] = []
        self.made = False
        self.pod: dict[str, Any] | None = None
        self._image = image(call)
        self._start_timeout = min(start_timeout, 0.9 * limit) if limit else start_timeout
        self._begun = time.monotonic()
        self._next_look = self._begun
        self._told: set[tuple[str, str]] = set()
        self._frames = Frames(call)
        self._changed = threading.Condition()
        self._news = False
        self._pieces: list[bytes] = []
        self._seen = 0
        self._following = False
        self._log_over = False
        self._log_error: PlatformError | None = None
        self._gone = False
        self._lost: PlatformError | None = None
        self._left = False

    # What others tell: the watch, and the thread that follows the log.

    def tell(self, pod: dict[str, Any], gone: bool) -> None:
        """The pod is so now, or was so when it went."""
        with self._changed:
            self.pod, self._gone = pod, self._gone or gone
            follow = pods.begun(pod) and not self._following and not self._left
            self._following = self._following or follow
            self._notify()
        if follow:
            threading.Thread(target=self._follow, name=f"twingraph-log-{self.name}", daemon=True).start()

    def lose(self, error: PlatformError) -> None:
        """Nothing will be heard of the pod."""
        with self._changed:
            self._lost = self._lost or error
            self._notify()

    def leave(self) -> None:
        """Nobody wants to know any more."""
        with self._changed:
            self._left = True
            self._notify()

    def _notify(self) -> None:
        self._news = True
        self._changed.notify_all()

    # The log.

    def _follow(self) -> None:
        """Read the log to its end; where it breaks off it is read again, past what is known."""
        pause, since = _FIRST_PAUSE, time.monotonic()
        while not self._left:
            before = self._seen
            try:
                if self._read() and self._settled():
                    break
                pause, since = (pause if self._seen == before else _FIRST_PAUSE), time.monotonic()
            except PlatformError as error:
                late = time.monotonic() - since > self.cluster.patience
                if late or (isinstance(error, Refused) and (error.status == _MISSING or pods.over(self.pod))):
                    self._log_error = error
                    break
            with self._changed:
                self._changed.wait_for(lambda: self._left, pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        with self._changed:
            self._log_over = True
            self._notify()

    def _read(self) -> bool:
        """Take the log from where it is not known any more; whether it came to its end, or broke off."""
        assert self.pod is not None
        name, doing = self.pod["metadata"]["name"], "give the log of a pod"
        method = self.cluster.core.read_namespaced_pod_log
        told = {"container": CONTAINER, "follow": True}
        answer = self.cluster.stream(doing, _QUIET, method, name, self.cluster.namespace, **told)
        place = 0
        try:
            for piece in answer.stream(1 << 16):
                new = piece[max(self._seen - place, 0) :]
                place += len(piece)
                if new:
                    self._seen = place
                    self._take(new)
                if self._left:
                    break
        except Exception as error:
            if isinstance(self.cluster.judged(error, doing), Away):
                return False
            raise
        finally:
            answer.close()
        return True

    def _take(self, piece: bytes) -> None:
        with self._changed:
            self._pieces.append(piece)
            self._notify()

    def _settled(self) -> bool:
        """Whether the container is over; the log of one that is not has broken off."""
        with self._changed:
            return self._changed.wait_for(lambda: self._left or self._gone or pods.over(self.pod), _SETTLE)

    # What became of the call.

    def wait(self, seconds: float) -> Outcome | None:
        """What became of the call, or None if that is not known after so many seconds, or there is other news."""
        with self._changed:
            self._changed.wait_for(lambda: self._news, seconds)
            self._news = False
            pieces, self._pieces = self._pieces, []
            over, lost = self._log_over, self._lost
        for each in pieces:
            self._frames.write(each)
        if over:
            self._frames.close()
            if (answer := self._answer()) is not None:
                return unpack(answer, self.call)
        if lost is not None:
            return Raised(lost)
        return self._failure(over)

    def _answer(self) -> bytes | None:
        return self._frames.answer if self.parcel is None else self.parcel.get("answer")

    def _failure(self, over: bool) -> Outcome | None:
        if pods.over(self.pod) and (over or not self._following):
            assert self.pod is not None
            if self.call.command and (pods.state(self.pod, "terminated") or {}).get("exitCode") == 0:
                return Returned(None)
            return self._raised(self._unanswered(self.pod))
        if self._gone and (over or not self._following):
            return self._raised(self._vanished() or _GONE)
        if not pods.begun(self.pod):
            return self._waiting()
        return None

    def _unanswered(self, pod: dict[str, Any]) -> str:
        """How a call ended that gave no answer."""
        if pods.deleted(pod):
            return self._vanished() or _GONE
        ended = pods.state(pod, "terminated")
        if ended is None or ended["exitCode"] != 0:
            return pods.ending(pod, self._image)
        if self._log_error is not None:
            return f"its pod ended well, but its answer, which comes through its log, is lost: {self._log_error}"
        if self.parcel is None:
            return (
                "its answer did not come whole through the log of its pod, which keeps only the newest 10 MiB or so: "
                "let large answers go through a bucket, with config={'store': 's3://bucket/prefix'}"
            )
        return "its pod ended well, but its answer is not in the store"

    def _waiting(self) -> Outcome | None:
        """What keeps the pod from starting: told as a warning at once, and an error when waiting does not help."""
        trouble = pods.trouble(self.pod, self._image)
        if trouble is not None and trouble.lasts:
            return self._raised(trouble.words)
        if trouble is not None and (trouble.reason, "") not in self._told:
            self._told.add((trouble.reason, ""))
            self.call.log("warning", f"Kubernetes: {trouble.words}.")
        now = time.monotonic()
        waited = now - self._begun
        late = waited > self._start_timeout
        if not late and (now < self._next_look or waited < (_NO_POD if self.pod is None else _NO_START)):
            return None
        self._next_look = now + _LOOKS
        events = self._events()
        if problem := self._vanished() if self.pod is None else None:
            return self._raised(problem)
        if any("serviceaccount" in message and "not found" in message for _, message in events):
            return self._raised(f"its pod cannot be made ({_told(events[-1])}): check config['service_account']")
        if not late:
            return None
        why = trouble.words if trouble is not None else f"its pod did not start ({_told(events[-1])})" if events else ""
        return self._raised(f"{why or 'its pod did not start'}; waited {self._start_timeout:.0f} s (start_timeout)")

    def _events(self) -> list[tuple[str, str]]:
        """The warnings about the job or its pod; new ones are told."""
        about = self.name if self.pod is None else self.pod["metadata"]["name"]
        told = {"field_selector": f"involvedObject.name={about}"}
        try:
            core, namespace = self.cluster.core, self.cluster.namespace
            found = self.cluster.ask("list events", core.list_namespaced_event, namespace, **told)
        except PlatformError:  # they only say more
            return []
        events = pods.warnings(found.get("items") or ())
        for reason, message in events:
            if (reason, message) not in self._told and (reason, "") not in self._told:
                self._told.add((reason, message))
                self.call.log("warning", f"Kubernetes: {reason}: {message}.")
        return events

    def _vanished(self) -> str:
        """What became of the job, if it is no longer as it was made."""
        try:
            job = self.cluster.ask(
                "show a job", self.cluster.batch.read_namespaced_job, self.name, self.cluster.namespace
            )
        except Refused as error:
            if error.status == _MISSING:
                return f"its job {self.cluster.namespace}/{self.name} was deleted before it returned: somebody ended it"
            return str(error)
        for each in (job.get("status") or {}).get("conditions") or ():
            if each["type"] == "Failed" and each["status"] == "True":
                return f"its job failed ({each.get('reason')}: {str(each.get('message', '')).rstrip('.')})"
        return ""

    def _raised(self, words: str) -> Outcome:
        kind = ComponentTimeoutError if "(DeadlineExceeded" in words else PlatformError
        return Raised(kind(f"{self.call.who} on platform 'kubernetes': {words}."))


def _told(event: tuple[str, str]) -> str:
    return f"{event[0]}: {event[1]}"
