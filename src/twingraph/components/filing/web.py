"""Files on the web, without leading anybody into the network that this process stands in.

Whoever runs a workflow may choose what it reads. So an address is refused that leads to a machine which the public
cannot reach (loopback, private networks, the metadata service of a cloud), by the number that a connection is really
made to, whatever its name says. A `root` on the web opens its own site, and no redirection leads out of it.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from twingraph.components.filing.addresses import Address, below
from twingraph.errors import FileError

_PORTS = {"http": 80, "https": 443}
_PATIENCE = 60


class RefusedAddressError(FileError):
    """A web address leads to where this component must not reach."""


def web(root: Address | None, options: Mapping[str, Any]) -> Any:
    """The file system of the web, for fsspec; the options are those of an aiohttp session, such as headers."""
    import aiohttp
    from fsspec.implementations.http import HTTPFileSystem

    class Web(HTTPFileSystem):  # type: ignore[misc]
        async def _isfile(self, path: str) -> bool:
            return True  # opening it will tell; asking first would be a request for all of it

    async def session(**told: Any) -> Any:
        traced = aiohttp.TraceConfig()
        traced.on_request_redirect.append(_staying(root))
        connector = aiohttp.TCPConnector(socket_factory=_guard(root))
        patience = aiohttp.ClientTimeout(total=None, sock_connect=_PATIENCE, sock_read=_PATIENCE)
        return aiohttp.ClientSession(connector=connector, trace_configs=[traced], timeout=patience, **told)

    return Web(get_client=session, client_kwargs=dict(options), cache_type="none", skip_instance_cache=True)


def refused(error: BaseException | None) -> RefusedAddressError | None:
    """The refusal that stands behind an error of the libraries in between."""
    return next((each for each in _behind(error) if isinstance(each, RefusedAddressError)), None)


def answered(error: BaseException | None) -> str | None:
    """What a site said or failed to say, where that stands behind an error; None where it just has no such file.

    The words of the library are left out where they hold the address, with the keys in it.
    """
    for each in _behind(error):
        status = getattr(each, "status", None)
        if isinstance(status, int) and type(each).__module__.startswith("aiohttp"):
            return None if status in (404, 410) else f"its site answers {status} {getattr(each, 'message', '')}".strip()
        if type(each).__module__.startswith("aiohttp") and isinstance(each, OSError):
            return f"its site cannot be reached: {each.strerror or type(each).__name__}"
        if type(each).__module__.startswith("aiohttp") or isinstance(each, TimeoutError):
            return f"its site broke off: {type(each).__name__}"
    if isinstance(error, FileNotFoundError) and isinstance(error.__cause__, ValueError):  # it was not even asked
        return "it cannot be asked for: " + re.sub(r"\S+://\S+", "...", str(error.__cause__)).rstrip(".")
    return None


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__


def _guard(root: Address | None) -> Any:
    def opened(info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, (host, port, *_rest) = info
        if not ip_address(host.partition("%")[0]).is_global and (host, port) not in _of(root):
            site = f"[{host}]" if ":" in host else host
            raise RefusedAddressError(
                f"This address leads to {host}, which is not on the public web: to read from there, its author names "
                f"the site as the root of the component, such as root='http://{site}:{port}/'."
            )
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made

    return opened


def _of(root: Address | None) -> set[tuple[str, int]]:
    """The numbers and ports of a root's site."""
    parts = urlsplit(root.rest if root is not None else "")
    if not parts.hostname:
        return set()
    port = parts.port or _PORTS[parts.scheme]
    found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    return {(str(each[4][0]), port) for each in found}


def _staying(root: Address | None) -> Any:
    async def redirected(_session: Any, _context: Any, params: Any) -> None:
        from yarl import URL

        to = str(params.url.join(URL(params.response.headers.get("Location", ""))))
        if root is not None and not below(to, root, urlsplit(to).scheme):
            raise RefusedAddressError(f"This address leads on to {to.partition('?')[0]}, outside of {root.shown}.")

    return redirected
