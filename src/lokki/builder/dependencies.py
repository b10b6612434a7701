"""What functions need besides the project's own files: a Python, and the packages that the project's lock pins.

The lock is the only source of versions, so that the same project gives the same package everywhere. `uv` reads it and
installs from it; this room puts its questions and turns its complaints into one sentence.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lokki.errors import BuildError, ConfigurationError
from lokki.settings import BatchConfig, LambdaConfig, LokkiConfig

if TYPE_CHECKING:
    from subprocess import CompletedProcess

PROJECT_FILE = "pyproject.toml"
LOCK_FILE = "uv.lock"

_OURS = "lokki-twingraph"
_RUNTIMES = ("3.14", "3.13", "3.12", "3.11")  # what Lambda offers and this library runs on
_CHOSEN_FROM = _RUNTIMES[1:]  # without being asked
_DEFAULT = "3.13"
# What a Lambda function runs on: Amazon Linux 2023 with glibc 2.34, and until Python 3.11 Amazon Linux 2 with 2.26.
_GLIBC = {"3.11": "manylinux_2_17"}
_NEWER_GLIBC = "manylinux_2_34"
_PROCESSORS = {"x86_64": "x86_64", "arm64": "aarch64"}
_DIFFERING = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json")


# The project


def project_of(folder: str) -> str | None:
    """The folder of the nearest pyproject.toml, from this folder upward."""
    return _upward(folder, PROJECT_FILE)


def asked_for(project: str) -> tuple[str, ...]:
    """The packages that functions of this project need, as it asks for them; this library comes by itself."""
    if is_ours(project):
        return ()
    table = _project_table(project)
    if "dependencies" in table.get("dynamic", ()):
        return ("what its build backend says",)
    return tuple(each for each in table.get("dependencies", ()) if package_name(each) != _OURS)


def is_ours(project: str) -> bool:
    """Whether this is the project of this library, whose examples need nothing but what comes with it."""
    return package_name(_project_table(project).get("name", "")) == _OURS


def lock_of(project: str) -> str | None:
    """The folder of the project's uv.lock: its own, or that of the workspace that it belongs to."""
    folder = _upward(project, LOCK_FILE)
    if folder is None or folder == project:
        return folder
    return folder if "workspace" in _toml(folder).get("tool", {}).get("uv", {}) else None


def _upward(folder: str, name: str) -> str | None:
    while not os.path.isfile(os.path.join(folder, name)):
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above
    return folder


def _project_table(project: str) -> Mapping[str, Any]:
    table: Mapping[str, Any] = _toml(project).get("project", {})
    return table


def _toml(folder: str) -> Mapping[str, Any]:
    """What the pyproject.toml in a folder says; nothing where there is none."""
    import tomllib

    path = os.path.join(folder, PROJECT_FILE)
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BuildError(f"{path} is not valid TOML: {error}.") from error
    except OSError as error:
        raise BuildError(f"{path} cannot be read: {error.strerror}.") from error


def package_name(requirement: str) -> str:
    """The package that a requirement is about, as indexes spell it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0]).lower()


# Python


def python_version(config: LokkiConfig, project: str | None) -> str:
    """The Python of the functions, as in "3.13"."""
    version = config.lambda_.python_version
    if version:
        if version not in _RUNTIMES:
            *others, last = reversed(_RUNTIMES)
            known = f"{', '.join(others)} or {last}"
            raise ConfigurationError(
                f"lambda.python_version must be {known}, not {version!r}{_where(config, 'lambda.python_version')}.",
                "lambda.python_version",
            )
        return version
    wanted = None if project is None else _project_table(project).get("requires-python")
    if project is None or wanted is None:
        return _DEFAULT
    return _newest(wanted, os.path.join(project, PROJECT_FILE))


def base_image(config: LokkiConfig, project: str | None) -> str:
    """The image that function images start from."""
    return image_for(config, python_version(config, project))


def image_for(config: LokkiConfig, python: str) -> str:
    """The image that function images start from, with this Python unless the configuration names an image."""
    return _followed(config, "lambda.base_image", config.lambda_.base_image, LambdaConfig().base_image, python)


def batch_image_for(config: LokkiConfig, python: str) -> str:
    """The image that job images start from, with this Python unless the configuration names an image."""
    return _followed(config, "batch.base_image", config.batch.base_image, BatchConfig().base_image, python)


def _followed(config: LokkiConfig, path: str, image: str, default: str, python: str) -> str:
    is_set = config.origins.get(path, "default") != "default"
    return image if is_set or image != default else image.replace(_DEFAULT, python)


def _where(config: LokkiConfig, path: str) -> str:
    origin = config.origins.get(path, "default")
    return "" if origin == "default" else f" ({origin})"


def _newest(wanted: Any, path: str) -> str:
    """The newest Python that `requires-python` admits."""
    try:
        clauses = [_clause(each) for each in wanted.split(",") if each.strip()]
    except (ValueError, AttributeError):
        raise _undecided(f"{path}: requires-python = {wanted!r} cannot be read") from None
    for version in _CHOSEN_FROM:
        if all(_admits(operator, parts, any_patch, version) for operator, parts, any_patch in clauses):
            return version
    raise _undecided(
        f"{path}: requires-python = {wanted!r} admits no Python from {_CHOSEN_FROM[-1]} to {_CHOSEN_FROM[0]}"
    )


def _undecided(found: str) -> ConfigurationError:
    advice = 'say which Python functions get with `python_version = "..."` under [lambda] in lokki.toml'
    return ConfigurationError(f"{found}; {advice}.", "lambda.python_version")


_Version = tuple[int, ...]


def _clause(text: str) -> tuple[str, _Version, bool]:
    """A clause such as `>=3.11` as its operator, its version, and whether it ends in `.*`."""
    match = re.fullmatch(r"\s*(>=|<=|<|>|==|~=|!=)\s*(\d+(?:\.\d+)*)(\.\*)?\s*", text)
    if match is None or (match[3] and match[1] not in ("==", "!=")) or (match[1] == "~=" and "." not in match[2]):
        raise ValueError(text)
    return match[1], tuple(map(int, match[2].split("."))), match[3] is not None


def _admits(operator: str, parts: _Version, any_patch: bool, version: str) -> bool:
    """Whether a clause admits the latest patch of a Python, which is what Lambda runs."""
    latest = (*map(int, version.split(".")), 99)
    asked = (*parts, 0, 0)[: max(3, len(parts))]
    alike = latest[: len(parts)] == parts if any_patch else latest == asked
    match operator:
        case "==":
            return alike
        case "!=":
            return not alike
        case "~=":
            return latest >= asked and latest[: len(parts) - 1] == parts[:-1]
        case ">=":
            return latest >= asked
        case "<=":
            return latest <= asked
        case ">":
            return latest > asked
        case _:
            return latest < asked


# Packages


def requirements(project: str | None) -> str:
    """The packages that functions need, pinned by the project's lock, a line each; nothing where none are asked for."""
    if project is None or not asked_for(project):
        return ""
    if lock_of(project) is None:
        raise BuildError(
            f"{os.path.join(project, PROJECT_FILE)} asks for packages, but there is no {LOCK_FILE} that says which "
            f"versions: run `uv lock` in {project}."
        )
    options = ("--no-default-groups", "--no-emit-project", "--no-editable", "--prune", _OURS)
    layout = ("--no-hashes", "--no-header", "--no-annotate")
    answer = _uv(["export", "--locked", *options, *layout], cwd=project)
    if answer.returncode:
        raise BuildError(
            f"The lock of {project} cannot be used: {_telling(answer.stderr)} Run `uv lock` in that folder."
        )
    lines = (line.strip() for line in answer.stdout.splitlines())
    return "".join(f"{line}\n" for line in lines if line and not line.startswith("#"))


def install(
    requirements: str, folder: str, python: str | None, architecture: str | None, project: str | None = None
) -> Mapping[str, bytes]:
    """Install pinned packages into a folder; gives their files, which are read when they are asked for.

    Args:
        requirements: what `requirements` gave.
        folder: where to; it has to stay while the files are in use.
        python: the Python of the functions; None: that of this process, on this machine.
        architecture: their processor, as in the configuration; None with `python`.
        project: the project's folder, which paths in its lock start from.
    """
    if not requirements.strip():
        return {}
    target = () if python is None or architecture is None else tuple(_foreign(requirements, python, architecture))
    place = None if project is None else lock_of(project) or project
    options = ("--python", sys.executable, "--target", os.path.abspath(folder), "--no-deps", *target)
    answer = _uv(["pip", "install", *options, "--requirement", "-"], cwd=place, text=requirements)
    if answer.returncode:
        machine = f" for Python {python} on {architecture}" if target else ""
        raise BuildError(
            f"The packages cannot be installed{machine}: {_telling(answer.stderr)}{_way_out(answer, python)}"
        )
    return Installed(folder)


def _way_out(answer: CompletedProcess[str], python: str | None) -> str:
    if "No space left" in answer.stderr:
        return " Make room, or set TMPDIR and UV_CACHE_DIR to folders that have some."
    return " Lambda runs this Python on an older Linux; a newer one may have it." if python in _GLIBC else ""


def _foreign(requirements: str, python: str, architecture: str) -> Iterator[str]:
    """Options that install for Lambda's machines: what has a version as a wheel; what lies in a folder is built."""
    platform = f"{_PROCESSORS[architecture]}-{_GLIBC.get(python, _NEWER_GLIBC)}"
    yield from ("--python-version", python, "--python-platform", platform)
    for line in requirements.splitlines():
        if "==" in line.partition(";")[0]:
            yield from ("--only-binary", package_name(line))


def local_paths(requirements: str) -> tuple[str, ...]:
    """The requirements that are files or folders on this machine."""
    lines = (line.partition(" ;")[0].strip() for line in requirements.splitlines())
    return tuple(line for line in lines if line.startswith((".", "/", "file:", "-e ")))


class Installed(Mapping[str, bytes]):
    """The files of installed packages by their path, without what differs from one installation to the next."""

    def __init__(self, folder: str) -> None:
        self._origins = dict(sorted(_installed(folder)))

    def __getitem__(self, path: str) -> bytes:
        with open(self._origins[path], "rb") as file:
            return file.read()

    def __contains__(self, path: object) -> bool:
        return path in self._origins

    def __iter__(self) -> Iterator[str]:
        return iter(self._origins)

    def __len__(self) -> int:
        return len(self._origins)


def _installed(folder: str) -> Iterator[tuple[str, str]]:
    for here, _, names in os.walk(folder):
        origins = (os.path.join(here, name) for name in names)
        paths = ((os.path.relpath(origin, folder).replace(os.sep, "/"), origin) for origin in origins)
        yield from ((path, origin) for path, origin in paths if not _left_behind(path))


def _left_behind(path: str) -> bool:
    *folders, name = path.split("/")
    if not folders:
        return name == ".lock"  # uv's own
    told = folders[-1].endswith(".dist-info") and name in _DIFFERING
    return told or folders[0] == "bin" or "__pycache__" in folders or name.endswith(".pyc")


# uv


def _uv(arguments: Iterable[str], cwd: str | None, text: str | None = None) -> CompletedProcess[str]:
    import subprocess

    quiet = ("--quiet", "--no-progress", "--color", "never")
    return subprocess.run(  # noqa: S603 - the program is uv, the arguments are ours
        [*_uv_command(), *arguments, *quiet], cwd=cwd, input=text, capture_output=True, encoding="utf-8", check=False
    )


def _uv_command() -> list[str]:
    from importlib.util import find_spec
    from shutil import which

    found = which("uv")
    if found:
        return [found]
    if find_spec("uv") is None:
        raise BuildError(
            "The project's packages are installed by uv, which is not on this machine; get it with `pip install uv`."
        )
    return [sys.executable, "-m", "uv"]


def _telling(stderr: str) -> str:
    """The innermost cause in what uv writes, as a sentence."""
    told: list[str] = []
    goes_on = False
    for line in stderr.splitlines():
        match = re.match(r"\s*(?:error:|cause:|Caused by:|\u00d7|[╰├]─▶)\s*(.*)", line)
        if match:
            told, goes_on = [match[1]], True
            continue
        goes_on = goes_on and re.match(r"\s*(?:$|\w+:)", line) is None  # until an empty line, a hint or a warning
        if goes_on:
            told.append(line.strip("│ "))
    sentence = " ".join(told) or stderr.strip() or "nothing"
    return f"uv says: {sentence.rstrip('.')}."
