"""The functions of a state machine written by hand, which does what `squares.py` does: `handwritten.py` measures both.

Nothing of lokki is in it: this is what somebody writes who knows Lambda and Step Functions. Results lie in the bucket,
one object for each item, so that they may be of any size. Those of `answered` are in the answers of the functions,
which is less work: each may have 256 KiB, and all of them are in the file that the ResultWriter writes.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor

import boto3  # noqa: TID253 - this is a Lambda function
from botocore.config import Config  # noqa: TID253

BUCKET = os.environ["BUCKET"]
READERS = 16
s3 = boto3.client("s3", config=Config(max_pool_connections=READERS))


def numbers(event, _context):
    """The list of items, as a JSON file from which the map reads."""
    _put(f"{event['run']}/items.json", list(range(event["count"])))
    return {"run": event["run"], "count": event["count"]}


def square(event, _context):
    """One item."""
    number = event["number"]
    _put(f"{event['run']}/results/{event['at']}.json", number * number)
    return {"at": event["at"]}


def gathered(event, _context):
    """All results, in the order of the items."""
    keys = [f"{event['run']}/results/{at}.json" for at in range(event["count"])]
    with ThreadPoolExecutor(READERS) as readers:
        _put(f"{event['run']}/result.json", list(readers.map(_get, keys)))
    return {"key": f"{event['run']}/result.json"}


def answered(event, _context):
    """One item, whose result is in the answer."""
    return {"at": event["at"], "square": event["number"] * event["number"]}


def gathered_answers(event, _context):
    """All results, from what the ResultWriter wrote, in the order of the items."""
    files = _get(event["manifest"])["ResultFiles"]["SUCCEEDED"]
    answers = [json.loads(child["Output"]) for file in files for child in _get(file["Key"])]
    answers.sort(key=lambda each: each["at"])
    _put(f"{event['run']}/result.json", [each["square"] for each in answers])
    return {"key": f"{event['run']}/result.json"}


def _put(key, value):
    s3.put_object(Bucket=BUCKET, Key=key, Body=json.dumps(value).encode())


def _get(key):
    return json.loads(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
