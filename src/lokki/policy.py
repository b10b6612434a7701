"""What is said about a step or flow besides its code: how often to try again, where to run, when to start.

Frozen values, validated when they are made. They decide nothing about time or processes themselves; whoever runs a
step asks them (`RetryConfig.matches`, `RetryConfig.wait`, `Schedule.aws`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lokki.errors import GraphTypeError, GraphValidationError, nearest
from lokki.frozen import frozen


@frozen
class RetryConfig:
    """How a step is tried again after it failed.

    Attributes:
        retries: how many more times to try after the first failure.
        delay: seconds before the first retry.
        backoff: factor by which the delay grows with each retry.
        max_delay: the longest delay in seconds.
        exceptions: the exception types worth a retry; any other fails the step at once.
    """

    retries: int = 0
    delay: float = 1.0
    backoff: float = 2.0
    max_delay: float = 60.0
    exceptions: tuple[type[BaseException], ...] = (Exception,)

    def __post_init__(self) -> None:
        several = isinstance(self.exceptions, Iterable) and not isinstance(self.exceptions, str | type)
        object.__setattr__(self, "exceptions", tuple(self.exceptions if several else [self.exceptions]))
        for each in self.exceptions:
            if not (isinstance(each, type) and issubclass(each, BaseException)):
                raise GraphTypeError(f"RetryConfig.exceptions takes exception types such as ValueError, not {each!r}.")
        if isinstance(self.retries, bool) or not isinstance(self.retries, int):
            raise GraphTypeError(f"RetryConfig.retries takes a whole number, not {self.retries!r}.")
        self._at_least("retries", 0)
        self._at_least("delay", 0)
        self._more_than_zero("backoff")
        self._more_than_zero("max_delay")

    @classmethod
    def of(cls, value: RetryConfig | Mapping[str, Any] | None, step: str = "") -> RetryConfig:
        """The policy that `retry=` names: a RetryConfig, a dict with the same keys, or None for no retries."""
        match value:
            case None:
                return NO_RETRY
            case RetryConfig():
                return value
            case Mapping():
                return cls._of_mapping(value, step)
            case _:
                raise GraphTypeError(
                    f"Step {step!r}: retry= takes a RetryConfig, a dict such as {{'retries': 3}}, or None, "
                    f"not {type(value).__name__}."
                )

    @classmethod
    def _of_mapping(cls, value: Mapping[str, Any], step: str) -> RetryConfig:
        known = cls.__match_args__
        for key in value:
            if key not in known:
                raise GraphValidationError(
                    f"Step {step!r}: retry= has no key {key!r}{nearest(str(key), known) or '.'} "
                    f"It takes {', '.join(known)}."
                )
        return cls(**value)

    def matches(self, error: BaseException) -> bool:
        """Whether this error is one of the types worth a retry."""
        return isinstance(error, self.exceptions)

    def wait(self, attempt: int) -> float:
        """Seconds to wait after failed attempt number `attempt` (the first is 0)."""
        if not self.delay:
            return 0.0
        try:
            return min(self.delay * float(self.backoff) ** attempt, self.max_delay)
        except OverflowError:
            return self.max_delay

    def _at_least(self, name: str, least: float) -> None:
        if not _number(self, name) >= least:
            raise GraphValidationError(f"RetryConfig.{name} must be {least} or more, not {getattr(self, name)!r}.")

    def _more_than_zero(self, name: str) -> None:
        if not _number(self, name) > 0:
            raise GraphValidationError(f"RetryConfig.{name} must be more than 0, not {getattr(self, name)!r}.")


def _number(policy: RetryConfig, name: str) -> float:
    value = getattr(policy, name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise GraphTypeError(f"RetryConfig.{name} takes a number, not {value!r}.")
    if value - value != 0:
        raise GraphValidationError(f"RetryConfig.{name} takes a finite number, not {value!r}.")
    return value


NO_RETRY = RetryConfig()


@frozen
class Resources:
    """Where a deployed step runs and what it may use; None means what the configuration says."""

    job_type: str = "lambda"
    vcpu: int | None = None
    memory_mb: int | None = None
    timeout_seconds: int | None = None

    def __post_init__(self) -> None:
        if self.job_type not in ("lambda", "batch"):
            raise GraphValidationError(f"job_type must be 'lambda' or 'batch', not {self.job_type!r}.")
        for name in ("vcpu", "memory_mb", "timeout_seconds"):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise GraphTypeError(f"{name} takes a whole number, not {value!r}.")
            if value <= 0:
                raise GraphValidationError(f"{name} must be more than 0, not {value}.")


# field name, lowest, highest, names in place of numbers
_CRON = (
    ("minutes", 0, 59, ()),
    ("hours", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")),
    ("day of week", 1, 7, ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")),
    ("year", 1970, 2199, ()),
)
_HOW = "Write rate(5 minutes), or cron(0 12 * * ? *): minutes, hours, day of month, month, day of week, year."


@frozen
class Schedule:
    """When a deployed flow starts by itself: `rate(N unit)` or `cron(...)` with five (Unix) or six (AWS) fields."""

    expression: str

    def __post_init__(self) -> None:
        if not isinstance(self.expression, str):
            raise GraphTypeError(f"schedule= takes text, not {type(self.expression).__name__}. {_HOW}")
        self.aws  # noqa: B018 - spelling it out for AWS finds every mistake

    @property
    def aws(self) -> str:
        """The expression as EventBridge takes it: cron always with six fields."""
        found = re.fullmatch(r"\s*(rate|cron)\((.*)\)\s*", self.expression)
        if not found:
            raise _wrong(self.expression, "it is neither rate(...) nor cron(...)")
        kind, inside = found.groups()
        spelled = _rate if kind == "rate" else _cron
        return f"{kind}({spelled(self.expression, inside)})"


def _wrong(expression: str, why: str) -> GraphValidationError:
    return GraphValidationError(f"The schedule {expression!r} cannot be used: {why}. {_HOW}")


def _rate(expression: str, inside: str) -> str:
    found = re.fullmatch(r"\s*([0-9]+)\s+(minute|hour|day)(s?)\s*", inside)
    if not found:
        raise _wrong(expression, "rate takes a number and minute(s), hour(s) or day(s)")
    count, unit, plural = int(found[1]), found[2], found[3]
    if count < 1:
        raise _wrong(expression, "a rate is 1 or more")
    if (count == 1) == bool(plural):
        raise _wrong(expression, f"AWS wants {unit!r} after 1 and {unit + 's'!r} after any other number")
    return f"{count} {unit}{plural}"


def _cron(expression: str, inside: str) -> str:
    parts = inside.split()
    if len(parts) == 5:
        parts = _six_fields(parts)
    if len(parts) != 6:
        raise _wrong(expression, f"cron takes 5 or 6 fields, not {len(parts)}")
    for part, (name, low, high, words) in zip(parts, _CRON, strict=True):
        if part == "?" and name.startswith("day"):
            continue
        if not all(_cron_item(item, name, low, high, words) for item in part.split(",")):
            raise _wrong(expression, f"{part!r} is not valid as {name}")
    if (parts[2] == "?") == (parts[4] == "?"):
        raise _wrong(expression, "exactly one of day of month and day of week must be '?'")
    return " ".join(parts)


def _six_fields(parts: list[str]) -> list[str]:
    """Unix cron's five fields as AWS writes them: a '?' for the day that is free, Sunday as 1 rather than 0 or 7."""
    minute, hour, day, month, weekday = parts
    weekday = re.sub(r"\b([0-6])-7(?:/([1-7]))?(?![\w/])", _until_sunday, weekday)
    weekday = re.sub(r"(?<![/#\w])[0-7](?=L|\b)", lambda number: str(int(number[0]) % 7 + 1), weekday)
    if weekday in ("*", "?"):
        weekday = "?" if day != "?" else "*"
    elif day == "*":
        day = "?"
    return [minute, hour, day, month, weekday, "*"]


def _until_sunday(days: re.Match[str]) -> str:
    """A range that ends on Unix's day 7 as single days: AWS's week starts with Sunday, where a range cannot end."""
    return ",".join(dict.fromkeys(str(day % 7) for day in range(int(days[1]), 8, int(days[2] or 1))))


def _cron_item(item: str, name: str, low: int, high: int, words: tuple[str, ...]) -> bool:
    if name == "day of month" and re.fullmatch(r"L|LW|([1-9]|[12][0-9]|3[01])W", item):
        return True
    if name == "day of week" and re.fullmatch(r"L|[1-7]L|[1-7]#[1-5]", item):
        return True
    found = re.fullmatch(r"(?:\*|(\w+)(?:-(\w+))?)(?:/([0-9]+))?", item, re.ASCII)
    if not found or found[3] == "0":
        return False
    bounds = list(_cron_numbers(found[1], found[2], words))
    return all(low <= number <= high for number in bounds) and bounds == sorted(bounds)


def _cron_numbers(first: str | None, last: str | None, words: tuple[str, ...]) -> Iterator[int]:
    for text in (first, last):
        if text is not None:
            yield int(text) if text.isdigit() else words.index(text.upper()) + 1 if text.upper() in words else -1
