"""The one door to AWS: clients for one account and region, and its refusals as sentences.

The region is the one asked for, else the configuration's; the account is what STS says, never assumed. With
`aws.endpoint` set every client goes there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from lokki.errors import AwsError
from lokki.settings import LokkiConfig

T = TypeVar("T")
_ATTEMPTS = 8
_HINTS = {
    "ExpiredToken": "The credentials have expired: sign in again, then repeat the command.",
    "ExpiredTokenException": "The credentials have expired: sign in again, then repeat the command.",
    "RequestExpired": "The credentials have expired, or this machine's clock is wrong.",
    "InvalidClientTokenId": "AWS does not know these credentials: check AWS_PROFILE and the access key.",
    "UnrecognizedClientException": "AWS does not know these credentials: check AWS_PROFILE and the access key.",
    "SignatureDoesNotMatch": "The secret key does not belong to the access key, or this machine's clock is wrong.",
    "AccessDenied": "The credentials may not do this: docs/deploying.md lists what a deployer needs.",
    "AccessDeniedException": "The credentials may not do this: docs/deploying.md lists what a deployer needs.",
    "UnauthorizedOperation": "The credentials may not do this: docs/deploying.md lists what a deployer needs.",
}


class Aws:
    """Clients for one account and region.

    Args:
        config: the configuration; its `aws.endpoint` and `aws.region` count.
        region: a region in place of the configured one.
    """

    def __init__(self, config: LokkiConfig, region: str | None = None) -> None:
        self.endpoint = config.aws.endpoint
        self.region = region or config.aws.region
        self._session: Any = None
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._identity: dict[str, str] = {}

    def client(self, service: str) -> Any:
        """The client of a service; made once."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._made(service)
            return self._clients[service]

    @property
    def account(self) -> str:
        """The number of the account that the credentials belong to."""
        return self._caller()["Account"]

    @property
    def partition(self) -> str:
        """`aws`, or that of China or of the government."""
        return self._caller()["Arn"].split(":")[1]

    def _caller(self) -> dict[str, str]:
        if not self._identity:
            with refusals("ask who you are"):
                self._identity = self.client("sts").get_caller_identity()
        return self._identity

    def _made(self, service: str) -> Any:
        import boto3
        from botocore.config import Config

        if self._session is None:
            self._session = boto3.session.Session(region_name=self.region)
        config = Config(
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            connect_timeout=5,
            read_timeout=70,
            max_pool_connections=32,
            s3={"addressing_style": "path"} if self.endpoint else None,
        )
        return self._session.client(service, endpoint_url=self.endpoint or None, config=config)


@contextmanager
def refusals(doing: str, kind: Callable[[str], AwsError] = AwsError) -> Iterator[None]:
    """Turn what goes wrong with AWS inside into one sentence: what was being done, what AWS said, what to do.

    Args:
        doing: as in "Could not `ask who you are`".
        kind: makes the error.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise from_refusal(error, doing, kind) from error
    except BotoCoreError as error:
        raise kind(f"Could not {doing}: {_plain(error)}") from error


def from_refusal(error: Any, doing: str, kind: Callable[[str], AwsError] = AwsError) -> AwsError:
    """AWS's refusal as an error whose `code` is AWS's."""
    code, said = code_of(error), error.response.get("Error", {}).get("Message", "")
    made = kind(f"Could not {doing}: {said.rstrip('.') or code} ({code}). {_HINTS.get(code, '')}".rstrip())
    made.code = code
    return made


def code_of(error: Any) -> str:
    """The code of a refusal, as in `AccessDenied`."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _plain(error: Exception) -> str:
    name = type(error).__name__
    match name:
        case "NoCredentialsError" | "PartialCredentialsError" | "CredentialRetrievalError":
            return "there are no AWS credentials. Set AWS_PROFILE or AWS_ACCESS_KEY_ID, or run `aws configure`."
        case "TokenRetrievalError" | "SSOTokenLoadError" | "UnauthorizedSSOTokenError":
            return f"the sign-in has ended ({error}). Run `aws sso login`."
        case "ProfileNotFound":
            return f"{error}. Check AWS_PROFILE."
        case "EndpointConnectionError" | "ConnectTimeoutError" | "ConnectionClosedError":
            return f"{error} Check aws.endpoint, the region and the network."
        case _:
            return f"{error} ({name})"
