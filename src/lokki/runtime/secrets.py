"""Secrets, fetched once when a function starts, so that a step reads them from `os.environ`.

`LOKKI_SECRETS` says which: for each name an ARN, or `<arn>:SecretString:<key>` for one key of a JSON secret.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from lokki.errors import ConfigurationError

VARIABLE = "LOKKI_SECRETS"
_PICK = ":SecretString"


def fetch(environ: MutableMapping[str, str], secret: Callable[[str], str] | None = None) -> None:
    """Put the secrets into the environment; `secret` gives the text of a secret by its ARN."""
    wanted = {name: _parts(each) for name, each in _wanted(environ).items()}
    if not wanted:
        return
    secret = secret or _from_aws()
    texts = {arn: secret(arn) for arn in dict.fromkeys(arn for arn, _ in wanted.values())}
    for name, (arn, key) in wanted.items():
        environ[name] = _picked(texts[arn], key, name, arn) if key else texts[arn]


def _wanted(environ: Mapping[str, str]) -> dict[str, str]:
    try:
        wanted: Any = json.loads(environ.get(VARIABLE) or "{}")
    except ValueError:
        wanted = None
    if not isinstance(wanted, dict) or not all(isinstance(each, str) for each in wanted.values()):
        raise ConfigurationError(f"{VARIABLE} must be a JSON object with the ARN of a secret for each name.", VARIABLE)
    return wanted


def _parts(text: str) -> tuple[str, str]:
    """The ARN, and the key to pick or nothing."""
    arn, _, key = text.partition(_PICK)
    return arn, key.removeprefix(":")


def _picked(text: str, key: str, name: str, arn: str) -> str:
    try:
        value = json.loads(text)[key]
    except (ValueError, KeyError, TypeError):
        raise ConfigurationError(
            f"secrets.secret_arns.{name} asks for the key {key!r} of {arn}, which is no JSON object with that key.",
            f"secrets.secret_arns.{name}",
        ) from None
    return value if isinstance(value, str) else json.dumps(value)


def _from_aws() -> Callable[[str], str]:
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.session import get_session

    session, endpoint = get_session(), os.environ.get("LOKKI_AWS_ENDPOINT") or None
    clients: dict[str | None, Any] = {}

    def secret(arn: str) -> str:
        region = _region(arn)
        try:
            if region not in clients:
                clients[region] = session.create_client("secretsmanager", region_name=region, endpoint_url=endpoint)
            found = clients[region].get_secret_value(SecretId=arn)
        except ClientError as error:
            raise _unread(arn, f"{error.response['Error']['Code']}: {error.response['Error']['Message']}") from None
        except BotoCoreError as error:
            raise _unread(arn, f"{type(error).__name__}: {error}") from None
        return _text(found, arn)

    return secret


def _region(arn: str) -> str | None:
    """The region that a secret lies in; that of the environment when its ARN does not say it."""
    match arn.split(":"):
        case [_, _, _, region, *_] if region:
            return region
    return None


def _text(found: Mapping[str, Any], arn: str) -> str:
    text = found.get("SecretString")
    try:
        return str(text) if text is not None else bytes(found["SecretBinary"]).decode()
    except UnicodeDecodeError:
        raise ConfigurationError(
            f"The secret {arn} is not text, and only text can be put into an environment variable.",
            "secrets.secret_arns",
        ) from None


def _unread(arn: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"The secret {arn} cannot be read ({why}). Does it exist, and may the function's role read it?",
        "secrets.secret_arns",
    )
