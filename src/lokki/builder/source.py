"""Which of the project's files a function needs: the flow's own module and, from there, all that it imports.

Imports are read, not carried out: a build must not run the project, and what it ships must not depend on what happens
to be loaded. A name that the project's folders hold is the project's own: a single module is taken as it is, a package
with all that lies in it. Every other name is Python's or somebody else's, and comes with the dependencies.
"""

from __future__ import annotations

import ast
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from keyword import iskeyword

from lokki.builder.dependencies import PROJECT_FILE, asked_for, project_of
from lokki.decorators import Flow
from lokki.errors import BuildError
from lokki.frozen import frozen
from lokki.runtime.program import FILE as PROGRAM
from lokki.settings import LokkiConfig
from lokki.source import parsed

HANDLER = "handler.py"
BUILT = "lokki-build.json"  # what a build leaves in the folder that it wrote
RUNTIME = "lokki"  # the folder of the runtime's own copy of this library

BUILT_ON_US = "twingraph"
_SHIPPED_BY_US = frozenset({RUNTIME, BUILT_ON_US, "__main__"})
_NOT_OURS = (BUILT, "pyvenv.cfg")  # in the folder of a build, and of an environment
_IN_LAMBDA = frozenset({"boto3", "botocore"})


@frozen
class Source:
    """What the project brings to a function.

    Attributes:
        module: the name under which a function imports the flow's file.
        root: the folder that this name starts from.
        files: every file by its path in the package, with slashes.
        script: the flow's file.
        project: the folder of the nearest pyproject.toml above the script, or None.
        third_party: the top-level names that are imported from elsewhere, without Python's own.
        warnings: sentences for the user.
        builds_on_us: whether it imports the package that is built on this one, `twingraph`.
    """

    module: str
    root: str
    files: Mapping[str, bytes]
    script: str
    project: str | None
    third_party: tuple[str, ...]
    warnings: tuple[str, ...]
    builds_on_us: bool = False


def collect(flow: Flow, config: LokkiConfig) -> Source:
    """All that the project brings to the functions of this flow."""
    module, root, script = _located(flow)
    folder = os.path.dirname(script)
    project = project_of(folder)
    left_out = _left_out(config, folder)
    places = _places(root, folder, project)
    imports = _Imports(places, left_out)
    imports.follow(module)
    if os.path.normpath(imports.origins.get(_archive_path(module, script), "")) != script:
        raise BuildError(f"{script} is hidden by another module named {module!r} in {root}; rename one of them.")
    third_party = tuple(sorted(imports.third_party))
    said = list(_unmet(third_party, script, project))
    included = dict(_included(config.include.paths, folder, left_out, said))
    files = {path: _read(origin) for path, origin in _merged(imports.origins, included).items()}
    return Source(module, root, files, script, project, third_party, tuple(said), BUILT_ON_US in imports.shipped)


# The flow's file and its name


def _located(flow: Flow) -> tuple[str, str, str]:
    """The name of the flow's module, the folder that it starts from, and its file."""
    name = flow.fn.__module__
    module = sys.modules.get(name)
    code = getattr(flow.fn, "__code__", None)
    path = str(getattr(module, "__file__", None) or getattr(code, "co_filename", ""))
    if not path.endswith(".py") or not os.path.isfile(path):
        raise BuildError(
            f"Flow {flow.name!r} is not in a Python file, so no function could import it; put it into one."
        )
    if name == "__main__":
        name = getattr(getattr(module, "__spec__", None), "name", name)  # of `python -m`
    path = os.path.abspath(path)
    root = _root(name, path)
    return (name, root, path) if root else _script(os.path.realpath(path))


def _root(name: str, path: str) -> str:
    """The folder that a dotted name starts from, or nothing where the file has another name."""
    tail = "/" + _archive_path(name, path)
    slashed = path.replace(os.sep, "/")
    return path[: -len(tail)] or os.sep if slashed.endswith(tail) and name != "__main__" else ""


def _archive_path(name: str, path: str) -> str:
    return name.replace(".", "/") + ("/__init__.py" if os.path.basename(path) == "__init__.py" else ".py")


def _script(path: str) -> tuple[str, str, str]:
    folder, base = os.path.split(path)
    stem = base.removesuffix(".py")
    if not stem.isidentifier() or iskeyword(stem) or stem.startswith("__"):
        wanted = _identifier(stem)
        raise BuildError(f"{base} cannot be imported under the name {stem!r}: rename it, for example to {wanted}.py.")
    if stem in sys.stdlib_module_names:
        raise BuildError(
            f"{base} has the name of a module of Python itself and would hide it in a function; rename it."
        )
    return stem, folder, path


def _identifier(stem: str) -> str:
    name = "".join(each if each.isalnum() else "_" for each in stem).strip("_") or "flow"
    return f"flow_{name}" if name[0].isdigit() or iskeyword(name) or name == "main" else name


def _places(root: str, folder: str, project: str | None) -> tuple[str, ...]:
    """Where the project's own modules are looked for, the folders that Python itself looks in first."""
    further = () if project is None else (os.path.join(project, "src"), project)
    return tuple(dict.fromkeys((root, folder, *further)))


def _left_out(config: LokkiConfig, folder: str) -> frozenset[str]:
    """What builds and runs write is no part of the project, also where it lies in the middle of it."""
    written = (config.build_dir, config.local.state_dir)
    paths = {os.path.realpath(os.path.join(start, each)) for each in written for start in ("", folder)}
    here = os.path.join(os.path.realpath(folder), "")
    return frozenset(path for path in paths if not here.startswith(os.path.join(path, "")))


# Following imports


class _Imports:
    """What is imported from one module on; `origins` has the project's own files, by their path in the package."""

    def __init__(self, places: tuple[str, ...], left_out: frozenset[str]) -> None:
        self.origins: dict[str, str] = {}
        self.third_party: set[str] = set()
        self.shipped: set[str] = set()
        self._places = places
        self._left_out = left_out
        self._found: set[str] = set()

    def follow(self, module: str) -> None:
        """Take `module` and all that it imports."""
        waiting = [module]
        while waiting:
            waiting += (name for path in self._taken(waiting.pop()) for name in _imported(path))

    def _taken(self, name: str) -> list[str]:
        """The modules that this import brings in and that have not been read yet."""
        top, _, rest = name.partition(".")
        if top in _SHIPPED_BY_US:
            self.shipped.add(top)
        if top in _SHIPPED_BY_US or top in self._found:
            return []
        origin = self._origin(top, rest)
        if origin is None:
            if top not in sys.stdlib_module_names and top not in _IN_LAMBDA:
                self.third_party.add(top)
            return []
        self._found.add(top)
        self.third_party.discard(top)  # as a whole it was not found, but a part of it was
        if os.path.isfile(origin):
            new = {f"{top}.py": origin}
        else:
            new = {f"{top}/{path}": os.path.join(origin, path) for path in _walk(origin, self._left_out)}
        self.origins |= new
        return [path for path in new.values() if path.endswith(".py")]

    def _origin(self, top: str, rest: str) -> str | None:
        """The file or folder of a top-level name that is the project's own."""
        standard = top in sys.stdlib_module_names
        places = self._places[:2] if standard else self._places  # the others come after the standard library
        for place in places:
            folder = os.path.join(place, top)
            if os.path.isfile(os.path.join(folder, "__init__.py")):
                return folder
            if os.path.isfile(f"{folder}.py"):
                return f"{folder}.py"
        return None if standard else next((each for each in self._namespaces(top) if _holds(each, rest)), None)

    def _namespaces(self, top: str) -> Iterator[str]:
        return (os.path.join(place, top) for place in self._places if os.path.isdir(os.path.join(place, top)))


def _holds(folder: str, rest: str) -> bool:
    """Whether a folder without `__init__.py` is meant by an import: only if what is wanted of it is in it."""
    part = rest.partition(".")[0]
    path = os.path.join(folder, part)
    return bool(part) and (os.path.isfile(f"{path}.py") or (part.isidentifier() and os.path.isdir(path)))


def _imported(path: str) -> Iterator[str]:
    """The dotted names that a file imports. Relative ones stay within a package, which is taken whole anyway."""
    for node in _reached(_parsed(path)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str() as module, names=names, level=0):
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.Call(
                func=ast.Attribute() | ast.Name() as function, args=[ast.Constant(value=str() as module), *_]
            ):
                called = function.attr if isinstance(function, ast.Attribute) else function.id
                if called in ("import_module", "__import__") and not module.startswith("."):
                    yield module


def _reached(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker reads."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += _children(node)


def _children(node: ast.AST) -> Iterable[ast.AST]:
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
            return node.orelse
        case ast.If(test=ast.UnaryOp(op=ast.Not(), operand=ast.Name(id="TYPE_CHECKING"))):
            return node.body
    return ast.iter_child_nodes(node)


def _parsed(path: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Python thinks of an escape in a text is not for a build to say
            return parsed(_read(path), path)
    except SyntaxError as error:
        raise BuildError(f"{path}, line {error.lineno}, is not valid Python: {error.msg}.") from error
    except ValueError as error:
        raise BuildError(f"{path} is not valid Python: {error}.") from error


# Files


def _walk(folder: str, left_out: frozenset[str], above: tuple[str, ...] = ()) -> Iterator[str]:
    """The files in a folder and below it, by their relative path; links are followed unless they lead back."""
    above = (*above, os.path.realpath(folder))
    for name in _names(folder):
        path = os.path.join(folder, name)
        if _is_folder(path, left_out, above):
            yield from (f"{name}/{below}" for below in _walk(path, left_out, above))
        elif _is_file(path):
            yield name


def _matching(folder: str, parts: list[str], left_out: frozenset[str], above: tuple[str, ...] = ()) -> Iterator[str]:
    """The files that a glob pattern, cut at its slashes, finds in a folder, by their relative path."""
    above = (*above, os.path.realpath(folder))
    first, rest = parts[0], parts[1:]
    if first == "**" and rest:
        yield from _matching(folder, rest, left_out, above[:-1])
    for name in _names(folder, hidden=first.startswith(".")):
        path = os.path.join(folder, name)
        if first != "**" and not fnmatchcase(name, first):
            continue
        if _is_file(path) and not rest:
            yield name
        elif (rest or first == "**") and _is_folder(path, left_out, above):
            deeper = parts if first == "**" else rest
            yield from (f"{name}/{below}" for below in _matching(path, deeper, left_out, above))


def _names(folder: str, hidden: bool = False) -> list[str]:
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise BuildError(f"{folder} cannot be read: {error.strerror}.") from error
    return sorted(name for name in names if (hidden or not name.startswith(".")) and name != "__pycache__")


def _is_folder(path: str, left_out: frozenset[str], above: tuple[str, ...]) -> bool:
    """Whether to go into this folder: not into what was built, an environment, or one that we are in already."""
    real = os.path.realpath(path)
    away = real in left_out or real in above
    return os.path.isdir(path) and not away and not any(os.path.lexists(os.path.join(path, each)) for each in _NOT_OURS)


def _is_file(path: str) -> bool:
    return os.path.isfile(path) and not path.endswith((".pyc", ".pyo"))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise BuildError(f"{path} cannot be read: {error.strerror}.") from error


# Included files and warnings


def _included(
    patterns: Iterable[str], folder: str, left_out: frozenset[str], said: list[str]
) -> Iterator[tuple[str, str]]:
    for pattern in patterns:
        parts = [part for part in pattern.replace(os.sep, "/").split("/") if part not in ("", ".")]
        if ".." in parts or os.path.isabs(pattern) or pattern.startswith("/"):
            raise BuildError(
                f"include.paths has {pattern!r}, which leads out of the folder of the flow's script; "
                "put such files into that folder."
            )
        found = list(_matching(folder, parts, left_out)) if parts else []
        if not found:
            said.append(f"include.paths: {pattern!r} matches no file in {folder}{_hint(folder, parts)}")
        yield from ((path, os.path.join(folder, path)) for path in found)


def _hint(folder: str, parts: list[str]) -> str:
    here = "/".join(parts)
    return f"; for all that is in that folder write '{here}/**'" if os.path.isdir(os.path.join(folder, here)) else ""


def _merged(own: Mapping[str, str], included: Mapping[str, str]) -> dict[str, str]:
    """Where each file comes from, by its path in the package, in the order of these paths."""
    for path in (*own, *included):
        if path in (HANDLER, PROGRAM) or path.startswith(f"{RUNTIME}/"):
            how = "include.paths brings" if path in included else "The project has"
            raise BuildError(f"{how} {path}, which is a file that the build itself writes; rename it.")
    for path in own.keys() & included.keys():
        if os.path.realpath(own[path]) != os.path.realpath(included[path]):
            raise BuildError(
                f"include.paths brings {path}, but {own[path]} has that place already; rename one of them."
            )
    return dict(sorted({**included, **own}.items()))


def _unmet(third_party: tuple[str, ...], script: str, project: str | None) -> Iterator[str]:
    """A warning when something is imported that no function will have, because nothing asks for it."""
    if not third_party or (project is not None and asked_for(project)):
        return
    *others, last = third_party
    names = f"{', '.join(others)} and {last}" if others else last
    said = f"The flow imports {names}, which its functions will not have:"
    if project is None:
        base, them = os.path.basename(script), "them" if others else "it"
        yield f"{said} write a {PROJECT_FILE} beside {base} that asks for {them} in `dependencies`, and run `uv lock`"
    else:
        path = os.path.join(project, PROJECT_FILE)
        yield f"{said} {path} asks for no packages; add what is needed to its `dependencies`, and run `uv lock`"
