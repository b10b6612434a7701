from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from lokki.params import Parameter, coerce, describe, json_schema, usage

IDS = {2, 1}
DAYS = {"a": date(2024, 1, 1)}
TABLE = {"x": Fraction(1, 2)}


class Mode(StrEnum):
    FAST = "quick"


def every_kind(
    when: datetime,
    path: Path = Path("a"),
    share: Decimal = Decimal("0.1"),
    mode: Mode = Mode.FAST,
    unit: Literal["m", 1] | None = None,
    ids: set[int] = IDS,
    pair: tuple[int, str] = (1, "b,c"),
    days: Mapping[str, date] = DAYS,
    limit: float = float("inf"),
    half: Fraction = Fraction(1, 2),
    table: dict[str, Any] = TABLE,
    n: Any = 5,
    **others: bool,
) -> None:
    pass


def test_json_schema() -> None:
    schema = json_schema(describe(every_kind))
    assert json.loads(json.dumps(schema)) == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "when": {"type": "string", "format": "date-time"},
            "path": {"type": "string", "default": "a"},
            "share": {"type": ["number", "string"], "default": "0.1"},
            "mode": {"enum": ["FAST"], "default": "FAST"},
            "unit": {"anyOf": [{"type": "null"}, {"enum": ["m", 1]}], "default": None},
            "ids": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "default": [1, 2]},
            "pair": {
                "type": "array",
                "prefixItems": [{"type": "integer"}, {"type": "string"}],
                "minItems": 2,
                "maxItems": 2,
                "default": [1, "b,c"],
            },
            "days": {
                "type": "object",
                "additionalProperties": {"type": "string", "format": "date"},
                "default": {"a": "2024-01-01"},
            },
            "limit": {"type": "number"},
            "half": {},
            "table": {"type": "object", "additionalProperties": {}},
            "n": {"type": "integer", "default": 5},
        },
        "required": ["when"],
        "additionalProperties": {"type": "boolean"},
    }


def test_a_union_names_each_of_its_forms_once() -> None:
    def read(at: str | Path, files: str | Path | list[str | Path]) -> None:
        pass

    found = json_schema(describe(read))["properties"]
    text = {"type": "string"}
    assert found == {"at": text, "files": {"anyOf": [{"type": "array", "items": text}, text]}}


def test_other_names_are_excluded_unless_the_flow_takes_them() -> None:
    assert json_schema(describe(lambda count=5: None))["additionalProperties"] is False
    assert json_schema(describe(lambda count=5, **rest: None))["additionalProperties"] == {}


def test_the_defaults_of_the_schema_are_accepted() -> None:
    properties: Any = json_schema(describe(every_kind))["properties"]
    for parameter in describe(every_kind):
        if "default" in properties.get(parameter.name, {}):
            assert coerce(parameter, properties[parameter.name]["default"]) == parameter.default


def test_usage() -> None:
    assert usage(describe(every_kind)) == [
        ("--when", "datetime (YYYY-MM-DDTHH:MM:SS)", "", True),
        ("--path", "path", "a", False),
        ("--share", "decimal number", "0.1", False),
        ("--mode", "one of: FAST", "FAST", False),
        ("--unit", "one of: m, 1", "none", False),
        ("--ids", "list of integers", "1,2", False),
        ("--pair", "list of 2 values", '[1, "b,c"]', False),
        ("--days", "JSON object", '{"a": "2024-01-01"}', False),
        ("--limit", "number", "inf", False),
        ("--half", "Fraction", "1/2", False),
        ("--table", "JSON object", "{'x': Fraction(1, 2)}", False),
        ("--n", "integer", "5", False),
        ("--NAME", "boolean (true or false)", "", False),
    ]
    assert usage([Parameter("count", bool, True), Parameter("count")]) == [
        ("--count", "boolean (true or false)", "true", False),
        ("--count", "text", "none", False),
    ]
