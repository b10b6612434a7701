"""Flow parameters: a step takes those that it names, or all of them through **kwargs, however far from the first it is.

The weather is made up: a year is a wave that is taller the further a place lies from the equator.

Try:
    python examples/weather.py run
    python examples/weather.py run --cities oslo,quito --start-date 2026-12-24 --days 3 --unit F
    python examples/weather.py run --help
"""

from __future__ import annotations

from datetime import date, timedelta
from math import cos, pi
from typing import Literal

from lokki import flow, main, step

PLACES = {"zurich": (47.4, 8.5), "oslo": (59.9, 10.8), "nairobi": (-1.3, 36.8), "quito": (-0.2, -78.5)}


def temperature(latitude: float, day: date) -> float:
    """Degrees Celsius at noon."""
    wave = cos(2 * pi * (day.timetuple().tm_yday - 196) / 365)
    return 28 - abs(latitude) / 3 + wave * latitude / 4


@step
def locate(cities):
    return [(city, PLACES[city]) for city in cities]


@step
def fetch(coords, start_date="2026-01-01", **kwargs):
    """`start_date` arrives by its name, whichever other parameters the flow has through **kwargs."""
    city, (latitude, _) = coords
    first = date.fromisoformat(kwargs.get("start_date", start_date))
    days = [first + timedelta(days=n) for n in range(kwargs["days"])]
    return city, [temperature(latitude, day) for day in days]


@step
def report(series, start_date, unit="C"):
    lines = [f"{city}: {mean(values, unit):.1f} {unit}" for city, values in series]
    return "\n".join([f"from {start_date}", *lines])


def mean(values: list[float], unit: str) -> float:
    celsius = sum(values) / len(values)
    return celsius * 9 / 5 + 32 if unit == "F" else celsius


@flow
def weather(
    cities: tuple[str, ...] = ("zurich", "oslo", "nairobi"),
    start_date: str = "2026-06-01",
    days: int = 7,
    unit: Literal["C", "F"] = "C",
):
    return locate().map(fetch).agg(report)


if __name__ == "__main__":
    main(weather)
