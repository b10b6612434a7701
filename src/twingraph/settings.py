"""stand-in until the graph's lands."""

from __future__ import annotations

import os

from lokki.frozen import frozen


@frozen
class Settings:
    record: bool


def load_settings() -> Settings:
    return Settings(os.environ.get("TWINGRAPH_RECORD", "on") != "off")
