"""The one door to AWS: clients for one account and region, and its refusals as sentences.

The region is the one asked for, else the configuration's; the account is what STS says, never assumed. With
`aws.endpoint` set every client goes there. What AWS is too busy for, and what never arrives, is asked again, ever more
slowly; only what goes on failing is an error.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from lokki.errors import AwsError
from lokki.settings import LokkiConfig

T = TypeVar("T")
_ATTEMPTS = 8  # unless AWS_MAX_ATTEMPTS or the profile says otherwise
_FAULT = 500  # from this status on AWS says that it is out of order
_GLANCE = 100  # bytes of an answer
_UNSURE = ("ConnectionClosedError", "ReadTimeoutError", "HTTPClientError", "ResponseStreamingError")
REMOVED = "Deploy the flow again, after destroy if its stack is still there."
"""What to do when a state machine is gone."""
_HINTS = {
    "400": "S3 does not say why; most likely the credentials have expired: sign in again, then repeat the command.",
    "ExpiredToken": "The credentials have expired: sign in again, then repeat the command.",
    "ExpiredTokenException": "The credentials have expired: sign in again, then repeat the command.",
    "RequestExpired": "The credentials have expired, or this machine's clock is wrong.",
    "InvalidClientTokenId": "AWS does not know these credentials: check AWS_PROFILE and the access key.",
    "UnrecognizedClientException": "AWS does not know these credentials: check AWS_PROFILE and the access key.",
    "SignatureDoesNotMatch": "The secret key does not belong to the access key, or this machine's clock is wrong.",
    "AccessDenied": "The credentials may not do this: docs/deploying.md lists what a deployer needs.",
    "AccessDeniedException": "The credentials may not do this: docs/deploying.md lists what a deployer needs.",
    "UnauthorizedOperation": "The credentials may not do this: docs/deploying.md lists what a deployer needs.",
    "StateMachineDoesNotExist": f"It was removed by somebody else. {REMOVED}",
    "ExecutionDoesNotExist": "It was removed together with its state machine, or is older than AWS remembers.",
}
_BUSY = (
    "Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException", "RequestLimitExceeded",
    "RequestThrottled", "RequestThrottledException", "SlowDown", "PriorRequestNotComplete",
)  # fmt: skip


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
        self._attempts = _ATTEMPTS
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
        from botocore.session import get_session

        if self._session is None:
            settings = get_session()
            self._attempts = settings.get_config_variable("max_attempts") or _ATTEMPTS
            self._session = boto3.session.Session(region_name=self.region, botocore_session=settings)
            self._session.events.register("before-parse", _check_speaker)
        config = Config(
            retries={"mode": "standard", "total_max_attempts": self._attempts},
            connect_timeout=5,
            read_timeout=70,
            max_pool_connections=32,
            s3={"addressing_style": "path"} if self.endpoint else None,
        )
        try:
            return self._session.client(service, endpoint_url=self.endpoint or None, config=config)
        except ValueError as error:
            raise AwsError(
                f"aws.endpoint is {self.endpoint!r}, which is no address: write it as in http://127.0.0.1:4566; "
                "`lokki config` tells where it is set."
            ) from error


def _check_speaker(response_dict: dict[str, Any], operation_model: Any, **_: Any) -> None:
    """Refuse a page for people in place of an answer, which would be taken for one in which nothing is."""
    from botocore.parsers import ResponseParserError

    if response_dict["status_code"] >= _FAULT or operation_model.has_streaming_output:
        return
    if response_dict["body"][:_GLANCE].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise ResponseParserError("a page of HTML")


@contextmanager
def refusals(doing: str, kind: Callable[[str], AwsError] = AwsError) -> Iterator[None]:
    """Turn what goes wrong with AWS inside into one sentence: what was being done, what AWS said, what to do.

    Args:
        doing: as in "Could not `ask who you are`".
        kind: makes the error.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as error:
        raise from_refusal(error, doing, kind) from error
    except (BotoCoreError, ResponseParserError) as error:
        made = kind(f"Could not {doing}: {_plain(error)}")
        made.unsure = type(error).__name__ in _UNSURE
        raise made from error


def from_refusal(error: Any, doing: str, kind: Callable[[str], AwsError] = AwsError) -> AwsError:
    """AWS's refusal as an error whose `code` is AWS's."""
    code, said = code_of(error), error.response.get("Error", {}).get("Message") or ""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    hint = _HINTS.get(code) or (_later(error) if code in _BUSY or status >= _FAULT else "")
    made = kind(f"Could not {doing}: {said.rstrip('.') or code} ({code}). {hint}".rstrip())
    made.code = code
    made.unsure = status >= _FAULT
    return made


def _later(error: Any) -> str:
    """That AWS goes on being busy, or out of order."""
    times = error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0) + 1
    asked = f"AWS was asked {times} times, ever more slowly" if times > 1 else "AWS was asked once"
    return f"{asked}: wait a few minutes, then repeat the command."


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
        case "EndpointConnectionError" | "ConnectTimeoutError" | "ConnectionClosedError" | "ReadTimeoutError":
            return f"{str(error).rstrip('.')}. Check aws.endpoint, the region and the network."
        case "ResponseParserError":
            return "what answered is not AWS. Check aws.endpoint, and whether a proxy or a sign-in page is in between."
        case _:
            return f"{error} ({name})"
