"""From a flow to what AWS takes: code, a state machine and a template, made offline from graph, configuration and lock.

The stages hand on data. What must exist (`resources`) is written down as states (`state_machine`) and as templates
(`cloudformation`, `sam`). The project's files (`source`), what they depend on (`dependencies`) and the flow's shape
(`program`) give the code of functions and jobs (`package`). `builder` puts them together and is the only one to write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lokki.builder.builder import Builder, Bundle
    from lokki.builder.package import Package
    from lokki.builder.source import Source

__all__ = ["Builder", "Bundle", "Package", "Source"]

_HOME = {"Builder": "builder", "Bundle": "builder", "Package": "package", "Source": "source"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
