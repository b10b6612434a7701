"""What became of the children of an array job, put together in the order of their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lokki.frozen import replace
from twingraph.envelope import unpack
from twingraph.errors import PlatformError
from twingraph.placed import Outcome, Placed, Raised, Returned
from twingraph.platforms.aws.account import Account, refusals
from twingraph.platforms.aws.job_failures import failure
from twingraph.platforms.aws.parcels import Parcels

_AT_ONCE = 16
_PER_QUESTION = 100


def of_children(
    call: Placed, account: Account, parcels: Parcels, folder: str, job: Mapping[str, Any], size: int
) -> Outcome:
    """The results of all children; if any failed, the error of the first of them.

    Args:
        call: the call.
        account: where the job is.
        parcels: the call's objects in the bucket.
        folder: where among them the answers are.
        job: the job as Batch describes it.
        size: how many children it has.
    """
    from concurrent.futures import ThreadPoolExecutor

    failed = job["status"] == "FAILED"
    with ThreadPoolExecutor(min(size, _AT_ONCE), "batch-answers") as pool:
        answers = list(pool.map(lambda index: parcels.get(f"{folder}/{index}", perhaps=failed), range(size)))
    used = _Usage()
    told = replace(call, usage=used)
    outcomes = [None if answer is None else unpack(answer, told) for answer in answers]
    call.usage(used.total)
    wrong = [index for index, outcome in enumerate(outcomes) if not isinstance(outcome, Returned)]
    if not wrong:
        return Returned(
            {"results": [each.value for each in outcomes if isinstance(each, Returned)], "array_size": size}
        )
    first = wrong[0]
    outcome = outcomes[first]
    error = outcome.error if isinstance(outcome, Raised) else _lost(call, account, job, first, size)
    others = f", and so did {len(wrong) - 1} other{'s' if len(wrong) > 2 else ''}" if len(wrong) > 1 else ""
    error.add_note(f"Child {first} of the {size} of Batch job {job.get('jobName')} failed{others}.")
    return Raised(error)


def children(account: Account, job: str, indices: Iterable[int]) -> list[Mapping[str, Any]]:
    """Children of an array job as Batch describes them, in order."""
    ids = [f"{job}:{index}" for index in indices]
    found: list[Mapping[str, Any]] = []
    with refusals("ask Batch how jobs are"):
        for at in range(0, len(ids), _PER_QUESTION):
            found += account.client("batch").describe_jobs(jobs=ids[at : at + _PER_QUESTION])["jobs"]
    return sorted(found, key=lambda each: int(each["jobId"].rpartition(":")[2]))


def _lost(call: Placed, account: Account, job: Mapping[str, Any], index: int, size: int) -> Exception:
    """Why a child left no answer."""
    found = children(account, job["jobId"], [index]) if size > 1 else [job]
    return failure(call.who, found[0]) if found else PlatformError(f"Batch knows no child {index} any more.")


class _Usage:
    """What the children used together: time adds up, and the most memory is that of one of them."""

    def __init__(self) -> None:
        self.total: dict[str, float] = {}

    def __call__(self, used: Mapping[str, float]) -> None:
        for name, value in used.items():
            before = self.total.get(name, 0.0)
            self.total[name] = max(before, value) if name.startswith("peak") else before + value
