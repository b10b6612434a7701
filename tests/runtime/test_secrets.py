"""Secrets are fetched once when a function starts, and a step reads them from its environment."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import invoked_flows as flows
import pytest

from lokki.errors import ConfigurationError
from lokki.runtime.handler import open_handler
from lokki.runtime.secrets import fetch
from tests.listening import free_port
from tests.moto_server import Asked, Relay, Reply
from tests.runtime.packaged import Lines, package

NEST = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:nest-AbCdEf"
PERCH = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:perch-AbCdEf"


class Vault:
    """Secrets by their ARN, and which were asked for."""

    def __init__(self, **texts: str) -> None:
        self.texts = {NEST: texts.get("nest", ""), PERCH: texts.get("perch", "")}
        self.asked: list[str] = []

    def __call__(self, arn: str) -> str:
        self.asked.append(arn)
        return self.texts[arn]


def wanting(**secrets: str) -> dict[str, str]:
    return {"LOKKI_SECRETS": json.dumps(secrets), "PATH": "/bin"}


# Which secret goes where


def test_each_name_gets_its_secret_and_each_secret_is_fetched_once() -> None:
    vault = Vault(nest='{"user": "owl", "key": 7, "on": true, "empty": "", "many": ["a"]}', perch="plain text")
    environ = wanting(
        DB_USER=f"{NEST}:SecretString:user",
        DB_KEY=f"{NEST}:SecretString:key",
        DB_ON=f"{NEST}:SecretString:on",
        DB_EMPTY=f"{NEST}:SecretString:empty",
        DB_MANY=f"{NEST}:SecretString:many",
        DB_ALL=f"{NEST}:SecretString",
        WHOLE=NEST,
        TOKEN=PERCH,
    )
    fetch(environ, vault)
    assert vault.asked == [NEST, PERCH]
    found = {name: text for name, text in environ.items() if name not in ("LOKKI_SECRETS", "PATH")}
    assert found == {
        "DB_USER": "owl",
        "DB_KEY": "7",
        "DB_ON": "true",
        "DB_EMPTY": "",
        "DB_MANY": '["a"]',
        "DB_ALL": vault.texts[NEST],
        "WHOLE": vault.texts[NEST],
        "TOKEN": "plain text",
    }


@pytest.mark.parametrize("environ", [{}, {"LOKKI_SECRETS": ""}, {"LOKKI_SECRETS": "{}"}], ids=str)
def test_without_secrets_nobody_is_asked(environ: dict[str, str]) -> None:
    before = dict(environ)
    fetch(environ)
    assert environ == before


@pytest.mark.parametrize("text", ['{"user": "owl"}', "plain text", "[1]", "7", "null", '"key"'])
def test_a_key_that_the_secret_does_not_have_is_named(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        fetch(wanting(DB_KEY=f"{NEST}:SecretString:key"), Vault(nest=text))
    assert str(caught.value) == (
        f"secrets.secret_arns.DB_KEY asks for the key 'key' of {NEST}, which is no JSON object with that key."
    )
    assert caught.value.field == "secrets.secret_arns.DB_KEY"
    assert caught.value.__cause__ is None, "what is in the secret stays out of the log"


@pytest.mark.parametrize("text", ["owl", "[1]", '{"DB_KEY": 3}', "null, 3"])
def test_what_is_no_list_of_secrets_is_told(text: str) -> None:
    with pytest.raises(ConfigurationError, match="LOKKI_SECRETS must be a JSON object"):
        fetch({"LOKKI_SECRETS": text}, Vault())


# AWS


@pytest.fixture
def manager(aws: None, moto_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of a secrets manager, where functions look for theirs too; they know no region but that of an ARN."""
    from botocore.session import get_session

    monkeypatch.setenv("LOKKI_AWS_ENDPOINT", moto_server)
    client = get_session().create_client("secretsmanager", region_name="eu-west-1", endpoint_url=moto_server)
    yield client
    for each in client.list_secrets()["SecretList"]:
        client.delete_secret(SecretId=each["ARN"], ForceDeleteWithoutRecovery=True)
    client.close()


def test_secrets_come_from_aws(manager: Any) -> None:
    nest = manager.create_secret(Name="nest", SecretString='{"user": "owl"}')["ARN"]
    perch = manager.create_secret(Name="perch", SecretBinary="ü".encode())["ARN"]
    environ = wanting(DB_USER=f"{nest}:SecretString:user", TOKEN=perch)
    fetch(environ)
    assert (environ["DB_USER"], environ["TOKEN"]) == ("owl", "ü")


def test_a_secret_that_is_no_text_is_told(manager: Any) -> None:
    arn = manager.create_secret(Name="nest", SecretBinary=b"\xff\xfe")["ARN"]
    with pytest.raises(ConfigurationError, match=rf"The secret {arn} is not text"):
        fetch(wanting(TOKEN=arn))


def test_a_secret_that_is_not_there_is_named(manager: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        fetch(wanting(TOKEN=NEST))
    assert str(caught.value).startswith(f"The secret {NEST} cannot be read (ResourceNotFoundException: ")
    assert str(caught.value).endswith("Does it exist, and may the function's role read it?")


def test_a_secret_that_may_not_be_read_is_named(aws: None, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(asked: Asked) -> Reply:
        body = b'{"__type": "AccessDeniedException", "Message": "not yours"}'
        return Reply(400, body, {"Content-Type": "application/x-amz-json-1.1"})

    relay.instead = refuse
    monkeypatch.setenv("LOKKI_AWS_ENDPOINT", relay.url)
    with pytest.raises(ConfigurationError, match=rf"{NEST} cannot be read \(AccessDeniedException: not yours\)"):
        fetch(wanting(TOKEN=NEST))
    assert len(relay.asked) == 1


def test_a_manager_that_does_not_answer_is_told(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKKI_AWS_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(ConfigurationError, match=rf"{NEST} cannot be read \(EndpointConnectionError: "):
        fetch(wanting(TOKEN=NEST))


# A function


def test_a_step_finds_them_in_its_environment(
    manager: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    arn = manager.create_secret(Name="nest", SecretString="owl")["ARN"]
    folder = package(flows.secret_flow(), tmp_path / "package")
    monkeypatch.setenv("LOKKI_SECRETS", json.dumps({"NEST_TOKEN": arn}))
    monkeypatch.setenv("NEST_TOKEN", "none yet")
    handler = open_handler(flows.__name__, "secret", folder)
    assert os.environ["NEST_TOKEN"] == "owl"
    manager.put_secret_value(SecretId=arn, SecretString="jay")
    for execution in ("e1", "e2"):
        handler({"lokki": "secret", "execution": execution, "params": {}}, None)
    told = lines()
    assert [line["event"] for line in told] == ["step_start", "step_complete"] * 2
    assert "owl" not in json.dumps(told)


def test_a_function_that_does_not_get_them_says_so_once(
    manager: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    folder = package(flows.secret_flow(), tmp_path / "package")
    monkeypatch.setenv("LOKKI_SECRETS", json.dumps({"NEST_TOKEN": NEST}))
    with pytest.raises(ConfigurationError):
        open_handler(flows.__name__, "secret", folder)
    (line,) = lines()
    assert (line["level"], line["step"]) == ("ERROR", "secret")
    assert NEST in line["error"]
