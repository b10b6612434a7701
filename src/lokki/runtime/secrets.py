"""Secrets, fetched once when a function starts, so that a step reads them from `os.environ`.

`LOKKI_SECRETS` says which: for each name an ARN, or `<arn>:SecretString:<key>` for one key of a JSON secret.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, MutableMapping
from typing import Any

from lokki.errors import ConfigurationError

VARIABLE = "LOKKI_SECRETS"
_PICK = ":SecretString:"


def fetch(environ: MutableMapping[str, str], secret: Callable[[str], str] | None = None) -> None:
    """Put the secrets into the environment; `secret` gives the text of a secret by its ARN."""
    wanted: dict[str, str] = json.loads(environ.get(VARIABLE) or "{}")
    if not wanted:
        return
    secret = secret or _from_aws()
    texts = {arn: secret(arn) for arn in dict.fromkeys(each.partition(_PICK)[0] for each in wanted.values())}
    for name, each in wanted.items():
        arn, _, key = each.partition(_PICK)
        environ[name] = _picked(texts[arn], key, name, arn) if key else texts[arn]


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
    import boto3

    client: Any = boto3.client("secretsmanager", endpoint_url=os.environ.get("LOKKI_AWS_ENDPOINT") or None)

    def secret(arn: str) -> str:
        try:
            found = client.get_secret_value(SecretId=arn)
        except client.exceptions.ClientError as error:
            raise ConfigurationError(
                f"The secret {arn} cannot be read ({error.response['Error']['Code']}: "
                f"{error.response['Error']['Message']}). Does it exist, and may the function's role read it?",
                "secrets.secret_arns",
            ) from None
        text = found.get("SecretString")
        return str(text) if text is not None else bytes(found["SecretBinary"]).decode()

    return secret
