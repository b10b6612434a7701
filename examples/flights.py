"""A fan-out over pairs of route and date, with a limit on how many run at once and retries for a service that is busy.

The airline is made up and lives in this file: it is busy the first time it is asked about a Sunday, and its prices are
computed from the flight, so that they are the same for everyone.

Try:
    python examples/flights.py run
    python examples/flights.py run --destination OSL --days 7
"""

from __future__ import annotations

from datetime import date, timedelta
from zlib import crc32

from lokki import flow, main, step
from lokki.decorators import RetryConfig

SUNDAY = 6
asked: set[tuple[str, str, str]] = set()


def airline(origin: str, destination: str, day: str) -> int:
    """The price of a flight; ConnectionError while the airline is busy."""
    flight = (origin, destination, day)
    if date.fromisoformat(day).weekday() == SUNDAY and flight not in asked:
        asked.add(flight)
        raise ConnectionError(f"busy, ask again about {day}")
    return 60 + crc32(" ".join(flight).encode()) % 100


@step
def generate_route_date_pairs(route, begin_date, days):
    there, back = route
    dates = [str(date.fromisoformat(begin_date) + timedelta(days=n)) for n in range(days)]
    return [(*direction, day) for direction in ((there, back), (back, there)) for day in dates]


@step(retry=RetryConfig(retries=2, delay=0.1, exceptions=(ConnectionError,)))
def fetch_flight(route_and_date):
    origin, destination, day = route_and_date
    return {"route": f"{origin}-{destination}", "day": day, "price": airline(origin, destination, day)}


@step
def collect(flights):
    cheapest = sorted(flights, key=lambda each: (each["price"], each["day"]))[:3]
    return "\n".join(f"{each['route']} on {each['day']} for {each['price']}" for each in cheapest)


@flow
def flight_pipeline(origin: str = "ZRH", destination: str = "LIS", begin_date: str = "2026-06-01", days: int = 14):
    pairs = generate_route_date_pairs((origin, destination), begin_date, days)
    return pairs.map(fetch_flight, concurrency_limit=4).agg(collect)


if __name__ == "__main__":
    main(flight_pipeline)
