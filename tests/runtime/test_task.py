"""A state at work: its retries and failures, what is kept of a child that fails, and what the log says of it all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import invoked_flows as flows
import pytest
from built_flows import config

from lokki.errors import GraphTypeError, StoreError
from lokki.runtime.handler import Worker, open_handler
from lokki.store import MemoryStore
from lokki.store.packing import unpack
from tests.runtime.machine import Machine, TaskFailed
from tests.runtime.packaged import Calls, Children, Lines, failure_of, is_retryable, package, put_in_the_way

GONE = ConnectionError("gone")


def pack(store: MemoryStore, key: str) -> list[bytes]:
    """The frames of a pack, empty where there is a hole."""
    items = unpack(store.blob(key))
    return [items.frame(at) for at in range(len(items) - 1)]


def records(store: MemoryStore, flow: str, run: str = "e1") -> dict[str, dict[str, Any]]:
    folder = f"{flow}/runs/{run}/errors/"
    return {key.removeprefix(folder): json.loads(store.blob(key)) for key in store.keys(folder)}


# Retries, as the state machine makes them


@pytest.mark.parametrize(
    ("made", "item", "node"),
    [
        (flows.alone_flow, "alone", "alone"),
        (flows.glide_chain_flow, 1, "glide"),
        (flows.glide_gathered_flow, 1, "glide"),
        (flows.glide_gathered_flow, "gathered", "gathered"),
        (flows.nested_glide_flow, 3, "glide"),
    ],
    ids=lambda each: str(getattr(each, "name", each)),
)
def test_what_succeeds_on_the_third_try_is_a_success(store: MemoryStore, made: Any, item: Any, node: str) -> None:
    given: dict[str, Any] = {"n": 1} if made is flows.glide_chain_flow else {}
    expected = Machine(made(), store=store).execute("e0", **given)
    machine = Machine(made(), store=store)
    whole = Machine(made(), store=MemoryStore())
    whole.execute(**given)
    put_in_the_way(item, GONE, flows.LostError("one of its kinds"))
    assert machine.execute("e1", **given) == expected
    assert machine.calls[node] == whole.calls[node] + 2
    assert machine.calls.total() == whole.calls.total() + 2


@pytest.mark.parametrize("errors", [[GONE] * 3, [ValueError("wrong")], [GONE, ValueError("wrong")]], ids=repr)
def test_what_goes_on_failing_ends_after_its_last_attempt(store: MemoryStore, errors: list[Exception]) -> None:
    machine = Machine(flows.glide_chain_flow(), store=store)
    put_in_the_way(1, *errors)
    with pytest.raises(TaskFailed, match=rf"{errors[-1]} \(in step 'glide'\)") as caught:
        machine.execute(n=1)
    assert caught.value.error == ("LokkiRetryable" if errors[-1] is GONE else "ValueError")
    assert machine.calls["glide"] == len(errors)


def test_a_failure_worth_a_retry_says_what_it_was(tmp_path: Path, store: MemoryStore) -> None:
    children = Children(flows.glide_flow(size=1), tmp_path, store, size=1)
    put_in_the_way(2, flows.LostError("gone"), flows.LostError("gone"), flows.LostError("gone"))
    for attempt in (0, 1, 9):  # calls that Lambda turned away count as attempts too, so any may be the first
        error = failure_of(lambda: children.answer("glide", 2, attempt))  # noqa: B023
        assert is_retryable(error)
        message, *trace = str(error).splitlines()
        assert message == "LostError: gone (in step 'glide', item 2: 2)"
        assert trace[0] == "Traceback (most recent call last):"
        assert "in meet_trouble" in "".join(trace)
        assert "lokki/runtime" not in "".join(trace)


@pytest.mark.parametrize("retried", [True, False])
@pytest.mark.parametrize("letter", ["x", "é", "🦉"])
def test_however_long_a_message_is_it_passes_the_state_machine(
    tmp_path: Path, store: MemoryStore, lines: Lines, letter: str, retried: bool
) -> None:
    children = Children(flows.glide_flow(size=1), tmp_path, store, size=1)
    lines()
    message = letter * 10_000_000
    put_in_the_way(2, ConnectionError(message) if retried else OSError(message))
    error = failure_of(lambda: children.answer("glide", 2))
    assert is_retryable(error) is retried
    assert 2_000 <= len(str(error)) < 12_000
    assert len(json.dumps(str(error))) < 200_000
    assert "in step 'glide', item 2: 2" in str(error)
    (line,) = lines()
    assert len(json.dumps(line)) < 262_144


# Failures of every kind


@pytest.mark.parametrize(
    ("error", "name", "told"),
    [
        (ValueError("wrong"), "ValueError", "ValueError: wrong"),
        (ValueError(), "ValueError", "ValueError"),
        (KeyboardInterrupt(), "KeyboardInterrupt", "KeyboardInterrupt"),
        (SystemExit(3), "SystemExit", "SystemExit: 3"),
        (GeneratorExit(), "GeneratorExit", "GeneratorExit"),
        (flows.MuteError(), "MuteError", "MuteError: (its message cannot be shown)"),
        (flows.UnsendableError(), "UnsendableError", "UnsendableError: cannot be sent"),
        (ExceptionGroup("many", [ValueError("wrong")]), "ExceptionGroup", "ExceptionGroup: many (1 sub-exception)"),
        (StoreError("a store of the user's own"), "StoreError", "StoreError: a store of the user's own"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_whatever_a_step_raises_is_told_once_and_leaves_under_its_name(
    tmp_path: Path, store: MemoryStore, lines: Lines, error: BaseException, name: str, told: str
) -> None:
    children = Children(flows.sized_flow(size=1), tmp_path, store, size=1)
    lines()
    put_in_the_way(2, error)
    left = failure_of(lambda: children.answer("flap", 2))
    assert type(left).__name__ == name
    assert str(left).startswith(f"{told} (in step 'flap', item 2: 2)\n")
    (line,) = lines()
    facts = {"level": "ERROR", "event": "step_fail", "step": "flap", "index": [2], "run_id": "e1", "error": told}
    assert {**line, **facts} == line
    assert line["flow_name"] == "sized-flow"
    assert {"ts", "duration", "message", "traceback"} <= line.keys()
    (record,) = records(store, "sized-flow").items()
    kept = {"step": "flap", "index": [2], "item": "2", "attempt": 0, "error": told, "traceback": line["traceback"]}
    assert record == ("flap/2.json", {"ts": record[1]["ts"], **kept})


def test_a_failure_in_a_map_within_a_map_names_both_places(store: MemoryStore) -> None:
    put_in_the_way(4, ValueError("wrong"))  # items of the maps inside: none, 1, 2 3, 3 4 5
    with pytest.raises(TaskFailed, match=r"ValueError: wrong \(in step 'flap', item 3\.1: 4\)"):
        Machine(flows.nested_flow(), store=store).execute()
    assert list(records(store, "nested-flow")) == ["flap/3/1.json"]


# Several items in one call


def test_only_what_failed_runs_again(tmp_path: Path, store: MemoryStore, ran: Calls, lines: Lines) -> None:
    children = Children(flows.glide_flow(size=7), tmp_path, store, size=7)
    key = "glide-flow/runs/e1/glide/0/partial.pack"
    put_in_the_way(2, GONE, GONE)
    put_in_the_way(5, GONE)
    ran(), lines()
    assert is_retryable(failure_of(lambda: children.answer("glide", 0, 0)))
    assert ran() == {f"glide:{at}": 1 for at in range(7)}
    assert [bool(frame) for frame in pack(store, key)] == [True, True, False, True, True, False, True]
    assert is_retryable(failure_of(lambda: children.answer("glide", 0, 1)))
    assert ran() == {"glide:2": 1, "glide:5": 1}
    assert [bool(frame) for frame in pack(store, key)] == [True, True, False, True, True, True, True]
    children.answer("glide", 0, 2)
    assert ran() == {"glide:2": 1}
    children.answer("total")
    assert store.load("glide-flow", "e1", "total") == 210
    told = [(line["event"], line["step"], line.get("index"), line.get("attempt")) for line in lines()]
    assert told == [
        ("step_retry", "glide", [2], 1),
        ("step_retry", "glide", [5], 1),
        ("step_retry", "glide", [2], 2),
        ("step_complete", "glide", [0], 2),
        ("step_start", "total", None, None),
        ("step_complete", "total", None, 0),
    ]


def test_where_nothing_was_finished_the_next_attempt_runs_it_all(
    tmp_path: Path, store: MemoryStore, ran: Calls
) -> None:
    children = Children(flows.glide_flow(n=2, size=2), tmp_path, store, n=2, size=2)
    for item in (0, 1):
        put_in_the_way(item, GONE)
    failure_of(lambda: children.answer("glide", 0, 0))
    assert [key for key in store.keys("") if "results" in key] == []
    ran()
    children.answer("glide", 0, 1)
    assert ran() == {"glide:0": 1, "glide:1": 1}


@pytest.mark.parametrize("size", [3, 7])
def test_a_flow_in_batches_computes_what_it_computes_one_by_one(store: MemoryStore, ran: Calls, size: int) -> None:
    for item, times in ((0, 2), (3, 1), (6, 2)):
        put_in_the_way(item, *[GONE] * times)
    machine = Machine(flows.glide_flow(size=size), store=store)
    assert machine.execute(size=size) == 210
    tries = {"glide:0": 3, "glide:3": 2, "glide:6": 3}
    assert ran() == {"numbers": 1, "total": 1, **{f"glide:{at}": 1 for at in range(7)}, **tries}


def test_a_failure_for_good_keeps_what_was_finished(tmp_path: Path, store: MemoryStore, ran: Calls) -> None:
    put_in_the_way(4, ValueError("wrong"))
    children = Children(flows.glide_flow(size=7), tmp_path, store, size=7, run_id="mine")
    assert type(failure_of(lambda: children.answer("glide", 0))).__name__ == "ValueError"
    frames = pack(store, "glide-flow/runs/mine/glide/0/partial.pack")
    assert [bool(frame) for frame in frames] == [True] * 4 + [False] * 3
    ran()
    assert Machine(flows.glide_flow(size=7), store=store).execute("e2", size=7, run_id="mine") == 210
    assert ran() == {"glide:4": 1, "glide:5": 1, "glide:6": 1, "total": 1}


def test_the_results_of_an_execution_before_are_no_attempt_of_this_one(store: MemoryStore, ran: Calls) -> None:
    machine = Machine(flows.glide_flow(n=2, size=2), store=store)
    assert machine.execute("e1", n=2, size=2, run_id="mine", cache_enabled=False) == 10
    for item in (0, 1):
        put_in_the_way(item, GONE)
    ran()
    machine.execute("e2", n=2, size=2, run_id="mine", cache_enabled=False)
    assert ran() == {"numbers": 1, "glide:0": 2, "glide:1": 2, "total": 1}


# A body in one place


def test_steps_of_a_body_in_one_place_are_tried_again_there(store: MemoryStore, ran: Calls, lines: Lines) -> None:
    put_in_the_way(1, GONE, GONE)
    machine = Machine(flows.direct_flow(), store=store)
    assert machine.execute() == 600
    assert machine.calls["numbers-map"] == 4
    assert ran() == {
        "numbers": 1,
        "total": 1,
        **{f"glide:{at}": 1 for at in range(4)},
        "glide:1": 3,
        **{f"flap:{10 * at}": 1 for at in range(4)},
    }
    assert [line["index"] for line in lines() if line["event"] == "step_retry"] == [[1], [1]]


def test_a_body_in_one_place_names_the_step_that_failed(store: MemoryStore, lines: Lines) -> None:
    put_in_the_way(20, ValueError("wrong"))
    with pytest.raises(TaskFailed, match=r"ValueError: wrong \(in step 'flap', item 2: 2\)") as caught:
        Machine(flows.direct_flow(), store=store).execute()
    assert caught.value.error == "ValueError"
    (line,) = (line for line in lines() if line["level"] == "ERROR")
    assert (line["step"], line["index"]) == ("flap", [2])


# The log


def test_every_line_says_what_when_and_where(store: MemoryStore, lines: Lines) -> None:
    machine = Machine(flows.sized_flow(), store=store)
    machine.execute()
    told = lines()
    for line in told:
        assert {"level", "ts", "event", "run_id", "flow_name", "step", "step_name", "message"} <= line.keys()
        assert (line["level"], line["run_id"], line["flow_name"]) == ("INFO", "e1", "sized-flow")
    finished = [line for line in told if line["event"] == "step_complete"]
    assert len(finished) == machine.calls.total()
    assert all(line["duration"] >= 0 and line["status"] == "success" for line in finished)
    assert [(line["step"], line.get("index"), line.get("items")) for line in finished] == [
        ("numbers", None, None),
        ("flap", [0], 3),
        ("flap", [3], 3),
        ("flap", [6], None),
        ("total", None, None),
    ]


def test_what_was_reused_is_told_as_reused(store: MemoryStore, lines: Lines) -> None:
    machine = Machine(flows.sized_flow(), store=store)
    machine.execute(run_id="mine")
    lines()
    machine.execute("e2", run_id="mine")
    finished = [line["status"] for line in lines() if line["event"] == "step_complete"]
    assert finished == ["reused"] * 5


Spoil = Callable[[MemoryStore], None]


def removed(key: str) -> Spoil:
    return lambda store: store._delete(key)


def replaced(key: str, data: bytes = b"owl") -> Spoil:
    return lambda store: store._blobs.update({key: data})


RUN = "sized-flow/runs/e1"
PART = f"{RUN}/flap/0/results.pack"


@pytest.mark.parametrize(
    ("spoil", "node", "at", "said"),
    [
        (removed(f"{RUN}/numbers/items.pack"), "flap", 1, f"Nothing is stored at {RUN}/numbers/items.pack"),
        (replaced(f"{RUN}/numbers/items.pack"), "flap", 1, f"{RUN}/numbers/items.pack is damaged (item 3: "),
        (removed(f"{RUN}/numbers/map_manifest.json"), "total", None, f"stored at {RUN}/numbers/map_manifest.json"),
        (replaced(f"{RUN}/numbers/map_manifest.json"), "total", None, f"{RUN}/numbers/map_manifest.json is damaged ("),
        (removed(PART), "total", None, f"{PART} holds 0 of 3 results"),
        (replaced(PART), "total", None, f"{PART} is damaged (packed items are "),
        (removed(f"{RUN}/flap/6/output.pkl.gz"), "total", None, f"Nothing is stored at {RUN}/flap/6/output.pkl.gz"),
        (replaced(f"{RUN}/flap/6/output.pkl.gz"), "total", None, f"{RUN}/flap/6/output.pkl.gz is damaged ("),
    ],
    ids=["no items", "items", "no manifest", "manifest", "no pack", "pack", "no part", "part"],
)  # fmt: skip
def test_a_value_that_is_gone_or_damaged_leaves_one_line(
    tmp_path: Path, store: MemoryStore, lines: Lines, spoil: Spoil, node: str, at: int | None, said: str
) -> None:
    children = Children(flows.sized_flow(), tmp_path, store)
    for each in range(3):
        children.answer("flap", each)
    spoil(store)
    children.worker = Worker(children.worker.program, store)  # another process, which has read nothing yet
    lines()
    error = failure_of(lambda: children.answer(node, at))
    assert said in str(error)
    (line,) = (line for line in lines() if line["level"] != "INFO")
    assert (line["level"], line["event"], line["step"], line["run_id"]) == ("ERROR", "step_fail", node, "e1")
    assert line.get("index") == (None if at is None else [3])
    assert said in line["error"]


def test_the_input_of_a_step_that_is_gone_leaves_one_line(store: MemoryStore, tmp_path: Path, lines: Lines) -> None:
    children = Children(flows.sized_flow(), tmp_path, store)
    children.worker.answer({"lokki": "numbers", "execution": "e9", "params": {}}, "numbers")
    store._delete("sized-flow/runs/e9/")
    lines()
    children.run = "e9"
    assert "Nothing is stored at sized-flow/runs/e9/numbers/" in str(failure_of(lambda: children.answer("flap", 1)))
    (line,) = lines()
    assert (line["level"], line["step"], line["index"], line["run_id"]) == ("ERROR", "flap", [3], "e9")


@pytest.mark.parametrize(("size", "where"), [(1, " for item 2"), (3, ": item 2")])
def test_a_result_that_cannot_be_stored_names_its_item(store: MemoryStore, lines: Lines, size: int, where: str) -> None:
    said = f"The result of step 'locked'{where}: a value of type lock cannot be stored, because it cannot be pickled"
    with pytest.raises(TaskFailed, match=said) as caught:
        Machine(flows.locked_flow(size=size), store=store).execute(size=size)
    assert caught.value.error == "StoreError"
    (line,) = (line for line in lines() if line["level"] == "ERROR")
    assert (line["step"], line["run_id"]) == ("locked", "e1")


@pytest.mark.parametrize(
    ("size", "node", "said"),
    [
        (1, "moulted", "The result of step 'moulted' for item 0: a stored value cannot be read back: "),
        (2, "echo", "moulted-flow/runs/e1/moulted/0/results.pack is damaged (item 0: a stored value cannot be read"),
    ],
)
def test_a_result_that_cannot_be_read_back_is_told(
    store: MemoryStore, lines: Lines, size: int, node: str, said: str
) -> None:
    with pytest.raises(TaskFailed) as caught:
        Machine(flows.moulted_flow(size=size), store=store).execute(size=size)
    (line,) = (line for line in lines() if line["level"] == "ERROR")
    assert line["step"] == node
    for told in (str(caught.value), line["error"]):
        assert said in told
        assert "ValueError: moulted" in told


def test_a_map_over_what_is_no_list_names_the_step(store: MemoryStore, lines: Lines) -> None:
    with pytest.raises(TaskFailed, match=r"Step 'text' returned 'owl' of type str") as caught:
        Machine(flows.mute_map_flow(), store=store).execute()
    assert caught.value.error == GraphTypeError.__name__
    (line,) = (line for line in lines() if line["level"] == "ERROR")
    assert line["step"] == "text"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "ModuleNotFoundError: No module named 'finches'"),
        ("import no_such_library\n", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("raise SystemExit(0)\n", "SystemExit: 0"),
        ("def :\n", "SyntaxError: "),
        ("from lokki import step\n@step(job_type='gpu')\ndef a(): ...\n", "GraphValidationError: job_type must be"),
    ],
    ids=["missing", "library", "exit", "syntax", "flow"],
)
def test_a_module_that_cannot_be_imported_leaves_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: Lines, text: str | None, said: str
) -> None:
    if text is not None:
        (tmp_path / "finches.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
    folder = package(flows.chain_flow(), tmp_path / "package")
    with pytest.raises(BaseException, match=r"(?s).*"):
        open_handler("finches", "numbers", folder)
    (line,) = lines()
    assert (line["level"], line["step"], line["module"]) == ("ERROR", "numbers", "finches")
    assert line["error"].startswith(said)


def test_a_package_without_its_flow_leaves_one_line(tmp_path: Path, lines: Lines) -> None:
    with pytest.raises(FileNotFoundError):
        open_handler(flows.__name__, "numbers", str(tmp_path))
    (line,) = lines()
    assert (line["level"], line["step"]) == ("ERROR", "numbers")
    assert "lokki_flow.json" in line["error"]


# Values that are easily lost


def test_nothing_is_a_result_like_any_other(store: MemoryStore) -> None:
    assert Machine(flows.nothing_flow(), store=store).execute() == {"value": None, "by": 1}


def test_jobs_share_the_machine_with_functions(store: MemoryStore, ran: Calls) -> None:
    put_in_the_way(1, GONE)
    assert Machine(flows.soar_flow(), config(), store).execute() == 60
    assert ran()["soar:1"] == 2
