"""Executing what a build would deploy, on this machine: the same state machine, the same packages, no account.

with simulation(birds_flow(), load_config()) as simulated:
    assert simulated.execute({"n": 3}).value == LocalRunner().run(birds_flow(n=3))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lokki.simulate.engine import Engine, Execution
    from lokki.simulate.machine import Counts
    from lokki.simulate.simulating import Outcome, Simulation, StepError, same, simulation

__all__ = ["Counts", "Engine", "Execution", "Outcome", "Simulation", "StepError", "same", "simulation"]

_HOME = {"Counts": "machine", "Engine": "engine", "Execution": "engine"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME.get(name, 'simulating')}"), name)
