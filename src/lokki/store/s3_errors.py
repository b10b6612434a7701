"""What it means when S3 refuses a request or nobody answers: one sentence, with what to do about it."""

from __future__ import annotations

from typing import Any

from lokki.errors import StoreError
from lokki.store.protocol import missing

MISSING = ("NoSuchKey",)
DENIED = ("AccessDenied", "AllAccessDisabled", "403")
_ELSEWHERE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301")
_BUSY = ("SlowDown", "InternalError", "ServiceUnavailable", "500", "502", "503", "504")
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired")
_REQUESTS = {  # what each request is for, and the permission it needs
    "get_object": ("read", "s3:GetObject"),
    "list_objects_v2": ("listed", "s3:ListBucket"),
    "delete_objects": ("removed", "s3:DeleteObject"),
}
_WRITING = ("written", "s3:PutObject")


def refused(error: dict[str, Any], operation: str, location: str, region: str = "") -> StoreError:
    """What S3's refusal means, and what to do about it."""
    done, permission = _REQUESTS.get(operation, _WRITING)
    cannot = f"{location} cannot be {done}"
    bucket = location.split("/")[2]
    match error.get("Code", ""):
        case "NoSuchBucket":
            said = (
                f"{cannot}: there is no bucket {bucket!r}; create it, or name another one in aws.artifact_bucket "
                "(LOKKI_ARTIFACT_BUCKET)."
            )
        case code if code in MISSING:
            return missing(location)
        case code if code in DENIED:
            missed = ", or nothing is there and s3:ListBucket is not granted" if operation == "get_object" else ""
            said = f"{cannot}: access denied{missed}; who runs this needs {permission} there{_remark(error)}."
        case code if code in _ELSEWHERE:
            there = f" but in {error['Region']}" if error.get("Region") else ""
            said = f"{cannot}: bucket {bucket!r} does not lie in {region}{there}; set aws.region (LOKKI_AWS_REGION)."
        case code if code in _EXPIRED:
            said = f"{cannot}: the AWS credentials have expired; sign in again, or renew them, and run again."
        case code if code in _BUSY:
            said = (
                f"{cannot}: S3 is busy or out of order, and goes on answering {code}{_remark(error)}; try again later."
            )
        case code:
            said = f"{cannot}: S3 answered {code}{_remark(error)}."
    return StoreError(said, location)


def _remark(error: dict[str, Any]) -> str:
    text = " ".join(str(error.get("Message", "")).split()).rstrip(".")
    return f" ({text})" if text else ""


def unanswered(error: Exception, operation: str, location: str, endpoint: str) -> StoreError:
    """Why a request was never answered, and what to do about it."""
    from botocore import exceptions
    from botocore.parsers import ResponseParserError

    cannot = f"{location} cannot be {_REQUESTS.get(operation, _WRITING)[0]}"
    text = " ".join(str(error).split()).rstrip(".")
    match error:
        case exceptions.NoCredentialsError() | exceptions.PartialCredentialsError():
            said = f"{cannot}: no AWS credentials were found; sign in, or set AWS_PROFILE or AWS_ACCESS_KEY_ID."
        case exceptions.ConnectionError() | exceptions.HTTPClientError():
            check = "aws.endpoint (LOKKI_AWS_ENDPOINT)" if endpoint else "the network"
            said = f"{cannot}: {endpoint or 'S3'} does not answer; check {check} ({text})."
        case ResponseParserError():
            said = f"{cannot}: what answered is not S3; check aws.endpoint."
        case _:
            said = f"{cannot}: {text}."
    return StoreError(said, location)
