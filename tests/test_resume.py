"""Runs that are kept: what is reused, what runs again, and what survives a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ticking_flows as flows
from ticking_flows import tick

from lokki import LocalRunner, flow, step
from lokki.errors import RunError
from lokki.events import Event, MapStarted, silent
from lokki.runs import Runs
from lokki.store import LocalStore, MemoryStore

Ticks = Callable[[], Counter[str]]


def kept(graph: Any, run_id: str = "r", **options: Any) -> Any:
    return LocalRunner(listen=silent, **options).run(graph, run_id=run_id)


# --- what runs again


@pytest.mark.parametrize("executor", ["threads", "inline", "processes"])
def test_after_a_failed_item_only_what_is_missing_runs(
    executor: str, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL_AT", "900")
    with pytest.raises(ValueError, match="no 900"):
        kept(flows.counted_flow(1_000), executor=executor, workers=1)
    first = ticks()
    assert first["900"] == 1
    monkeypatch.delenv("FAIL_AT")
    assert kept(flows.counted_flow(1_000), executor=executor) == sum(range(1_000)) * 10
    again = ticks()
    assert not (set(first) - {"900"}) & set(again)
    assert again["900"] == again["total"] == 1
    assert kept(flows.counted_flow(1_000), executor=executor) == sum(range(1_000)) * 10
    assert ticks() == Counter()


def test_a_run_begun_with_threads_goes_on_in_processes_or_elsewhere(
    ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setenv("FAIL_AT", "7")
    with pytest.raises(ValueError, match="no 7"):
        kept(flows.counted_flow(10), executor="inline")
    monkeypatch.setenv("FAIL_AT", "9")
    with pytest.raises(ValueError, match="no 9"):
        kept(flows.counted_flow(10), executor="processes", workers=1)
    monkeypatch.delenv("FAIL_AT")
    assert kept(flows.counted_flow(10), pool=ThreadPoolExecutor(1)) == 450
    assert ticks() == Counter([*map(str, range(10)), "7", "9", "total"])


def test_an_item_that_changed_runs_again_and_the_others_do_not(ticks: Ticks) -> None:
    items = ["a", "b", "c"]

    @step
    def source(names: list[str]) -> list[str]:
        return names

    @step
    def seen(x: str) -> str:
        tick(x)
        return x.upper()

    @flow
    def growing(names: Any) -> Any:
        return source(names).map(seen)

    assert kept(growing(items)) == ["A", "B", "C"]
    assert ticks() == Counter("abc")
    assert kept(growing(["a", "x", "c", "d"])) == ["A", "X", "C", "D"]
    assert ticks() == Counter("xd")
    assert kept(growing(["a", "x"])) == ["A", "X"]
    assert ticks() == Counter()


def test_a_changed_argument_runs_that_step_and_what_its_result_changes(ticks: Ticks) -> None:
    @step
    def first(x: int) -> int:
        tick("first")
        return x

    @step
    def middle(x: int, sign: int) -> int:
        tick("middle")
        return abs(x * sign)

    @step
    def last(x: int) -> int:
        tick("last")
        return x

    @flow
    def arguments(sign: int) -> Any:
        return first(5).next(middle).next(last)

    assert kept(arguments(1)) == 5
    assert ticks() == Counter(["first", "middle", "last"])
    assert kept(arguments(-1)) == 5
    assert ticks() == Counter(["middle"])
    assert kept(arguments(2)) == 10
    assert ticks() == Counter(["middle", "last"])


def _versions(body: str, helper: str = "x") -> Any:
    """A flow whose step has this source."""
    space: dict[str, Any] = {"__name__": "versions"}
    source = f"""
        from lokki import flow, step
        from ticking_flows import tick

        def helper(x):
            return {helper}

        @step
        def start():
            return [1, 2]

        @step
        def work(x):
            tick(x)
            {body}

        @flow
        def versions():
            return start().map(work)
    """
    exec(textwrap.dedent(source), space)
    return space["versions"]()


def test_changed_code_of_a_step_runs_it_again_and_a_new_comment_does_not(ticks: Ticks) -> None:
    assert kept(_versions("return helper(x)")) == [1, 2]
    ticks()
    assert kept(_versions("return helper(x)  # the same")) == [1, 2]
    assert ticks() == Counter()
    assert kept(_versions("return helper(x) + 1")) == [2, 3]
    assert ticks() == Counter("12")
    assert kept(_versions("return helper(x) + 1", helper="x * 2")) == [3, 5]
    assert ticks() == Counter("12")


def test_a_map_that_was_begun_anew_is_whole_no_longer(ticks: Ticks) -> None:
    assert kept(_versions("return x * 10")) == [10, 20]
    with pytest.raises(ZeroDivisionError):
        kept(_versions("return x * 100 if x == 1 else 1 // 0"), executor="inline")
    ticks()
    assert kept(_versions("return x * 10")) == [10, 20]
    assert ticks() == Counter("1")


def test_a_step_of_another_name_runs_even_when_it_does_the_same(ticks: Ticks) -> None:
    def named(name: str, last: Any) -> Any:
        def work(x: Any) -> Any:
            tick(name)
            return x

        work.__name__ = name

        @flow
        def renaming() -> Any:
            return flows.numbers(2).map(step(work)).agg(last)

        return renaming()

    assert kept(named("one", flows.collected)) == [0, 1]
    assert kept(named("two", flows.total)) == 1
    assert ticks() == Counter(one=2, two=2, total=1)


def test_a_constant_that_is_written_out_in_the_file_counts_and_another_global_does_not(
    at_home: Path, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = at_home / "constants.py"

    def written(factor: int) -> str:
        path.write_text(
            "import os\nfrom lokki import flow, main, step\nfrom ticking_flows import tick\n"
            f"FACTOR = {factor}\nMODE = os.environ.get('MODE', '')\n"
            "@step\ndef one():\n    return [1, 2]\n"
            "@step\ndef work(x):\n    tick(x)\n    return x * FACTOR, MODE\n"
            '@flow\ndef constants():\n    return one().map(work)\nif __name__ == "__main__":\n    main(constants)\n'
        )
        root = os.path.dirname(flows.__file__)
        out, err = start(path, "run", "--run-id", "r", PYTHONPATH=root).communicate(timeout=30)
        return out or err

    assert written(3) == "[(3, ''), (6, '')]\n"
    assert ticks() == Counter("12")
    monkeypatch.setenv("MODE", "other")
    assert written(3) == "[(3, ''), (6, '')]\n"
    assert ticks() == Counter()
    assert written(4) == "[(4, 'other'), (8, 'other')]\n"
    assert ticks() == Counter("12")


@pytest.mark.parametrize("import_", ["from helper import price", "import helper\nprice = lambda x: helper.price(x)"])
def test_a_helper_in_another_module_of_ones_own_counts(at_home: Path, ticks: Ticks, import_: str) -> None:
    flow_file = at_home / "prices.py"
    flow_file.write_text(
        f"from lokki import flow, main, step\n{import_}\n@step\ndef one():\n    return [100]\n"
        "@step\ndef work(x):\n    return price(x)\n"
        '@flow\ndef prices():\n    return one().map(work)\nif __name__ == "__main__":\n    main(prices)\n'
    )
    for factor in (2, 3):
        (at_home / "helper.py").write_text(
            f"def price(x):\n    return rate(x) + 1\ndef rate(x):\n    return x * {factor}\n"
        )
        out, err = start(flow_file, "run", "--run-id", "r", PYTHONDONTWRITEBYTECODE="1").communicate(timeout=30)
        assert out == f"[{100 * factor + 1}]\n", err


def test_a_map_whose_source_was_renamed_and_renamed_back_is_right(ticks: Ticks) -> None:
    def renamed(name: str, numbers: list[int]) -> Any:
        def source() -> Any:
            return numbers

        source.__name__ = name

        @flow
        def names() -> Any:
            return step(source)().map(flows.double).agg(flows.total)

        return names()

    assert kept(renamed("fetch", [1, 2])) == 6
    assert kept(renamed("load", [100, 200])) == 600
    assert kept(renamed("fetch", [1, 2])) == 6


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_a_direct_body_that_ends_in_a_map(executor: str) -> None:
    def ending(direct: bool) -> Any:
        @flow
        def ends() -> Any:
            return flows.numbers(3).map(up_to.map(flows.double), direct_pass=direct)

        return ends()

    wanted = [[0, 2, 4], [200, 202, 204], [400, 402, 404]]
    for direct in (True, True, False, True):
        assert kept(ending(direct), executor=executor) == wanted


def test_code_given_as_an_argument_or_held_by_a_class_counts(ticks: Ticks) -> None:
    def given(n: int) -> Any:
        class Limits:
            high = n

        @step
        def apply(x: int, fn: Any) -> Any:
            tick(x)
            return fn(x), Limits.high

        @flow
        def applied() -> Any:
            return flows.numbers(1).map(apply, fn=(lambda x: x + 1) if n < 3 else (lambda x: x + 2))

        return applied()

    assert [kept(given(n)) for n in (1, 1, 2, 3)] == [[(1, 1)], [(1, 1)], [(1, 2)], [(2, 3)]]
    assert ticks() == Counter({"0": 3})


@step
def before(x: int) -> int:
    tick(f"before-{x}")
    return x


def test_inside_an_item_the_finished_steps_are_kept(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    @flow
    def body() -> Any:
        return flows.numbers(3).map([before, flows.ticked])

    monkeypatch.setenv("FAIL_AT", "1")
    with pytest.raises(ValueError, match="no 1"):
        kept(body(), executor="inline")
    assert ticks() == Counter(["before-0", "0", "before-1", "1"])
    monkeypatch.delenv("FAIL_AT")
    assert kept(body(), executor="inline") == [0, 10, 20]
    assert ticks() == Counter(["1", "before-2", "2"])


def test_a_direct_body_is_one_piece(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    @flow
    def body() -> Any:
        return flows.numbers(3).map([before, flows.ticked], direct_pass=True)

    monkeypatch.setenv("FAIL_AT", "1")
    with pytest.raises(ValueError, match="no 1"):
        kept(body(), executor="inline")
    ticks()
    monkeypatch.delenv("FAIL_AT")
    assert kept(body(), executor="inline") == [0, 10, 20]
    assert ticks() == Counter(["before-1", "1", "before-2", "2"])


@step
def up_to(n: Any) -> Any:
    return list(range(100 * n, 100 * n + 3))


@flow
def nested_flow() -> Any:
    return flows.numbers(3).map(up_to.map(flows.ticked).agg(flows.total)).agg(flows.collected)


@pytest.mark.parametrize("executor", ["inline", "threads", "processes"])
def test_maps_within_maps_keep_each_inner_item(executor: str, ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL_AT", "101")
    with pytest.raises(ValueError, match="no 101") as caught:
        kept(nested_flow(), executor=executor, workers=1)
    assert caught.value.__notes__ == ["in step 'ticked', item 1.1: 101"]
    first = ticks()
    monkeypatch.delenv("FAIL_AT")
    assert kept(nested_flow(), executor=executor) == [30, 3030, 6030]
    again = ticks()
    wanted = Counter(str(100 * n + k) for n in range(3) for k in range(3)) + Counter(total=3)
    assert first + again - Counter(["101"]) == wanted


def test_the_number_of_workers_batches_and_limits_may_change(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    def batched(size: int, limit: int | None) -> Any:
        @flow
        def batches() -> Any:
            return flows.numbers(10).map(flows.ticked, concurrency_limit=limit, batch_size=size)

        return batches()

    monkeypatch.setenv("FAIL_AT", "5")
    with pytest.raises(ValueError, match="no 5"):
        kept(batched(1, None), workers=1)
    done = ticks() - Counter(["5"])
    monkeypatch.delenv("FAIL_AT")
    assert kept(batched(3, 2), workers=4) == [x * 10 for x in range(10)]
    assert done + ticks() == Counter(map(str, range(10)))


def test_a_store_of_ones_own_resumes_within_a_session(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    monkeypatch.setenv("FAIL_AT", "3")
    with pytest.raises(ValueError, match="no 3"):
        kept(flows.counted_flow(5), store=store, executor="inline")
    monkeypatch.delenv("FAIL_AT")
    assert kept(flows.counted_flow(5), store=store) == 100
    assert ticks() == Counter(["0", "1", "2", "3", "3", "4", "total"])


def test_runs_with_other_ids_share_nothing(ticks: Ticks) -> None:
    kept(flows.counted_flow(2), run_id="one")
    kept(flows.counted_flow(2), run_id="two")
    assert ticks() == Counter({"0": 2, "1": 2, "total": 2})


def test_a_resumed_map_tells_how_much_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL_AT", "3")
    with pytest.raises(ValueError, match="no 3"):
        kept(flows.counted_flow(5), executor="inline")
    monkeypatch.delenv("FAIL_AT")
    events: list[Event] = []
    LocalRunner(listen=events.append).run(flows.counted_flow(5), run_id="r")
    started = next(event for event in events if isinstance(event, MapStarted))
    assert (started.total, started.reused) == (5, 3)


# --- where it lies


def test_outputs_lie_at_the_documented_keys(at_home: Path) -> None:
    import gzip
    import pickle

    kept(flows.counted_flow(3))
    run = at_home / ".lokki" / "counted-flow" / "runs" / "r"
    assert (at_home / ".lokki" / ".gitignore").read_text() == "*\n"
    with gzip.open(run / "numbers" / "output.pkl.gz") as file:
        assert pickle.load(file) == [0, 1, 2]
    with gzip.open(run / "total" / "output.pkl.gz") as file:
        assert pickle.load(file) == 30
    assert len(json.loads((run / "numbers" / "map_manifest.json").read_text())) == 3
    assert LocalStore(at_home / ".lokki").read("counted-flow/runs/r/ticked/2/output.pkl.gz") == 20
    record = json.loads((run / "run.json").read_text())
    assert (record["flow"], record["run_id"], record["status"]) == ("counted-flow", "r", "success")


def test_a_damaged_output_is_named(at_home: Path) -> None:
    from lokki.errors import StoreError

    kept(flows.counted_flow(3))
    path = at_home / ".lokki/counted-flow/runs/r/total/output.pkl.gz"
    data = path.read_bytes()
    path.write_bytes(data[:12] + b"\xff\xff" + data[14:])
    with pytest.raises(StoreError, match=r"counted-flow/runs/r/total/output\.pkl\.gz is damaged"):
        kept(flows.counted_flow(3))


def test_the_newest_runs_of_each_flow_are_kept(at_home: Path) -> None:
    (at_home / "lokki.toml").write_text("[local]\nkeep_runs = 2\n")
    for name in "abcd":
        kept(flows.counted_flow(1), run_id=name)
    kept(nested_flow(), run_id="other")
    runs = Runs(".lokki")
    assert [record.run_id for record in runs.all("counted-flow")] == ["d", "c"]
    assert [record.run_id for record in runs.all("nested-flow")] == ["other"]
    assert runs.last("counted-flow") == "d"


def test_runs_that_can_still_be_resumed_are_not_removed_for_newer_ones_that_succeeded(
    at_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (at_home / "lokki.toml").write_text("[local]\nkeep_runs = 1\n")
    monkeypatch.setenv("FAIL_AT", "0")
    for name in "ab":
        with pytest.raises(ValueError, match="no 0"):
            kept(flows.counted_flow(1), run_id=name)
    monkeypatch.delenv("FAIL_AT")
    for name in "cd":
        kept(flows.counted_flow(1), run_id=name)
    assert [record.run_id for record in Runs(".lokki").all()] == ["d", "b"]


def test_a_run_that_is_going_on_is_neither_pruned_nor_cleaned_nor_started_twice() -> None:
    runs = Runs(".lokki")
    with runs.open("counted-flow", "r"):
        assert [record.status for record in runs.all()] == ["running"]
        assert runs.clean() == []
        with pytest.raises(RunError, match=rf"Run 'r' of counted-flow is running already \(process {os.getpid()}\)"):
            kept(flows.counted_flow(1))
    assert [record.status for record in runs.all()] == ["killed"]
    assert [record.run_id for record in runs.clean("counted-flow", "r")] == ["r"]
    assert runs.all() == []


def test_what_run_json_says_of_its_place_is_not_believed(at_home: Path) -> None:
    victim = at_home / "victim"
    victim.mkdir()
    kept(flows.counted_flow(1))
    path = at_home / ".lokki/counted-flow/runs/r/run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "run_id": "../../../victim"}))
    assert [each.run_id for each in Runs(".lokki").clean()] == ["r"]
    assert victim.exists()


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 81, "a b", "-x"])
def test_a_bad_run_id_is_refused(name: str) -> None:
    with pytest.raises(RunError, match="cannot be a run id"):
        kept(flows.counted_flow(1), run_id=name)


def test_resuming_what_is_not_there_says_what_is() -> None:
    runs = Runs(".lokki")
    with pytest.raises(RunError, match="There is no run of counted-flow to resume"):
        runs.last("counted-flow")
    kept(flows.counted_flow(1))
    with pytest.raises(RunError, match="did you mean 'counted-flow'"):
        runs.last("counted-flows")
    with pytest.raises(RunError, match="There is no run 'x' of counted-flow"):
        runs.params("counted-flow", "x")


def test_a_state_folder_that_cannot_be_written_is_named(at_home: Path) -> None:
    (at_home / ".lokki").write_text("in the way")
    with pytest.raises(RunError, match=r"Run 'r' cannot be kept in .*\.lokki: "):
        kept(flows.counted_flow(1))


def test_parameters_that_cannot_be_kept_or_read_are_named(at_home: Path) -> None:
    import threading

    from lokki.errors import StoreError

    @flow
    def locked(lock: Any) -> Any:
        return flows.numbers(1)

    with pytest.raises(StoreError, match="parameters of the flow cannot be kept for resuming"):
        kept(locked(threading.Lock()))
    kept(flows.counted_flow(1))
    (at_home / ".lokki/counted-flow/runs/r/plan.pkl.gz").write_bytes(b"nothing")
    with pytest.raises(StoreError, match="start the run again with its parameters"):
        Runs(".lokki").params("counted-flow", "r")


# --- killed, interrupted

LONG = """
import os, sys, time
from lokki import flow, main, step

def tick(x):
    fd = os.open(os.environ["TICKS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{x}\\n".encode())
    os.close(fd)

@step
def numbers(n):
    return list(range(n))

@step
def work(x):
    tick(x)
    if os.environ.get("HOLD") == str(x):
        print("holding", flush=True)
        for _ in range(600):  # one long sleep would miss a signal that comes just before it
            time.sleep(0.1)
    return x

@step
def total(xs):
    tick("total")
    return sum(xs)

@flow
def long_flow(n: int = 10_000):
    return numbers(n).map(work).agg(total)

if __name__ == "__main__":
    main(long_flow)
"""


@pytest.fixture
def long(at_home: Path) -> Path:
    path = at_home / "long.py"
    path.write_text(LONG)
    return path


def start(path: Path, *arguments: str, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(path), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environ},
        start_new_session=True,
    )


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_after_kill_9_in_the_middle_no_acknowledged_part_is_lost_or_run_again(
    executor: str, long: Path, ticks: Ticks
) -> None:
    workers = 2
    options = ("run", "--run-id", "k", "--executor", executor, "--workers", str(workers))
    process = start(long, *options, HOLD="6000")
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    store = LocalStore(".lokki")
    acknowledged = {x for x in range(10_000) if store.find("long-flow", "k", "work", index=(x,))}
    store.close()
    first = ticks()
    assert len(acknowledged) >= 1_000
    assert len(set(map(int, first)) - acknowledged) <= workers
    out, err = start(long, *options).communicate(timeout=60)
    assert out == f"{sum(range(10_000))}\n", err
    again = ticks()
    assert not acknowledged & {int(each) for each in again if each != "total"}
    assert set(first) | set(again) == {*map(str, range(10_000)), "total"}
    assert max(again.values()) == 1


@pytest.mark.parametrize("executor", ["threads", "processes", "inline"])
def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(executor: str, long: Path, ticks: Ticks) -> None:
    process = start(long, "run", "--n", "50", "--executor", executor, "--workers", "2", HOLD="20")
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Interrupted. What is finished" in err
    assert ("[WARNING] Stopping: what is being worked on has 2s to finish" in err) == (executor != "inline")
    assert f"Go on with: python {long} run --resume" in err
    assert "Traceback" not in err
    before = ticks()
    out, err = start(long, "run", "--resume").communicate(timeout=60)
    assert out == f"{sum(range(50))}\n", err
    again = ticks()
    assert again["20"] == 1
    assert (before - Counter(["20"])) + again == Counter([*map(str, range(50)), "total"])
    assert [record.status for record in Runs(".lokki").all()] == ["success"]


def test_sigterm_is_taken_like_ctrl_c(long: Path) -> None:
    process = start(long, "run", "--n", "30", "--executor", "inline", HOLD="20")
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    process.terminate()
    _, err = process.communicate(timeout=20)
    assert process.returncode == 143
    assert "Interrupted. What is finished (20 of 30 items of work) is kept." in err
    assert [record.status for record in Runs(".lokki").all()] == ["interrupted"]


def test_a_second_process_with_the_same_run_id_says_so_and_stops(long: Path) -> None:
    process = start(long, "run", "--run-id", "same", "--n", "3", HOLD="1")
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    other = start(long, "run", "--run-id", "same", "--n", "3")
    _, err = other.communicate(timeout=20)
    assert other.returncode == 1
    assert f"error: Run 'same' of long-flow is running already (process {process.pid})" in err
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
