"""The text of a function or class in its file, and which names it uses: what `travel` sends to another Python.

A function is found by the line where its code begins, so that it is the right one also where several have its name. A
file that was edited since it was loaded is no source of what runs here, and counts as none.
Which names it uses is read from its code, so that a local variable is never taken for a global one.
"""

from __future__ import annotations

import ast
import dis
import linecache
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any

from lokki.frozen import field, frozen
from lokki.source import parsed

_GLOBALS = {"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"}
_NAMES = {"LOAD_NAME", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"}
_REWRITTEN = "@pytest_ar"
_OPTIMIZED = 1  # the flag of code that belongs to a function and not to a class or module


@frozen
class Imported:
    """An import statement: of a module, or of a name in one. `name` is what it is called afterwards."""

    module: str
    attribute: str | None
    name: str
    level: int = 0


@frozen
class Text:
    """The text of a definition.

    Attributes:
        file: the name of the file.
        text: whole lines, or a lambda alone.
        line: the number of the first one in its file.
        uses: the globals that its functions use.
        needs: those that are used when it is defined, which matters for a class.
        hints: those that only its annotations use.
        chains: the dotted names in it, in parts.
        imports: the import statements in it.
    """

    file: str
    text: str
    line: int
    uses: frozenset[str]
    needs: frozenset[str] = frozenset()
    hints: frozenset[str] = frozenset()
    chains: frozenset[tuple[str, ...]] = frozenset()
    imports: tuple[Imported, ...] = field(default=())


@frozen(eq=False)
class _File:
    """A file, read once."""

    lines: list[str]
    codes: dict[tuple[str, int], list[CodeType]]
    functions: dict[int, list[Any]]
    classes: dict[str, list[ast.ClassDef]]
    imports: tuple[Imported, ...]


def function_text(fn: FunctionType) -> Text | None:
    """The text of a function; None where its source is not to be had."""
    return _function(fn.__code__, fn.__code__.co_filename)


@lru_cache(maxsize=4096)
def _function(code: CodeType, filename: str) -> Text | None:
    file = _read(filename)
    found = file and _at(file, code)
    if not file or not found or not _is_as_it_ran(file, code):
        return None
    if isinstance(found, ast.Lambda):
        text = ast.get_source_segment("".join(file.lines), found) or ""
    else:
        text = "".join(file.lines[found.lineno - 1 : found.end_lineno])
    return Text(filename, text, found.lineno, names(code), chains=_chains(found), imports=_imports([found]))


def function_in(member: Any) -> Any:
    """What a member of a class wraps: of a method, a property or a component the function."""
    inner = getattr(member, "__func__", getattr(member, "fget", member))
    return getattr(inner, "fn", inner)


def class_text(cls: type, keeps: tuple[str, ...] | None) -> Text | None:
    """The text of a class; with `keeps`, its names are those of these methods only."""
    members = [function_in(each) for each in vars(cls).values()]
    codes = [each.__code__ for each in members if isinstance(each, FunctionType)]
    module = getattr(sys.modules.get(cls.__module__), "__file__", None)
    for filename in dict.fromkeys([module, *(code.co_filename for code in codes)]):
        lines = tuple(code.co_firstlineno for code in codes if code.co_filename == filename)
        file = _read(filename) if filename else None
        if filename and file and (found := _class(filename, cls.__qualname__, lines, keeps)):
            here = [code for code in codes if code.co_filename == filename]
            return found if all(_is_as_it_ran(file, code) for code in here) else None
    return None


@lru_cache(maxsize=1024)
def _class(filename: str, qualname: str, lines: tuple[int, ...], keeps: tuple[str, ...] | None) -> Text | None:
    file = _read(filename)
    known = file.classes.get(qualname, []) if file else []
    found = next((each for each in known if any(each.lineno <= line <= _end(each) for line in lines)), None)
    found = found or (known[-1] if known else None)
    if not file or not found:
        return None
    first = min([found.lineno, *(each.lineno for each in found.decorator_list)])
    text = "".join(file.lines[first - 1 : found.end_lineno])
    kept: list[ast.stmt] = [each for each in found.body if keeps is None or getattr(each, "name", "") in keeps]
    node = ast.ClassDef(found.name, found.bases, found.keywords, kept or [ast.Pass()], found.decorator_list)
    shell = ast.fix_missing_locations(ast.Module([ast.copy_location(node, found)], []))
    code = compile(shell, filename, "exec", _annotations(), dont_inherit=True)
    hints = frozenset(
        each.id
        for member in kept
        if isinstance(member, ast.AnnAssign)
        for each in ast.walk(member.annotation)
        if isinstance(each, ast.Name)
    )
    return Text(filename, text, first, names(code), _needs(code), hints, _chains(node), _imports([node]))


def imports_of(filename: str) -> tuple[Imported, ...]:
    """The import statements of a file, outside of its functions."""
    file = _read(filename)
    return file.imports if file else ()


def names(code: CodeType) -> frozenset[str]:
    """The globals that code uses, and the functions inside it."""
    return frozenset(_names(code))


def _names(code: CodeType) -> Iterator[str]:
    for each in dis.get_instructions(code):
        if each.opname in _GLOBALS:
            yield str(each.argval)
    for inner in _inner(code):
        yield from _names(inner)


def _needs(code: CodeType) -> frozenset[str]:
    """The names that are looked up while a class is defined."""
    found: set[str] = set()
    for each in dis.get_instructions(code):
        if each.opname in _NAMES or each.opname in _GLOBALS:
            found.add(str(each.argval))
    for inner in _inner(code):
        if not inner.co_flags & _OPTIMIZED or inner.co_name.startswith("<"):
            found |= _needs(inner)
    return frozenset(found)


def _inner(code: CodeType) -> Iterator[CodeType]:
    return (each for each in code.co_consts if isinstance(each, CodeType))


def _annotations() -> int:
    import __future__

    return __future__.annotations.compiler_flag


def _end(node: Any) -> int:
    return int(node.end_lineno)


def _at(file: _File, code: CodeType) -> Any:
    """The definition whose code this is."""
    known = file.functions.get(code.co_firstlineno, [])
    if code.co_name != "<lambda>":
        return next((each for each in known if getattr(each, "name", "") == code.co_name), None)
    lambdas = [each for each in known if isinstance(each, ast.Lambda)]
    if len(lambdas) < 2:
        return lambdas[0] if lambdas else None
    places = set(code.co_positions())
    return next((each for each in lambdas if _place(each.body) in places), None)


def _place(node: ast.expr) -> tuple[int, int | None, int, int | None]:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


def _read(filename: str) -> _File | None:
    linecache.checkcache(filename)
    lines = linecache.getlines(filename)
    return _parsed("".join(lines)) if lines else None


@lru_cache(maxsize=256)
def _parsed(text: str) -> _File | None:
    try:
        tree = parsed(text)
    except (SyntaxError, ValueError):  # half edited
        return None
    functions: dict[int, list[Any]] = {}
    classes: dict[str, list[ast.ClassDef]] = {}
    _index(tree, "", functions, classes)
    codes: dict[tuple[str, int], list[CodeType]] = {}
    with suppress(SyntaxError):  # a notebook may await outside of functions
        _collect(compile(tree, "<text>", "exec", dont_inherit=True), codes)
    return _File(text.splitlines(keepends=True), codes, functions, classes, _imports(tree.body, inside=False))


def _collect(code: CodeType, codes: dict[tuple[str, int], list[CodeType]]) -> None:
    codes.setdefault((code.co_name, code.co_firstlineno), []).append(code)
    for each in _inner(code):
        _collect(each, codes)


def _is_as_it_ran(file: _File, code: CodeType) -> bool:
    """Whether the file still says what was loaded from it; what pytest makes of asserts counts as what it was."""
    if not file.codes or _REWRITTEN in names(code):
        return True
    known = file.codes.get((code.co_name, code.co_firstlineno), [])
    return any(_same(code, each) for each in known)


def _same(one: CodeType, other: CodeType) -> bool:
    if (one.co_code, one.co_names, len(one.co_consts)) != (other.co_code, other.co_names, len(other.co_consts)):
        return False
    return all(_alike(each, like) for each, like in zip(one.co_consts, other.co_consts, strict=True))


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, CodeType) and isinstance(other, CodeType):
        return _same(one, other)
    return type(one) is type(other) and (one == other or repr(one) == repr(other))


def _index(node: ast.AST, within: str, functions: dict[int, list[Any]], classes: dict[str, list[ast.ClassDef]]) -> None:
    for each in ast.iter_child_nodes(node):
        inner = within
        match each:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                first = min([each.lineno, *(one.lineno for one in each.decorator_list)])
                functions.setdefault(first, []).append(each)
                inner = f"{within}{each.name}.<locals>."
            case ast.Lambda():
                functions.setdefault(each.lineno, []).append(each)
            case ast.ClassDef():
                classes.setdefault(within + each.name, []).append(each)
                inner = f"{within}{each.name}."
            case _:
                pass
        _index(each, inner, functions, classes)


def _imports(nodes: list[Any], inside: bool = True) -> tuple[Imported, ...]:
    return tuple(one for node in nodes for one in _imported(node, inside))


def _imported(node: ast.AST, inside: bool) -> Iterator[Imported]:
    match node:
        case ast.Import():
            for each in node.names:
                yield Imported(each.name, None, each.asname or each.name.partition(".")[0])
        case ast.ImportFrom():
            for each in node.names:
                yield Imported(node.module or "", each.name, each.asname or each.name, node.level)
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda() if not inside:
            pass
        case _:
            for inner in ast.iter_child_nodes(node):
                yield from _imported(inner, inside)


def _chains(node: ast.AST) -> frozenset[tuple[str, ...]]:
    return frozenset(chain for each in ast.walk(node) if (chain := _chain(each)))


def _chain(node: ast.AST) -> tuple[str, ...]:
    match node:
        case ast.Name():
            return (node.id,)
        case ast.Attribute():
            inner = _chain(node.value)
            return (*inner, node.attr) if inner else ()
        case _:
            return ()
