"""Which execution is next for whoever runs them: the oldest that waits, or one only, which may be handed over to it."""

from __future__ import annotations

from collections.abc import Sequence

from lokki.frozen import frozen
from twingraph.executions import requests
from twingraph.executions.repository import Repository
from twingraph.server.recovery import name_of_this


@frozen
class Once:
    """That one execution only is run: this one, or the oldest. The ticket is that of the job it was launched as."""

    execution: str = ""
    ticket: str = ""


class Claiming:
    """Claims executions.

    Attributes:
        name: who claims.
        last: whether nothing more is to be claimed.
        taken: where it is one only, that one.
    """

    def __init__(self, graph: Repository, once: Once | None) -> None:
        self._graph = graph
        self._once = once
        self.name = f"{name_of_this()} {once.ticket if once else ''}".rstrip()
        self.last = False
        self.taken = ""

    @property
    def alone(self) -> bool:
        """Whether it is one only, so that others see to all else."""
        return self._once is not None

    def take(self, served: Sequence[str], ticket: str = "") -> str | None:
        """The next execution; of workflows that files define only these. With a ticket, for a job that is to be."""
        if self._once is None:
            return requests.claim(self._graph, f"{self.name} {ticket}".rstrip(), served=served)
        self.last = True
        self.taken = self._only(self._once, served) or ""
        return self.taken or None

    def _only(self, once: Once, served: Sequence[str]) -> str | None:
        if not once.ticket:
            return requests.claim(self._graph, self.name, once.execution, None if once.execution else served)
        return once.execution if requests.hand_over(self._graph, once.execution, once.ticket, self.name) else None
