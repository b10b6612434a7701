"""A workflow that is put together by name, runs here, and compiles to Step Functions, because it is a chain.

Try:
    python examples/workflow.py run
    python examples/workflow.py graph
    LOKKI_ARTIFACT_BUCKET=my-bucket python examples/workflow.py build
    LOKKI_ARTIFACT_BUCKET=my-bucket python examples/workflow.py simulate --compare
"""

from __future__ import annotations

from lokki import main
from twingraph import Workflow, component


@component
def list_texts():
    return ["the goose and the duck", "a duck", "seagulls"]


@component(retry_policy={"max_attempts": 3, "exceptions": ["ConnectionError"]})
def split(text):
    return text.split()


@component
def count_long(words, at_least=4):
    return sum(len(each) >= at_least for each in words)


@component
def add_up(counts, what="words"):
    return f"{sum(counts)} long {what} in {len(counts)} texts"


wf = Workflow("long words")
wf.add_component("list", list_texts)
wf.add_map("count", [split, count_long], concurrency_limit=2)
wf.add_component("report", add_up, {"what": "ones"})
wf.connect("list", "count", input="items")
wf.connect("count", "report", input="counts")

long_words = wf.to_flow()  # under the name of the workflow, which is how what is deployed finds it

if __name__ == "__main__":
    main(long_words)
