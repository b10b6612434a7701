"""A path or URL as somebody wrote it -> where it leads, and whether a `root` lets it.

What is read or written is chosen by whoever runs a workflow; `root` is chosen by its author, and holds all of it below
one folder, prefix or site. Other kinds of file systems than the four that everybody may name are opened by a root only.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from twingraph.errors import FileError

OPEN_TO_ALL = ("file", "s3", "gs", "http", "https")
WEB = ("http", "https")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SAME = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}
_CHAIN = re.compile(r"\w::\w[\w+.-]*(://|::)")
_MAGIC = re.compile(r"[*?\[]")
_UNQUOTED_AT_MOST = 4


@dataclass(frozen=True, slots=True)
class Address:
    """Where something lies.

    Attributes:
        scheme: the kind of file system: `file`, `s3`, `gs`, `http`, `https`, or another that fsspec knows.
        rest: the place as that file system knows it.
        shown: the same for people, without passwords and signatures.
    """

    scheme: str
    rest: str
    shown: str

    @property
    def local(self) -> bool:
        return self.scheme == "file"

    @property
    def fixed(self) -> str:
        """The part before the first wildcard, up to a folder; all of it where there is none."""
        found = None if self.scheme in WEB else _MAGIC.search(self.rest)
        return self.rest[: self.rest.rfind("/", 0, found.start()) + 1] if found else self.rest


def address(path: str, root: Address | None = None, *, author: bool = False) -> Address:
    """Where a path leads, which must be below the root; one without a scheme is taken from the root's folder.

    An author names any kind of file system.
    """
    if not path or "\0" in path:
        raise FileError(f"{path!r} is not the path of a file.")
    if _CHAIN.search(path):
        raise FileError(f"{_shown(path)}: an address inside of another is not read; give the address of the file.")
    found = _SCHEME.match(path)
    if found is None and root is not None and not root.local:
        made = _address(f"{root.rest.rstrip('/')}/{path.lstrip('/')}", root.scheme)
    else:
        made = _local(path, root) if found is None else _of_url(path, found[1].lower())
    if not author and made.scheme not in OPEN_TO_ALL and (root is None or root.scheme != made.scheme):
        raise FileError(
            f"{made.shown}: files are read from {', '.join(OPEN_TO_ALL)} by everybody, and from {made.scheme}:// only "
            f"below a root that the component's author sets, such as root='{made.scheme}://...'."
        )
    if root is not None and not below(made.fixed, root, made.scheme):
        raise FileError(f"{made.shown} is outside of {root.shown}, which this component is confined to.")
    return made


def below(rest: str, root: Address, scheme: str) -> bool:
    """Whether a place is a root or lies below it."""
    if scheme != root.scheme:
        return False
    if root.local:
        found, held = os.path.realpath(rest), os.path.realpath(root.rest)
        return found == held or found.startswith(held.rstrip("/") + "/")
    if scheme in WEB:
        return _below_on_the_web(urlsplit(rest), urlsplit(root.rest))
    return not _climbs(rest) and _starts(rest, root.rest)


def _below_on_the_web(found: SplitResult, held: SplitResult) -> bool:
    site = (found.hostname, found.port) == (held.hostname, held.port)
    return site and not _climbs(found.path) and _starts(found.path or "/", held.path or "/")


def _starts(path: str, held: str) -> bool:
    return path == held or path.startswith(held.rstrip("/") + "/")


def _climbs(path: str) -> bool:
    """Whether a path may lead out of its folder again, however often it is quoted."""
    for _ in range(_UNQUOTED_AT_MOST):
        if any(part in (".", "..") for part in re.split(r"[/\\]", path)):
            return True
        path, before = unquote(path), path
        if path == before:
            return False
    return True


def _local(path: str, root: Address | None) -> Address:
    place = os.path.expanduser(path) if root is None else os.path.join(root.rest, path)
    return Address("file", os.path.abspath(place) + ("/" if path.endswith("/") and path.strip("/") else ""), path)


def _of_url(url: str, scheme: str) -> Address:
    scheme = _SAME.get(scheme, scheme)
    if scheme == "file":
        return Address("file", os.path.abspath(unquote(url[len("file://") :])), url)
    return _address(url if scheme in WEB else url.partition("://")[2], scheme)


def _address(rest: str, scheme: str) -> Address:
    if scheme in WEB:
        _checked(rest)
        return Address(scheme, rest, _shown(rest))
    if not rest.strip("/"):
        raise FileError(f"{scheme}://{rest} names no bucket: write {scheme}://bucket/path.")
    if scheme in ("s3", "gs") and _MAGIC.search(rest.partition("/")[0]):
        raise FileError(f"{scheme}://{rest}: a bucket is named by its whole name; a pattern stands behind it.")
    return Address(scheme, rest, _shown(f"{scheme}://{rest}") if "@" in rest else f"{scheme}://{rest}")


def _checked(url: str) -> None:
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        named = False
    if not named or re.search(r"[\s\\]", url):
        raise FileError(f"{_shown(url)!r} is not a web address: write https://host/path.")


def _shown(url: str) -> str:
    """A URL without a password, and without the query, where signatures and keys stand."""
    head, _, tail = url.partition("://")
    site, slash, path = tail.partition("/")
    return f"{head}://{site.rpartition('@')[2]}{slash}{path.partition('?')[0].partition('#')[0]}"
