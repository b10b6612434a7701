"""Functions arrive in another process as what they are here, or are refused by name."""

from __future__ import annotations

import contextlib
import functools
import importlib
import linecache
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tests.twingraph.cargo as cargo_module
from tests.twingraph import cargo
from tests.twingraph.calling import placed, there
from tests.twingraph.cargo import (
    Colour,
    Grown,
    OwnError,
    Pair,
    Point,
    Threshold,
    double,
    even,
    fibonacci,
    parsed,
    variable,
)
from twingraph import component, envelope, pipeline
from twingraph.decorators import component_of
from twingraph.errors import TravelError
from twingraph.placement import Placement

LIMIT = 3
lock = threading.Lock()


def reads(file: Any) -> Callable[..., Any]:
    return lambda: file.read() + "."


stream: Iterator[int] = (each for each in range(3))


def test_helpers_constants_classes_and_imports_come_along() -> None:
    def work(n: int) -> dict[str, Any]:
        point = Point(n).moved(by=1)
        return {
            "limits": (LIMIT, cargo.LIMIT, cargo_module.LIMIT),
            "calls": [double(n), double(n), cargo.SEEN["double"]],
            "cached": (fibonacci(30), fibonacci.cache_info().maxsize),
            "cycle": even(10),
            "words": parsed("<a>one TWO</a>"),
            "point": point,
            "super": Grown(n).scaled(),
            "pair": Pair(1),
            "colour": Colour("red"),
            "from": variable("HERE"),
        }

    before = dict(cargo.SEEN)
    got = there(work, 4)
    assert got.pop("point") == Point(5, 1, ["moved"])
    assert got == {
        "limits": (3, 10, 10),
        "calls": [8, 8, before.get("double", 0) + 2],
        "cached": (832040, None),
        "cycle": True,
        "words": ["one"],
        "super": 18,
        "pair": Pair(1),
        "colour": Colour.RED,
        "from": None,
    }
    assert before == cargo.SEEN


def test_what_libraries_made_of_ones_own_functions_and_classes_comes_along() -> None:
    def work() -> Any:
        with cargo.opened("door") as told:
            pass
        return told, cargo.Stack(1, 2).items, cargo.Stack.tag, contextlib.contextmanager.__module__

    assert there(work) == (["open door", "close door"], [1, 2], "stack", "contextlib")


def test_a_component_that_is_called_there_gives_what_it_gives_here() -> None:
    @component
    def counted(birds: list[int], by: int = 1) -> dict[str, int]:
        return {"count": len(birds) * by}

    @component
    async def plus(x: int) -> int:
        return x + 1

    @component
    def down(n: int) -> int:
        return 0 if n == 0 else 1 + down(n - 1)["result"]

    def work() -> Any:
        first = counted([1, 2])
        second = counted([3], by=first["count"], parent_hash=first["hash"])
        fields = [first["outputs"]["count"], first.outputs.count, first.get("count"), first.get("none", 3)]
        known = first["hash"] != second["hash"] and first["status"] == second.status == "completed"
        each = [one["result"] for one in plus.map([1, 2])]
        return fields, known, each, second, plus(plus.submit(1)).value, down(3)["outputs"], Threshold()([9, 11])["kept"]

    told = ([2, 2, 2, 3], True, [2, 3], {"count": 2}, 3, {"result": 3}, [11])
    assert there(work) == told
    given = component(name="work")(work)().value
    assert (*given[:3], given[3].value, *given[4:]) == told
    assert there(lambda: counted([1])) == {"count": 1}


apart = component(config={"isolate": True})


class Pond:
    def __init__(self, ducks: int) -> None:
        self.ducks = ducks

    @component(timeout=5)
    def with_more(self, more: int) -> dict[str, int]:
        return {"ducks": self.ducks + more}

    @staticmethod
    @component
    async def doubled(ducks: int) -> int:
        return ducks * 2

    @apart
    def all(self) -> int:
        return int(Pond.doubled(self.with_more(1)["ducks"])["result"])


def test_methods_that_are_components_and_what_makes_components_travel() -> None:
    def work(ducks: int) -> Any:
        @component(name="lost")
        def fewer(by: int) -> int:
            return ducks - by

        @pipeline
        def seen(by: int) -> Any:
            return fewer(by)["result"]

        return seen(1), Pond(ducks).with_more(2)["ducks"], Pond(ducks).all().outputs

    assert there(work, 4) == (3, 6, {"result": 10})
    assert there(Pond(1).all.fn) == 4
    assert Pond(2).all().value == 6


def test_components_and_steps_count_as_their_functions() -> None:
    def work(x: int) -> Any:
        return (
            cargo.placed_elsewhere(x).value,
            cargo.stepped(x),
            cargo.Metres(x),
            Grown.scaled(Grown(x)),
            cargo.relative(),
        )

    assert there(work, 1) == (11, 2, 1, 12, 10)
    assert there(cargo.placed_elsewhere.fn, 1) == 11
    assert there(Grown.scaled, Grown(2), place=Placement(config={"pickle": True})) == 14


def test_classes_without_a_source_text_travel_to_the_same_python() -> None:
    space: dict[str, Any] = {"__name__": "typed"}
    exec("class Typed:\n    size = 3\n    def double(self): return self.size * 2", space)
    typed = space["Typed"]
    assert there(lambda: (typed().double(), cargo.Spot(1))) == (6, cargo.Spot(1, 0))


def test_what_a_closure_holds_comes_along_and_is_shared() -> None:
    held = [1]
    factor = 3

    def add(x: int) -> None:
        held.append(x * factor)

    def down(n: int) -> int:
        return 0 if n == 0 else down(n - 1)

    def work(x: int, *more: int, by: int = factor, **named: int) -> Any:
        add(x)
        return held, by, more, named, down(3)

    assert there(work, 2, 5, other=6) == ([1, 6], 3, (5,), {"other": 6}, 0)
    assert held == [1]


def test_lambdas_partials_bound_methods_and_coroutines_are_functions_too() -> None:
    pair = (lambda x: x + 1, lambda x: x - 1)

    async def later(x: int) -> int:
        import asyncio

        await asyncio.sleep(0)
        return x * LIMIT

    assert (there(pair[0], 1), there(pair[1], 1)) == (2, 0)
    assert there(functools.partial(pow, 2), 5) == 32
    assert there(functools.partial(double), 5) == 10
    assert there(Grown(5).execute, 1) == 21
    assert there(later, 2) == 6
    assert there(lambda fn, kind: kind(fn(1)), lambda x: x + LIMIT, Point).x == 4


def test_a_component_that_is_a_class_travels_without_what_runs_it_here() -> None:
    assert there(Threshold().run, [9, 11], scale=2) == {"kept": [22]}
    assert there(lambda: Threshold({"limit": 3}).run(data=[4])) == {"kept": [4]}
    with pytest.raises(OwnError, match="no data"):
        there(component_of(Threshold()).fn, [])


def test_imports_inside_of_a_function_find_modules_of_ones_own() -> None:
    def work() -> Any:
        import tests.twingraph.cargo
        from tests.twingraph import cargo as other
        from tests.twingraph.cargo import odd

        return tests.twingraph.cargo.LIMIT, other.double(2), odd(3), odd.__module__

    assert there(work) == (10, 4, True, "tests.twingraph.cargo")


def test_equal_names_of_two_modules_do_not_clash() -> None:
    first: dict[str, Any] = {"__name__": "one"}
    second: dict[str, Any] = {"__name__": "two"}
    exec("LIMIT = 'first'\ndef tell(): return LIMIT", first)
    exec("LIMIT = 'second'\ndef tell(): return LIMIT, other()", second)
    second["other"] = first["tell"]
    assert there(second["tell"]) == ("second", "first")


def test_the_documented_namedtuple_needs_no_import() -> None:
    def work(data: list[float], threshold: float = 0.5) -> Any:
        output = namedtuple("output", ["filtered", "count"])  # type: ignore[name-defined]  # noqa: F821
        filtered = [each for each in data if each > threshold]
        return output(filtered=filtered, count=len(filtered))

    got = there(work, [0.1, 0.7])
    assert (got._asdict(), type(got).__name__) == ({"filtered": [0.7], "count": 1}, "output")


def test_own_exceptions_come_back_as_themselves() -> None:
    def work() -> None:
        raise OwnError(7, "broken")

    with pytest.raises(OwnError, match=r"^broken \(7\)") as caught:
        there(work)
    assert caught.value.code == 7
    assert 'raise OwnError(7, "broken")' in caught.value.__notes__[-1]


def test_a_class_from_inside_of_a_function_comes_along() -> None:
    unit = "m"

    class Length:
        def __init__(self, number: int) -> None:
            self.number = number

        def __str__(self) -> str:
            return f"{self.number} {unit}"

    assert there(lambda: str(Length(LIMIT))) == "3 m"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda _: lambda: lock, r"global 'lock' of .* of type lock, .*make it inside of the function"),
        (lambda _: lambda: next(stream), r"global 'stream' of .* of type generator"),
        (lambda _: lambda: cargo.loop, r"global 'loop' of .* is nested too deep, or holds itself"),
        (lambda path: reads((path / "f").open("w")), r"'file' in the closure of .*TextIO"),
        (lambda path: lambda x, by=(1, [lock]): x, r"a default value of function .*\[1\]\[0\] is of type lock"),
    ],
)
def test_what_cannot_travel_is_refused_with_its_name(
    make: Callable[[Path], Callable[..., Any]], words: str, tmp_path: Path
) -> None:
    fn = make(tmp_path)
    with pytest.raises(TravelError, match=words):
        envelope.pack(placed(fn))
    for cell in fn.__closure__ or ():
        cell.cell_contents.close()


def test_a_file_that_was_edited_since_it_was_loaded_is_no_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "edited.py"
    file.write_text("def work():\n    return 'old'\nclass Thing:\n    def get(self): return 'old'\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("edited")
    file.write_text("def work():\n    return 'newer'\nclass Thing:\n    def get(self): return 'newer'\n")
    assert b"newer" not in envelope.pack(placed(module.work))
    assert there(module.work) == "old"
    assert b"newer" not in envelope.pack(placed(module.Thing().get))
    del sys.modules["edited"]


def test_cells_of_a_notebook_are_source() -> None:
    text = "LIMIT = 4\ndef work(x):\n    return x + LIMIT\n"
    linecache.cache["<cell 1>"] = (len(text), None, text.splitlines(keepends=True), "<cell 1>")
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, "<cell 1>", "exec"), space)
    assert b"return x + LIMIT" in envelope.pack(placed(space["work"]))
    assert there(space["work"], 1) == 5
    del linecache.cache["<cell 1>"]


def test_a_function_without_source_needs_the_same_python() -> None:
    space: dict[str, Any] = {"__name__": "__main__", "LIMIT": 5}
    exec("def work(x):\n    return x + LIMIT", space)
    assert there(space["work"], 1) == 6
