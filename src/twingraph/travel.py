"""A function and all that it uses, as definitions that another Python can make anew.

The walk follows objects, not text: a function's globals, what its closure holds, its defaults. So a decorated helper
arrives as what it is here. Each of one's own modules that is met becomes a module there, which holds only the names
that are used; modules of the standard library and of installed libraries are imported there. What cannot be sent is
refused with its name (`TravelError`).
"""

from __future__ import annotations

import copyreg
import functools
import importlib.util
import marshal
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import BuiltinFunctionType, CellType, FunctionType, ModuleType
from typing import Any, NewType, ParamSpec, TypeVar, TypeVarTuple

from twingraph.errors import TravelError
from twingraph.own import OURS, decorator, found, is_built_in, is_library, is_own, is_there, wrapped
from twingraph.platforms.worker import Refused, Writing
from twingraph.text import Imported, Text, class_text, function_in, function_text, imports_of, names

_CACHED = type(functools.lru_cache(len))
_MUTABLE = (list, dict, set, bytearray)
_KEPT = ("__file__", "__doc__")
Json = dict[str, Any]


class Installed(Exception):
    """What travels uses built-in components, so that this library must be installed where they run."""


class _Packing(Writing):
    """Values as JSON; a step is a function here, and not the data that it also is."""

    def _kept(self, value: Any, kind: type) -> Any:
        return self.other(value) if wrapped(value) is not None else super()._kept(value, kind)


class Luggage:
    """What travels with a call: `listed` grows as values are added."""

    def __init__(self, component: str) -> None:
        self.component = component
        self.listed: list[Json] = []
        self.extras: set[str] = set()  # what installs the libraries of the built-in components among it
        self._known: dict[int, int] = {}
        self._kept: list[Any] = []  # what is known by its id must live on
        self._write = _Packing(self._class, self._other)

    def value(self, value: Any, where: str) -> Any:
        """A value that the function uses, as JSON; `where` says which in the words of the error."""
        with self._named(where, value):
            if type(value) in _MUTABLE:  # functions may change it, and then it must be one for all of them
                return self._add(value, self._container)
            return self._write(value)

    def given(self, value: Any, where: str, pickles: bool) -> Any:
        """A value that the function is called with: data, or code. With `pickles` anything that a pickle takes."""

        def other(each: Any) -> Any:
            if isinstance(each, FunctionType | type | _CACHED) or wrapped(each):
                return self._other(each)
            if isinstance(each, dict) and type(each).__module__.partition(".")[0] in OURS:
                return writing(dict(each))
            if not pickles:
                raise Refused(each, "pass plain data, or let it be pickled with config={'pickle': True}")
            kind = type(each)
            if is_own(kind.__module__):  # the pickle has only its name
                self._reach(sys.modules[kind.__module__], (kind.__qualname__.partition(".")[0],))
            return {"$pickle": _pickled(each)}

        writing = _Packing(self._class, other)
        with self._named(where, value):
            return writing(value)

    @contextmanager
    def _named(self, where: str, value: Any) -> Iterator[None]:
        try:
            yield
        except Refused as refused:
            kind = type(value).__name__
            held = refused.path or kind == refused.kind
            what = f"is of type {refused.kind}" if held else f"is of type {kind} and holds one of type {refused.kind}"
            raise TravelError(
                f"Component {self.component!r}: {where}{refused.path and ' at ' + refused.path} {what}, which cannot "
                f"be sent to another process: {refused.why or 'make it inside of the function instead'}."
            ) from None
        except RecursionError:
            raise TravelError(f"Component {self.component!r}: {where} is nested too deep, or holds itself.") from None

    def _other(self, value: Any) -> Any:
        """What is not data: by name where it can be imported there, else as a definition."""
        match value:
            case FunctionType() if name := decorator(value):
                return self._add(value, lambda _, told: told.update(kind="decorator", name=name))
            case FunctionType():
                return self._importable(value) or self._add(value, self._function)
            case type():
                return self._class(value)
            case ModuleType():
                return self._module(value)
            case BuiltinFunctionType() if value.__self__ is None or isinstance(value.__self__, ModuleType):
                return self._importable(value) or self._add(value, self._object)
            case _CACHED():
                return self._importable(value) or self._add(value, self._cache)
            case _ if (inner := wrapped(value)) is not None:
                return self._add(value, self._called) if hasattr(value, "placement") else self._write(inner)
            case _:
                return self._add(value, self._object)

    def _add(self, value: Any, describe: Callable[[Any, Json], None], **start: Any) -> Json:
        """A reference to the definition of a value; what is known already is not described again."""
        if id(value) not in self._known:
            self._known[id(value)] = len(self.listed)
            self._kept.append(value)
            told: Json = start
            self.listed.append(told)
            describe(value, told)
        return {"$ref": self._known[id(value)]}

    def _importable(self, value: Any) -> Json | None:
        """How a function or class of a library is imported."""
        module, name = value.__module__, value.__qualname__
        other = module is None or is_own(module) or found(module, name) is not value
        return None if other else self._import(module, name, value=value)

    def _import(self, *told: str, value: Any = None) -> Json:
        """How a library, or what it has, is imported."""
        if is_built_in(told[0]):
            self.extras.add(str(getattr(value, "extra", "")))
            if not is_there():  # and then this library is not sent along besides
                raise Installed
        return {"$import": [*told]}

    # ---- functions and classes

    def _function(self, fn: FunctionType, told: Json) -> None:
        if _method(fn):
            cls = found(fn.__module__, fn.__qualname__.rpartition(".")[0])
            told.update(kind="object", make=self._write(getattr), args=[self._write(cls), fn.__name__])
            told.update(items=[], pairs=[], state=None)
            return
        text, code = function_text(fn), fn.__code__
        space = self._space(fn.__globals__)
        uses = sorted(text.uses if text else names(code))
        told.update(kind="function", module=space, name=fn.__name__, qualname=fn.__qualname__, uses=uses)
        told.update(file=code.co_filename, code_name=code.co_name, cells={})
        if text:
            told.update(text=text.text, line=text.line)
            told["lambda"] = code.co_name == "<lambda>"
            told["name_in_text"] = "" if told["lambda"] or code.co_name in code.co_freevars else code.co_name
        else:
            told.update(code=b64encode(marshal.dumps(code)).decode(), python=_python())
        for name, cell in zip(code.co_freevars, fn.__closure__ or (), strict=True):
            told["cells"][name] = self._add(cell, functools.partial(self._cell, name, fn), kind="cell")["$ref"]
        self._uses(fn.__globals__, uses, fn.__qualname__, text)
        with self._named(f"a default value of function {fn.__qualname__!r}", fn.__defaults__):
            told["defaults"] = None if fn.__defaults__ is None else [self._write(each) for each in fn.__defaults__]
            told["kwdefaults"] = self._write(fn.__kwdefaults__)
        told["dict"] = _data(vars(fn))

    def _called(self, component: Any, told: Json) -> None:
        told.update(kind="component", function=self._write(component.fn))

    def _cell(self, name: str, fn: FunctionType, cell: CellType, told: Json) -> None:
        with suppress(ValueError):  # a cell that is filled later
            content = cell.cell_contents
            told["value"] = self.value(content, f"{name!r} in the closure of {fn.__qualname__!r}")

    def _cache(self, value: Any, told: Json) -> None:
        told.update(kind="cached", **value.cache_parameters(), function=self._write(value.__wrapped__))

    def _class(self, cls: type) -> Json:
        return self._importable(cls) or self._add(cls, self._own_class)

    def _own_class(self, cls: Any, told: Json) -> None:
        keeps = vars(cls).get("__travels__")
        text = class_text(cls, keeps)
        if text is None:
            self._classed_without_text(cls, told)
            return
        space = vars(sys.modules.get(cls.__module__, sys.modules["builtins"]))
        local = dict(_closures(cls, text.file))
        told.update(kind="class", module=self._space(space), name=cls.__name__, qualname=cls.__qualname__)
        told.update(text=text.text, line=text.line, file=text.file, keeps=keeps and list(keeps))
        told.update(needs=sorted(text.needs - set(local)), uses=sorted((text.uses | text.hints) - set(local)))
        owner = cls.__qualname__
        told["locals"] = {name: self.value(each, f"{name!r} around class {owner!r}") for name, each in local.items()}
        self._uses(space, [*told["needs"], *told["uses"]], owner, text)

    def _classed_without_text(self, cls: Any, told: Json) -> None:
        if issubclass(cls, tuple) and hasattr(cls, "_fields"):
            defaults = [self._write(each) for each in cls._field_defaults.values()]
            told.update(kind="namedtuple", name=cls.__name__, fields=list(cls._fields), defaults=defaults)
            told["module"] = cls.__module__
            return
        try:
            import cloudpickle
        except ImportError:
            hint = "define it in a file, or install lokki-twingraph[processes]"
            raise Refused(cls, f"class {cls.__qualname__} has no source text that could be sent; {hint}") from None
        told.update(kind="cloudpickled", name=cls.__qualname__, python=_python())
        told["pickle"] = b64encode(cloudpickle.dumps(cls)).decode()

    # ---- modules

    def _module(self, module: ModuleType) -> Json:
        if not is_own(module.__name__):
            return self._import(module.__name__)
        return {"$ref": self._space(vars(module))}

    def _space(self, space: dict[str, Any]) -> int:
        """The module on the other side whose names these are."""

        def describe(_: Any, told: Json) -> None:
            name = space.get("__name__", "__main__")
            if is_library(name, space):
                told.update(kind="library", name=name)
                return
            package = space.get("__package__") or (name if "__path__" in space else name.rpartition(".")[0])
            told.update(kind="module", name=name, package=package, names={}, soft=[], holds="__path__" in space)
            told["dunders"] = {each: space[each] for each in _KEPT if isinstance(space.get(each), str)}
            parent = sys.modules.get(name.rpartition(".")[0])
            if parent is not None and is_own(parent.__name__) and is_own(name):
                self._reach(parent, (name.rpartition(".")[2],))

        index: int = self._add(space, describe)["$ref"]
        return index

    def _uses(self, space: dict[str, Any], used: list[str], owner: str, text: Text | None) -> None:
        """Send the globals that a function or class uses."""
        index = self._space(space)
        if self.listed[index]["kind"] == "library":
            return
        for name in used:
            if name in space:
                self._global(index, space, name, owner)
                if text and name in text.hints - text.needs - text.uses:
                    self.listed[index]["soft"].append(name)
            elif name == "namedtuple":
                self.listed[index]["names"][name] = {"$import": ["collections", "namedtuple"]}
        for chain in text.chains if text else ():
            if isinstance(held := space.get(chain[0]), ModuleType) and chain[0] in used:
                self._reach(held, chain[1:])
        for each in text.imports if text else ():
            self._imported(each, space, text)

    def _global(self, index: int, space: dict[str, Any], name: str, owner: str) -> None:
        names_there = self.listed[index]["names"]
        if name in names_there or (name.startswith("__") and name.endswith("__")):
            return
        names_there[name] = None
        value = space[name]
        if isinstance(value, ModuleType):
            names_there[name] = self._bound_module(value, space)
        else:
            plain = _imported_from(space, name, value)
            told = plain and self._import(*plain, value=value)
            names_there[name] = told or self.value(value, f"global {name!r} of {owner!r}")

    def _bound_module(self, module: ModuleType, space: dict[str, Any]) -> Json:
        """A module, and those of its parts that the same file imports: `import a.b` binds `a`."""
        told = self._module(module)
        start = module.__name__ + "."
        also = [each.module for each in imports_of(space.get("__file__") or "") if each.module.startswith(start)]
        if "$import" in told and (loaded := sorted({each for each in also if each in sys.modules})):
            told["$import"] += ["", loaded]
        return told

    def _reach(self, module: ModuleType, chain: tuple[str, ...]) -> None:
        """Send what is used as `module.name`."""
        if not chain or not is_own(module.__name__) or chain[0] not in vars(module):
            return
        self._global(self._space(vars(module)), vars(module), chain[0], module.__name__)
        if isinstance(inner := vars(module)[chain[0]], ModuleType):
            self._reach(inner, chain[1:])

    def _imported(self, told: Imported, space: dict[str, Any], text: Text | None) -> None:
        """Send what an import statement inside of a function takes from a module of one's own."""
        name = "." * told.level + told.module
        with suppress(ImportError, ValueError):
            if told.level:
                name = importlib.util.resolve_name(name, space.get("__package__") or "")
            spec = sys.modules.get(name) or importlib.util.find_spec(name)
            if spec is None or not is_own(name):
                self._import(name)
                return
            module = importlib.import_module(name)
            self._space(vars(module))
            bound: Any = module
            if told.attribute is not None:
                self._reach(module, (told.attribute,))
                bound = getattr(module, told.attribute, None)
            elif told.name == name.partition(".")[0]:
                bound = sys.modules[told.name]
            for chain in text.chains if text and isinstance(bound, ModuleType) else ():
                if chain[0] == told.name:
                    self._reach(bound, chain[1:])

    # ---- objects

    def _container(self, value: Any, told: Json) -> None:
        told.update(kind="value", value=self._write(value))

    def _object(self, value: Any, told: Json) -> None:
        """An object as what it takes to make it again, in the way of pickle."""
        try:
            reduce = copyreg.dispatch_table.get(type(value))
            made = reduce(value) if reduce else value.__reduce_ex__(2)
        except RecursionError:
            raise
        except Exception as error:  # it runs the methods of the user's object, which may raise anything
            raise Refused(value, f"{error}; make it inside of the function instead") from error
        if isinstance(made, str):  # the name of a global
            made = _typing(value) or made
        if isinstance(made, str):
            if is_own(value.__module__):
                raise Refused(value)
            told.update(kind="value", value={"$import": [value.__module__, made]})
            return
        make, args, state, items, pairs = (*made, None, None, None)[:5]
        told.update(kind="object", make=self._write(make), args=[self._write(each) for each in args])
        told.update(items=[self._write(each) for each in items or ()])
        told.update(pairs=[[self._write(each) for each in pair] for pair in pairs or ()])
        told["state"] = self._write(state)


def _typing(value: Any) -> tuple[Any, ...] | None:
    """How a type variable is made again; what it is bound to matters to type checkers only."""
    match value:
        case TypeVar():
            return TypeVar, (value.__name__, *value.__constraints__)
        case ParamSpec() | TypeVarTuple():
            return type(value), (value.__name__,)
        case NewType():
            return NewType, (value.__name__, value.__supertype__)
        case _:
            return None


def _method(fn: FunctionType) -> bool:
    """Whether a function is a method of a class, from which it is taken with what only the class gives it."""
    owner, _, name = fn.__qualname__.rpartition(".")
    cls = found(fn.__module__, owner) if owner and not owner.endswith("<locals>") else None
    return isinstance(cls, type) and vars(cls).get(name) is fn


def _imported_from(space: dict[str, Any], name: str, value: Any) -> tuple[str, str] | None:
    """What the file imported from a library under this name."""
    for each in imports_of(space.get("__file__") or ""):
        named = each.name == name and each.attribute and not each.level and not is_own(each.module)
        if named and getattr(sys.modules.get(each.module), str(each.attribute), None) is value:
            return each.module, str(each.attribute)
    return None


def _closures(cls: type, file: str) -> Iterator[tuple[str, Any]]:
    """What the methods of a class that was defined inside of a function use of that function."""
    for each in vars(cls).values():
        inner = function_in(each)
        if isinstance(inner, FunctionType) and inner.__code__.co_filename == file:
            for name, cell in zip(inner.__code__.co_freevars, inner.__closure__ or (), strict=True):
                if name != "__class__":
                    with suppress(ValueError):
                        yield name, cell.cell_contents


def _data(values: dict[str, Any]) -> Json:
    """The attributes of a function that are data."""

    def refuse(value: Any) -> Any:
        raise Refused(value)

    kept = {}
    for name, value in values.items():
        with suppress(Refused):
            kept[name] = Writing(refuse, refuse)(value)
    return kept


def _pickled(value: Any) -> str:
    import pickle

    try:
        return b64encode(pickle.dumps(value, 4)).decode()
    except Exception as error:
        raise Refused(value, str(error)) from error


def _python() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"
