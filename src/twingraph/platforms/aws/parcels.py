"""The objects that a call lends out while it runs: its inputs and its answer, in a bucket, behind links that end.

Whoever has a link needs no credentials, so functions and jobs need no right to the bucket. All objects are removed when
the call is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from lokki.aws.client import code_of
from twingraph.errors import PlatformUnavailableError
from twingraph.platforms.aws.account import Account, refusals

_LONGEST = 7 * 24 * 3600  # seconds; AWS makes no link that holds longer
_MISSING = ("NoSuchKey", "404")
_HIDDEN = ("AccessDenied", "403")  # how S3 says that nothing is there to those who may not list
_AT_ONCE = 1000  # objects that one request removes
BUCKET = (
    "name one in config={'bucket': ...}, TWINGRAPH_BUCKET or aws.artifact_bucket; the credentials in use need "
    "s3:PutObject, s3:GetObject and s3:DeleteObject there"
)
"""What to do where a bucket is needed and none is named."""


class Form(NamedTuple):
    """What may be posted where, to write any object below a folder."""

    url: str
    fields: Mapping[str, str]


class Parcels:
    """The objects of one call.

    Args:
        account: the account that the bucket belongs to.
        call: the call's id.
        seconds: how long links hold.
    """

    def __init__(self, account: Account, call: str, seconds: float) -> None:
        self._account = account
        self._seconds = min(_LONGEST, max(60, int(seconds)))
        self._root = f"{account.prefix}/twingraph/calls/{call}/".lstrip("/")
        self._names: dict[str, None] = {}

    def put(self, name: str, content: bytes) -> None:
        """Write an object."""
        self._names[name] = None
        with refusals(f"write to s3://{self._bucket}/{self._root}{name}"):
            self._client().put_object(Bucket=self._bucket, Key=self._root + name, Body=content)

    def get(self, name: str, *, perhaps: bool = False) -> bytes | None:
        """What an object holds, None where there is none.

        Args:
            name: the object.
            perhaps: whether it may well be missing, which S3 does not tell everybody.
        """
        from botocore.exceptions import ClientError

        with refusals(f"read s3://{self._bucket}/{self._root}{name}"):
            try:
                answer = self._client().get_object(Bucket=self._bucket, Key=self._root + name)
                content: bytes = answer["Body"].read()
            except ClientError as error:
                if code_of(error) in (_MISSING + _HIDDEN if perhaps else _MISSING):
                    return None
                raise
        return content

    def to_read(self, name: str) -> str:
        """A link to read an object by."""
        return self._link("get_object", name)

    def to_write(self, name: str) -> str:
        """A link to write an object by; whoever knows that it is used says so, `mine`."""
        return self._link("put_object", name)

    def mine(self, name: str) -> None:
        """This object is there, or may be, so that it is removed with the others."""
        self._names[name] = None

    def to_post(self, folder: str, names: Iterable[str]) -> Form:
        """What lets any of these objects be written; the name is what comes after the folder in the field `key`."""
        self._names.update(dict.fromkeys(f"{folder}/{name}" for name in names))
        key = f"{self._root}{folder}/"
        with refusals(f"make a link to s3://{self._bucket}/{key}"):
            made = self._account.signer().generate_presigned_post(
                self._bucket, f"{key}${{filename}}", Conditions=[["starts-with", "$key", key]], ExpiresIn=self._seconds
            )
        return Form(made["url"], {**made["fields"], "key": key})

    def remove(self) -> None:
        """Remove whatever there is by now; what cannot be removed stays, for the bucket's own rules to end."""
        from botocore.exceptions import BotoCoreError, ClientError

        names = [{"Key": self._root + name} for name in list(self._names)]
        for at in range(0, len(names), _AT_ONCE):
            some: Any = {"Objects": names[at : at + _AT_ONCE], "Quiet": True}
            try:
                self._client().delete_objects(Bucket=self._bucket, Delete=some)
            except (BotoCoreError, ClientError):  # the call is over; a failure here would hide how it ended
                return

    @property
    def _bucket(self) -> str:
        if not self._account.bucket:
            raise PlatformUnavailableError(f"There is no bucket for what a call is given and answers: {BUCKET}.")
        return self._account.bucket

    def _client(self) -> Any:
        return self._account.client("s3")

    def _link(self, operation: str, name: str) -> str:
        with refusals(f"make a link to s3://{self._bucket}/{self._root}{name}"):
            link: str = self._account.signer().generate_presigned_url(
                operation, Params={"Bucket": self._bucket, "Key": self._root + name}, ExpiresIn=self._seconds
            )
        return link
