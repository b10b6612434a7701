"""What runs a call in a foreign process: it opens an envelope, calls the function, and writes an answer.

It is one file of the standard library's means, for Python 3.8 and newer, because it is sent to wherever the call runs.
An envelope and an answer are JSON. What JSON has no word for is an object with one key that starts with "$" (`Writing`,
`Reading`); the function and all that it uses is a list of definitions (`Definitions`).

    worker.py ENVELOPE ANSWER    each is a path, a URL (got; the answer is put), or "-"
    worker.py --serve            frames of a length and a body: envelopes on stdin, answers on stdout
    lambda_handler               for AWS Lambda

The exit code is 0 whenever an answer was written, also when it tells of an error. stdout and stderr are the log of the
function: a line that begins with the unit separator and a letter has that level. An answer to "-" goes into that log,
in lines that begin with the record separator and the id of the call.
"""

# ruff: noqa: UP031, UP035 - it runs on older Pythons
from __future__ import annotations

import ast
import base64
import builtins
import importlib
import io
import itertools
import json
import linecache
import logging
import math
import os
import select
import signal
import struct
import sys
import threading
import time
import traceback
import types
import zlib
from contextlib import contextmanager, suppress
from typing import Any, Callable, Iterator, Mapping

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

FORMAT = 1
LEVELS = {"D": "debug", "I": "info", "W": "warning", "E": "error", "C": "critical"}
_TRACE = 8000  # characters of a traceback that are told from its beginning, and as many from its end
_MESSAGE = 20000
_GROUP = 100  # exceptions of a group
_LINE = 3000  # of an answer in a log; lines of less than 4096 bytes are written in one piece
_INLINE = 5500000  # bytes of an answer that Lambda returns itself
_SAME = {type(None), bool, str, int}
_PLAIN = _SAME | {float}


# ---- values


class Refused(TypeError):
    """A value that cannot be written as data; `path` says where in the whole it is."""

    def __init__(self, value: Any, why: str = "") -> None:
        super().__init__(why)
        self.kind = type(value).__name__
        self.why = why
        self.path = ""


class Writing:
    """Values as JSON. `klass` writes a class and `other` writes what is not data; both may refuse."""

    def __init__(self, klass: Callable[[type], Any], other: Callable[[Any], Any]) -> None:
        self.klass = klass
        self.other = other

    def __call__(self, value: Any) -> Any:
        kind = type(value)
        if kind in _SAME:
            return value
        if kind is float:
            return value if value - value == 0 else {"$float": repr(value)}
        if kind is list:
            return self._list(value)
        if kind is dict:
            return self._dict(value)
        if kind in (tuple, set, frozenset):
            return {"$" + kind.__name__: self._list(list(value))}
        if kind.__module__ == "collections" and kind.__name__ in _COLLECTIONS:
            return self._collection(value, kind.__name__)
        tagged = _data(value, kind)
        return self._kept(value, kind) if tagged is None else tagged

    def _list(self, values: list[Any]) -> list[Any]:
        kinds = set(map(type, values))
        if kinds <= _SAME or (kinds == {float} and all(map(math.isfinite, values))):
            return list(values)  # it may change before it is sent
        if kinds == {dict} and _flat(values) and all(map(math.isfinite, _floats(values))):
            return list(map(dict, values))
        return [self._at(index, each) for index, each in enumerate(values)]

    def _dict(self, values: dict[Any, Any]) -> Any:
        if all(type(key) is str and not key.startswith("$") for key in values):
            return {key: self._at(key, each) for key, each in values.items()}
        return {"$dict": [[self(key), self._at(key, each)] for key, each in values.items()]}

    def _collection(self, value: Any, name: str) -> dict[str, Any]:
        if name == "deque":
            return {"$collection": [name, self._list(list(value)), value.maxlen]}
        make = getattr(value, "default_factory", None)
        pairs = [[self(key), self._at(key, each)] for key, each in value.items()]
        return {"$collection": [name, pairs, make if make is None else self.klass(make)]}

    def _at(self, key: Any, value: Any) -> Any:
        try:
            return self(value)
        except Refused as refused:
            refused.path = "[%r]" % (key,) + refused.path
            raise

    def _kept(self, value: Any, kind: type) -> Any:
        if isinstance(value, _enum().Enum):
            return {"$enum": [self.klass(kind), value.name, self(value.value)]}
        if isinstance(value, tuple) and hasattr(kind, "_fields"):
            fields: Any = kind._fields
            return {"$namedtuple": [self.klass(kind), kind.__name__, list(fields), self._list(list(value))]}
        if "__dataclass_fields__" in dir(kind) and not isinstance(value, type):
            fields = {name: self._attribute(name, value) for name in kind.__dataclass_fields__ if hasattr(value, name)}  # type: ignore[attr-defined]
            return {"$dataclass": [self.klass(kind), kind.__name__, fields]}
        return self.other(value)

    def _attribute(self, name: str, value: Any) -> Any:
        try:
            return self(getattr(value, name))
        except Refused as refused:
            refused.path = "." + name + refused.path
            raise


class Reading:
    """What `Writing` wrote. `find` gives what a reference stands for; None for a class that is not to be had."""

    def __init__(self, find: Callable[[dict[str, Any]], Any], pickles: bool = False) -> None:
        self.find = find
        self.pickles = pickles

    def __call__(self, value: Any) -> Any:
        if type(value) is list:
            kinds = set(map(type, value))
            if (dict not in kinds and list not in kinds) or (kinds == {dict} and _flat(value)):
                return value
            return [self(each) for each in value]
        if type(value) is not dict:
            return value
        if len(value) == 1:
            ((tag, held),) = value.items()
            if tag.startswith("$"):
                return self._tagged(tag, held)
        return {key: self(each) for key, each in value.items()}

    def _tagged(self, tag: str, held: Any) -> Any:
        if tag in ("$ref", "$import"):
            return self.find({tag: held})
        if tag in _CONTAINERS:
            return _CONTAINERS[tag](self(held))
        if tag == "$dict":
            return {self(key): self(each) for key, each in held}
        if tag in _READERS:
            return _READERS[tag](held)
        if tag in ("$enum", "$namedtuple", "$dataclass", "$collection"):
            return getattr(self, "_" + tag[1:])(*held)
        if tag == "$pandas":
            return _from_pandas(held, self.pickles)
        if tag == "$pickle" and self.pickles:
            return _unpickled(held)
        raise ValueError("an unknown kind of value, " + tag)

    def _collection(self, name: str, values: Any, more: Any) -> Any:
        kind = getattr(importlib.import_module("collections"), name)
        if name == "deque":
            return kind(self(values), more)
        pairs = [(self(key), self(each)) for key, each in values]
        return kind(more and self.find(more), pairs) if name == "defaultdict" else kind(dict(pairs))

    def _enum(self, kind: Any, name: Any, value: Any) -> Any:
        found: Any = self.find(kind)
        if not isinstance(found, type) or not issubclass(found, _enum().Enum):
            return self(value)
        members: dict[str, Any] = getattr(found, "__members__", {})
        return members[name] if name in members else found(self(value))

    def _namedtuple(self, kind: Any, name: str, fields: list[str], values: list[Any]) -> Any:
        found: Any = self.find(kind)
        if list(getattr(found, "_fields", ())) != fields or not issubclass(found, tuple):
            import collections

            found = getattr(collections, "namedtuple")(name, fields)  # noqa: B009 - the type checker wants literals
        return found._make(self(values))

    def _dataclass(self, kind: Any, name: str, fields: dict[str, Any]) -> Any:
        found: Any = self.find(kind)
        if not isinstance(found, type) or not hasattr(found, "__dataclass_fields__"):
            import dataclasses

            found = dataclasses.make_dataclass(name, list(fields))
        made: Any = object.__new__(found)
        for each, value in fields.items():
            object.__setattr__(made, each, self(value))
        return made


def _flat(rows: list[dict[Any, Any]]) -> bool:
    """Whether JSON has these dicts as they are, but for numbers that are none; it is told without looking at each."""
    if not set(map(type, itertools.chain.from_iterable(map(dict.values, rows)))) <= _PLAIN:
        return False
    return all(type(key) is str and not key.startswith("$") for key in set(itertools.chain.from_iterable(rows)))


def _floats(rows: list[dict[Any, Any]]) -> list[float]:
    return [each for row in rows for each in row.values() if type(each) is float]


def _enum() -> Any:
    import enum

    return enum


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _data(value: Any, kind: type) -> dict[str, Any] | None:
    """Values of known types, as JSON; None for others. A type of a library is looked up by its name."""
    writer = _WRITERS.get(kind.__module__.partition(".")[0] + "." + kind.__name__)
    return writer(value) if writer else None


def _zoned(value: Any) -> dict[str, Any]:
    return {"$datetime": [value.isoformat(), getattr(value.tzinfo, "key", None), value.fold]}


def _from_zoned(held: list[Any]) -> Any:
    from datetime import datetime

    made = datetime.fromisoformat(held[0]).replace(fold=held[2])
    if held[1] is None:
        return made
    from zoneinfo import ZoneInfo

    return made.replace(tzinfo=ZoneInfo(held[1]))


def _array(value: Any) -> dict[str, Any]:
    if value.dtype.hasobject:
        raise Refused(value, "it is an array of Python objects")
    buffer = io.BytesIO()
    sys.modules["numpy"].save(buffer, value, allow_pickle=False)
    return {"$ndarray": _text(buffer.getvalue())}


def _from_array(held: str) -> Any:
    numpy = importlib.import_module("numpy")

    return numpy.load(io.BytesIO(base64.b64decode(held)), allow_pickle=False)


def _from_scalar(held: list[str]) -> Any:
    numpy = importlib.import_module("numpy")

    return numpy.frombuffer(base64.b64decode(held[1]), numpy.dtype(held[0]))[0]


def _pickled(value: Any) -> str:
    import pickle

    return _text(pickle.dumps(value, 4))


def _unpickled(held: str) -> Any:
    import pickle

    return pickle.loads(base64.b64decode(held))


def _from_pandas(held: list[str], pickles: bool) -> Any:
    pandas = importlib.import_module("pandas")
    try:
        return _unpickled(held[1]) if pickles else _frames()(io.BytesIO(base64.b64decode(held[1]))).load()
    except Exception as error:
        versions = (held[0], pandas.__version__, error)
        raise TypeError("a frame that pandas %s wrote cannot be read by pandas %s: %s" % versions) from error


def _frames() -> Any:
    """What reads pickles of frames: of pandas and numpy, and of what columns hold, and nothing that does anything."""
    import pickle

    class Frames(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) == ("builtins", "getattr"):
                return _of_a_zone
            if (module, name) == ("pyarrow.lib", "_restore_array"):
                return _of_buffers
            if name in _IN_FRAMES.get(module, ()) or (module.partition(".")[0] == "pandas" and name in _PANDAS):
                return super().find_class(module, name)
            found = super().find_class(module, name) if module.startswith(_FRAMES) and "." not in name else None
            if getattr(found, "__module__", None) == module:  # and not something that is only used there
                return found
            raise pickle.UnpicklingError("it holds %s.%s, which is no data" % (module, name))

    return Frames


def _of_a_zone(zone: Any, name: str) -> Any:
    """How a pickle gets at the method that makes a time zone."""
    if zone.__module__ != "zoneinfo" or name != "_unpickle":
        raise TypeError("it is no frame")
    return getattr(zone, name)


def _of_buffers(told: Any) -> Any:
    """An array of Arrow's, which reads where its buffers say: nothing is done with one before it was looked through."""
    made = getattr(importlib.import_module("pyarrow.lib"), "_restore_array")(told)  # noqa: B009 - it has no types
    made.validate(full=True)
    return made


_FRAMES = (
    "pandas.core.frame", "pandas.core.series", "pandas.core.internals.", "pandas.core.indexes.", "pandas.core.arrays.",
    "pandas.core.dtypes.", "pandas._libs.internals", "pandas._libs.arrays", "pandas._libs.tslibs.",
    "pandas._libs.interval", "pandas._libs.missing", "pandas._libs.sparse",
)  # fmt: skip
_PANDAS = (
    "DataFrame", "Series", "Index", "RangeIndex", "MultiIndex", "DatetimeIndex", "TimedeltaIndex", "PeriodIndex",
    "IntervalIndex", "CategoricalIndex", "Timestamp", "Timedelta", "Period", "Interval", "Categorical", "NaT", "NA",
    "CategoricalDtype", "DatetimeTZDtype", "IntervalDtype", "PeriodDtype", "SparseDtype", "StringDtype", "BooleanDtype",
    "Int8Dtype", "Int16Dtype", "Int32Dtype", "Int64Dtype", "UInt8Dtype", "UInt16Dtype", "UInt32Dtype", "UInt64Dtype",
    "Float32Dtype", "Float64Dtype", "DatetimeArray", "TimedeltaArray", "PeriodArray", "IntervalArray", "SparseArray",
    "StringArray", "BooleanArray", "IntegerArray", "FloatingArray", "NumpyExtensionArray", "ArrowDtype",
    "ArrowStringArray", "ArrowExtensionArray",
)  # fmt: skip
_ARROW = (
    "type_for_alias", "py_buffer", "chunked_array", "field", "list_", "large_list", "struct", "map_", "dictionary",
    "timestamp", "time32", "time64", "duration", "binary", "decimal128", "decimal256",
)  # fmt: skip
_NUMPY = ("_reconstruct", "scalar", "_frombuffer")
_IN_FRAMES = {
    "builtins": ("slice", "set", "frozenset", "bytearray", "complex", "range", "object"),
    "copyreg": ("_reconstructor",),
    "datetime": ("date", "datetime", "time", "timedelta", "timezone"),
    "decimal": ("Decimal",),
    "uuid": ("UUID",),
    "zoneinfo": ("ZoneInfo",),
    "pytz": ("_UTC", "_p"),
    "dateutil.tz.tz": ("tzutc", "tzlocal", "tzoffset"),
    "numpy": ("ndarray", "dtype"),
    "pyarrow.lib": _ARROW,
    "numpy.core.multiarray": _NUMPY,
    "numpy._core.multiarray": _NUMPY,
    "numpy.core.numeric": _NUMPY,
    "numpy._core.numeric": _NUMPY,
}


def _polars(value: Any) -> dict[str, Any]:
    buffer = io.BytesIO()
    name = type(value).__name__
    frame = value if name == "DataFrame" else value.to_frame() if name == "Series" else value.collect()
    try:
        frame.write_ipc(buffer, compression="zstd")  # it costs less than to write out what it saves
    except Exception as error:
        raise Refused(value, str(error)) from error
    return {"$polars": [name, _text(buffer.getvalue())]}


def _from_polars(held: list[str]) -> Any:
    polars = importlib.import_module("polars")

    frame = polars.read_ipc(io.BytesIO(base64.b64decode(held[1])))
    return frame.to_series() if held[0] == "Series" else frame.lazy() if held[0] == "LazyFrame" else frame


def _arrow(value: Any) -> dict[str, Any]:
    pyarrow = importlib.import_module("pyarrow")

    buffer = io.BytesIO()
    packing = pyarrow.ipc.IpcWriteOptions(compression="zstd" if pyarrow.Codec.is_available("zstd") else None)
    with pyarrow.ipc.new_stream(buffer, value.schema, options=packing) as stream:
        stream.write_table(value)
    return {"$arrow": _text(buffer.getvalue())}


def _from_arrow(held: str) -> Any:
    pyarrow = importlib.import_module("pyarrow")

    made = pyarrow.ipc.open_stream(base64.b64decode(held)).read_all()
    made.validate(full=True)  # as `_of_buffers` does
    return made


def _made(module: str, name: str) -> Callable[[Any], Any]:
    """A reader that calls a type of the standard library; one that is imported when it is needed."""

    def make(held: Any) -> Any:
        kind = getattr(importlib.import_module(module), name)
        return kind(*held) if isinstance(held, list) else kind(held)

    return make


def _iso(name: str) -> Callable[[str], Any]:
    return lambda held: getattr(importlib.import_module("datetime"), name).fromisoformat(held)


_WRITERS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "builtins.bytes": lambda value: {"$bytes": _text(value)},
    "builtins.bytearray": lambda value: {"$bytearray": _text(bytes(value))},
    "builtins.complex": lambda value: {"$complex": [repr(value.real), repr(value.imag)]},
    "builtins.range": lambda value: {"$range": [value.start, value.stop, value.step]},
    "datetime.datetime": _zoned,
    "datetime.date": lambda value: {"$date": value.isoformat()},
    "datetime.time": lambda value: {"$time": [value.isoformat(), value.fold]},
    "datetime.timedelta": lambda value: {"$timedelta": [value.days, value.seconds, value.microseconds]},
    "decimal.Decimal": lambda value: {"$decimal": str(value)},
    "fractions.Fraction": lambda value: {"$fraction": [value.numerator, value.denominator]},
    "uuid.UUID": lambda value: {"$uuid": str(value)},
    "numpy.ndarray": _array,
    "pandas.DataFrame": lambda value: {"$pandas": [sys.modules["pandas"].__version__, _pickled(value)]},
    "pandas.Series": lambda value: {"$pandas": [sys.modules["pandas"].__version__, _pickled(value)]},
    "pandas.Timestamp": lambda value: {"$pandas": [sys.modules["pandas"].__version__, _pickled(value)]},
    "polars.DataFrame": _polars,
    "polars.LazyFrame": _polars,
    "polars.Series": _polars,
    "pyarrow.Table": _arrow,
}
for _name in ("PosixPath", "WindowsPath"):
    _WRITERS["pathlib." + _name] = lambda value: {"$path": str(value)}
for _name in [
    "bool",
    "bool_",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
    "complex64",
]:
    _WRITERS["numpy." + _name] = lambda value: {"$npscalar": [value.dtype.str, _text(value.tobytes())]}
for _name in ("complex128", "datetime64", "timedelta64"):
    _WRITERS["numpy." + _name] = _WRITERS["numpy.int64"]

_COLLECTIONS = ("OrderedDict", "Counter", "defaultdict", "deque")
_CONTAINERS: dict[str, Callable[[Any], Any]] = {"$tuple": tuple, "$set": set, "$frozenset": frozenset}
_READERS: dict[str, Callable[[Any], Any]] = {
    "$float": float,
    "$bytes": base64.b64decode,
    "$bytearray": lambda held: bytearray(base64.b64decode(held)),
    "$complex": lambda held: complex(float(held[0]), float(held[1])),
    "$range": lambda held: range(*held),
    "$datetime": _from_zoned,
    "$date": _iso("date"),
    "$time": lambda held: _iso("time")(held[0]).replace(fold=held[1]),
    "$timedelta": _made("datetime", "timedelta"),
    "$decimal": _made("decimal", "Decimal"),
    "$fraction": _made("fractions", "Fraction"),
    "$uuid": _made("uuid", "UUID"),
    "$path": _made("pathlib", "Path"),
    "$ndarray": _from_array,
    "$npscalar": _from_scalar,
    "$polars": _from_polars,
    "$arrow": _from_arrow,
}


# ---- functions, and what they use


class Definitions:
    """What travelled with a call, made anew: modules, functions, cells, classes and objects, each when it is needed."""

    def __init__(self, listed: list[dict[str, Any]], pickles: bool) -> None:
        self.listed = listed
        self.made: dict[int, Any] = {}
        self.making: set[int] = set()
        self.readied: set[int] = set()
        self.read = Reading(self._find, pickles)
        self.modules = {each["name"]: self._get(index) for index, each in enumerate(listed) if each["kind"] == "module"}

    def fill(self) -> None:
        """Give every module its names."""
        for index, each in enumerate(self.listed):
            if each["kind"] == "module":
                for name in each["names"]:
                    self._name(index, name)

    def _find(self, reference: dict[str, Any]) -> Any:
        return self._get(reference["$ref"]) if "$ref" in reference else _imported(*reference["$import"])

    def _get(self, index: int) -> Any:
        if index not in self.made:
            if index in self.making:
                raise _Unfinished
            self.making.add(index)
            try:
                made = getattr(self, "_" + self.listed[index]["kind"])(self.listed[index], index)
            finally:
                self.making.discard(index)
            self.made[index] = made
            self._ready(index)
        return self.made[index]

    def _ready(self, index: int) -> None:
        """See to it that the globals which a function or class uses are there."""
        told = self.listed[index]
        for name in told.get("uses", ()):
            with suppress(_Unfinished):
                self._name(told["module"], name)
        finish = getattr(self, "_finish_" + told["kind"], None)
        if finish is not None:
            finish(told, self.made[index])

    def _name(self, module: int, name: str) -> None:
        space = vars(self._get(module))
        told = self.listed[module].get("names", ())  # a library has its own
        if name in told and name not in space:
            try:
                space[name] = self.read(told[name])
            except ImportError:
                if name not in self.listed[module]["soft"]:
                    raise

    def _module(self, told: dict[str, Any], _: int) -> types.ModuleType:
        made = types.ModuleType(told["name"])
        vars(made).update(__builtins__=__builtins__, __package__=told["package"], **told["dunders"])
        if told["holds"]:
            made.__path__ = []
        return made

    def _library(self, told: dict[str, Any], _: int) -> types.ModuleType:
        return importlib.import_module(told["name"])

    def _function(self, told: dict[str, Any], _: int) -> types.FunctionType:
        code = _marshalled(told) if "code" in told else _compiled(told)
        cells = {name: self._get(index) for name, index in told["cells"].items()}
        closure = tuple(cells.get(name) or types.CellType() for name in code.co_freevars)
        made = types.FunctionType(code, vars(self._get(told["module"])), told["name"], None, closure)
        made.__qualname__ = told["qualname"]
        made.__module__ = self.listed[told["module"]]["name"]
        return made

    def _finish_function(self, told: dict[str, Any], made: Any) -> None:
        defaults = self.read(told["defaults"])
        made.__defaults__ = None if defaults is None else tuple(defaults)
        made.__kwdefaults__ = self.read(told["kwdefaults"])
        made.__dict__.update(self.read(told["dict"]))
        for index in told["cells"].values():
            self._fill_cell(index)

    def _cell(self, told: dict[str, Any], index: int) -> Any:
        return types.CellType()

    def _fill_cell(self, index: int) -> None:
        if "value" in self.listed[index] and index not in self.readied:
            self.readied.add(index)
            self.made[index].cell_contents = self.read(self.listed[index]["value"])

    def _class(self, told: dict[str, Any], _: int) -> Any:
        for name in told["needs"]:
            self._name(told["module"], name)
        space = vars(self._get(told["module"]))
        local = {name: self.read(each) for name, each in told["locals"].items()}
        exec(_class_factory(told, list(local)), space)  # noqa: S102 - the code of the component
        made = space.pop(_FACTORY)(*local.values())
        made.__qualname__ = told["qualname"]
        if "run" in (told["keeps"] or ()) and "__call__" not in vars(made):  # what all components that are classes are
            made.__call__ = lambda self, *args, **kwargs: Component(self.run)(*args, **kwargs)
        return made

    def _cloudpickled(self, told: dict[str, Any], _: int) -> Any:
        _same_python(told)
        return _unpickled(told["pickle"])

    def _namedtuple(self, told: dict[str, Any], _: int) -> Any:
        from collections import namedtuple

        defaults = self.read(told["defaults"])
        return namedtuple(told["name"], told["fields"], defaults=defaults, module=told["module"])

    def _cached(self, told: dict[str, Any], _: int) -> Any:
        import functools

        return functools.lru_cache(told["maxsize"], told["typed"])(self.read(told["function"]))

    def _decorator(self, told: dict[str, Any], _: int) -> Any:
        return _decorating(Component if told["name"] == "component" else _as_it_is)

    def _component(self, told: dict[str, Any], _: int) -> Any:
        return Component(self.read(told["function"]))

    def _value(self, told: dict[str, Any], _: int) -> Any:
        return self.read(told["value"])

    def _object(self, told: dict[str, Any], _: int) -> Any:
        return self.read(told["make"])(*self.read(told["args"]))

    def _finish_object(self, told: dict[str, Any], made: Any) -> None:
        for each in self.read(told["items"]):
            made.append(each)
        for key, each in self.read(told["pairs"]):
            made[key] = each
        state = self.read(told["state"])
        if state is None:
            return
        if hasattr(made, "__setstate__"):
            made.__setstate__(state)
            return
        attributes, slots = state if isinstance(state, tuple) else (state, None)
        for held in (attributes, slots):
            for name, each in (held or {}).items():
                object.__setattr__(made, name, each)


# ---- components that the function calls: they run in this process, and give what they give at home


class Component:
    """A component: its function, whose value comes as a result."""

    def __init__(self, fn: Any) -> None:
        self.fn = fn
        self.__name__ = getattr(fn, "__name__", "component")

    def __call__(self, /, *args: Any, **kwargs: Any) -> Result:
        code = getattr(self.fn, "__code__", None)
        own = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] if code else ()
        named = {name: _filled(each) for name, each in kwargs.items() if name in own or name not in _PARENTS}
        return Result(_settled(self.fn(*map(_filled, args), **named)))

    submit = __call__

    def __get__(self, instance: Any, owner: Any = None) -> Component:
        return self if instance is None else Component(self.fn.__get__(instance, owner))

    def map(self, items: Any, /, **kwargs: Any) -> list[Result]:
        return [self(each, **kwargs) for each in items]


def _as_it_is(fn: Any) -> Any:
    return fn


def _decorating(make: Callable[[Any], Any]) -> Any:
    """A decorator, as it is and with arguments, which say nothing where everything runs in this process."""
    return lambda fn=None, **_: make if fn is None else make(fn)


class Outputs(dict):  # type: ignore[type-arg]  # Python 3.8 has no dict[...] at this place
    """What a component gave, by name; also as attributes."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]


class Result(dict):  # type: ignore[type-arg]
    """What a call of a component gave: `outputs`, `hash` and `status`, and each output by its name."""

    done, error = True, None

    def __init__(self, value: Any) -> None:
        self.value: Any = value.value if isinstance(value, Result) else value
        self.outputs = Outputs(_by_name(self.value))
        self.hash, self.status = os.urandom(32).hex(), "completed"
        super().__init__(outputs=self.outputs, hash=self.hash, status=self.status)

    def __missing__(self, name: str) -> Any:
        return self.outputs[name]

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name, self.outputs.get(name, default))

    def wait(self) -> Result:
        return self


_PARENTS = ("parent_hash", "parent_hashes")


def _by_name(value: Any) -> dict[str, Any]:
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return dict(getattr(value, "_asdict")())  # noqa: B009 - the type checker knows it as a tuple
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return dict(value)
    if hasattr(type(value), "__dataclass_fields__"):
        return {name: getattr(value, name) for name in type(value).__dataclass_fields__}
    return {"result": value}


def _filled(value: Any) -> Any:
    kind = type(value)
    if kind is list or kind is tuple:
        return kind(each.value if isinstance(each, Result) else each for each in value)
    if kind is dict:
        return {name: each.value if isinstance(each, Result) else each for name, each in value.items()}
    return value.value if kind is Result else value


class _Unfinished(Exception):
    """A class that is being made is asked for."""


_FACTORY = "__twingraph_factory__"


def _imported(name: str, attribute: str = "", also: list[str] | None = None) -> Any:
    for each in (name, *(also or ())):
        importlib.import_module(each)
    found = sys.modules[name]
    for part in attribute.split(".") if attribute else ():
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ImportError("%s has no %s" % (name, attribute)) from None
    return found


def _parsed(told: dict[str, Any]) -> Any:
    """The definition in its text, with the line numbers that it has in its file."""
    text, line = told["text"], told["line"]
    _show(told["file"], line, text)
    indented = line > 1 and text[:1] in " \t"
    text = "\n" * (line - 2) + "if 1:\n" + text if indented else "\n" * (line - 1) + text
    try:
        tree = ast.parse(text, told["file"])
    except SyntaxError as error:
        version = "%d.%d" % sys.version_info[:2]
        words = (told["name"], version, error.msg)
        raise SyntaxError("%r cannot be read by Python %s: %s" % words, error.args[1]) from None
    first = tree.body[0]
    return first.body[0] if indented else first


def _show(file: str, line: int, text: str) -> None:
    """Let tracebacks show the lines of this text where the file itself is not."""
    if os.path.exists(file):
        return
    known = linecache.cache.get(file)
    lines = list(known[2]) if known else []  # type: ignore[misc]
    new = text.splitlines(True)
    lines.extend(["\n"] * (line - 1 + len(new) - len(lines)))
    lines[line - 1 : line - 1 + len(new)] = new
    linecache.cache[file] = (sum(map(len, lines)), None, lines, file)


def _compiled(told: dict[str, Any]) -> types.CodeType:
    """The code of a function, inside of one that has its free variables."""
    if told["lambda"]:
        shift = told["line"] - 1
        body: Any = ast.parse("\n" * shift + "(" + told["text"] + "\n)", told["file"]).body[0]
        _show(told["file"], told["line"], told["text"])
        body = ast.copy_location(ast.Return(body.value), body)
        _undefault(body.value)
    else:
        body = _parsed(told)
        body.decorator_list = []
        _undefault(body)
    return _inner(_factory(told, [body], list(told["cells"])), told["code_name"])


def _undefault(node: Any) -> None:
    """Default values travel as values, so their text is not looked at."""
    empty = ast.copy_location(ast.Constant(None), node)
    node.args.defaults = [empty for _ in node.args.defaults]
    node.args.kw_defaults = [each and empty for each in node.args.kw_defaults]


def _factory(told: dict[str, Any], body: list[Any], names: list[str]) -> types.CodeType:
    """The code of a module that defines a function with these parameters and this body."""
    shell: Any = ast.parse("def %s(%s): pass" % (_FACTORY, ", ".join(names)))
    outer = [told["name_in_text"]] if told.get("name_in_text") else []
    shell.body[0].body = [ast.Global(outer)] * bool(outer) + body  # it is no variable of this one to its own body
    ast.fix_missing_locations(shell)
    made: types.CodeType = compile(shell, told["file"], "exec", _annotations(), True)
    return made


def _annotations() -> int:
    import __future__

    return __future__.annotations.compiler_flag


def _inner(code: types.CodeType, name: str) -> types.CodeType:
    factory = next(each for each in code.co_consts if isinstance(each, types.CodeType))
    found = [each for each in factory.co_consts if isinstance(each, types.CodeType) and each.co_name == name]
    return found[-1]


def _class_factory(told: dict[str, Any], names: list[str]) -> types.CodeType:
    node = _parsed(told)
    if told["keeps"] is not None:
        node.body = [each for each in node.body if getattr(each, "name", "") in told["keeps"]] or [ast.Pass()]
    back: Any = ast.copy_location(ast.Return(ast.copy_location(ast.Name(told["name"], ast.Load()), node)), node)
    return _factory(told, [node, back], names)


def _marshalled(told: dict[str, Any]) -> types.CodeType:
    import marshal

    _same_python(told)
    made: types.CodeType = marshal.loads(base64.b64decode(told["code"]))  # noqa: S302 - the code of the component
    return made


def _same_python(told: dict[str, Any]) -> None:
    here = "%d.%d" % sys.version_info[:2]
    if told["python"] != here:
        words = (told["name"], told["python"], here, told["python"])
        raise Untravelled(
            "%r has no source text that could be sent, only code of Python %s, and this is Python %s: "
            "define it in a file, or run it with Python %s" % words
        )


class Untravelled(Exception):
    """Something could not be taken out of the envelope, or put into the answer."""


# ---- the call


def answer(envelope: bytes) -> bytes:
    """Run the call in an envelope; what became of it."""
    return json.dumps(_answered(json.loads(envelope))).encode("ascii")


def _answered(told: dict[str, Any]) -> dict[str, Any]:
    _forget_peak()
    before = _cpu()
    try:
        with _surroundings(told):
            said = {"value": _called(told)}
    except BaseException as error:  # noqa: BLE001 - whatever a component raises is its answer
        said = {"error": _told(error)}
    usage = {"cpu_seconds": _cpu() - before, "peak_memory_bytes": _peak()}
    python = ".".join(map(str, sys.version_info[:3]))
    return {"twingraph": FORMAT, "id": told["id"], "python": python, "usage": usage, **said}


def _called(told: dict[str, Any]) -> Any:
    definitions = Definitions(told["definitions"], told["pickle"])
    with _modules(definitions.modules):
        try:
            definitions.fill()
            function = definitions.read(told["function"])
            args, kwargs = definitions.read(told["args"]), definitions.read(told["kwargs"])
        except ImportError as error:
            words = (error, told["component"], "%d.%d" % sys.version_info[:2])
            text = "%s; component %r needs it where it runs, on Python %s" % words
            if told.get("needs") and (error.name or "").partition(".")[0] in ("lokki", "twingraph"):
                text += ": " + told["needs"]
            raise type(error)(text, name=error.name) from None
        return _written(_settled(function(*args, **kwargs)), told)


def _settled(value: Any) -> Any:
    """What the function returned, as data: what is awaitable is awaited, and what yields becomes a list."""
    if hasattr(value, "__await__"):
        return _settled(_awaited(value))
    if hasattr(type(value), "__anext__"):
        return _awaited(_listed(value))
    return list(value) if hasattr(type(value), "__next__") and not isinstance(value, io.IOBase) else value


async def _listed(value: Any) -> list[Any]:
    return [each async for each in value]


def _awaited(value: Any) -> Any:
    import asyncio

    async def wait() -> Any:
        return await value

    return asyncio.run(wait())


def _written(value: Any, told: dict[str, Any]) -> Any:
    def klass(kind: type) -> dict[str, Any]:
        return {"$import": [kind.__module__, kind.__qualname__]}

    def other(each: Any) -> Any:
        if isinstance(each, (Result, Outputs)):
            return writing(each.value if isinstance(each, Result) else dict(each))
        if not told["pickle"]:
            raise Refused(each)
        try:
            return {"$pickle": _pickled(each)}
        except Exception as error:
            raise Refused(each, str(error)) from error

    writing = Writing(klass, other)
    try:
        return writing(value)
    except Refused as refused:
        hint = "" if told["pickle"] else ", or let it be pickled with config={'pickle': True}"
        why = " (%s)" % refused.why if refused.why else ""
        words = (refused.path and " at " + refused.path, refused.kind, why, hint)
        raise Untravelled("what it returns has%s a value of type %s, which cannot be sent back%s: return plain data%s"
                          % words) from None  # fmt: skip


def _told(error: BaseException) -> dict[str, Any]:
    """An exception, so that another Python can make it again."""
    kind = type(error)
    args, state = _parts(error)
    return {
        "module": kind.__module__,
        "qualname": kind.__qualname__,
        "names": [name for each in kind.__mro__ for name in (each.__name__, each.__module__ + "." + each.__qualname__)],
        "untravelled": isinstance(error, Untravelled),
        "exception": isinstance(error, Exception),
        "message": _message(error),
        "args": _plainly(args),
        "group": [_told(each) for each in getattr(error, "exceptions", ())] if _is_group(error) else None,
        "state": _plainly({key: each for key, each in state.items() if key != "__notes__"}),
        "notes": [str(each) for each in getattr(error, "__notes__", ())],
        "traceback": _trace(error),
    }


def _is_group(error: BaseException) -> bool:
    kind: Any = getattr(builtins, "BaseExceptionGroup", ())  # since Python 3.11
    return isinstance(error, kind) and len(error.exceptions) <= _GROUP


def _parts(error: BaseException) -> tuple[list[Any], dict[str, Any]]:
    """What it takes to make an exception again; of some, such as `OSError`, that is more than their arguments."""
    with suppress(Exception):
        parts: Any = error.__reduce__()
        kind, args, *state = parts
        if kind is type(error):
            return list(args), dict(state[0]) if state and state[0] else {}
    return list(error.args), dict(vars(error))


def _message(error: BaseException) -> str:
    try:
        return str(error)[:_MESSAGE]
    except Exception:  # noqa: BLE001 - it is the user's code
        return "(its message cannot be shown)"


def _plainly(value: Any) -> Any:
    def klass(kind: type) -> dict[str, Any]:
        return {"$import": [kind.__module__, kind.__qualname__]}

    def other(each: Any) -> Any:
        raise Refused(each)

    try:
        return Writing(klass, other)(value)
    except Exception:  # noqa: BLE001 - the message must do
        return None


def _trace(error: BaseException) -> str:
    told = traceback.TracebackException.from_exception(error)
    seen: Any = told
    while seen is not None:
        frames = [frame for frame in seen.stack if frame.filename != _told.__code__.co_filename]
        seen.stack[:] = frames
        seen = seen.__cause__ or seen.__context__
    text = "".join(told.format())
    return text if len(text) <= 2 * _TRACE else text[:_TRACE] + "\n[...]\n" + text[-_TRACE:]


def _cpu() -> float:
    if resource is None:
        return time.process_time()
    used = [resource.getrusage(each) for each in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _peak() -> int:
    """The most memory that this process had since `_forget_peak`."""
    with suppress(OSError, ValueError), open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if resource is None:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _forget_peak() -> None:
    with suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


# ---- where the call runs


@contextmanager
def _surroundings(told: dict[str, Any]) -> Iterator[None]:
    """The call's environment and log, for as long as it runs."""
    environment, folder, path = dict(os.environ), _folder(), list(sys.path)
    os.environ.update(told["environment"])
    sys.path[:] = told.get("path", path)
    if "folder" in told:
        with suppress(OSError):
            os.chdir(told["folder"])
    with _logging(), _memory(told.get("memory", 0)):
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(environment)
            sys.path[:] = path
            if folder is not None:
                with suppress(OSError):
                    os.chdir(folder)
            for stream in (sys.stdout, sys.stderr):
                with suppress(Exception):
                    stream.flush()


@contextmanager
def _memory(most: int) -> Iterator[None]:
    """No more memory than this."""
    if not most or resource is None:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


@contextmanager
def _modules(own: dict[str, types.ModuleType]) -> Iterator[None]:
    """The user's modules, to be had by their names."""
    before = {name: sys.modules.get(name) for name in own}
    sys.modules.update(own)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


@contextmanager
def _logging() -> Iterator[None]:
    """Logging goes to stderr, each line with its level; so do lines that are printed there."""
    root, stream = logging.getLogger(), sys.stderr
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = [_Handler()]
    root.setLevel(logging.INFO)
    sys.stderr = _Marked(stream)
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = stream
        root.handlers[:] = handlers
        root.setLevel(level)


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            level = "DIWEC"[min(max(record.levelno // 10, 1), 5) - 1]
            stream = getattr(sys.stderr, "stream", sys.stderr)
            stream.write("".join("\x02%s %s\n" % (level, line) for line in text.splitlines() or [""]))
            stream.flush()
        except Exception:  # noqa: BLE001 - as logging itself does
            self.handleError(record)


class _Marked:
    """A stream whose lines say that they are errors."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.begun = False

    def write(self, text: str) -> int:
        for line in text.splitlines(True):
            self.stream.write(line if self.begun else "\x02E " + line)
            self.begun = not line.endswith("\n")
        return len(text)

    def writelines(self, lines: Any) -> None:
        for each in lines:
            self.write(each)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


# ---- envelopes and answers


def _get(place: str) -> bytes:
    if place == "-":
        return sys.stdin.buffer.read()
    if place.startswith(("http://", "https://")):
        return _request(place, None)
    with open(place, "rb") as file:
        return file.read()


def _put(place: str, body: bytes, call: str) -> None:
    if place == "-":
        for line in framed(body, call):
            os.write(1, line)
    elif place.startswith(("http://", "https://")):
        _request(place, body)
    else:
        with open(place + ".part", "wb") as file:
            file.write(body)
        os.replace(place + ".part", place)


def framed(body: bytes, call: str) -> list[bytes]:
    """An answer as lines of a log."""
    text = _text(zlib.compress(body, 1))
    parts = [text[start : start + _LINE] for start in range(0, len(text), _LINE)]
    return [("\x01%s %d %d %s\n" % (call, index, len(parts), each)).encode() for index, each in enumerate(parts)]


def _request(url: str, body: bytes | None) -> bytes:
    import urllib.error
    import urllib.request

    for wait in (0.2, 1, 5, None):
        request = urllib.request.Request(url, body, method="GET" if body is None else "PUT")  # noqa: S310
        if body is not None:
            request.add_header("Content-Type", "")  # a signed address is signed without a type
        try:
            with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
                return bytes(response.read())
        except (urllib.error.URLError, OSError) as error:
            lasting = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if wait is None or lasting:
                raise
            time.sleep(wait)
    raise AssertionError


def lambda_handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """For AWS Lambda: the event is an envelope, or `{"envelope": URL, "answer": URL}` where it is too large.

    The answer is returned, or put to that URL when it is too large; then `{"answer": URL}` is returned.
    """
    told = event if "twingraph" in event else json.loads(_request(event["envelope"], None))
    said = _answered(told)
    body = json.dumps(said).encode("ascii")
    if len(body) <= _INLINE:
        return said
    place = event.get("answer") or told.get("answer")
    if not place:
        words = "what it returns is too large for an answer of Lambda: %d bytes" % len(body)
        del said["value"]
        return {**said, "error": _told(Untravelled(words))}
    _request(place, body)
    return {"answer": place}


def serve() -> None:
    """Answer one envelope after the other, until there are no more. The user's stdin is empty, and stdout is stderr."""
    source, drain = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    busy = threading.Event()
    threading.Thread(target=_watch, args=(source.fileno(), busy), daemon=True).start()
    while True:
        head = source.read(4)
        if len(head) < 4:
            return
        (length,) = struct.unpack(">I", head)
        told = json.loads(source.read(length))
        busy.set()
        body = json.dumps(_answered(told)).encode("ascii")
        busy.clear()
        with suppress(OSError):  # the function may have closed it
            os.write(2, ("\x01%s end\n" % told["id"]).encode())
        drain.write(struct.pack(">I", len(body)) + body)
        drain.flush()


def _watch(source: int, busy: threading.Event) -> None:
    """End this process, and its children where it leads a group, when those who asked are gone."""
    if not hasattr(select, "poll"):
        return
    hung_up = select.poll()
    hung_up.register(source, 0)
    hung_up.poll()
    if not busy.is_set():
        return
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def main(arguments: list[str]) -> None:
    """What the command line says."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    if arguments == ["--serve"]:
        serve()
        return
    place, drain = arguments
    told = json.loads(_get(place))
    body = json.dumps(_answered(told)).encode("ascii")
    _put(drain, body, told["id"])


if __name__ == "__main__":
    main(sys.argv[1:])
    for _stream in (sys.stdout, sys.stderr):
        _stream.flush()
    os._exit(0)  # threads that the function left behind do not keep the process
