"""Where settings come from: files and the environment become one frozen `LokkiConfig`.

Each source is read into a layer, its names and values checked there, so that an error can say where it is written.
The layers are merged, lowest first: variables of all AWS tools, the user's file, the project's file, lokki's own
variables. `describe` and `reference` explain the outcome and the keys.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from lokki.errors import ConfigurationError, nearest
from lokki.settings import (
    AwsConfig,
    BatchConfig,
    IncludeConfig,
    Key,
    LambdaConfig,
    LocalConfig,
    LoggingConfig,
    LokkiConfig,
    SecretsConfig,
    Section,
    shown,
)

__all__ = [
    "AwsConfig",
    "BatchConfig",
    "IncludeConfig",
    "LambdaConfig",
    "LocalConfig",
    "LoggingConfig",
    "LokkiConfig",
    "SecretsConfig",
    "describe",
    "load_config",
    "reference",
]

Layer = tuple[dict[str, Any], dict[str, Any]]  # values by the path of their key; in the same shape, where they are from


def load_config(script: str | os.PathLike[str] | None = None) -> LokkiConfig:
    """The defaults, overridden by the user's file, then the project's file, then the environment.

    A variable of all AWS tools, such as AWS_REGION, counts where no file says anything.

    The project's file is in the current directory or, when there is none, beside `script`.
    """
    values: dict[str, Any] = {}
    origins: dict[str, Any] = {}
    warnings: list[str] = []
    for layer, marks in _layers(script, warnings):
        values, origins = _deep_merge(values, layer), _deep_merge(origins, marks)
    given: dict[str, Any] = {name: section(**_given(section, values)) for name, section in _SECTIONS.items()}
    given |= _given(LokkiConfig, values)
    return LokkiConfig(**given, warnings=tuple(warnings), origins=dict(_flat_origins(origins)))


def describe(config: LokkiConfig) -> list[tuple[str, str, str]]:
    """A row for every key: its value as TOML writes it and where that is from; a table has a row for each entry."""
    import json

    rows = []
    for section in (config, *(getattr(config, name) for name in _SECTIONS)):
        for name, key in section.known.items():
            value = getattr(section, name)
            not_loaded = "default" if value == key.default else "code"
            for path, item in (_entries(key.path, value) or {key.path: value}).items():
                rows.append((path, json.dumps(item, ensure_ascii=False), config.origins.get(path, not_loaded)))
    return rows


def reference() -> str:
    """The Markdown tables of all keys that docs/config.md holds."""
    return "\n".join(_markdown(section) for section in _ALL_SECTIONS)


def _markdown(section: type[Section]) -> str:
    title = f"### `[{section.table}]`\n\n{section.__doc__}" if section.table else "### Before any table"
    rows = [_markdown_row(key) for key in section.known.values()]
    return "\n".join([title, "", "| Key | Default | Environment | What it does |", "|---|---|---|---|", *rows, ""])


def _markdown_row(key: Key) -> str:
    import json

    env, old = (" or ".join(f"`{name}`" for name in names) for names in (key.env, key.old))
    notes = [key.about, key.rule("`"), old and f"older name: {old}"]
    usual = " or ".join(f"`{name}`" for name in key.usual)
    env += f"; in no file: {usual}" if usual else ""
    cells = [f"`{key.path}`", f"`{json.dumps(key.default)}`", env, "; ".join(filter(None, notes))]
    return f"| {' | '.join(cells)} |"


# The one table of keys, in the forms that the stages below need.
_SECTIONS: dict[str, type[Section]] = {
    name: type(section) for name, section in vars(LokkiConfig()).items() if isinstance(section, Section)
}
_ALL_SECTIONS: tuple[type[Section], ...] = (LokkiConfig, *_SECTIONS.values())
_KEYS = tuple(key for section in _ALL_SECTIONS for key in section.known.values())
_NAMES = frozenset(name for key in _KEYS for name in (key.path, *key.old))
_TABLES = frozenset(name[:at] for name in _NAMES for at, letter in enumerate(name) if letter == ".")


def _given(section: type[Section], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[key.path] for name, key in section.known.items() if key.path in values}


def _deep_merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `override` laid over it: tables merge, everything else is replaced."""
    merged = dict(base)
    for name, value in override.items():
        below = merged.get(name)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[name] = _deep_merge(below, value)
        else:
            merged[name] = value
    return merged


def _entries(path: str, value: Any) -> dict[str, Any]:
    """A table as one dotted path per entry, anything else under its own path."""
    if isinstance(value, Mapping):
        return {f"{path}.{name}": item for name, item in value.items()}
    return {path: value}


def _flat_origins(origins: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """An origin for every key, and for every entry of a table one of its own."""
    for key in _KEYS:
        entries = _entries(key.path, origins.get(key.path, "default"))
        yield from entries.items()
        yield key.path, ", ".join(dict.fromkeys(entries.values())) or "default"


def _layers(script: str | os.PathLike[str] | None, warnings: list[str]) -> Iterator[Layer]:
    """Lowest first. A file is named as its user knows it."""
    beside_script = os.path.dirname(os.fspath(script)) if script else ""
    yield _from_environment({key.path: key.usual for key in _KEYS})
    yield from _from_first_file((("~/.lokki", os.path.expanduser("~/.lokki")),), warnings)
    yield from _from_first_file((("", ""), (beside_script, beside_script)), warnings)
    yield _from_environment({key.path: key.env for key in _KEYS})


def _from_first_file(places: tuple[tuple[str, str], ...], warnings: list[str]) -> Iterator[Layer]:
    for known_as, directory in places:
        for name in ("lokki.toml", "lokki.yml", "lokki.yaml"):
            path = os.path.join(directory, name)
            if os.path.lexists(path):
                yield _from_file(path, os.path.join(known_as, name), warnings)
                return


def _from_environment(variables: Mapping[str, tuple[str, ...]]) -> Layer:
    """What variables say, by the path of their key; the first that is set counts."""
    values: dict[str, Any] = {}
    marks: dict[str, Any] = {}
    for key in _KEYS:
        for name in variables[key.path]:
            text = os.environ.get(name, "").strip()
            if text and key.path not in values:
                marks[key.path] = f"${name}"
                values[key.path] = key.checked(key.from_text(text), f"${name}")
    return values, marks


def _from_file(path: str, label: str, warnings: list[str]) -> Layer:
    """What a file says, under today's names."""
    text = _read(path, label)
    data = _parse_toml(text, label) if path.endswith(".toml") else _parse_yaml(text, label)
    written = dict(_written(data, "", label, warnings))
    values = {}
    for key in _KEYS:
        names = [name for name in (key.path, *key.old) if name in written]
        for name in names[:1]:
            values[key.path] = key.checked(written[name], label if name == key.path else f"{label}, as {name!r}")
        warnings += [f"{label}: {name!r} is ignored because {names[0]!r} is given too" for name in names[1:]]
    marks = {name: dict.fromkeys(value, label) if isinstance(value, dict) else label for name, value in values.items()}
    return values, marks


def _read(path: str, label: str) -> str:
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{label} cannot be read: it is not UTF-8 text") from error
    except OSError as error:
        raise ConfigurationError(f"{label} cannot be read: {error.strerror}") from error


def _parse_toml(text: str, label: str) -> Mapping[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        end = f"at line {len(text.splitlines())}, the end of the file"
        raise ConfigurationError(f"{label} is not valid TOML: {error}".replace("at end of document", end)) from error


def _parse_yaml(text: str, label: str) -> Mapping[str, Any]:
    import yaml

    try:
        data = yaml.safe_load(text)
    except (yaml.MarkedYAMLError, yaml.reader.ReaderError, ValueError) as error:
        raise ConfigurationError(f"{label} is not valid YAML: {_yaml_fault(error, text)}") from error
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise ConfigurationError(f"{label} must hold keys and values, not {shown(data)}")
    return data


def _yaml_fault(error: Any, text: str) -> str:
    """PyYAML tells what and where in two ways; of a date that does not exist it does not tell where."""
    if hasattr(error, "problem_mark"):
        return f"{error.problem} (at line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1})"
    if hasattr(error, "position"):
        line = text.count("\n", 0, error.position) + 1
        return f"{error.reason} (at line {line})"
    return str(error)


def _written(data: Mapping[Any, Any], prefix: str, label: str, warnings: list[str]) -> Iterator[tuple[str, Any]]:
    """The keys in a file by the dotted names that it uses; a name without a value gives nothing."""
    for name, value in data.items():
        path = f"{prefix}{name}"
        if path not in _NAMES | _TABLES:
            warnings.append(f"{label}: unknown key {path!r}{nearest(path, _suggestions())}")
        elif value is None:
            continue
        elif path in _NAMES:
            yield path, value
        elif isinstance(value, Mapping):
            yield from _written(value, f"{path}.", label, warnings)
        else:
            raise ConfigurationError(f"{path} must be a table, not {shown(value)} ({label})", path)


def _suggestions() -> list[str]:
    return [*(key.path for key in _KEYS), *(section.table for section in _SECTIONS.values())]
