"""The store in a folder keeps the contract, and what is on disk is what is documented; nothing acknowledged is lost."""

from __future__ import annotations

import gc
import gzip
import os
import pickle
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lokki.codec import LARGE, SEAL_SIZE, Seal, digest, encode, read_seal
from lokki.errors import StoreError
from lokki.store import LocalStore, open_store
from tests.contracts.store import HERE, KEYS, NOISE, TAG, StoreContract

RUN = Path("birds") / "runs" / "r1"
STEP = RUN / "flap"
INDICES = [(), (3,)]
SIZES = [1, LARGE]


class LocalContract(StoreContract):
    def held(self, store: Any, key: str) -> bytes:
        return (Path(store.base_dir) / key).read_bytes()

    def spoil(self, store: Any, key: str, data: bytes) -> None:
        (Path(store.base_dir) / key).write_bytes(data)


class TestLocalStore(LocalContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[LocalStore]:
        made = LocalStore(tmp_path / "state")
        yield made
        made.close()


class TestTemporaryLocalStore(LocalContract):
    @pytest.fixture
    def store(self) -> Iterator[LocalStore]:
        made = LocalStore()
        yield made
        made.cleanup()
        assert not Path(made.base_dir).exists()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    made = LocalStore(tmp_path / "state")
    yield made
    made.close()


def files(store: LocalStore) -> list[str]:
    """What lies in the store's folder."""
    base = Path(store.base_dir)
    return sorted(str(path.relative_to(base)) for path in base.rglob("*") if path.is_file())


# --- what is on disk


def test_a_store_is_opened_by_its_kind(tmp_path: Path) -> None:
    store = open_store("local", base_dir=tmp_path)
    assert isinstance(store, LocalStore)
    assert store.shared


def test_a_folder_given_relatively_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore("state")
    monkeypatch.chdir("/")
    store.write(*HERE, 1)
    assert files(store) == [str(STEP / "output.pkl.gz")]
    assert (tmp_path / "state" / STEP / "output.pkl.gz").exists()


@pytest.mark.parametrize("size", SIZES)
def test_an_output_is_a_gzip_of_a_pickle_at_its_key(store: LocalStore, size: int) -> None:
    value = {"at": (1, 2), "noise": NOISE[:size]}
    path = Path(store.base_dir) / store.write(*HERE, value, tag=TAG)
    with gzip.open(path) as file:
        assert pickle.load(file) == value
    assert read_seal(path.read_bytes()[-SEAL_SIZE:]) == Seal(TAG, digest(encode(value)))
    assert files(store) == [str(STEP / "output.pkl.gz")]


def test_small_parts_lie_in_one_file_and_large_ones_in_files_of_their_own(store: LocalStore) -> None:
    for at in range(50):
        store.write(*HERE, NOISE[:at], index=(at,))
        store.write(*HERE, NOISE[:at], index=(at, 1))
    assert files(store) == [str(RUN / "parts.log")]
    store.write(*HERE, NOISE, index=(3,))
    store.write(*HERE, NOISE, index=(3, 17))
    large = [KEYS[(3,)], KEYS[(3, 17)]]
    assert files(store) == sorted([*large, str(RUN / "parts.log")])
    for key in large:
        assert pickle.loads(gzip.decompress((Path(store.base_dir) / key).read_bytes())) == NOISE


def test_so_many_steps_have_a_file_and_the_small_outputs_of_later_ones_lie_in_the_journal(store: LocalStore) -> None:
    for at in range(70):
        store.write("birds", "r1", f"step_{at}", at)
    store.write("birds", "r1", "step_3", "again")
    store.write("birds", "r1", "step_66", "again")
    store.write("birds", "r1", "step_69", NOISE)
    assert files(store) == sorted(
        [str(RUN / f"step_{at}" / "output.pkl.gz") for at in (*range(64), 69)] + [str(RUN / "parts.log")]
    )
    later = LocalStore(store.base_dir)
    for each in (store, later):
        read = [each.load("birds", "r1", f"step_{at}") for at in range(70)]
        assert read == [*range(3), "again", *range(4, 66), "again", 67, 68, NOISE]
    later.write("birds", "r1", "step_68", "in the journal still")
    assert store.load("birds", "r1", "step_68") == "in the journal still"
    later.close()


def test_items_are_one_file_and_a_manifest(store: LocalStore) -> None:
    items = store.write_items(*HERE, [NOISE] * 5)
    assert files(store) == [str(STEP / "items.pack"), str(STEP / "map_manifest.json")]
    assert items[4] == NOISE


def test_a_part_that_cannot_be_read_back_is_named(store: LocalStore) -> None:
    store.put(*HERE, b"cno_such_module\nBird\n.", index=(3,))
    with pytest.raises(StoreError, match=rf"^{KEYS[(3,)]} is damaged \(.*No module named 'no_such_module'\)") as caught:
        store.load(*HERE, index=(3,))
    assert caught.value.location == KEYS[(3,)]


def test_cleaning_up_leaves_what_others_wrote(store: LocalStore) -> None:
    before = LocalStore(store.base_dir)
    before.write("birds", "r0", "flap", 0)
    before.write("birds", "r0", "flap", 0, index=(1,))
    before.write_items("birds", "r0", "flap", [0])
    before.close()
    there = files(store)
    assert store.load("birds", "r0", "flap") == store.load("birds", "r0", "flap", index=(1,)) == 0
    assert store.find("birds", "r0", "flap", index=(2,)) is None
    store.write(*HERE, 1)
    store.cleanup()
    assert files(store) == there


# --- what stands in the way


def blocked(base: Path, where: str) -> str:
    """A store's folder in which something else stands where the store would write."""
    place = base / where
    place.parent.mkdir(parents=True, exist_ok=True)
    if where.endswith(("parts.log", "output.pkl.gz", "items.pack")):
        place.mkdir()
    else:
        place.write_text("in the way")
    return str(base)


@pytest.mark.parametrize(
    ("where", "index", "size"),
    [
        *(("state", index, size) for index in INDICES for size in SIZES),
        *(("state/birds/runs", index, size) for index in INDICES for size in SIZES),
        *((f"state/{STEP}", index, max(SIZES)) for index in INDICES),
        *((f"state/{STEP}/output.pkl.gz", (), size) for size in SIZES),
        *((f"state/{RUN}/parts.log", (3,), size) for size in SIZES),
        *((f"state/{RUN}", index, size) for index in INDICES for size in SIZES),
    ],
)
def test_a_folder_that_cannot_be_written_is_an_error_that_names_the_key(
    tmp_path: Path, where: str, index: tuple[int, ...], size: int
) -> None:
    blocked(tmp_path, where)
    store = LocalStore(tmp_path / "state")
    with pytest.raises(StoreError, match=rf"^{KEYS[index]} cannot be written: .+\. Free some space") as caught:
        store.write(*HERE, NOISE[:size], index=index)
    assert caught.value.location == KEYS[index]
    assert list(tmp_path.rglob("*.new")) == []
    store.close()


@pytest.mark.parametrize(("name", "index"), [("flap/output.pkl.gz", ()), ("parts.log", ()), ("parts.log", (3,))])
def test_what_cannot_be_read_is_an_error_that_names_the_key(tmp_path: Path, name: str, index: tuple[int, ...]) -> None:
    blocked(tmp_path, f"state/{RUN}/{name}")
    store = LocalStore(tmp_path / "state")
    attempts: list[Callable[[], Any]] = [lambda: store.load(*HERE, index=index), lambda: store.find(*HERE, index=index)]
    for attempt in attempts:
        with pytest.raises(StoreError, match=rf"^{KEYS[index]} cannot be read: Is a directory\.") as caught:
            attempt()
        assert caught.value.location == KEYS[index]


def test_nothing_is_found_below_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    store = LocalStore(tmp_path / "state")
    assert [store.find(*HERE), store.find(*HERE, index=(1,)), store.items(*HERE)] == [None] * 3


def test_a_name_too_long_for_the_disk_is_an_error_that_names_the_key(store: LocalStore) -> None:
    store.write(*HERE, 1)
    key = f"{'b' * 300}/runs/r1/flap"
    attempts: list[Callable[[], Any]] = [
        lambda: store.write("b" * 300, "r1", "flap", 1),
        lambda: store.write("b" * 300, "r1", "flap", 1, index=(1,)),
        lambda: store.find("b" * 300, "r1", "flap"),
        lambda: store.find("b" * 300, "r1", "flap", index=(1,)),
        lambda: store.load("b" * 300, "r1", "flap", index=(1,)),
        lambda: store.items("b" * 300, "r1", "flap"),
    ]
    for attempt in attempts:
        with pytest.raises(StoreError, match=f"^{key}/.*: File name too long"):
            attempt()


@contextmanager
def room(size: int) -> Iterator[None]:
    """No file grows beyond so many bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("left", [0, 1, 30])
def test_a_full_disk_loses_only_the_part_that_was_being_written(store: LocalStore, left: int) -> None:
    store.write(*HERE, "before", index=(1,))
    with (
        room((Path(store.base_dir) / RUN / "parts.log").stat().st_size + left),
        pytest.raises(StoreError, match=rf"^{KEYS[(3,)]} cannot be written: ") as caught,
    ):
        store.write(*HERE, "lost", index=(3,))
    assert caught.value.location == KEYS[(3,)]
    assert store.find(*HERE, index=(3,)) is None
    store.write(*HERE, "after", index=(4,))
    reader = LocalStore(store.base_dir)
    for each in (store, reader):
        assert [each.load(*HERE, index=(at,)) for at in (1, 4)] == ["before", "after"]
    reader.close()


@pytest.mark.parametrize("index", INDICES)
def test_a_full_disk_leaves_no_half_file(store: LocalStore, index: tuple[int, ...]) -> None:
    store.write(*HERE, NOISE[::-1], index=index, tag=TAG)
    there = files(store)
    with room(LARGE), pytest.raises(StoreError, match=rf"^{KEYS[index]} cannot be written: File too large"):
        store.write(*HERE, NOISE, index=index)
    with room(LARGE), pytest.raises(StoreError, match=rf"^{STEP}/items\.pack cannot be written: File too large"):
        store.write_items(*HERE, [NOISE])
    assert files(store) == there
    assert store.load(*HERE, index=index) == NOISE[::-1]
    assert store.find(*HERE, index=index) == (TAG, digest(encode(NOISE[::-1])))


# --- more than one process


def child(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


READER = """
    import pickle, sys

    store, indices = pickle.load(sys.stdin.buffer)
    found = [(store.load("birds", "r1", "flap", index=index), store.find("birds", "r1", "flap", index=index))
             for index in indices]
    items = store.items("birds", "r1", "flap")
    for index in indices:
        store.write("birds", "r1", "flap", ("from the child", index), index=index)
    store.close()
    sys.stdout.buffer.write(pickle.dumps((found, [items[at] for at in range(len(items))])))
"""


@pytest.mark.parametrize("temporary", [True, False])
def test_a_pickled_store_is_the_same_store_in_another_process(tmp_path: Path, temporary: bool) -> None:
    store = LocalStore(None if temporary else tmp_path / "state")
    indices = [(), (1,), (2,), (3, 17)]
    for index in indices:
        store.write(*HERE, [index, NOISE[: len(index) * sum(index) * 5_000]], index=index, tag=TAG)
    store.write_items(*HERE, indices)
    mine = [(store.load(*HERE, index=index), store.find(*HERE, index=index)) for index in indices]
    theirs, _ = child(READER).communicate(pickle.dumps((store, indices)))
    assert pickle.loads(theirs) == (mine, indices)
    assert [store.load(*HERE, index=index) for index in indices] == [("from the child", index) for index in indices]
    store.cleanup()


WRITER = """
    import itertools, sys
    from lokki.store import LocalStore

    store = LocalStore(sys.argv[1])
    for at in itertools.count():
        store.write("birds", "r1", "flap", (at, bytes(at % 10 // 9 * 70_000)), index=(at,))
        print(at, flush=True)
"""


@pytest.mark.parametrize("count", [1, 9, 300])
def test_a_kill_loses_nothing_that_was_acknowledged(store: LocalStore, count: int) -> None:
    with child(WRITER, store.base_dir) as writer:
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(count)]
        writer.send_signal(signal.SIGKILL)
        acknowledged = [int(line) for line in [*said, *writer.stdout]]
    assert writer.returncode == -signal.SIGKILL
    assert acknowledged == list(range(len(acknowledged)))
    assert [store.load(*HERE, index=(at,)) for at in acknowledged] == [
        (at, bytes(at % 10 // 9 * 70_000)) for at in acknowledged
    ]
    store.write(*HERE, "after", index=(10**6,))
    assert store.load(*HERE, index=(10**6,)) == "after"


# --- nothing is left open


def open_files() -> set[str]:
    return set(os.listdir("/dev/fd"))


@pytest.mark.parametrize("let_go", ["close", "cleanup"])
def test_closing_lets_go_of_every_file(tmp_path: Path, let_go: str) -> None:
    before = open_files()
    store = LocalStore(tmp_path / "state")
    for step in ("flap", "glide"):
        for size in SIZES:
            store.write("birds", "r1", step, NOISE[:size])
            store.write("birds", "r1", step, NOISE[:size], index=(size,))
            store.load("birds", "r1", step, index=(size,))
        store.write_items("birds", "r1", step, [NOISE])
    assert open_files() > before
    getattr(store, let_go)()
    assert open_files() == before


def test_removing_a_run_lets_go_of_its_files(store: LocalStore) -> None:
    before = open_files()
    store.write(*HERE, 1, index=(1,))
    store.remove("birds", "r1")
    assert open_files() == before


@pytest.mark.parametrize("index", INDICES)
def test_a_failed_write_lets_go_of_its_file(store: LocalStore, index: tuple[int, ...]) -> None:
    before = open_files()
    for _ in range(3):
        with room(LARGE), pytest.raises(StoreError):
            store.write(*HERE, NOISE, index=index)
    store.close()
    assert open_files() == before


def test_the_temporary_folder_of_a_store_that_nobody_cleans_up_goes_with_it() -> None:
    store = LocalStore()
    store.write(*HERE, 1)
    store.close()
    path = Path(store.base_dir)
    assert path.exists()
    del store
    gc.collect()
    assert not path.exists()


@pytest.mark.parametrize("index", [(), (3,)])
def test_a_closed_store_takes_nothing_more_and_still_reads(store: LocalStore, index: tuple[int, ...]) -> None:
    store.write(*HERE, 1, index=index)
    store.close()
    with pytest.raises(StoreError, match=f"^{KEYS[index]} cannot be written: the store is closed"):
        store.write(*HERE, 2, index=index)
    assert store.load(*HERE, index=index) == 1
    store.close()
