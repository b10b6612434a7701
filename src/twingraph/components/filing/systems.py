"""The file systems behind addresses, all spoken to through fsspec: this machine's, S3, Google's, the web.

S3 and Google are reached with the clients in pyarrow, which holds nothing to a certain version of boto3; the rights
for S3 are found as everywhere else in this library, by boto3. What is asked of the web is in `web`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import IO, Any
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
        return fs.S3FileSystem(anonymous=True, region=options.get("region") or _region_of(bucket, endpoint), **told)
    session, held = _session(bucket, options)
    told.update(access_key=held.access_key, secret_key=held.secret_key, session_token=held.token)
    return fs.S3FileSystem(region=session.region_name or _region_of(bucket, endpoint), **told)


def upload(to: Address, options: Mapping[str, Any], here: IO[bytes]) -> None:
    """Bring a whole file to S3, where it appears whole or, when this is stopped on the way, not at all."""
    from boto3.exceptions import Boto3Error
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, key = to.rest.partition("/")
    endpoint = options.get("endpoint_url") or _endpoint()
    if options.get("anon"):
        raise FileError(f"{to.shown}: nobody may write there without a name: leave out the option anon.")
    session, _ = _session(bucket, options)
    config = Config(s3={"addressing_style": "path"}) if endpoint else None
    try:
        client = session.client("s3", session.region_name or "us-east-1", endpoint_url=endpoint, config=config)
        client.upload_fileobj(here, bucket, key)
    except (Boto3Error, BotoCoreError, ClientError) as error:
        raise FileError(f"{to.shown} cannot be written: {error}.") from error


def _session(bucket: str, options: Mapping[str, Any]) -> tuple[Any, Any]:
    """Who asks S3, and with what rights: the options say it, or else boto3 finds out."""
    import boto3
    from botocore.exceptions import BotoCoreError

    if bool(options.get("key")) != bool(options.get("secret")):
        raise FileError(f"s3://{bucket}: the options key and secret belong together: give both, or none.")
    try:
        session = boto3.Session(
            aws_access_key_id=options.get("key"),
            aws_secret_access_key=options.get("secret"),
            aws_session_token=options.get("token"),
            profile_name=options.get("profile"),
            region_name=options.get("region"),
        )
        found = session.get_credentials()
        if found is not None:
            return session, found.get_frozen_credentials()
    except BotoCoreError as error:
        raise FileError(f"s3://{bucket}: {error}.") from error
    raise FileError(
        f"s3://{bucket}: no AWS credentials are found here: sign in, set AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY, or read a public bucket with options={'anon': True}."
    )


def _region_of(bucket: str, endpoint: str | None) -> str:
    from pyarrow import fs

    return "us-east-1" if endpoint else str(fs.resolve_s3_region(bucket))


def _endpoint() -> str | None:
    names = ("LOKKI_AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


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
