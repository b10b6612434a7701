"""Components as calls of one function of AWS Lambda, which is made when it is not there.

It needs credentials, AWS_REGION, and TWINGRAPH_LAMBDA_ROLE: the name or the ARN of a role that functions may have.
Where TWINGRAPH_BUCKET names a bucket, inputs and outputs may be larger than the 6 MB that Lambda passes on.

Try:
    python examples/on_lambda.py
"""

from __future__ import annotations

from twingraph import component, pipeline

LAMBDA = {"function_name": "twingraph-example", "runtime": "python3.13", "memory_size": 512, "timeout": 60}


@component(platform="lambda", config=LAMBDA)
def letters(word):
    print("looking at", word)
    return {"letters": sorted(set(word))}


@component(platform="lambda", config=LAMBDA, environment={"JOIN": "-"})
def join(several):
    import os

    common = set.intersection(*map(set, several))
    return os.environ["JOIN"].join(sorted(common))


@pipeline
def common_letters():
    found = letters.map(["goose", "seagull", "grebes"])
    return join([each["letters"] for each in found], parent_hashes=found).value


if __name__ == "__main__":
    print("letters in all words:", common_letters())
