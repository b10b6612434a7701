"""A map within a map, with parameters, arguments that are computed from them, and retries."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from lokki import RetryConfig, flow, main, step


class StationClosed(Exception):
    """A station does not answer; it may later."""


PATIENT = RetryConfig(retries=3, delay=1.5, max_delay=20, exceptions=(StationClosed, TimeoutError))


@step(retry={"retries": 2})
def stations(region: str) -> list[str]:
    return [f"{region}-{number}" for number in range(3)]


@step(retry=PATIENT, timeout_seconds=30)
def days(station: str, since: date, until: date) -> list[tuple[str, date]]:
    return [(station, since + timedelta(days=day)) for day in range((until - since).days)]


@step(retry=PATIENT, memory_mb=1024)
def birds(visit: tuple[str, date], species: list[str], least: int = 1, **options: Any) -> int:
    return max(least, len(species))


@step
def most(counts: list[int], what: str = "") -> int:
    return max(counts, default=0)


@flow
def sightings(region: str, species: list[str], since: date = date(2026, 1, 1), weeks: int = 1, least: int = 1) -> Any:
    """The most birds that a station has seen in a day."""
    each_day = birds(retry=RetryConfig(retries=1))
    per_station = days(until=since + timedelta(weeks=weeks)).map(each_day, concurrency_limit=10, batch_size=7).agg(most)
    return stations(region.lower()).map(per_station).agg(most, what=f"{weeks} weeks of {region}")


if __name__ == "__main__":
    main(sightings)
