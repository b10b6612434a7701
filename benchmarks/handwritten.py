"""Times a map of 1,000 items on LocalStack beside a state machine written by hand that does the same.

    python benchmarks/handwritten.py [--items 1000] [--rounds 5] [--write]

`squares.py` is the flow; `fanned.py` has the functions of the other one, without anything of lokki. They are given the
same memory, time limit, concurrency and kind of children, and are checked: every result, in order. The one that does
the same keeps each result in the bucket; a third one does less and leaves the results in the answers of the functions.
They run by turns on the same LocalStack, which `dev/localstack/start` starts; what is compared is the time that Step
Functions says an execution took. No account in AWS is needed.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from lokki.aws.client import Aws
from lokki.aws.deploy import Deployer
from lokki.aws.executions import read
from lokki.aws.machines import find_machine
from lokki.aws.results import store_of, value_of
from lokki.aws.start import start
from lokki.builder import Builder
from lokki.settings import AwsConfig, LambdaConfig, LokkiConfig
from squares import AT_ONCE, squares

HERE = os.path.dirname(os.path.abspath(__file__))
KNOWN = os.path.join(HERE, "figures.json")
PAGE = os.path.join(os.path.dirname(HERE), "docs", "benchmarks.md")
BEGIN, END = "<!-- figures: benchmarks/handwritten.py --write -->", "<!-- end of figures -->"
ENDPOINT = os.environ.get("LOKKI_TEST_LOCALSTACK") or "http://127.0.0.1:4566"
REGION = "eu-west-1"
SECONDS, MEMORY = 60, 512  # of functions; children are EXPRESS
MOST = 1.3  # times the time of the one that does the same
LOKKI, SAME, LESS = "lokki", "by hand", "by hand, less"
LOOKS_EVERY = 0.2
OWN = f"{random.SystemRandom().randrange(10**12):012}"  # an account in which nothing is yet
PREFIX = "arn:aws:states:::"
Run = Callable[[int], float]


def main() -> None:
    arguments = _arguments()
    os.environ |= {"AWS_ACCESS_KEY_ID": OWN, "AWS_SECRET_ACCESS_KEY": "test"}
    contenders: dict[str, Run] = {LOKKI: _lokki(), SAME: _handwritten("square", "gathered")}
    contenders[LESS] = _handwritten("answered", "gathered_answers")
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(arguments.rounds + 1):
        for name in random.sample(list(contenders), len(contenders)):
            seconds[name].append(contenders[name](arguments.items))
            print(f"round {number}: {name:<16} {seconds[name][-1]:.2f} s", file=sys.stderr)
    figures = {"items": arguments.items, "rounds": arguments.rounds, "seconds": seconds}
    page = list(_page(figures))
    print("\n".join(page))
    if arguments.write:
        _write(figures, page)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000, help="of the map")
    parser.add_argument("--rounds", type=int, default=5, help="after the first one, in which functions start")
    parser.add_argument("--write", action="store_true", help="keep the figures, and renew docs/benchmarks.md with them")
    return parser.parse_args()


def _page(figures: Mapping[str, Any]) -> Iterator[str]:
    """The lines of the page."""
    told = figures["seconds"]
    yield _cells((f"a map of {figures['items']:,} items on LocalStack", LOKKI, SAME, "ratio", "", LESS, "ratio"))
    yield _cells(["---"] * 7)
    yield _cells(_row("the first run, in which functions start", {name: runs[0] for name, runs in told.items()}))
    later = {name: median(runs[1:]) for name, runs in told.items()}
    holds = "holds" if later[LOKKI] / later[SAME] <= MOST else "**missed**"
    yield _cells(_row(f"the median of {figures['rounds']} more", later, f"≤ {MOST}: {holds}"))


def _row(what: str, seconds: Mapping[str, float], verdict: str = "") -> Iterator[str]:
    own, same, less = (seconds[name] for name in (LOKKI, SAME, LESS))
    yield from (
        what,
        f"{own:.1f} s",
        f"{same:.1f} s",
        f"{own / same:.2f}",
        verdict,
        f"{less:.1f} s",
        f"{own / less:.2f}",
    )


def _cells(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


# --- the contenders


def _lokki() -> Run:
    """The flow, deployed."""
    folder = tempfile.mkdtemp()
    config = LokkiConfig(
        build_dir=folder,
        aws=AwsConfig(artifact_bucket=f"squares-{OWN}", region=REGION, endpoint=ENDPOINT),
        lambda_=LambdaConfig(package_type="zip", timeout=SECONDS, memory=MEMORY),
    )
    aws, graph = Aws(config), squares()
    bundle = Builder.build(graph, config)
    with Deployer(aws, bundle, folder, "squares-stack", tell=_silent) as deployer:
        deployer.check()
        deployer.make_bucket()
        deployer.carry_out(deployer.plan())
    machine = find_machine(aws, squares.name)

    def run(count: int) -> float:
        begun = start(aws, machine, {"count": count})
        seconds = _ended(aws, begun.arn)
        ended = read(aws, begun.arn)
        _check(count, value_of(graph, store_of(aws, machine, config), machine, ended))
        return seconds

    return run


def _handwritten(item: str, last: str) -> Run:
    """The state machine that somebody wrote, and its functions: those for an item, and for all of them."""
    aws = Aws(LokkiConfig(aws=AwsConfig(region=REGION, endpoint=ENDPOINT)))
    bucket, root = f"by-hand-{item}-{OWN}", aws.client("iam")
    where = {"LocationConstraint": REGION}
    aws.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
    trust = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "*"}, "Action": "sts:AssumeRole"}]}
    role = root.create_role(RoleName=bucket, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(os.path.join(HERE, "fanned.py"), "fanned.py")
    functions = {}
    for name in ("numbers", item, last):
        functions[name] = aws.client("lambda").create_function(
            FunctionName=f"{bucket}-{name}",
            Runtime="python3.13",
            Role=role,
            Handler=f"fanned.{name}",
            Code={"ZipFile": packed.getvalue()},
            Timeout=SECONDS,
            MemorySize=MEMORY,
            Environment={"Variables": {"BUCKET": bucket, "AWS_ENDPOINT_URL": ENDPOINT}},
        )["FunctionArn"]
    definition = json.dumps(_definition([*functions.values()], bucket))
    states = aws.client("stepfunctions")
    arn = states.create_state_machine(name=bucket, definition=definition, roleArn=role)["stateMachineArn"]

    def run(count: int) -> float:
        given = json.dumps({"run": f"{time.time_ns()}", "count": count})
        execution = states.start_execution(stateMachineArn=arn, input=given)["executionArn"]
        seconds = _ended(aws, execution)
        key = json.loads(states.describe_execution(executionArn=execution)["output"])["key"]
        _check(count, json.loads(aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()))
        return seconds

    return run


def _definition(functions: Sequence[str], bucket: str) -> dict[str, Any]:
    def call(function: str, payload: Mapping[str, str], **more: Any) -> dict[str, Any]:
        given = {"FunctionName": function, "Payload": payload}
        picked = {"ResultSelector": {"answer.$": "$.Payload"}, "OutputPath": "$.answer"}
        return {"Type": "Task", "Resource": f"{PREFIX}lambda:invoke", "Parameters": given, **picked, **more}

    first, item, last = functions
    run = {"run.$": "$.run", "count.$": "$.count"}
    one = {"at.$": "$.at", "number.$": "$.number", "run.$": "$.run"}
    each = {
        "Type": "Map",
        "ItemReader": {
            "Resource": f"{PREFIX}s3:getObject",
            "ReaderConfig": {"InputType": "JSON"},
            "Parameters": {"Bucket": bucket, "Key.$": "States.Format('{}/items.json', $.run)"},
        },
        "MaxConcurrency": AT_ONCE,
        "ItemSelector": {"at.$": "$$.Map.Item.Index", "number.$": "$$.Map.Item.Value", "run.$": "$.run"},
        "ItemProcessor": {
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "EXPRESS"},
            "StartAt": "One",
            "States": {"One": call(item, one, End=True)},
        },
        "ResultWriter": {
            "Resource": f"{PREFIX}s3:putObject",
            "Parameters": {"Bucket": bucket, "Prefix.$": "States.Format('{}/map', $.run)"},
        },
        "ResultPath": "$.map",
        "Next": "Last",
    }
    manifest = {"manifest.$": "$.map.ResultWriterDetails.Key"}
    states = {"First": call(first, run, Next="Each"), "Each": each, "Last": call(last, run | manifest, End=True)}
    return {"StartAt": "First", "States": states}


# --- what all take


def _ended(aws: Aws, execution: str) -> float:
    """How long an execution took, as Step Functions says it."""
    while not (found := read(aws, execution)).over:
        time.sleep(LOOKS_EVERY)
    if found.status != "SUCCEEDED":
        sys.exit(f"{execution} ended as {found.status}: {found.error}: {found.cause}")
    assert found.stopped
    return (found.stopped - found.started).total_seconds()


def _check(count: int, found: Any) -> None:
    if found != [number * number for number in range(count)]:
        sys.exit(f"The result is wrong or out of order: {str(found)[:200]}")


def _silent(text: str) -> None:
    pass


def _write(figures: Mapping[str, Any], lines: list[str]) -> None:
    """Keep the figures, and show them on the page."""
    with open(KNOWN, encoding="utf-8") as file:
        known = json.load(file) | {"handwritten": figures}
    with open(KNOWN, "w", encoding="utf-8") as file:
        file.write(json.dumps(known, indent=2, sort_keys=True) + "\n")
    with open(PAGE, encoding="utf-8") as file:
        before, _, rest = file.read().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        sys.exit(f"docs/benchmarks.md has no place for the figures: it needs the lines {BEGIN} and {END}.")
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write("\n".join([before + BEGIN, "", *lines, "", END]) + after)


if __name__ == "__main__":
    main()
