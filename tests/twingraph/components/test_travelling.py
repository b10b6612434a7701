"""Built-in components and frames on their way to other processes, and in the graph."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from tests.components_image import placed as in_image
from tests.docker_engine import PYTHON
from tests.twingraph.calling import placed, there
from tests.twingraph.components.greeting import Greeter, Loud
from twingraph import BaseComponent, component, open_graph, pipeline
from twingraph.components.frames import frame_of
from twingraph.envelope import pack
from twingraph.errors import TravelError
from twingraph.executions.snapshot import readable
from twingraph.lineage import content_hash
from twingraph.placement import Placement

FRAME = pl.DataFrame({"a": [1, None, 3], "b": ["x", "y", None], "c": [[1], [], None]})


def named(table: Any) -> Any:
    return {"table": table, "kind": type(table).__name__}


@pytest.mark.parametrize(
    "table", [FRAME, FRAME.lazy(), FRAME.to_arrow(), FRAME["b"]], ids=lambda each: type(each).__name__
)
def test_a_frame_travels_as_it_is(table: Any) -> None:
    back = there(named, table)

    assert back["kind"] == type(table).__name__
    assert type(back["table"]) is type(table)
    if isinstance(table, pl.Series):
        assert back["table"].equals(table, null_equal=True)
    else:
        assert_frame_equal(frame_of(back["table"]), FRAME)


def test_a_frame_that_cannot_travel_is_told() -> None:
    strange = pl.DataFrame({"a": [object()]}, schema={"a": pl.Object})
    with pytest.raises(
        TravelError, match=r"'named': argument 'table' is of type DataFrame, which cannot be sent to an"
    ):
        there(named, strange)


def test_equal_frames_are_the_same_input() -> None:
    halves = pl.concat([FRAME[:2], FRAME[2:]], rechunk=False)
    computed = pl.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"], "c": FRAME["c"]}).select(
        pl.when(pl.col("a") != 2).then("a").alias("a"), pl.when(pl.col("a") < 3).then("b").alias("b"), "c"
    )
    assert computed.equals(FRAME)

    def of(table: Any) -> tuple[str, bool]:
        return content_hash("c", "code", {"table": table}, ())

    assert of(FRAME) == of(halves) == of(computed)
    assert of(FRAME.to_arrow()) == of(pa.concat_tables([FRAME.to_arrow()[:1], FRAME.to_arrow()[1:]]))
    assert of(FRAME)[1]
    assert (
        len({of(each)[0] for each in (FRAME, FRAME[:2], FRAME.rename({"a": "z"}), FRAME.to_arrow(), {"t": FRAME})}) == 5
    )
    assert not of(FRAME.lazy())[1]  # nobody knows what it will read


def test_a_frame_is_recorded_as_what_it_is_and_not_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TWINGRAPH_RECORD")
    size = 300_000
    large = pl.DataFrame({"n": range(size)}).with_columns(word=pl.lit("never seen"))

    pipeline(lambda: component(named)(large)["kind"])()
    with open_graph() as graph:
        (node,) = graph.run(graph.executions()[0][0].id).nodes

    told = {"rows": size, "columns": {"n": "Int64", "word": "String"}}
    for recorded in (node.inputs, node.outputs):
        assert told.items() <= readable(recorded)["table"].items()
    assert "never seen" not in node.inputs + node.outputs


def test_a_component_of_ones_own_that_stands_on_them_runs_where_they_are_installed(
    components_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINGRAPH_SECRET_GREETER_KEY", "hush-hush")
    made = component(**in_image(components_image))(Loud({"style": "long", "api_key": "secret://GREETER_KEY"}))
    assert made(name="Ada").outputs == {"said": ["Good day ADA!!"], "key": "hush-hush"}


def test_an_image_without_this_library_is_told_how_to_be_made(docker_engine: None) -> None:
    made = component(platform="docker", docker_image=PYTHON, config={"network": "none"})(Greeter())
    why = (
        r"No module named '(twingraph|lokki)'; component 'Greeter' needs it where it runs, on Python 3\.\d+: make an "
        r"image of Python 3\.11 or newer in which pip install 'lokki-twingraph\[transform\]' was run, and name it as "
    )
    with pytest.raises(ModuleNotFoundError, match=why):
        made(name="Ada")


def test_a_function_of_lambda_is_told_where_it_gets_it_from() -> None:
    told = json.loads(pack(placed(Greeter().run, place=Placement("lambda"))))
    assert told["needs"] == (
        "give the function a layer or an image with Python 3.11 or newer in which "
        "pip install 'lokki-twingraph[transform]' was run"
    )


def work() -> Any:
    from twingraph.components.frames import columns_of

    return columns_of({"a": [1]}), BaseComponent.__module__, Greeter(times=2).config


def test_a_function_that_uses_them_finds_this_library_and_no_copy_of_it() -> None:
    apart = component(config={"isolate": True})(work)
    assert apart().value == (["a"], "twingraph.base", {"times": 2})
