"""The file systems behind addresses, all spoken to through fsspec: this machine's, S3, Google's, the web.

S3 and Google are reached with the clients in pyarrow, which holds nothing to a certain version of boto3; the rights
for S3 are found as everywhere else in this library, by boto3. What is asked of the web is in `web`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from twingraph.components.filing.addresses import WEB, Address
from twingraph.errors import FileError

_OF_S3 = ("anon", "endpoint_url", "key", "profile", "region", "secret", "token")
_OF_GOOGLE = ("anon", "endpoint_url", "project", "token")


def system(place: Address, options: Mapping[str, Any], root: Address | None = None) -> Any:
    """The file system of an address, for fsspec."""
    import fsspec

    match place.scheme:
        case "file":
            return _here()
        case "s3":
            _known(options, _OF_S3, "s3")
            return _wrapped(_s3(place.rest.partition("/")[0], options))
        case "gs":
            _known(options, _OF_GOOGLE, "gs")
            return _wrapped(_google(options))
        case scheme if scheme in WEB:
            from twingraph.components.filing.web import web

            return web(root, options)
    try:
        return fsspec.filesystem(place.scheme, skip_instance_cache=True, **options)
    except ImportError as error:
        raise FileError(f"{place.shown}: {place.scheme}:// cannot be read here: {error}.") from error
    except ValueError as error:
        raise FileError(f"{place.shown}: {error}.") from error


def _here() -> Any:
    """This machine, where a link to a file in a folder counts as a file; links to folders are not followed in it."""
    from fsspec.implementations.local import LocalFileSystem

    class Here(LocalFileSystem):  # type: ignore[misc]
        def info(self, path: Any, **more: Any) -> dict[str, Any]:
            found: dict[str, Any] = super().info(path, **more)
            if found["islink"] and os.path.isfile(found["name"]):
                found["type"] = "file"
            return found

    return Here(skip_instance_cache=True)


def _known(options: Mapping[str, Any], known: tuple[str, ...], scheme: str) -> None:
    if unknown := sorted(options.keys() - set(known)):
        raise FileError(f"options of {scheme}:// are {', '.join(known)}, not {unknown[0]!r}.")


def _s3(bucket: str, options: Mapping[str, Any]) -> Any:
    from pyarrow import fs

    endpoint = options.get("endpoint_url") or _endpoint()
    told: dict[str, Any] = {}
    if endpoint:
        parts = urlsplit(endpoint)
        told = {"scheme": parts.scheme, "endpoint_override": parts.netloc}
    if options.get("anon"):
        told["anonymous"] = True
    elif options.get("key"):
        told.update(access_key=options["key"], secret_key=options.get("secret"), session_token=options.get("token"))
    region = options.get("region")
    if not options.get("anon"):
        import boto3

        session = boto3.Session(profile_name=options.get("profile"))
        region = region or session.region_name
        if "access_key" not in told:
            told.update(_rights(session, bucket))
    if not region:
        region = "us-east-1" if endpoint else fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(region=region, **told)


def _endpoint() -> str | None:
    names = ("LOKKI_AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def _rights(session: Any, bucket: str) -> dict[str, Any]:
    found = session.get_credentials()
    if found is None:
        raise FileError(
            f"s3://{bucket}: no AWS credentials are found here: sign in, set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or read a public bucket with options={'anon': True}."
        )
    held = found.get_frozen_credentials()
    return {"access_key": held.access_key, "secret_key": held.secret_key, "session_token": held.token}


def _google(options: Mapping[str, Any]) -> Any:
    from datetime import UTC, datetime, timedelta

    from pyarrow import fs

    told: dict[str, Any] = {"anonymous": bool(options.get("anon")), "project_id": options.get("project")}
    endpoint = options.get("endpoint_url") or os.environ.get("STORAGE_EMULATOR_HOST")
    if endpoint:
        parts = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
        told.update(scheme=parts.scheme, endpoint_override=parts.netloc)
    if token := options.get("token"):
        told.update(access_token=token, credential_token_expiration=datetime.now(UTC) + timedelta(hours=1))
    return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=60), **told)


def _wrapped(store: Any) -> Any:
    """A file system of pyarrow as one of fsspec, which lists a folder with all below it in one sweep."""
    from fsspec.implementations.arrow import ArrowFSWrapper

    class Store(ArrowFSWrapper):  # type: ignore[misc]
        def find(
            self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **more: Any
        ) -> Any:
            from pyarrow.fs import FileSelector

            base = path.rstrip("/")
            listed = self.fs.get_file_info(FileSelector(base, recursive=True, allow_not_found=True))
            entries = {each.path: self._make_entry(each) for each in listed if each.is_file}
            if withdirs:
                folders = {above for name in entries for above in _above(name, base)}
                entries |= {name: {"name": name, "size": 0, "type": "directory"} for name in folders}
            if maxdepth is not None:
                deepest = base.count("/") + maxdepth
                entries = {name: entry for name, entry in entries.items() if name.count("/") <= deepest}
            return entries if detail else sorted(entries)

    return Store(store, skip_instance_cache=True)


def _above(name: str, base: str) -> Iterator[str]:
    """The folders between a place and a file below it."""
    while len(name := name.rpartition("/")[0]) > len(base):
        yield name
