"""`destroy`: the deployed flow, removed from AWS."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from lokki.commands.asking import agreed
from lokki.commands.shared import Command, configuration, given, in_bytes, logging_options
from lokki.decorators import Flow
from lokki.errors import DestroyError
from lokki.frozen import replace
from lokki.outcome import INTERRUPTED, complain

if TYPE_CHECKING:
    from lokki.aws.destroy import Data, Remover


def _destroy_options(parser: argparse.ArgumentParser, flow: Flow) -> None:
    parser.add_argument("--stack-name", metavar="NAME", help=f"name of the stack (default: {flow.name}-stack)")
    parser.add_argument("--region", metavar="REGION", help="region in place of aws.region")
    parser.add_argument("--confirm", action="store_true", help="do not ask")
    parser.add_argument("--data", action="store_true", help="also remove the flow's runs and packages from the bucket")
    logging_options(parser, None, default=argparse.SUPPRESS)


def _destroy(flow: Flow, _spelling: str, options: argparse.Namespace, rest: list[str]) -> None:
    from lokki.aws.client import Aws
    from lokki.aws.destroy import Remover

    config = configuration(flow, options)
    given(flow, rest, options)
    aws = replace(config.aws, region=getattr(options, "region", None) or config.aws.region)
    remover = Remover(
        Aws(replace(config, aws=aws)),
        getattr(options, "stack_name", None) or f"{flow.name}-stack",
        flow=flow.name,
        bucket=aws.artifact_bucket,
        prefix=aws.prefix,
        tell=complain,
    )
    try:
        _lead(remover, options)
    except KeyboardInterrupt:
        complain(f"\nInterrupted. {remover.standing() or 'Nothing was removed.'}")
        sys.exit(INTERRUPTED)


def _lead(remover: Remover, options: argparse.Namespace) -> None:
    yes, with_data = getattr(options, "confirm", False), getattr(options, "data", False)
    there = remover.check()
    data = remover.data() if with_data else None
    if not there and (data is None or not data.total):
        raise DestroyError(f"{remover.missing} Another name: --stack-name; another region: --region.")
    if not there:
        complain(remover.missing)
    elif not _stack_removed(remover, yes, data):
        return
    if data is not None:
        _remove_data(remover, data, yes)


def _stack_removed(remover: Remover, yes: bool, data: Data | None) -> bool:
    for line in (f"Stack {remover.name!r} would be removed, with", *(f"  {each}" for each in remover.contents())):
        complain(line)
    if data is None:
        complain("What is in the bucket stays (--data removes it too).")
    if not agreed(f"Remove stack {remover.name!r}?", yes, DestroyError):
        complain("Nothing was removed.")
        return False
    for left in remover.carry_out():
        complain(f"[WARNING] AWS could not remove {left}: look whether it is still there.")
    print(f"✓ Removed stack {remover.name!r}")
    return True


def _remove_data(remover: Remover, data: Data, yes: bool) -> None:
    if not data.total:
        complain(f"There is nothing of the flow in s3://{data.bucket}/{data.root}/.")
        return
    each = " and ".join(f"{number:,} object{'s' * (number != 1)} in {kind}/" for kind, number in data.objects.items())
    if not agreed(f"Remove {each} ({in_bytes(data.size)}) of s3://{data.bucket}/{data.root}/?", yes, DestroyError):
        complain("The data stays.")
        return
    removed = remover.remove_data(data)
    kept = " The bucket keeps old versions of them." if remover.keeps_versions else ""
    print(f"✓ Removed {removed:,} object{'s' * (removed != 1)}.{kept}")


COMMAND = Command(
    "remove the deployed flow from AWS",
    "Removes the stack with all that is in it, and waits until it is gone. What the flow has in the bucket, the\n"
    "results of its runs and its packages, stays unless --data is given.",
    ("", "--data", "--stack-name birds-test --confirm"),
    _destroy_options,
    _destroy,
    needs=False,
    takes=False,
)
