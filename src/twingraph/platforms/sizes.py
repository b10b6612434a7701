"""Amounts of memory and processors as people write them: `'4G'`, `'512Mi'`, `'500m'`, or a number."""

from __future__ import annotations

import re
from typing import Any

_BINARY = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


def memory_bytes(told: Any) -> int:
    """Bytes of memory. As Docker does, `4G`, `4Gi` and `4g` all count in 1024s; `4GB` too. A number is bytes."""
    if isinstance(told, int) and not isinstance(told, bool):
        return _positive(told, told)
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*", str(told).lower())
    if not found or isinstance(told, bool):
        raise ValueError(f"{told!r} is no amount of memory: write '512m', '4G', '4Gi' or a number of bytes.")
    return _positive(int(float(found[1]) * _BINARY[found[2]]), told)


def processors(told: Any) -> float:
    """Processors: `2`, `'1.5'`, or thousandths as in `'500m'`."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)(m?)\s*", str(told))
    if not found or isinstance(told, bool) or not float(found[1]):
        raise ValueError(f"{told!r} is no number of processors: write 2, '1.5' or '500m'.")
    return float(found[1]) / (1000 if found[2] else 1)


def _positive(amount: int, told: Any) -> int:
    if amount <= 0:
        raise ValueError(f"{told!r} is no amount of memory: it must be more than 0.")
    return amount
