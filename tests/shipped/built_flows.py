"""Flows of every shape that a build knows; at module level, so that a deployed function could import them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lokki import RetryConfig, flow, step
from lokki.decorators import Flow, StepNode

if TYPE_CHECKING:  # a package has neither of these, and this file is imported from packages too
    from lokki.builder.resources import Deployment
    from lokki.settings import LokkiConfig

BUCKET = "lokki-artifacts"
CODE = "0123456789abcdef" * 4
REPOSITORY = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team"


def config(
    package_type: str = "zip",
    *,
    aws: dict[str, Any] | None = None,
    functions: dict[str, Any] | None = None,
    batch: dict[str, Any] | None = None,
    secrets: dict[str, Any] | None = None,
) -> LokkiConfig:
    """A configuration that builds every flow here, with some of its keys changed."""
    from lokki.settings import AwsConfig, BatchConfig, LambdaConfig, LokkiConfig, SecretsConfig

    return LokkiConfig(
        aws=AwsConfig(**{"artifact_bucket": BUCKET, "image_repository": REPOSITORY, **(aws or {})}),
        lambda_=LambdaConfig(**{"package_type": package_type, "timeout": 60, **(functions or {})}),
        batch=BatchConfig(**{"job_queue": "jobs", **(batch or {})}),
        secrets=SecretsConfig(**(secrets or {})),
    )


def described(made: Flow, settings: LokkiConfig | None = None) -> tuple[Deployment, str]:
    """What a flow needs, and its state machine."""
    from lokki.builder.resources import describe
    from lokki.builder.state_machine import build_state_machine, text_of

    deployment = describe(made(), settings or config())
    return deployment, text_of(build_state_machine(deployment))


@step
def numbers(n: int = 4) -> list[int]:
    return list(range(n))


@step
def rows(n: int) -> list[int]:
    return list(range(n))


@step
def double(x: int) -> int:
    return 2 * x


@step
def increment(x: int, by: int = 1) -> int:
    return x + by


@step
def negate(x: int) -> int:
    return -x


@step
def total(xs: Iterable[int]) -> int:
    return sum(xs)


@step
def pair(x: int) -> list[int]:
    return [x, x + 1]


@step(retry=RetryConfig(retries=3, delay=0.5, max_delay=5, exceptions=(ConnectionError, TimeoutError)))
def fetched(x: int) -> int:
    return x


@step(job_type="batch", vcpu=4, memory_mb=8192, timeout_seconds=7200)
def train(x: Any) -> Any:
    return x


@step(job_type="batch")
def loaded(n: int = 3) -> list[int]:
    return list(range(n))


@step(timeout_seconds=900, memory_mb=2048)
def slow(x: int) -> int:
    return x


@flow
def single_flow() -> Any:
    return numbers()


@flow
def linear_flow() -> Any:
    return numbers(3).next(total).next(double).next(increment, by=5)


@flow
def map_flow() -> Any:
    return numbers(5).map(double, concurrency_limit=2).agg(total)


@flow
def two_maps_flow() -> Any:
    return numbers(3).map(double).agg(total).next(rows).map(increment, by=2).agg(total)


@flow
def nested_flow() -> Any:
    return numbers(3).map(pair.map(double).agg(total)).agg(total)


@flow
def open_map_flow() -> Any:
    return numbers(4).map(double)


@flow
def long_body_flow() -> Any:
    return numbers(4).map([double, increment, negate]).agg(total)


@flow
def direct_flow() -> Any:
    return numbers(4).map([double, increment, negate], direct_pass=True).agg(total)


@flow
def batched_flow() -> Any:
    return numbers(20).map(double, batch_size=7).agg(total)


@flow
def params_flow(n: int = 3, by: int = 1) -> Any:
    return numbers(n).map(increment, by=by * 10).agg(total)


@flow
def retried_flow() -> Any:
    return numbers(3).map(fetched).agg(total).next(fetched)


@flow
def slow_map_flow() -> Any:
    return numbers(3).map(slow).agg(total)


@flow
def batch_before_flow() -> Any:
    return numbers(3).next(train).map(double).agg(total)


@flow
def batch_inside_flow() -> Any:
    return numbers(3).map([double, train]).agg(total)


@flow
def batch_direct_flow() -> Any:
    return numbers(3).map([double, train], direct_pass=True).agg(total)


@flow
def batch_after_flow() -> Any:
    return numbers(3).map(double).agg(total).next(train)


@flow
def batch_first_flow() -> Any:
    return loaded(3).map(double).agg(total)


@flow(schedule="rate(1 hour)")
def scheduled_flow(n: int = 3) -> Any:
    return numbers(n).next(total)


def wide(count: int) -> Flow:
    """A flow of so many different steps, one after the other."""
    steps = [_numbered(number) for number in range(count)]

    @flow
    def wide_flow() -> Any:
        chain = steps[0](1)
        for each in steps[1:]:
            chain = chain.next(each)
        return chain

    return wide_flow


def _numbered(number: int) -> StepNode:
    def function(x: int) -> int:
        return x + number

    function.__name__ = function.__qualname__ = f"add_{number}_to_what_came_before"
    return step(function)


FLOWS: dict[str, Flow] = {
    each.name.removesuffix("-flow"): each
    for each in (
        single_flow,
        linear_flow,
        map_flow,
        two_maps_flow,
        nested_flow,
        open_map_flow,
        long_body_flow,
        direct_flow,
        batched_flow,
        params_flow,
        retried_flow,
        slow_map_flow,
        batch_before_flow,
        batch_inside_flow,
        batch_direct_flow,
        batch_after_flow,
        batch_first_flow,
        scheduled_flow,
    )
}
