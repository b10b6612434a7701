"""`deploy`: the flow as it is now, built and brought to AWS."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

from lokki.commands.asking import agreed
from lokki.commands.shared import Command, configuration, given, logging_options, made, option
from lokki.decorators import Flow
from lokki.errors import DeployError
from lokki.frozen import replace
from lokki.outcome import INTERRUPTED, complain

if TYPE_CHECKING:
    from lokki.aws.deploy import Deployed, Deployer, Proposal
    from lokki.builder import Bundle
    from lokki.config import LokkiConfig


def _deploy_options(parser: argparse.ArgumentParser, flow: Flow) -> None:
    option(parser, flow, "--stack-name", metavar="NAME", help=f"name of the stack (default: {flow.name}-stack)")
    option(parser, flow, "--region", metavar="REGION", help="region in place of aws.region")
    option(parser, flow, "--image-tag", metavar="TAG", help="what tags of images begin with (lambda.image_tag)")
    option(parser, flow, "--confirm", action="store_true", help="do not ask")
    option(parser, flow, "--force", action="store_true", help="send all code again and update the whole stack")
    option(parser, flow, "--plan", action="store_true", help="only tell what would change")
    logging_options(parser, flow, default=argparse.SUPPRESS)


def _deploy(flow: Flow, _spelling: str, options: argparse.Namespace, rest: list[str]) -> None:
    from lokki.aws.client import Aws
    from lokki.aws.deploy import Deployer, untouched

    config = _configured(configuration(flow, options), options)
    name = getattr(options, "stack_name", None) or f"{flow.name}-stack"
    params = given(flow, rest, options)
    try:
        bundle = _built(flow, config, params)
    except KeyboardInterrupt:
        _interrupted(untouched(name))
    deployer = Deployer(
        Aws(config), bundle, config.build_dir, name, tell=complain, force=getattr(options, "force", False)
    )
    try:
        with deployer:
            _lead(deployer, options)
    except KeyboardInterrupt:
        _interrupted(deployer.standing())


def _interrupted(standing: str) -> NoReturn:
    complain(f"\nInterrupted. {standing}")
    sys.exit(INTERRUPTED)


def _configured(config: LokkiConfig, options: argparse.Namespace) -> LokkiConfig:
    """The configuration with what the command line says in its place."""
    aws = replace(config.aws, region=getattr(options, "region", None) or config.aws.region)
    functions = replace(config.lambda_, image_tag=getattr(options, "image_tag", None) or config.lambda_.image_tag)
    return replace(config, aws=aws, lambda_=functions)


def _built(flow: Flow, config: LokkiConfig, params: Mapping[str, object]) -> Bundle:
    from lokki.builder import Builder
    from lokki.builder.samples import sampled

    complete = all(each.name in params for each in flow.parameters if each.required)
    bundle = Builder.build(made(flow, params) if complete else sampled(flow, params), config, defaults=params)
    for warning in bundle.warnings:
        complain(f"[WARNING] {warning}")
    return bundle


def _lead(deployer: Deployer, options: argparse.Namespace) -> None:
    """Through the steps of a deployment, with a question where something would be changed."""
    yes, only_plan = getattr(options, "confirm", False), getattr(options, "plan", False)
    deployer.check()
    if not only_plan:
        _prepare(deployer, yes)
    proposal = deployer.plan()
    _print_plan(deployer, proposal)
    if only_plan:
        return
    if proposal.nothing and not getattr(options, "force", False):
        return
    if not agreed(f"Deploy stack {deployer.name!r}?", yes, DeployError):
        complain("Nothing was changed.")
        return
    _print_end(deployer, deployer.carry_out(proposal))


def _prepare(deployer: Deployer, yes: bool) -> None:
    """What has to be there, or gone, before a plan can be carried out."""
    if deployer.lacks_bucket:
        bucket = deployer.bucket.name
        if not agreed(f"Bucket {bucket!r} does not exist. Create it?", yes, DeployError):
            raise DeployError(f"There is no bucket {bucket!r} to deploy from: set aws.artifact_bucket.")
        deployer.make_bucket()
        complain(f"Created bucket {bucket}.")
    if deployer.remains:
        if not agreed(f"{deployer.remains} Remove it and create it again?", yes, DeployError):
            raise DeployError("Such a stack can only be removed. Nothing was changed.")
        deployer.clear()
        complain(f"Removed what was left of stack {deployer.name!r}.")


def _print_plan(deployer: Deployer, proposal: Proposal) -> None:
    if proposal.nothing:
        print(f"Stack {deployer.name!r} is up to date: nothing changes.")
        return
    if deployer.lacks_bucket:
        print(f"Bucket {deployer.bucket.name!r} does not exist; deploying offers to create it.")
    if deployer.remains:
        print(f"{deployer.remains} Deploying offers to remove it.")
    print(f"{'Creating' if proposal.plan.creates else 'Updating'} stack {deployer.name!r}:")
    for line in [*proposal.plan.lines()] or ["outputs of the stack"]:
        print(f"  {line}")
    if proposal.code_only:
        print("Only code changes, so the functions get it directly.")


def _print_end(deployer: Deployer, deployed: Deployed) -> None:
    if deployed.functions:
        count = len(deployed.functions)
        print(f"The new code is live in {'1 function' if count == 1 else f'all {count} functions'}.")
    if deployed.recording:
        print("CloudFormation is recording it; nobody need wait for that.")
    print(f"✓ Deployed stack {deployer.name!r}")
    for name, label in (("StateMachineArn", "State Machine"), ("CodeLocation", "Code")):
        if name in deployed.outputs:
            print(f"{label:<13} {deployed.outputs[name]}")


COMMAND = Command(
    "build the flow and bring it to AWS",
    "Builds, shows what would change in AWS, asks, uploads what is new and changes the stack. Parameters given here\n"
    "become the defaults of the deployed flow. When only code has changed the functions get it directly, in seconds.",
    ("", "--plan", "--confirm"),
    _deploy_options,
    _deploy,
    needs=False,
)
