"""Do the steps of a flow fit each other? Type hints are compared along the edges before anything runs.

For every reference in the graph `check` asks whether the type that flows in fits the parameter that it lands in. The
answer is what a type checker would say of the direct call, with what lokki does on the way taken into account: an
iterator arrives as a list, a map as the list of its results, and a list of ints may be read as a list of floats. Only a
certain "no" refuses a flow: a hint that is missing, open or too strange to judge passes, and so does a pair that
beartype accepts, which is asked (and imported) only before a refusal.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import warnings
from collections import Counter, OrderedDict, abc, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, reduce
from operator import or_
from types import GenericAlias, NoneType, SimpleNamespace, UnionType
from typing import Any, Literal, Union, Unpack, assert_never, get_args, get_origin, get_type_hints, is_typeddict

from lokki.binding import shape
from lokki.errors import GraphTypeError
from lokki.frozen import frozen, replace
from lokki.graph import ITEM, Call, FlowGraph, Map, Ref, Step
from lokki.source import parsed

_LITERAL: Any = Literal

# What a generator may be annotated with, and the containers whose type arguments mean the same at the same place: what
# iterating gives, then the values of a mapping.
_STREAMS = (abc.Iterable, abc.Iterator, abc.Generator)
_CONTAINERS = {
    *(list, set, frozenset, deque, dict, defaultdict, OrderedDict, Counter, *_STREAMS, abc.Collection, abc.Reversible),
    *(abc.Sequence, abc.MutableSequence, abc.Set, abc.MutableSet, abc.KeysView, abc.Mapping, abc.MutableMapping),
}
_PROMOTED = ((int, float), (int, complex), (float, complex), (bytearray, bytes), (memoryview, bytes))


@frozen
class _Value:
    """What a reference delivers: its type, the step that made it, and how to say so."""

    hint: Any
    step: Step
    words: str = "the result of {}"


def check(graph: FlowGraph) -> None:
    """Raise GraphTypeError when a result does not fit where it goes: the message tells the first, `details` all."""
    found = dict(_mismatches(graph, {}))
    if found:
        sentence, remedy = next(iter(found.items()))
        count = f" This is the first of {len(found)} mismatches." if len(found) > 1 else ""
        off = "or switch the check off with @flow(check_types=False)."
        raise GraphTypeError(f"{sentence}{count} {remedy}, {off}", details=found)


def _mismatches(graph: FlowGraph, known: dict[str, _Value]) -> Iterator[tuple[str, str]]:
    """What does not fit, each with its remedy. The results of the graph's nodes are added to `known`."""
    for node in graph.nodes:
        match node:
            case Call():
                yield from _call_mismatches(node, known)
                known[node.id] = _Value(_hints(node.step.fn).get("return", Any), node.step)
            case Map():
                over = _delivered(node.over, known)
                yield from _map_mismatches(node, over)
                inside = {ITEM: replace(over, hint=_item_hint(over.hint), words=f"each item of {over.words}")}
                yield from _mismatches(node.body, inside)
                made = _delivered(node.body.output, inside)
                known[node.id] = _Value(GenericAlias(list, made.hint), made.step, "the list of the results of {}")
            case _:
                assert_never(node)


def _delivered(ref: Ref, known: Mapping[str, _Value]) -> _Value:
    return replace(known[ref.node], hint=Any) if ref.path else known[ref.node]


def _call_mismatches(call: Call, known: Mapping[str, _Value]) -> Iterator[tuple[str, str]]:
    form, hints = shape(call.step.fn), _hints(call.step.fn)
    named = ((name, given) for name, given in call.kwargs.items() if name in form.named)
    for name, given in (*zip(form.positional, call.inputs, strict=False), *named):
        if isinstance(given, Ref):
            value, wanted = _delivered(given, known), hints.get(name, Any)
            if not _agree(value.hint, wanted):
                yield _misfit(call.step, name, wanted, value), "Make the types agree"


def _misfit(step: Step, name: str, wanted: Any, value: _Value) -> str:
    same = _shown(wanted) == _shown(value.hint)
    expected, actual = _shown(wanted, full=same), _shown(value.hint, full=same)
    source = value.words.format(_place(value.step))
    over = source.removeprefix("each item of ")
    told = f"receives {source}, which is" if over == source else f"is mapped over {over}, whose items are"
    return f"Step {_place(step)} takes {name}: {expected}, but it {told} {actual}."


def _map_mismatches(node: Map, over: _Value) -> Iterator[tuple[str, str]]:
    refused = _sure(lambda: [each for each in _alternatives(over.hint) if not _has_items(each)], [])
    if refused:
        first = f"Step {_place(next(node.body.calls()).step)} is mapped over {over.words.format(_place(over.step))}"
        yield f"{first}, but {_shown(refused[0])} cannot be mapped over.", "Return a list of items there"


def _has_items(hint: Any) -> bool:
    base = _base(hint)
    if base is None or issubclass(base, type):  # an Enum class can be iterated
        return True
    iterable = issubclass(base, abc.Iterable) or any("__getitem__" in vars(each) for each in base.__mro__)
    table = hasattr(base, "iterrows") or hasattr(base, "iter_rows")  # are its items rows or columns?
    return iterable and not table and not issubclass(base, (str, bytes, bytearray, abc.Mapping))


def _item_hint(hint: Any) -> Any:
    return _sure(lambda: reduce(or_, [item for each in _alternatives(hint) for item in _items(each)]), Any)


def _items(hint: Any) -> tuple[Any, ...]:
    base, args = _base(hint), get_args(hint)
    if base is range:
        return (int,)
    if base is tuple and not any(map(_is_unpacked, args)):
        return tuple(each for each in args if each is not ...) or (Any,)
    return args[:1] if args and base in _CONTAINERS else (Any,)


def _sure(question: Callable[[], Any], unknown: Any) -> Any:
    """The answer, or `unknown` when there is none."""
    try:
        return question()
    except Exception:  # noqa: BLE001 - a hint may be any object at all, and comparing it runs that object's code
        return unknown


@lru_cache(maxsize=1024)
def _hints(fn: Callable[..., Any]) -> Mapping[str, Any]:
    """What a function says of its parameters and, as "return", of its result."""
    return dict(_sure(lambda: [*_annotated(fn)], []))


def _annotated(fn: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    signature = inspect.signature(fn)
    for each in signature.parameters.values():
        hint = _resolved(each.annotation, fn)
        yield each.name, hint | None if each.default is None else hint
    if not isinstance(fn, type):  # what __init__ returns is not what the class makes
        yield "return", _resolved(signature.return_annotation, fn)


def _resolved(hint: Any, fn: Callable[..., Any]) -> Any:
    """The hint with quoted names looked up and `Annotated` removed; Any when there is none or that fails."""
    said = SimpleNamespace(__annotations__={"it": Any if hint is inspect.Signature.empty else hint})
    return _sure(lambda: get_type_hints(said, getattr(inspect.unwrap(fn), "__globals__", {}))["it"], Any)


def _agree(given: Any, wanted: Any) -> bool:
    return bool(_sure(lambda: _fits(given, wanted), True) or _sure(lambda: _accepted(given, wanted), False))


def _accepted(given: Any, wanted: Any) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from beartype.door import is_subhint

        return is_subhint(given, wanted)


def _fits(given: Any, wanted: Any) -> bool:
    return all(any(_one_fits(each, one) for one in _alternatives(wanted)) for each in _alternatives(given))


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """The members of a union or Literal, or the hint itself: without alias and NewType, and a TypedDict as a dict."""
    while (inner := getattr(hint, "__value__", getattr(hint, "__supertype__", None))) is not None:
        hint = inner
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return tuple(_LITERAL[each] for each in args)
    if origin in (Union, UnionType):
        return tuple(one for each in args for one in _alternatives(each))
    return (NoneType if hint is None else dict if is_typeddict(hint) else hint,)


def _one_fits(given: Any, wanted: Any) -> bool:
    base, target = _base(given), _base(wanted)
    if given == wanted or base is None or target is None:
        return True
    if get_origin(given) is Literal and get_origin(wanted) is Literal:
        return False  # one value each, and not the same
    if base in _STREAMS and _fits(GenericAlias(list, (*get_args(given), Any)[0]), wanted):
        return True
    if any(target is high and issubclass(base, low) for low, high in _PROMOTED):
        return True
    return _sure(lambda: issubclass(base, target), True) and _arguments_fit(given, wanted)


def _arguments_fit(given: Any, wanted: Any) -> bool:
    """Whether the types in brackets fit, once the classes before them do."""
    base, target, mine, theirs = _base(given), _base(wanted), get_args(given), get_args(wanted)
    if not mine or not theirs or any(map(_is_unpacked, (*mine, *theirs))):
        return True
    pairs = list(zip(mine, theirs, strict=False))
    if base is tuple and (target is tuple or target in _CONTAINERS):
        fixed = target is tuple and ... not in (*mine, *theirs)
        every = pairs if fixed else [(a, b) for a in mine for b in theirs if ... not in (a, b)]
        return not (fixed and len(mine) != len(theirs)) and all(_fits(a, b) for a, b in every)
    if base in _CONTAINERS and target in _CONTAINERS:
        return all(_fits(a, b) for a, b in pairs)
    # Of other generic classes only one with itself can be judged, and not in which direction its arguments vary.
    return base is not target or all(_fits(a, b) or _fits(b, a) for a, b in pairs)


def _base(hint: Any) -> Any:
    """The class before the brackets, or None when the hint does not commit itself to one."""
    origin = get_origin(hint) or hint
    if origin is Literal:
        return type(get_args(hint)[0])
    if not isinstance(origin, type) or origin is object or Any in origin.__mro__:
        return None
    return None if issubclass(origin, abc.Awaitable) else origin  # whether it is awaited on the way is not said


def _is_unpacked(hint: Any) -> bool:
    return get_origin(hint) is Unpack or getattr(hint, "__unpacked__", False)


def _shown(hint: Any, full: bool = False) -> str:
    """The hint as one writes it; with the modules of its classes when `full`."""
    text = "None" if hint is NoneType else inspect.formatannotation(hint)
    return text if full else re.sub(r"('[^']*')|(?:\w+\.|<locals>\.)+(?=\w)", r"\1", text)


def _place(step: Step) -> str:
    """The step's name and where it is defined, as in `'label' (flow.py:9: def label(x: str))`."""
    return str(_sure(lambda: f"{step.name!r} ({_definition(inspect.unwrap(step.fn))})", repr(step.name)))


def _definition(fn: Callable[..., Any]) -> str:
    import textwrap

    lines, first = inspect.getsourcelines(fn)
    found = parsed(textwrap.dedent("".join(lines))).body[0]
    assert isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef)
    found.body, found.decorator_list = [], []
    path = os.path.abspath(inspect.getsourcefile(fn) or "").removeprefix(os.getcwd() + os.sep)
    return f"{path}:{first + found.lineno - 1}: {ast.unparse(found).strip().removesuffix(':')}"
