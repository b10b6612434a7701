"""`python -m lokki` is the `lokki` command."""

from lokki.console import console

console()
