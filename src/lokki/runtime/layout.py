"""Where the results of a map's items lie, whatever children made them.

An execution that mends an earlier one may be cut into children of another size. It finds what is finished by looking at
what is there, once per process: an output for an item alone, a pack for several from its first one on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from typing import NamedTuple

from lokki.store.protocol import OUTPUT, TransientStore

RESULTS = "results.pack"
PARTIAL = "partial.pack"
"""The results of a child that has not finished all of its items."""
_LAYOUTS = 32


class Layout(NamedTuple):
    """The places of a step's results within one map: items that have an output, and the first items of packs."""

    alone: frozenset[int]
    packs: tuple[int, ...]

    def pack_of(self, item: int) -> int | None:
        """The first item of the pack that may hold an item."""
        at = bisect_right(self.packs, item)
        return self.packs[at - 1] if at else None


class Layouts:
    """Layouts by the folder of a step, read once."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], Layout] = OrderedDict()

    def of(self, store: TransientStore, folder: str, during: str) -> Layout:
        """What there was in a folder when it was first looked at during an execution."""
        known = self._known.get((during, folder))
        if known is None:
            known = self._known[during, folder] = _read(store, folder)
            while len(self._known) > _LAYOUTS:
                self._known.popitem(last=False)
        return known


def _read(store: TransientStore, folder: str) -> Layout:
    alone, packs = set(), set()
    for key in store.keys(folder):
        match key.removeprefix(f"{folder}/").split("/"):
            case [item, name] if item.isdecimal() and name == OUTPUT:
                alone.add(int(item))
            case [item, name] if item.isdecimal() and name in (RESULTS, PARTIAL):
                packs.add(int(item))
    return Layout(frozenset(alone), tuple(sorted(packs)))
