"""The code of functions and jobs, as files: one package for all functions of a flow, one for all its jobs.

A package is the project's files (`source`), the program, a small generated entry, the packages that the project asks
for (`dependencies`) and those modules of this library that run inside a function. Nothing is written here: a package is
a mapping of paths, and the same input gives the same bytes.
"""

from __future__ import annotations

import ast
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256

from lokki.builder.dependencies import (
    LOCK_FILE,
    PROJECT_FILE,
    batch_image_for,
    image_for,
    is_ours,
    local_paths,
    lock_of,
    package_name,
)
from lokki.builder.dockerfiles import REQUIREMENTS, function_image, job_image
from lokki.builder.source import BUILT_ON_US, HANDLER, RUNTIME, Source
from lokki.errors import BuildError
from lokki.frozen import frozen
from lokki.runtime.program import FILE as PROGRAM
from lokki.settings import LokkiConfig
from lokki.source import parsed

MOST_UNZIPPED = 262_144_000  # bytes of a zipped function, from which on Lambda refuses it
ZIP = "lambdas/function.zip"

# What of this library runs inside a function: all of these folders, and these modules.
_FOLDERS = ("runtime", "store")
_MODULES = (
    "__init__",
    "binding",
    "chain",
    "codec",
    "conversion",
    "decorators",
    "errors",
    "events",
    "frozen",
    "graph",
    "importing",
    "jsonable",
    "kinds",
    "lowering",
    "params",
    "policy",
    "sentences",
    "signatures",
    "source",
    "start",
)

# Of the package that is built on this library: what writes components, pipelines and workflows.
_AUTHORING = ("base", "decorators", "pipelines", "registry", "workflows")

_JOBS_ONLY = f"{RUNTIME}/runtime/batch.py"  # jobs are images
_DOCKERFILE = "Dockerfile"
_HANDLER = '''"""The entry of every function of this flow; the environment says which step this one runs."""

import os

from lokki.runtime.handler import open_handler

lambda_handler = open_handler(os.environ["LOKKI_MODULE_NAME"], os.environ["LOKKI_STEP_NAME"])
'''
_BATCH = '''"""The entry of every job of this flow; the environment says which step this one runs."""

import os

from lokki.runtime.batch import run_job


def main():
    return run_job(os.environ)
'''
_BATCH_MAIN = '''"""What a job's container starts."""

from batch import main

if __name__ == "__main__":
    raise SystemExit(main())
'''
_AWS_CLIENT = ("boto3", "botocore", "jmespath", "python-dateutil", "s3transfer", "six", "urllib3")

_ZIP_LEVEL = 9
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_MB = 1024 * 1024
_NAMED = 10


@frozen
class Package:
    """Code that is ready to be written or uploaded.

    Attributes:
        files: what is written, by path below `build_dir`.
        digest: changes when what a function sees does, and only then.
        zipped: bytes of the zip; 0 for an image.
        unzipped: bytes of all files that a function sees, without the packages that an image installs.
        largest: the largest names at the top of the package, with the bytes below each.
    """

    files: Mapping[str, bytes]
    digest: str
    zipped: int
    unzipped: int
    largest: tuple[tuple[str, int], ...]


def runtime_files(built_on_us: bool = False) -> Mapping[str, bytes]:
    """The modules of this library that run inside a function, by their path in a package.

    Of the package that is built on it, those come too that a file needs which writes components and workflows.
    """
    found = set(_modules(RUNTIME, _FOLDERS, (each for each in _MODULES if each != "__init__"))) | {RUNTIME}
    if built_on_us:
        found |= _with_imports({BUILT_ON_US, *_modules(BUILT_ON_US, ("platforms",), _AUTHORING)})
    return dict(sorted(_contents(found)))


def _modules(package: str, folders: Iterable[str], names: Iterable[str]) -> Iterator[str]:
    from importlib.resources import files

    yield from (f"{package}.{name}" for name in names)
    for folder in folders:
        for each in (files(package) / folder).iterdir():
            if each.name.endswith(".py"):
                yield f"{package}.{folder}.{each.name.removesuffix('.py')}"


def _with_imports(modules: set[str]) -> set[str]:
    """These modules, and those of ours that they import when they are imported."""
    found: set[str] = set()
    while modules:
        name = modules.pop()
        found.add(name)
        for _, content in _contents({name}):
            for node in parsed(content).body:
                if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in (RUNTIME, BUILT_ON_US):
                    parts = (node.module or "").split(".")
                    modules |= {".".join(parts[: at + 1]) for at in range(len(parts))} - found
    return found


def _contents(modules: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    from importlib.resources import files

    for name in modules:
        package, *rest = name.split(".")
        path = (
            "/".join([*rest, "__init__.py"]) if (files(package) / "/".join(rest)).is_dir() else "/".join(rest) + ".py"
        )
        yield f"{package}/{path}", (files(package) / path).read_bytes()


def lambda_files(
    source: Source,
    program: bytes,
    config: LokkiConfig,
    python: str,
    requirements: str,
    installed: Mapping[str, bytes],
) -> Package:
    """The package of the functions, as a zip or as the folder that their image is built from.

    Args:
        source: the project's files.
        program: the flow as its functions read it.
        config: says how code is shipped.
        python: the Python of the functions.
        requirements: the pinned packages, which an image installs.
        installed: the files of these packages, which a zip holds.
    """
    shipped = _shipped(source, {HANDLER: _HANDLER.encode(), PROGRAM: program})
    if config.lambda_.package_type == "zip":
        needed = {path: content for path, content in shipped.items() if path != _JOBS_ONLY}
        return _zip_package({**installed, **needed})
    return _image_package("lambdas", function_image, image_for(config, python), source, shipped, requirements)


def batch_files(source: Source, program: bytes, config: LokkiConfig, python: str, requirements: str) -> Package:
    """The package of the jobs: the folder that their image is built from. Its arguments are those of `lambda_files`."""
    entry = {"batch.py": _BATCH.encode(), "batch_main.py": _BATCH_MAIN.encode(), PROGRAM: program}
    shipped = _shipped(source, entry)
    pinned = _with_aws_client(requirements)
    return _image_package("batch", job_image, batch_image_for(config, python), source, shipped, pinned)


def _shipped(source: Source, entry: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files that a function sees, without installed packages."""
    return _joined(source.files, {**runtime_files(source.builds_on_us), **entry})


def _joined(project: Mapping[str, bytes], written: Mapping[str, bytes]) -> dict[str, bytes]:
    for path in project.keys() & written.keys():
        if project[path] != written[path]:
            raise BuildError(f"The project has {path}, which is a file that the build itself writes; rename it.")
    return dict(sorted({**project, **written}.items()))


# Zips


def _zip_package(shipped: Mapping[str, bytes]) -> Package:
    digest, sizes = _measured(shipped)
    unzipped, largest = sizes.total(), _largest(sizes)
    if unzipped >= MOST_UNZIPPED:
        named = ", ".join(f"{name} ({_megabytes(size)})" for name, size in largest[:3])
        raise BuildError(
            f"The functions' code is {_megabytes(unzipped)} unzipped, and Lambda takes less than "
            f"{_megabytes(MOST_UNZIPPED)} in a zip. The largest parts are {named}. Ship an image instead: "
            'lambda.package_type = "image".'
        )
    content = zipped(shipped)
    return Package({ZIP: content}, digest, len(content), unzipped, largest)


def zipped(files: Mapping[str, bytes]) -> bytes:
    """The files as a zip that depends on nothing but their paths and content."""
    import io
    from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

    target = io.BytesIO()
    with ZipFile(target, "w") as archive:
        for path in sorted(files):
            content = files[path]
            entry = ZipInfo(path, _ZIP_DATE)
            entry.create_system = _UNIX
            entry.external_attr = (0o100755 if _is_program(content) else 0o100644) << 16
            archive.writestr(entry, content, ZIP_DEFLATED, _ZIP_LEVEL)
    return target.getvalue()


def _is_program(content: bytes) -> bool:
    """Whether a package may want to start this file; its mode on this machine does not count."""
    return content.startswith((b"\x7fELF", b"#!"))


def _megabytes(size: int) -> str:
    return f"{size / _MB:.1f} MB"


# Images


def _image_package(
    folder: str,
    written_by: Callable[[str, Iterable[str], Iterable[str]], str],
    base: str,
    source: Source,
    shipped: Mapping[str, bytes],
    requirements: str,
) -> Package:
    if local := local_paths(requirements):
        raise BuildError(
            f"The project asks for {local[0]}, which lies on this machine, where an image cannot install it from: "
            'set lambda.package_type = "zip", or move what it holds into the project.'
        )
    beside = _beside(source.project)
    told = {_DOCKERFILE: written_by(base, shipped, beside).encode(), REQUIREMENTS: requirements.encode()}
    files = _joined(shipped, {**told, **beside})
    placed = {f"{folder}/{path}": content for path, content in files.items()}
    _, sizes = _measured(shipped)
    digest, _ = _measured({**shipped, _DOCKERFILE: base.encode(), REQUIREMENTS: requirements.encode()})
    return Package(placed, digest, 0, sizes.total(), _largest(sizes))


def _beside(project: str | None) -> dict[str, bytes]:
    """The project's own word on what it needs, and the lock, as the installation of packages reads them."""
    if project is None or is_ours(project):
        return {}
    places = {PROJECT_FILE: project, LOCK_FILE: lock_of(project)}
    return {name: _read(os.path.join(place, name)) for name, place in places.items() if place is not None}


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _with_aws_client(requirements: str) -> str:
    """With boto3, which Lambda's images have and others have not, at the versions that are in use here."""
    named = {package_name(line) for line in requirements.splitlines()}
    added = () if "boto3" in named else _client_pins(named)
    return "".join(f"{line}\n" for line in sorted([*requirements.splitlines(), *added]))


def _client_pins(named: set[str]) -> Iterator[str]:
    from importlib.metadata import PackageNotFoundError, version

    for name in _AWS_CLIENT:
        if name not in named:
            try:
                yield f"{name}=={version(name)}"
            except PackageNotFoundError:  # a newer boto3 may do without it
                continue


# Measures


def _measured(files: Mapping[str, bytes]) -> tuple[str, Counter[str]]:
    """A digest of paths and content, and the bytes below each name at the top."""
    digest = sha256()
    sizes: Counter[str] = Counter()
    for path in sorted(files):
        content = files[path]
        digest.update(path.encode() + b"\0" + sha256(content).digest())
        sizes[path.partition("/")[0]] += len(content)
    return digest.hexdigest(), sizes


def _largest(sizes: Counter[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(sizes.items(), key=lambda each: (-each[1], each[0]))[:_NAMED])
