"""How an envelope gets into a pod, and an answer out of it: by Secrets and the log, or by a bucket.

A Secret takes 1 MiB, so an envelope is compressed and cut; what is too large for that goes into a bucket behind links
that end, where `config={'store': 's3://...'}` names one. With a store the answer goes there, too; without one it comes
framed through the pod's log.
"""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from twingraph.envelope import worker_source
from twingraph.errors import ComponentError, PlatformError, PlatformUnavailableError
from twingraph.placed import Placed

PART = 900_000  # bytes; a Secret takes 1,048,576, and there is more in the first one
MOST = 20  # Secrets of one call
_LONGEST = 7 * 24 * 3600  # seconds; AWS makes no link that holds longer
_AFTER = 3600  # seconds that links hold longer than the call may take


@lru_cache
def entry_source() -> str:
    """The text of the file that runs first in a pod."""
    return Path(__file__).with_name("entry.py").read_text(encoding="utf-8")


def contents(call: Placed, body: bytes, parcel: Parcel | None) -> list[dict[str, str]]:
    """What the Secrets of a call hold: files, as Kubernetes takes them; the first one has the programs."""
    files: dict[str, bytes] = {"entry.py": entry_source().encode(), "worker.py": worker_source().encode()}
    packed = zlib.compress(body, 1)
    parts = [packed[start : start + PART] for start in range(0, len(packed), PART)]
    if parcel is not None:
        files["answer.url"] = parcel.to_write("answer").encode()
        if len(parts) > 1:
            parcel.put("envelope", body)
            files["envelope.url"] = parcel.to_read("envelope").encode()
            parts = []
    if len(parts) > MOST:
        raise PlatformError(
            f"Component {call.component!r}: its inputs are {len(packed):,} bytes, and {MOST * PART:,} fit in Secrets: "
            "name a bucket for more with config={'store': 's3://bucket/prefix'}."
        )
    held = [{f"part-{index:03}": part} for index, part in enumerate(parts)] or [{}]
    held[0].update(files)
    return [{name: b64encode(data).decode() for name, data in each.items()} for each in held]


class Parcel:
    """The objects of one call in a bucket.

    Args:
        url: `s3://bucket/prefix`.
        call: the call that they are of.
    """

    def __init__(self, url: str, call: Placed) -> None:
        scheme, _, rest = url.partition("://")
        self._bucket, _, prefix = rest.partition("/")
        if scheme != "s3" or not self._bucket:
            raise ComponentError(f"Component {call.component!r}: store is written 's3://bucket/prefix', not {url!r}.")
        self._root = f"{prefix.rstrip('/')}/{call.id}/".lstrip("/")
        self._seconds = min(_LONGEST, int(call.placement.timeout or _LONGEST) + _AFTER)
        self._client = _s3()
        self._names: list[str] = []

    def put(self, name: str, content: bytes) -> None:
        """Write an object."""
        self._ask("put_object", Key=self._root + name, Body=content)
        self._names.append(name)

    def get(self, name: str) -> bytes | None:
        """What an object holds; None if it is not there."""
        try:
            content: bytes = self._client.get_object(Bucket=self._bucket, Key=self._root + name)["Body"].read()
        except self._client.exceptions.NoSuchKey:
            return None
        except self._errors() as error:
            raise self._failed("get_object", error) from None
        return content

    def to_read(self, name: str) -> str:
        """A link to read an object by."""
        return self._link("get_object", name)

    def to_write(self, name: str) -> str:
        """A link to write an object by."""
        self._names.append(name)
        return self._link("put_object", name)

    def remove(self) -> None:
        """Remove the objects."""
        if self._names:
            names = [{"Key": self._root + name} for name in self._names]
            self._ask("delete_objects", Delete={"Objects": names, "Quiet": True})

    def _link(self, operation: str, name: str) -> str:
        told = {"Bucket": self._bucket, "Key": self._root + name}
        try:
            link: str = self._client.generate_presigned_url(operation, Params=told, ExpiresIn=self._seconds)
        except self._errors() as error:
            raise self._failed(operation, error) from None
        return link

    def _ask(self, operation: str, **told: Any) -> Any:
        try:
            return getattr(self._client, operation)(Bucket=self._bucket, **told)
        except self._errors() as error:
            raise self._failed(operation, error) from None

    def _failed(self, operation: str, error: Exception) -> PlatformUnavailableError:
        return PlatformUnavailableError(
            f"The store s3://{self._bucket}/{self._root} cannot be used ({operation}): {str(error).rstrip('.')}; the "
            "credentials here need s3:PutObject, s3:GetObject and s3:DeleteObject there."
        )

    @staticmethod
    def _errors() -> tuple[type[Exception], ...]:
        from botocore.exceptions import BotoCoreError, ClientError

        return BotoCoreError, ClientError


def _s3() -> Any:
    import boto3
    from botocore.config import Config

    return boto3.session.Session().client(
        "s3", config=Config(signature_version="s3v4", s3={"addressing_style": "auto"})
    )


def parcel_of(call: Placed, config: Mapping[str, Any]) -> Parcel | None:
    """The call's objects in the store that its config names; None where it names none."""
    told = config.get("store")
    return None if told is None else Parcel(str(told), call)
