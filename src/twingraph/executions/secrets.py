"""What must not be seen in the graph: values whose name says that they are secret, and texts that somebody named."""

from __future__ import annotations

import re
from functools import lru_cache

HIDDEN = "***"
"""What stands in the place of a secret."""

_NAME = re.compile(
    r"pass(word|wd|phrase)|secret|api_?key|access_?key|private_?key|credential|authorization|(^|[_-])(auth|pwd)$|token$"
)
_IN_URL = re.compile(r"(://[^/\s:@]*:)(?!\d+/)[^\s@]+(?:@[^\s@/]*(?=@))*(?=@)")  # up to the last @ before a path
_IN_QUERY = re.compile(
    r"([?&][\w-]*(?:pass(?:word|wd|phrase)|secret|token|api_?key|signature|sig)=)[^&\s\"']+", re.IGNORECASE
)

_named: list[str] = []


@lru_cache(4096)
def is_secret(name: str) -> bool:
    """Whether what has this name should be hidden, as `password` and `apiKey` should, and `max_tokens` should not."""
    return _NAME.search(name.lower().replace("-", "_")) is not None


def hide(*texts: str) -> None:
    """Have these texts hidden wherever they turn up from now on, in values, logs and errors of this process."""
    known = {*_named, *(text for text in texts if text)}
    _named[:] = sorted(known, key=len, reverse=True)  # one that is part of another comes after it


def named() -> list[str]:
    """The texts that are hidden wherever they turn up."""
    return _named


def veiled(text: str) -> str:
    """The text without what must not be seen: named texts, passwords in addresses, references to secrets."""
    for secret in _named:
        if secret in text:
            text = text.replace(secret, HIDDEN)
    if "://" in text:
        if text.startswith("secret://"):
            return HIDDEN
        if "@" in text:
            text = _IN_URL.sub(rf"\1{HIDDEN}", text)
        if "?" in text:
            text = _IN_QUERY.sub(rf"\1{HIDDEN}", text)
    return text
