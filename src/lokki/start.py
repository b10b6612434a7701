"""`main`, with which a flow file ends. It is imported by every flow file, the command line only when it is used:
a worker process or a deployed function, which imports the file too, does not pay for it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lokki.decorators import Flow
from lokki.errors import GraphTypeError

_ELSEWHERE = ("__mp_main__", "__lokki_main__")  # what other processes call the file that was started
_loading: list[str] = []


def main(flow_fn: Flow, argv: Sequence[str] | None = None) -> None:
    """The command line of a flow file.

    Put it at the end of the file: `if __name__ == "__main__": main(my_flow)`.

    Args:
        flow_fn: the flow, a function with @flow.
        argv: the arguments; by default those of the process.
    """
    if not isinstance(flow_fn, Flow):
        raise GraphTypeError(f"main() takes a flow, not {flow_fn!r:.60}. Is its @flow missing?")
    if _loading or "LOKKI_STEP_NAME" in os.environ or flow_fn.fn.__module__ in _ELSEWHERE:
        return  # the file is only imported: by `lokki run`, a worker process or a function, and nothing guards the call
    from importlib import import_module

    import_module("lokki.cli").command_line(flow_fn, argv)


@contextmanager
def loading(path: str) -> Iterator[None]:
    """While a flow file is imported, its own `main()` does nothing."""
    _loading.append(path)
    try:
        yield
    finally:
        _loading.pop()
