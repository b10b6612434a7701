"""A pipeline in plain Python: its loop over a result decides the graph, and every call is recorded.

Try:
    python examples/pipeline.py                   # what the shops sold
    python examples/pipeline.py oslo              # one of them fails, and the others go on
    twingraph list                                # the executions; `twingraph graph ID` draws one
"""

from __future__ import annotations

import sys

from twingraph import component, pipeline

SALES = {"zurich": [4, 8], "oslo": [15], "quito": [16, 23, 42]}


@component
def load_shops():
    return {"shops": list(SALES), "currency": "CHF"}


@component(timeout=10, labels={"team": "sales"})
def add_up(shop, closed):
    if shop == closed:
        raise ConnectionError(f"the shop in {shop} does not answer")
    print(f"adding up {len(SALES[shop])} sales in {shop}")
    return {"shop": shop, "sold": sum(SALES[shop])}


@component
def report(sold, currency):
    return {"text": f"{sum(sold)} {currency} in {len(sold)} shops"}


@pipeline(max_parallel=2, error_handler="continue")
def sales(closed=""):
    loaded = load_shops()
    # each names its parent, so two of them run at once, and the loop does not wait
    shops = [add_up(each, closed, parent_hash=loaded["hash"]) for each in loaded["shops"]]
    good = [each for each in shops if each.status == "completed"]
    return report([each["sold"] for each in good], loaded["currency"], parent_hashes=good)


if __name__ == "__main__":
    execution = sales.run(*sys.argv[1:])
    print(f"{execution.result()['text']}; {execution.failed_nodes} calls failed")
