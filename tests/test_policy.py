"""The policy that docs/deploying.md gives a deployer: it names what there is, and allows nothing by a wildcard.

That it allows all that commands ask of AWS is held by the tests that use the fixture `own_account`, in the end.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import aws_calls

OWN_NAMES = {"states": "stepfunctions", "tag": "resourcegroupstaggingapi"}
NO_CALLS = {  # what is permitted has another name than the call, or is no call
    "cloudformation:TagResource", "iam:PassRole", "s3:ListBucket", "s3:ListBucketMultipartUploads",
}  # fmt: skip


def test_every_action_is_one_that_aws_has() -> None:
    from botocore.session import get_session

    session = get_session()
    for statement in aws_calls.policy()["Statement"]:
        for action in statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]:
            service, _, name = action.partition(":")
            model = session.get_service_model(OWN_NAMES.get(service, service))
            assert name in model.operation_names or action in NO_CALLS, action


def test_a_wildcard_stands_only_where_aws_has_nothing_narrower() -> None:
    for statement in aws_calls.policy()["Statement"]:
        assert statement["Effect"] == "Allow"
        assert "*" not in str(statement["Action"])
        if statement["Resource"] == "*":
            assert statement["Sid"] == "WithoutNarrowerResources"


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        (
            {"service": "s3", "call": "HeadObject", "about": {"Bucket": "b-data", "Key": "birds-0123456789/runs/1"}},
            [],
        ),
        (
            {"service": "s3", "call": "GetObject", "about": {"Bucket": "b-data", "Key": "bees/runs/1"}},
            ["s3:GetObject on arn:aws:s3:::b-data/bees/runs/1"],
        ),
        (
            {"service": "lambda", "call": "Invoke", "about": {"FunctionName": "birds-0123456789-flap"}},
            ["lambda:Invoke on arn:aws:lambda:eu-west-1:111122223333:function:birds-0123456789-flap"],
        ),
        ({"service": "sts", "call": "GetCallerIdentity", "about": {}}, []),
    ],
)
def test_what_the_policy_does_not_allow_is_found(tmp_path: Path, call: dict[str, object], wanted: list[str]) -> None:
    noted = tmp_path / "calls"
    noted.write_text(json.dumps(call) + "\n")
    assert aws_calls.refused(noted, "111122223333", "eu-west-1") == wanted
