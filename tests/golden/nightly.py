"""A flow that starts by itself, with secrets, from an image, with the steps of its map in one place."""

from __future__ import annotations

import os
from typing import Any

from lokki import flow, main, step


@step
def start(pages: int, **options: Any) -> list[int]:
    return list(range(pages))


@step(timeout_seconds=120)
def fetch(page: int) -> str:
    return f"{page} with {len(os.environ['API_TOKEN'])} letters"


@step(memory_mb=1024, timeout_seconds=60)
def count_words(text: str) -> int:
    return len(text.split())


@step
def most(counts: list[int]) -> int:
    return max(counts)


@flow(schedule="cron(30 4 * * MON-FRI)")
def nightly(pages: int = 20, tag: str = "${not ours} \\ $.x") -> Any:
    return start(pages, note="it's").map([fetch, count_words], direct_pass=True, batch_size=5).agg(most)


if __name__ == "__main__":
    main(nightly)
