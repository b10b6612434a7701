"""`redrive`: what failed or is missing of a run, run again by the code that is deployed now."""

from __future__ import annotations

from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

import pytest

from lokki import flow, step
from lokki.aws.client import Aws
from lokki.aws.mending import checked, forget, map_of
from lokki.commands.redrive import items_of
from lokki.config import LokkiConfig
from lokki.errors import InvokeError
from lokki.runtime.layout import PARTIAL, RESULTS
from lokki.settings import AwsConfig
from lokki.store.s3 import S3Store
from tests.aws.projects import Project
from tests.localstack_server import REGION, LocalStack
from tests.runtime.machine import Machine

FLOCK = """
    import os
    from lokki import flow, main, step

    @step
    def flock(n: int): return list(range(n))

    @step
    def ring(bird, log):
        with open(os.path.join(log, str(bird)), "a") as file:
            file.write("x")
        if bird == 3:
            raise ValueError("no ring for bird 3")
        return bird * 10

    @step
    def census(rings): return sum(rings)

    @flow
    def NAME(log: str, n: int = 6): return flock(n).map(ring, batch_size=1, log=log).agg(census)

    if __name__ == "__main__":
        main(NAME)
"""


def rung(log: Path) -> dict[str, int]:
    """How often the step ran for each item, since the last look."""
    found = {each.name: len(each.read_text()) for each in sorted(log.iterdir())}
    for each in log.iterdir():
        each.unlink()
    return found


@pytest.mark.localstack
def test_a_run_is_mended_by_code_that_was_repaired(own_account: LocalStack, at_home: Path) -> None:
    log = at_home / "log"
    log.mkdir()
    project = Project(at_home / "project", {"LOKKI_AWS_REGION": REGION}, text=FLOCK)
    project.settings["LOKKI_ARTIFACT_BUCKET"] = f"{project.flow}-data"
    project.done("deploy", "--confirm")
    said = project.refused("invoke", "--log", str(log), "--run-id", "spring")
    assert "ValueError: no ring for bird 3" in said
    assert "Step 'ring' failed on item 3: 3." in said
    assert f"watch.py redrive --run spring-" in said  # noqa: F541 - the end of the name is a time
    assert rung(log)["3"] == 1

    project.change('raise ValueError("no ring for bird 3")', "bird = 30")
    project.change("batch_size=1", "batch_size=2")
    project.done("deploy", "--confirm")
    out, _ = project.done("redrive", "--run", "spring")
    assert out == f"{10 * (0 + 1 + 2 + 30 + 4 + 5)}\n"
    assert rung(log)["3"] == 1

    assert "succeeded, so nothing of it is missing" in project.refused("redrive", "--run", "spring")
    out, _ = project.done("redrive", "--run", "spring", "--items", "0,5")
    assert out == "420\n"
    assert rung(log) == {"0": 1, "5": 1}
    project.done("destroy", "--confirm", "--data")


# --- which results go


@step
def numbers(n: int) -> list[int]:
    return list(range(n))


@step
def double(x: int) -> int:
    return 2 * x


@step
def increment(x: int) -> int:
    return x + 1


@step
def total(xs: list[int]) -> int:
    return sum(xs)


@flow
def doubled_flow(n: int = 7, size: int = 1) -> Any:
    return numbers(n).map([double, increment], batch_size=size).agg(total).next(double)


@flow
def two_maps_flow() -> Any:
    return numbers(2).map(double).agg(total).next(numbers).map(increment).agg(total)


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("size", [1, 3])
def test_what_was_made_of_items_goes_and_nothing_else(moto_server: str, bucket: str, size: int) -> None:
    graph = doubled_flow(size=size)
    store = S3Store(moto_server, bucket=bucket, prefix="team")
    Machine(graph, store=store).execute("r1", size=size)
    before = set(store.keys("doubled-flow"))
    client = Aws(LokkiConfig(aws=AwsConfig(endpoint=moto_server))).client("s3")
    assert forget(client, bucket, "team", store, graph, "r1", map_of(graph, [range(4, 5)]), {4})
    after, here = set(store.keys("doubled-flow")), "doubled-flow/runs/r1"
    place = "4/output.pkl.gz" if size == 1 else f"3/{RESULTS}"
    later = {f"{here}/{each}/output.pkl.gz" for each in ("total", "double-2")}
    assert before - after == {*later, f"{here}/double/{place}", f"{here}/increment/{place}"}
    partial = {f"{here}/{each}/3/{PARTIAL}" for each in ("double", "increment")}
    assert after - before == (set() if size == 1 else partial)
    machine = Machine(graph, store=store)
    assert machine.execute("r2", run_id="r1", lokki_redrive=True, size=size) == 2 * sum(2 * x + 1 for x in range(7))
    assert machine.calls["increment"] == 1


@pytest.mark.usefixtures("aws")
def test_items_that_a_run_does_not_have_are_refused_with_those_that_it_has(moto_server: str, bucket: str) -> None:
    graph = doubled_flow(n=3)
    store = S3Store(moto_server, bucket=bucket, prefix="")
    node = map_of(graph, [range(7, 8)])
    with pytest.raises(InvokeError, match="Run 'r1' has no items of 'double', so there are no items 7 to run again"):
        checked(store, graph.name, "r1", node, [range(7, 8)])
    machine = Machine(graph, store=store)
    machine.execute("r1", n=3)
    assert checked(store, graph.name, "r1", node, [range(2), range(2, 3)]) == {0, 1, 2}
    for _ in range(2):  # the second time with the manifest of a run that was mended
        with pytest.raises(
            InvokeError, match="has 3 items, 0 to 2, of 'double': there is no item 7, 3-999999999999 to run again"
        ):
            checked(store, graph.name, "r1", node, [range(7, 8), range(1, 10**12)])
        machine.execute("r2", run_id="r1", lokki_redrive=True, n=3)


def test_whose_items_are_meant_must_be_plain() -> None:
    graph = two_maps_flow()
    assert map_of(graph, [range(1, 2)], "increment").id == "numbers-2-map"
    with pytest.raises(InvokeError, match=r"several maps: say whose items with --step, one of double, increment"):
        map_of(graph, [range(1, 2)])
    with pytest.raises(InvokeError, match="has no map that runs 'total', so there are no items 1-2 to run again"):
        map_of(graph, [range(1, 3)], "total")


def test_items_are_listed_in_words() -> None:
    assert items_of("3,9, 20-22") == (range(3, 4), range(9, 10), range(20, 23))


@pytest.mark.parametrize("text", ["5-2", "", "3,", "-1", "x", "1-2-3", "\u0663"])
def test_what_names_no_items_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="it takes places of items, as in 3,9 or 20-25, not"):
        items_of(text)
