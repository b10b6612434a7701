"""After new code went to functions directly CloudFormation records it; whatever comes next waits for the end of that.

The change set that records, and the request that executes it, have names that begin alike. So a deployment and a
removal that find a stack at work know whether that is the end of the last deployment, or somebody else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from lokki.aws import reasons
from lokki.aws.client import Aws
from lokki.aws.stacks import Event, Stack, State
from lokki.errors import AwsError

RECORD = "lokki-code-"
"""Begins the names of change sets that only record what the functions have already."""


def settled(
    aws: Aws,
    stack: Stack,
    kind: Callable[[str], AwsError],
    tell: Callable[[str], object],
    *,
    but: Collection[str] = (),
) -> State | None:
    """The state of a stack once nothing is under way: a record is waited for, other work is an error.

    Args:
        kind: makes the error.
        tell: hears that there is something to wait for.
        but: states of work that are no error.
    """
    state = stack.state()
    begun = stack.work(state.id) if state is not None and state.busy else None
    if state is not None and state.busy and _records(state, begun):
        tell("CloudFormation is still recording the code of the last deployment: waiting for it ...")
        stack.watch(state.id, "", lambda _: None)
        state = stack.state()
    if state is not None and state.busy and state.status not in but:
        raise kind(reasons.under_way(state, begun, aws))
    return state


def _records(state: State, begun: Event | None) -> bool:
    return f"/{RECORD}" in state.change_set or (begun is not None and begun.token.startswith(RECORD))
