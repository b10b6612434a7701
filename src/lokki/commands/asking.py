"""Questions of commands that change something: y or N, and N where nobody can be asked."""

from __future__ import annotations

import sys
from collections.abc import Callable

from lokki.errors import AwsError


def agreed(question: str, confirmed: bool, kind: Callable[[str], AwsError]) -> bool:
    """Whether the user agrees; `confirmed` stands for a yes that was given with the command."""
    if confirmed:
        return True
    if not sys.stdin.isatty():
        raise kind(f"{question} Nobody can be asked here: add --confirm to say yes. Nothing was changed.")
    try:
        return input(f"{question} (y/N) ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
