"""What is said of a wrong field, and the patterns of names and quantities."""

from __future__ import annotations

import re
from typing import Any

Cause = tuple[str, str, str]
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?")
LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
DATA_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
ENV_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
QUANTITY = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+))([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?")
SCALES = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3}
SCALES.update({unit: 1000.0**power for power, unit in enumerate("MGTPE", 2)})
SCALES.update({unit + "i": 1024.0**power for power, unit in enumerate("KMGTPE", 1)})


def quantity(value: Any) -> float:
    """`500m`, `64Mi`, 2 as a number; ValueError when it is none."""
    match = QUANTITY.fullmatch(str(value))
    if not match:
        raise ValueError(value)
    number, suffix = float(match[1]), match[2] or ""
    return number * SCALES[suffix] if suffix in SCALES else float(match[1] + suffix)


def required(field: str) -> Cause:
    return field, "FieldValueRequired", "Required value"


def wrong(field: str, value: Any, why: str) -> Cause:
    shown = f'"{value}"' if isinstance(value, str) else str(value)
    return field, "FieldValueInvalid", f"Invalid value: {shown}: {why}"


def unsupported(field: str, value: Any, supported: list[str]) -> Cause:
    names = ", ".join(f'"{name}"' for name in supported)
    return field, "FieldValueNotSupported", f'Unsupported value: "{value}": supported values: {names}'
