"""Steps that do not fit each other are refused before anything runs, and nothing that fits ever is."""

from __future__ import annotations

import runpy
import subprocess
import sys
import textwrap
import typing
from collections import Counter, abc, defaultdict
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from datetime import date, datetime
from enum import Enum, IntEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, Protocol, TypedDict, TypeVar, Union

import pytest

from lokki import Flow, FlowGraph, GraphTypeError, GraphValidationError, MapBlock, StepNode, flow, step
from lokki.graph import ITEM, Call, Map, Ref
from lokki.hints import check

T = TypeVar("T")
Metres = NewType("Metres", float)
Kilometres = NewType("Kilometres", Metres)


class Bird: ...


class Duck(Bird):
    def quack(self) -> str:
        return "quack"


class Quacks(Protocol):
    def quack(self) -> str: ...


@typing.runtime_checkable
class Barks(Protocol):
    def bark(self) -> str: ...


class Anything(Any): ...  # type: ignore[misc]


class Nest(Generic[T]): ...


class Eggs(list[int]): ...


class OldSequence:
    def __getitem__(self, at: int) -> int:
        return [1, 2][at]


class Frame(list[int]):
    def iterrows(self) -> Iterator[int]:
        return iter(self)


class Place(NamedTuple):
    name: str
    at: float


class Sighting(TypedDict):
    name: str
    count: int


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Size(IntEnum):
    SMALL = 1


class Touchy:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not to be compared")

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "Touchy()"


def producing(hint: Any) -> StepNode:
    def source() -> Any:
        return None

    source.__annotations__ = {"return": hint}
    return step(source)


def taking(hint: Any, gives: Any = Any) -> StepNode:
    def target(x: Any) -> Any:
        return x

    target.__annotations__ = {"x": hint, "return": gives}
    return step(target)


def flow_of(chain: StepNode | MapBlock) -> Flow:
    def some_flow() -> StepNode | MapBlock:
        return chain

    return flow(some_flow)


def refusal(chain: StepNode | MapBlock) -> GraphTypeError | None:
    try:
        flow_of(chain)()
    except GraphTypeError as error:
        return error
    return None


FITTING: list[tuple[Any, Any]] = [
    (int, int),
    (int, float),
    (int, complex),
    (float, complex),
    (bool, int),
    (bool, float),
    (Size, float),
    (None, None),
    (None, int | None),
    (int, int | None),
    (int, Optional[int]),  # noqa: UP045
    (int | str, Union[str, int, None]),  # noqa: UP007
    (int | bool, float),
    (Duck, Bird),
    (datetime, date),
    (bytearray, bytes),
    # nobody knows
    (Any, int),
    (int, Any),
    (int, object),
    (object, int),
    (T, int),
    (int, T),
    (Anything, int),
    (int, Anything),
    (1, int),
    (int, "nowhere.Known"),
    ("list[Unknown]", list[int]),
    (typing.NoReturn, int),
    (typing.LiteralString, str),
    (Touchy(), int),
    (int, Touchy()),
    (Awaitable[int], int),
    # containers
    (list, list[int]),
    (list[int], list),
    (list[Any], list[int]),
    (list[int], list[float]),
    (list[int], Sequence[int]),
    (list[int], Iterable[float]),
    (list[int], Collection[object]),
    (list[int], list[int | None]),
    (list[list[int]], Sequence[Sequence[float]]),
    (typing.List[int], list[int]),  # noqa: UP006
    (dict[str, int], dict[str, float]),
    (dict[str, int], Mapping[str, Any]),
    (dict, dict[str, int]),
    (dict[str, int], Iterable[str]),
    (defaultdict[str, int], dict[str, int]),
    (Counter[str], Mapping[str, int]),
    (set[int], abc.Set[float]),
    (str, Sequence[str]),
    (range, Sequence[int]),
    (Eggs, list[int]),
    (tuple[int, str], tuple[float, str]),
    (tuple[int, int], tuple[int, ...]),
    (tuple[int, ...], tuple[int, int]),
    (tuple[int, str], Sequence[int | str]),
    (tuple[int, str], abc.Hashable),
    (tuple, tuple[int, ...]),
    (tuple[int, *tuple[str, ...]], tuple[int, str, str]),
    (Place, tuple[str, float]),
    # an iterator arrives as the list of its items
    (Iterator[int], list[int]),
    (Generator[int, None, None], list[float]),
    (Iterable[int], list[int]),
    (Iterator, list[int]),
    (Iterator[int], Iterator[int]),
    (Generator[int, None, None], Iterable[int]),
    # what only type checkers see, and forms that cannot be judged
    (Annotated[int, "metres"], int),
    (int, Annotated[float, "metres"]),
    (Metres, float),
    (Kilometres, Metres),
    (int, Metres),
    (Sighting, dict),
    (Sighting, Mapping[str, object]),
    (dict[str, Any], Sighting),
    (Duck, Quacks),
    (int, Quacks),
    (Literal["a"], str),
    (Literal["a"], Literal["a", "b"]),
    (Literal["b", "a"], Literal["a"] | Literal["b"]),
    (Literal["a", 1], str | float),
    (Literal["a"], Sequence[str]),
    (str, Literal["a", "b"]),
    (bool, Literal[True, False]),
    (None, Literal["a", None]),
    (Callable[[int], str], Callable[..., Any]),
    (Callable[[int], str], Callable[[bool], str]),
    (type[Duck], type[Bird]),
    (Nest[int], Nest[T]),  # type: ignore[valid-type]
    (Nest[Bird], Nest[Duck]),
    (Nest[int], Nest),
]

MISFITS: list[tuple[Any, Any]] = [
    (int, str),
    (str, int),
    (float, int),
    (int, bool),
    (None, int),
    (int | None, int),
    (int | str, int | bytes),
    (Bird, Duck),
    (list[int], list[str]),
    (list[int], str),
    (list[int], tuple[int, ...]),
    (list[int], set[int]),
    (list[list[int]], list[list[str]]),
    (Sequence[int], list[int]),
    (list[int | None], list[int]),
    (dict[str, int], dict[str, str]),
    (dict[str, int], dict[int, int]),
    (dict[str, int], Iterable[int]),
    (tuple[int, str], tuple[int, str, float]),
    (tuple[int, str], tuple[str, int]),
    (tuple[int, ...], tuple[str, ...]),
    (tuple[int, str], Sequence[int]),
    (Iterator[int], list[str]),
    (Iterator[int], int),
    (typing.List[int], str),  # noqa: UP006
    (Metres, str),
    (Sighting, list[Any]),
    (int, Sighting),
    (int, Barks),
    (Literal["a"], Literal["b"]),
    (Literal["a"], Literal["b", 1]),
    (Literal["a", 1], str),
    (type[Duck], type[int]),
    (Nest[int], Nest[str]),
    (Nest[int], int),
    (Callable[[int], str], Callable[[int], bytes]),
]


@pytest.mark.parametrize(("given", "wanted"), FITTING, ids=repr)
def test_what_fits_or_cannot_be_judged_passes(given: Any, wanted: Any) -> None:
    assert refusal(producing(given)().next(taking(wanted))) is None


@pytest.mark.parametrize(("given", "wanted"), MISFITS, ids=repr)
def test_a_result_that_does_not_fit_the_next_step_is_refused(given: Any, wanted: Any) -> None:
    error = refusal(producing(given)().next(taking(wanted)))
    assert error is not None
    assert len(error.details) == 1
    assert "<class" not in str(error)


@pytest.mark.parametrize(
    ("over", "item"),
    [
        (list[int], int),
        (list, str),
        (list[Any], str),
        (tuple[int, ...], float),
        (tuple[int, str], int | str),
        (tuple, str),
        (tuple[int, *tuple[str, ...]], bytes),
        (set[int], int),
        (frozenset[int], int),
        (Sequence[int], int),
        (Iterable[int], int),
        (Iterator[int], int),
        (Collection[int], int),
        (Generator[int, None, None], int),
        (range, int),
        (list[int] | tuple[str, ...], int | str),
        (list[list[int]], list[int]),
        (Eggs, str),
        (Place, bytes),
        (OldSequence, str),
        (type[Colour], Colour),
        (Any, int),
        ("Unknown", int),
        (list[int] | Any, int),
        (list[Touchy()], int),  # type: ignore[misc]
    ],
    ids=repr,
)
def test_a_map_takes_the_items(over: Any, item: Any) -> None:
    assert refusal(producing(over)().map(taking(item))) is None


@pytest.mark.parametrize(
    ("over", "items"),
    [
        (list[int], "int"),
        (tuple[int, str], "int | str"),
        (set[int], "int"),
        (range, "int"),
        (Generator[int, None, None], "int"),
        (list[int] | tuple[bool, ...], "int | bool"),
        (list[None], "None"),
    ],
    ids=repr,
)
def test_items_that_do_not_fit_are_refused(over: Any, items: str) -> None:
    error = refusal(producing(over)().map(taking(str)))
    assert error is not None
    assert f"whose items are {items}." in str(error)


@pytest.mark.parametrize(
    ("over", "culprit"),
    [
        (int, "int"),
        (float, "float"),
        (bool, "bool"),
        (None, "None"),
        (str, "str"),
        (bytes, "bytes"),
        (bytearray, "bytearray"),
        (Frame, "Frame"),
        (Literal["a.b", "c"], "Literal['a.b']"),
        (dict[str, int], "dict[str, int]"),
        (Mapping[str, int], "Mapping[str, int]"),
        (Sighting, "dict"),
        (Bird, "Bird"),
        (Colour, "Colour"),
        (AsyncIterator[int], "AsyncIterator[int]"),
        (list[int] | None, "None"),
        (Optional[Metres], "float"),  # noqa: UP045
    ],
    ids=repr,
)
def test_what_has_no_items_cannot_be_mapped_over(over: Any, culprit: str) -> None:
    error = refusal(producing(over)().map(taking(Any)))
    assert error is not None
    assert f"but {culprit} cannot be mapped over. Return a list of items there, or switch" in str(error)


def test_an_aggregation_takes_the_list_of_the_results() -> None:
    body = taking(int, gives=str)
    assert refusal(producing(list[int])().map(body).agg(taking(list[str]))) is None
    error = refusal(producing(list[int])().map(body).agg(taking(list[int])))
    assert error is not None
    assert "receives the list of the results of 'target'" in str(error)
    assert "which is list[str]." in str(error)


def test_the_steps_of_a_map_are_checked_one_after_the_other() -> None:
    chain = (
        producing(list[int])().map(taking(int, gives=str)).map([taking(str, gives=bytes), taking(bytes, gives=date)])
    )
    assert refusal(chain) is None
    assert refusal(chain.agg(taking(Sequence[date]))) is None
    assert refusal(chain.map(taking(str))) is not None


def test_a_map_within_a_map_takes_the_items_of_the_item() -> None:
    grid = producing(list[list[int]])()
    row = taking(list[int], gives=list[int])
    assert (
        refusal(grid.map(row.map(taking(int, gives=str)).agg(taking(list[str], gives=date))).agg(taking(list[date])))
        is None
    )
    error = refusal(grid.map(row.map(taking(str))))
    assert error is not None
    assert "whose items are int." in str(error)


def test_a_map_directly_over_the_item_says_so() -> None:
    source, target = producing(list[list[int]]), taking(str, gives=str)
    inner = FlowGraph("inner", (Call("target", target.step, (Ref(ITEM),)),), Ref("target"))
    outer = FlowGraph("outer", (Map("inner-map", Ref(ITEM), inner),), Ref("inner-map"))
    last = Call("last", taking(list[int]).step, (Ref("outer-map"),))
    with pytest.raises(GraphTypeError, match="mapped over each item of the result of 'source'") as caught:
        check(
            FlowGraph("grid", (Call("source", source.step), Map("outer-map", Ref("source"), outer), last), Ref("last"))
        )
    assert "which is list[list[str]]." in caught.value.details[1]


def test_several_maps_in_a_row_and_steps_used_twice() -> None:
    more = taking(list[int], gives=list[int])
    one = taking(int, gives=int)
    chain = producing(list[int])().map(one).agg(more).next(more).map(one).next(one).agg(more)
    assert refusal(chain) is None
    error = refusal(chain.map(taking(str)).agg(taking(list, gives=str)).next(one))
    assert error is not None
    assert len(error.details) == 2
    assert "takes x: int, but it receives the result of 'target'" in error.details[1]


def test_all_mismatches_are_told_each_once() -> None:
    wrong = taking(str, gives=int)
    error = refusal(producing(int)().next(wrong).next(wrong).next(wrong))
    assert error is not None
    assert len(error.details) == 2
    assert str(error).startswith(f"{error.details[0]} This is the first of 2 mismatches. Make the types agree, or ")


def test_the_error_is_a_validation_error_a_value_error_and_a_type_error() -> None:
    error = refusal(producing(int)().next(taking(str)))
    assert isinstance(error, GraphValidationError)
    assert isinstance(error, ValueError)
    assert isinstance(error, TypeError)


def test_the_check_can_be_switched_off() -> None:
    @flow(check_types=False)
    def careless() -> StepNode:
        return producing(int)().next(taking(str))

    assert careless().step_names == ("source", "target")


@step
async def fetch() -> list[int]:
    return [1]


@step
def count(many: list[str]) -> int:
    return len(many)


@step
def put(many: list[int], *rest: str, place: str = "", **labels: str) -> None: ...


@step
def greet(name: str = None) -> str:  # type: ignore[assignment]  # noqa: RUF013
    return name


def test_the_result_of_an_async_step_is_what_it_is_annotated_with() -> None:
    assert refusal(fetch().next(put)) is None
    assert refusal(fetch().next(count)) is not None


def test_constants_and_flow_parameters_are_not_checked() -> None:
    @flow
    def birds(place: int = 3) -> StepNode:
        return fetch().next(put, colour=7)

    assert birds().params == {"place": 3}


def test_a_default_of_none_takes_none() -> None:
    assert refusal(put([1]).next(greet)) is None


def test_references_by_name_are_checked_where_the_parameter_is_known() -> None:
    fed = Call("put", put.step, (Ref("fetch"), Ref("fetch")), {"place": Ref("fetch"), "colour": Ref("fetch")})
    with pytest.raises(GraphTypeError, match="takes place: str") as caught:
        check(FlowGraph("some", (Call("fetch", fetch.step), fed), Ref("put")))
    assert len(caught.value.details) == 1


def test_a_part_of_a_result_can_be_anything() -> None:
    part = Call("count", count.step, (Ref("fetch", (0,)),))
    check(FlowGraph("some", (Call("fetch", fetch.step), part), Ref("count")))


def test_a_class_or_a_builtin_as_a_step_can_give_anything() -> None:
    assert refusal(producing(str)().next(step(Path)).next(taking(int))) is None
    assert refusal(producing(int)().next(step(max)).next(taking(str))) is None


def test_a_wrapped_step_is_checked_as_what_it_wraps() -> None:
    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def timing(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return timing

    error = refusal(producing(int)().next(step(timed(count.fn))))
    assert error is not None
    assert "test_hints.py" in str(error)
    assert ": def count(many: list[str]) -> int) takes many: list[str]" in str(error)


def test_names_that_mean_something_only_to_a_type_checker_pass() -> None:
    class Local: ...

    @step
    def make() -> Local:
        return Local()

    @step
    def use(it: Local) -> Elsewhere:  # type: ignore[name-defined]  # noqa: F821
        return it

    assert refusal(make().next(use).next(count)) is None


def test_classes_of_the_same_name_are_told_apart() -> None:
    class Bird: ...

    error = refusal(producing(list[Bird])().map(taking(globals()["Bird"])))
    assert error is not None
    assert f"takes x: {__name__}.Bird, but" in str(error)
    assert f"items are {__name__}.test_classes_of_the_same_name_are_told_apart.<locals>.Bird." in str(error)


FLOW = """
from lokki import flow, step

@step
def numbers() -> list[int]:
    return [1, 2]

@step(
    job_type="lambda",
)
def label(x: str, scale: float = 2.0) -> str:
    return x * scale

@flow
def birds():
    return numbers().map(label)
"""


def test_the_message_names_both_steps_both_types_and_both_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flow.py").write_text(FLOW)
    monkeypatch.chdir(tmp_path)
    birds = runpy.run_path(str(tmp_path / "flow.py"))["birds"]
    with pytest.raises(GraphTypeError) as caught:
        birds()
    assert str(caught.value) == (
        "Step 'label' (flow.py:11: def label(x: str, scale: float=2.0) -> str) takes x: str, but it is mapped over the "
        "result of 'numbers' (flow.py:5: def numbers() -> list[int]), whose items are int. "
        "Make the types agree, or switch the check off with @flow(check_types=False)."
    )


def test_a_file_elsewhere_is_named_in_full_and_one_that_is_gone_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flow.py").write_text(FLOW)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(GraphTypeError) as caught:
        runpy.run_path(str(tmp_path / "flow.py"))["birds"]()
    assert f"'label' ({tmp_path / 'flow.py'}:11: def label(" in str(caught.value)
    names: dict[str, Any] = {}
    exec(FLOW, names)
    with pytest.raises(
        GraphTypeError, match="Step 'label' takes x: str, but it is mapped over the result of 'numbers', "
    ):
        names["birds"]()


@pytest.mark.parametrize(("item", "asked"), [("float | None", False), ("str", True)])
def test_plain_types_that_fit_are_judged_without_beartype(item: str, asked: bool) -> None:
    program = f"""
        import sys
        from lokki import flow, step

        @step
        def numbers() -> list[int]: return [1]

        @step
        def half(x: {item}) -> dict[str, float]: return {{}}

        @step
        def total(xs: list[dict[str, float]]) -> None: ...

        @flow
        def sums(): return numbers().map(half).agg(total)

        try:
            sums()
        except TypeError:
            pass
        print("beartype" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert done.stdout == f"{asked}\n"
