"""Results that are still on their way, and the values that lineage follows."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import threading
import weakref
from typing import Any

import pytest

from twingraph import component, pipeline
from twingraph.lineage import Tracker, content_hash, parent_hashes


def test_a_result_on_its_way_waits_for_whoever_reads_it() -> None:
    gate = threading.Event()

    @component
    def wait_for_it() -> dict[str, int]:
        assert gate.wait(30)
        return {"x": 1}

    @pipeline
    def readers() -> list[Any]:
        made = []
        for read in (
            dict,
            json.dumps,
            pickle.dumps,
            len,
            list,
            copy.deepcopy,
            lambda each: each == {},
            lambda each: each | {},
        ):
            gate.clear()
            result = wait_for_it(parent_hash="x")
            assert not result.done
            assert repr(result).endswith("not done yet>")
            assert len(result["hash"]) == 64
            gate.set()
            made.append(read(result))
        return made

    as_dict, text, pickled, size, keys, copied, equal, joined = readers()
    assert as_dict["outputs"] == copied["outputs"] == joined["outputs"] == json.loads(text)["outputs"] == {"x": 1}
    assert pickle.loads(pickled)["x"] == 1
    assert (size, keys, equal) == (3, ["outputs", "hash", "status"], False)


def test_what_names_parents() -> None:
    class Gone:
        pass

    result = component(name="give")(lambda: 1)()
    assert parent_hashes("c", "a", ["b", "a", None], "") == ("a", "b")
    assert parent_hashes("c", result, [{"hash": "h"}, result]) == (result.hash, "h")
    assert parent_hashes("c", None, []) == ()
    for wrong in (3, Gone(), {"no": "hash"}):
        with pytest.raises(TypeError, match="parent_hash takes a hash"):
            parent_hashes("c", wrong)


def test_a_function_that_takes_parent_hash_gets_it_too() -> None:
    @component
    def looks(parent_hash: Any = None) -> Any:
        return parent_hash

    assert looks(parent_hash="abc").value == "abc"


def test_the_content_hash_is_that_of_code_inputs_and_parents() -> None:
    base = content_hash("c", "code", {"x": [1, {"a": 2}], "y": "t"}, ["p"])
    assert base == content_hash("c", "code", {"y": "t", "x": [1, {"a": 2}]}, ["p"])
    others = [
        content_hash("d", "code", {"x": [1, {"a": 2}], "y": "t"}, ["p"]),
        content_hash("c", "edoc", {"x": [1, {"a": 2}], "y": "t"}, ["p"]),
        content_hash("c", "code", {"x": [1, {"a": 3}], "y": "t"}, ["p"]),
        content_hash("c", "code", {"x": [1, {"a": 2}], "y": "t"}, ["q"]),
    ]
    assert len({base, *others}) == 5
    assert base[1]
    assert content_hash("c", "code", {"lock": threading.Lock()}, [])[1] is False


def test_values_are_followed_only_as_long_as_somebody_holds_them() -> None:
    class Held:
        pass

    tracker = Tracker()
    kept, dropped = Held(), Held()
    gone = weakref.ref(dropped)
    tracker.gave("k", kept, {}, None)
    tracker.gave("d", [dropped], {}, None)
    del dropped
    for number in range(40):
        tracker.gave(str(number), Held(), {}, None)
    gc.collect()
    assert gone() is None
    assert tracker.sources([kept]) == ("k",)


def test_values_that_python_shares_are_not_followed() -> None:
    tracker = Tracker()

    def gives() -> str:
        return "a constant of the code"

    def words() -> list[str]:
        return ["a first constant", "another constant", "a third constant"]  # which lie in a tuple of the code

    tracker.gave("w", words(), {}, words.__code__)
    tracker.gave("h", gives(), {"small": 7, "word": "duck", "none": None, "flag": True, "letter": "x"}, gives.__code__)
    assert tracker.sources([gives(), 7, None, True, "x", "duck", *words()]) == ()
    made = " ".join(["made", "while running"])
    tracker.gave("h", made, {}, gives.__code__)
    assert tracker.sources([made]) == ("h",)


def test_large_values_are_let_go_although_many_small_ones_are_kept() -> None:
    tracker = Tracker()
    gone: list[int] = []
    kept = [[f"value {number}"] for number in range(1000)]
    for each in kept:
        tracker.gave("k", each, {}, None)

    class Large:
        pass

    for _ in range(200):
        large = Large()
        weakref.finalize(large, gone.append, 1)
        tracker.gave("l", {"large": large}, {}, None)
        del large
    assert len(gone) > 100
    assert tracker.sources([kept[0]]) == ("k",)
