"""What is paid for in AWS, and what AWS asks for it.

Whether AWS bills the start of a child execution as a state transition it does not say. So a usage has two costs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from lokki.frozen import field, frozen, named

ASSUMED = (
    "AWS list prices of us-east-1 as published in 2026, first tier; without the free tier, storage, data transfer and "
    "taxes. Batch itself is free; its jobs are priced as Fargate."
)
_MILLION = 1_000_000


def _by_architecture(x86_64: float, arm64: float) -> Mapping[str, float]:
    made: Mapping[str, float] = field(default_factory=lambda: {"x86_64": x86_64, "arm64": arm64})
    return made


@frozen
class Prices:
    """What AWS asks, in US dollars.

    Attributes:
        transitions: 1,000 state transitions of STANDARD executions.
        express_requests: 1,000,000 EXPRESS executions.
        express_gb_second: a GB-second of them; time in steps of 100 ms, memory in steps of 64 MB.
        lambda_requests: 1,000,000 Lambda invocations.
        lambda_gb_second: a GB-second of a function, by architecture; time in steps of 1 ms, loading the code included.
        s3_puts: 1,000,000 PUT, POST, COPY or LIST requests.
        s3_gets: 1,000,000 GET or HEAD requests.
        fargate_vcpu_hour: an hour of a processor, by architecture; a minute at least.
        fargate_gb_hour: an hour of a GB of memory, by architecture.
        log_gb: a GB that is written to CloudWatch Logs.
    """

    transitions: float = 0.025
    express_requests: float = 1.00
    express_gb_second: float = 0.00001667
    lambda_requests: float = 0.20
    lambda_gb_second: Mapping[str, float] = _by_architecture(0.0000166667, 0.0000133334)
    s3_puts: float = 5.00
    s3_gets: float = 0.40
    fargate_vcpu_hour: Mapping[str, float] = _by_architecture(0.04048, 0.03238)
    fargate_gb_hour: Mapping[str, float] = _by_architecture(0.004445, 0.00356)
    log_gb: float = 0.50


PRICES = Prices()


@frozen
class Cost:
    """US dollars by service."""

    step_functions: float = 0.0
    lambda_: float = 0.0
    s3: float = 0.0
    batch: float = 0.0
    logs: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.step_functions + self.lambda_ + self.s3 + self.batch + self.logs

    def __str__(self) -> str:
        names = ("Step Functions", "Lambda", "S3", "Fargate", "logs")
        parts = zip(names, named(self).values(), strict=True)
        return ", ".join(f"{name} {dollars(part)}" for name, part in parts if part)


@frozen
class Usage:
    """What is paid for.

    Attributes:
        transitions: states entered in STANDARD executions, and retries.
        map_runs: maps entered; each reads its manifest and leaves a list of its results.
        child_executions_standard: STANDARD children of maps.
        express_executions: EXPRESS children of maps.
        s3_get: GET and HEAD requests, those of the state machine included.
        s3_put: PUT, POST, COPY and LIST requests, those of the state machine included.
    """

    transitions: int = 0
    map_runs: int = 0
    child_executions_standard: int = 0
    express_executions: int = 0
    express_gb_seconds: float = 0.0
    lambda_requests: int = 0
    lambda_gb_seconds: float = 0.0
    s3_get: int = 0
    s3_put: int = 0
    batch_jobs: int = 0
    fargate_vcpu_seconds: float = 0.0
    fargate_gb_seconds: float = 0.0
    log_bytes: int = 0

    def __add__(self, other: Usage) -> Usage:
        mine, its = named(self), named(other)
        return Usage(**{name: mine[name] + its[name] for name in mine})

    @property
    def children(self) -> int:
        """Child executions of both kinds."""
        return self.child_executions_standard + self.express_executions

    def cost(
        self,
        prices: Prices = PRICES,
        architecture: str = "x86_64",
        child_starts: bool = False,
        *,
        batch_architecture: str = "x86_64",
    ) -> Cost:
        """What it costs; with `child_starts` the start of a child execution is a state transition."""
        transitions = self.transitions + (self.children if child_starts else 0)
        express = self.express_executions * prices.express_requests / _MILLION
        express += self.express_gb_seconds * prices.express_gb_second
        requests = self.lambda_requests * prices.lambda_requests / _MILLION
        processors = self.fargate_vcpu_seconds * prices.fargate_vcpu_hour[batch_architecture]
        memory = self.fargate_gb_seconds * prices.fargate_gb_hour[batch_architecture]
        return Cost(
            step_functions=transitions * prices.transitions / 1_000 + express,
            lambda_=requests + self.lambda_gb_seconds * prices.lambda_gb_second[architecture],
            s3=(self.s3_put * prices.s3_puts + self.s3_get * prices.s3_gets) / _MILLION,
            batch=(processors + memory) / 3_600,
            logs=self.log_bytes * prices.log_gb / 1e9,
        )


def dollars(amount: float) -> str:
    """An amount of money; a small one with its two first digits, as in $0.0031."""
    if amount >= 1 or amount <= 0:
        return f"${amount:,.2f}"
    return f"${amount:.{max(2, 1 - math.floor(math.log10(amount)))}f}"
