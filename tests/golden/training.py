"""Steps that run as Batch jobs before, inside and after a map, and one that comes first."""

from __future__ import annotations

from typing import Any

from lokki import RetryConfig, flow, main, step


@step(job_type="batch")
def download(source: str) -> list[str]:
    return [f"{source}/{part}" for part in range(4)]


@step(job_type="batch", vcpu=1, memory_mb=2048, timeout_seconds=600)
def split(parts: list[str]) -> list[str]:
    return sorted(parts)


@step
def features(part: str) -> list[float]:
    return [float(len(part))]


@step(job_type="batch", vcpu=8, memory_mb=16384, timeout_seconds=7200, retry=RetryConfig(retries=2, delay=30))
def train(features: list[float], epochs: int = 1) -> float:
    return sum(features) * epochs


@step
def best(scores: list[float]) -> float:
    return max(scores)


@step(job_type="batch")
def publish(score: float) -> str:
    return f"{score:.1f}"


@flow
def training(source: str = "s3://birds/songs", epochs: int = 10) -> Any:
    return download(source).next(split).map([features, train], concurrency_limit=4).agg(best).next(publish)


if __name__ == "__main__":
    main(training)
