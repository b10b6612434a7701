"""A component as an array of jobs on AWS Batch: each job does its share, and the results come back in order.

It needs credentials, AWS_REGION, TWINGRAPH_BATCH_QUEUE (a job queue) and TWINGRAPH_BUCKET (a bucket for what travels).
A job definition for the image is registered. Fargate, and images in ECR, also want config={"execution_role": ...}.

Try:
    python examples/on_batch.py
"""

from __future__ import annotations

from twingraph import component, pipeline

SHARES = 3


@component(
    platform="batch",
    docker_image="python:3.13-slim",
    config={"array_size": SHARES, "vcpus": 1, "memory": 512},
    timeout=3600,  # the time in the queue counts
)
def share_of_the_sum(top, shares):
    import os

    number = int(os.environ["AWS_BATCH_JOB_ARRAY_INDEX"])
    return sum(range(number, top + 1, shares))


@component
def add_up(results):
    return sum(results)


@pipeline
def whole_sum(top=1000):
    shares = share_of_the_sum(top, SHARES)
    return add_up(shares["results"]).value, shares["results"]


if __name__ == "__main__":
    total, shares = whole_sum()
    print(f"{total}, in shares of {shares}")
