"""Whose account, which region, which bucket: the way to AWS that Lambda and Batch share, and its refusals as sentences.

What `config=` says comes first, then the environment, then lokki's configuration. Accounts are kept as long as these
stay the same, because clients are dear.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from lokki.aws.client import Aws
from lokki.aws.client import refusals as told_by_lokki
from lokki.config import load_config
from lokki.errors import AwsError
from lokki.frozen import replace
from lokki.settings import LokkiConfig
from twingraph.errors import PlatformError, PlatformUnavailableError

_CREDENTIALS = ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE")
_SIGN_IN = (
    "ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidClientTokenId", "UnrecognizedClientException",
    "SignatureDoesNotMatch", "InvalidAccessKeyId", "AuthFailure",
)  # fmt: skip
_DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403")
_CONNECTIONS = 256  # calls of a function that wait at once; others make a connection of their own
_LONGEST_ANSWER = 930  # seconds; a function may run for 900


class Settings(NamedTuple):
    """What is set: for one call by its component, else for all of them."""

    endpoint: str
    region: str
    bucket: str
    prefix: str
    queue: str
    role: str


class Account:
    """One region of an account.

    Attributes:
        region: the region.
        endpoint: the address of a stand-in for AWS; empty for AWS itself.
        bucket: the bucket that calls may put objects in; empty where none is named.
        prefix: what the keys there begin with.
        queue: the job queue that is configured for all.
        role: the role of functions that is configured for all.
    """

    def __init__(self, config: LokkiConfig, settings: Settings) -> None:
        self.endpoint, self.region, self.bucket, self.prefix, self.queue, self.role = settings
        self._aws = Aws(replace(config, aws=replace(config.aws, endpoint=self.endpoint)), self.region)
        self._special: dict[str, Any] = {}
        self._lock = threading.Lock()

    def client(self, service: str) -> Any:
        """The client of a service, which repeats what AWS was too busy for."""
        with unavailable():
            return self._aws.client(service)

    @property
    def caller(self) -> Aws:
        """Who asks: `account` and `partition`."""
        return self._aws

    def invoker(self) -> Any:
        """The client that calls functions: it waits as long as they may run, and never calls one twice by itself."""
        return self._made(
            "lambda",
            retries={"mode": "standard", "total_max_attempts": 1},
            read_timeout=_LONGEST_ANSWER,
            max_pool_connections=_CONNECTIONS,
            tcp_keepalive=True,
        )

    def signer(self) -> Any:
        """The client that makes links: to the bucket in its own region, with the signature that all regions take."""
        style = "path" if self.endpoint else "virtual"
        return self._made("s3", signature_version="s3v4", s3={"addressing_style": style})

    def _made(self, service: str, **settings: Any) -> Any:
        with self._lock, unavailable():
            if service not in self._special:
                import boto3
                from botocore.config import Config

                session = boto3.session.Session(region_name=self.region)
                config = Config(connect_timeout=5, **settings)
                self._special[service] = session.client(service, endpoint_url=self.endpoint or None, config=config)
            return self._special[service]


class Accounts:
    """The accounts that calls of this process went to."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Account] = {}
        self._lock = threading.Lock()

    def of(self, options: Mapping[str, Any]) -> Account:
        """The account that the `config=` of a component leads to, with what is set around it just now."""
        config = load_config()
        settings = _settings(config, options)
        key = (*settings, *(os.environ.get(name) for name in _CREDENTIALS))
        with self._lock:
            if key not in self._known:
                self._known[key] = Account(config, settings)
            return self._known[key]


def _settings(config: LokkiConfig, options: Mapping[str, Any]) -> Settings:
    return Settings(
        endpoint=str(options.get("endpoint") or config.aws.endpoint),
        region=str(options.get("region") or _region(config)),
        bucket=str(options.get("bucket") or os.environ.get("TWINGRAPH_BUCKET") or config.aws.artifact_bucket),
        prefix=config.aws.prefix,
        queue=os.environ.get("TWINGRAPH_BATCH_QUEUE") or config.batch.job_queue,
        role=os.environ.get("TWINGRAPH_LAMBDA_ROLE", ""),
    )


def _region(config: LokkiConfig) -> str:
    """The region that is set anywhere; what lokki assumes without being told does not count."""
    if config.origins.get("aws.region", "default") != "default":
        return config.aws.region
    found = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or _of_profile()
    if not found:
        raise PlatformUnavailableError(
            "It is not said which AWS region to use: set AWS_REGION, config={'region': ...} or aws.region."
        )
    return found


def _of_profile() -> str:
    with refusals("find out the region"):
        from botocore.session import get_session

        return str(get_session().get_config_variable("region") or "")


@contextmanager
def unavailable() -> Iterator[None]:
    """Says what to do where boto3 is missing or no client can be made."""
    try:
        yield
    except ImportError as error:
        raise PlatformUnavailableError(
            f"boto3, the library that speaks to AWS, cannot be imported ({error}): pip install boto3"
        ) from error


@contextmanager
def refusals(doing: str) -> Iterator[None]:
    """Turn what goes wrong with AWS inside into one sentence: what was being done, what AWS said, what to do.

    That there are no usable credentials, or nobody answers, makes the platform unavailable; other refusals do not.
    """
    with unavailable():
        from botocore.exceptions import ClientError

    try:
        with told_by_lokki(doing):
            yield
    except AwsError as error:
        cause = error.__cause__
        if isinstance(cause, ClientError) and error.code in _DENIED:
            said = cause.response.get("Error", {}).get("Message", "").rstrip(".") or error.code
            raise PlatformError(
                f"Could not {doing}: {said} ({error.code}). Allow it to the credentials in use."
            ) from cause
        lasting = not isinstance(cause, ClientError) or error.code in _SIGN_IN
        raise (PlatformUnavailableError if lasting else PlatformError)(str(error)) from cause


def described(account: Account, what: str) -> str:
    """`what` in its region and account, once AWS has said whose the credentials are."""
    with refusals("ask AWS whose these credentials are"):
        number = account.client("sts").get_caller_identity()["Account"]
    at = f" at {account.endpoint}" if account.endpoint else ""
    return f"{what} in {account.region}, account {number}{at}"


def tags(labels: Mapping[str, str], **own: str) -> dict[str, str]:
    """Labels as AWS takes them for tags, and tags of our own under `twingraph:`."""
    import re

    def taken(text: str, most: int) -> str:
        return re.sub(r"[^\w\s.:/=+\-@]", "_", text)[:most]

    made = {f"twingraph:{name}": taken(value, 256) for name, value in own.items()}
    for name, value in labels.items():
        key = taken(name, 128)
        if key and not key.lower().startswith("aws:") and len(made) < 50:
            made[key] = taken(value, 256)
    return made
