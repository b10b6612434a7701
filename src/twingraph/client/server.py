"""Where the server is and how one shows who one is: what every request, and every WebSocket, is made with."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from lokki.frozen import field, frozen
from twingraph import wire
from twingraph.errors import ComponentError


@frozen
class Server:
    """A server as a client knows it.

    Attributes:
        url: its address, without a slash or `/api` at the end.
        headers: what is sent with every request.
        timeout: seconds that one answer may take.
        retries: how often what failed on the way is tried again.
        longest_wait: seconds that the client waits at most when the server says that it was asked too often.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 30.0
    retries: int = 5
    longest_wait: float = 65.0

    @property
    def socket(self) -> str:
        """The address of its WebSocket."""
        return "ws" + self.url.removeprefix("http") + "/ws"


def server(
    base_url: str,
    api_key: str | None,
    auth_token: str | None,
    *,
    timeout: float,
    retries: int,
    longest_wait: float,
) -> Server:
    """The server at an address, with or without `/` or `/api` at its end."""
    url = base_url.strip().rstrip("/").removesuffix("/api").rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ComponentError(f"The address of a server is like http://localhost:8000, not {base_url!r}.")
    headers = {"Accept": wire.MEDIA_TYPE}
    if api_key:
        headers["X-API-Key"] = api_key
    if auth_token:
        kind, _, token = auth_token.strip().rpartition(" ")
        headers["Authorization"] = f"{kind or 'Bearer'} {token}"
    return Server(url, headers, timeout, retries, longest_wait)
