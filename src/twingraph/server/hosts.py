"""By which name a server is called that asks nobody who they are.

It listens on this machine only, but a page of anywhere can have a name of its own lead to this machine, and is then of
the same origin as the server in the eyes of a browser. So who calls it by such a name is refused.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from twingraph.server.problems import Problem

_OURS = (".localhost", ".internal")  # nobody can have such a name in public, and containers call their host by one


def refuse_strange(host: str, origins: Iterable[str]) -> None:
    """Refuse a request for a host that is neither an address nor this machine nor an origin that is named."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        name = host
    if not host or _is_here(name) or any(urlsplit(each).hostname == name for each in origins):
        return
    hint = "Call it by its address or as localhost, let it ask for keys, or name this origin in TWINGRAPH_ORIGINS."
    raise Problem(403, "host_refused", f"A server without keys does not answer to the name {name[:100]!r}.", hint)


def _is_here(name: str) -> bool:
    if name == "localhost" or name.endswith(_OURS):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
