"""What fields of bodies are made of: times, and what is said of a field that there is not.

An answer leaves out what it does not know, so that an older client understands a newer server. A request is refused:
who wrote a field wrong would otherwise believe that it holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, overload

from pydantic import AfterValidator, PlainSerializer, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from lokki.errors import nearest


@overload
def utc(seconds: float) -> datetime: ...
@overload
def utc(seconds: None) -> None: ...
def utc(seconds: float | None) -> datetime | None:
    """Seconds since 1970 as a time."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def with_zone(moment: datetime) -> datetime:
    """The time; one that does not say where is in UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _told(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


Time = Annotated[datetime, AfterValidator(with_zone), PlainSerializer(_told, return_type=str)]


def refuse_strangers(body: str, data: Mapping[str, Any], known: Iterable[str], belongs: Mapping[str, str]) -> None:
    """Refuse what has fields that are not known; of some it is said in which other field they belong."""
    names = list(known)
    wrong = [_wrong(name, each, names, belongs.get(name)) for name, each in data.items() if name not in names]
    if wrong:
        raise ValidationError.from_exception_data(body, wrong)


def _wrong(name: str, value: Any, known: list[str], where: str | None) -> InitErrorDetails:
    if where:
        sentence = f'{name!r} belongs inside {where!r}: {{"{where}": {{"{name}": ...}}}}.'
    else:
        others = f"; there are {', '.join(known)}."
        sentence = f"There is no field {name!r} here{nearest(name, known) or others}"
    kind = PydanticCustomError("unknown_field", "{sentence}", {"sentence": sentence})
    return InitErrorDetails(type=kind, loc=(name,), input=value)
