"""A journal loses nothing that was acknowledged: torn records, holes, and several writers at once."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lokki.codec import LARGE
from lokki.store.journal import Index, Journal

TAG = bytes(range(16))
MARK = bytes(range(16, 32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "birds" / "parts.log"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    made = Journal(str(path))
    yield made
    made.close()


def frames(path: Path, indices: list[Index]) -> list[bytes | None]:
    """What a reader finds who has just come."""
    journal = Journal(str(path))
    try:
        return [journal.frame(index) for index in indices]
    finally:
        journal.close()


@pytest.mark.parametrize("frame", [b"", b"x", bytes(LARGE - 1)], ids=len)
@pytest.mark.parametrize("index", [(0,), (7,), (1, 2), (2**40, 0, 5), tuple(range(255))], ids=len)
def test_a_record_is_found_by_its_index(journal: Journal, index: Index, frame: bytes) -> None:
    journal.append(index, TAG, MARK, frame)
    assert journal.find(index) == (TAG, MARK)
    assert journal.frame(index) == frame


def test_nothing_is_found_where_nothing_was_written(journal: Journal, path: Path) -> None:
    assert journal.find((0,)) is None
    assert journal.frame((0,)) is None
    assert not path.parent.exists()
    journal.append((1,), TAG, MARK, b"x")
    assert journal.find((0,)) is None
    assert journal.frame((1, 1)) is None


def test_the_newest_record_counts_also_after_a_look(journal: Journal, path: Path) -> None:
    for turn in range(3):
        journal.append((1,), bytes((turn,)) * 16, MARK, b"%d" % turn)
        assert journal.frame((1,)) == b"%d" % turn
        assert journal.find((1,)) == (bytes((turn,)) * 16, MARK)
    assert frames(path, [(1,)]) == [b"2"]


def test_what_another_wrote_is_found(journal: Journal, path: Path) -> None:
    journal.append((1,), TAG, MARK, b"mine")
    assert journal.frame((1,)) == b"mine"
    other = Journal(str(path))
    other.append((1,), TAG, MARK, b"theirs")
    other.append((2,), TAG, MARK, b"theirs too")
    other.close()
    assert journal.frame((1,)) == b"theirs"
    assert journal.frame((2,)) == b"theirs too"


def test_it_can_be_used_after_it_was_closed(journal: Journal) -> None:
    journal.append((1,), TAG, MARK, b"x")
    assert journal.frame((1,)) == b"x"
    journal.close()
    journal.close()
    assert journal.find((1,)) == (TAG, MARK)
    journal.close()
    journal.append((2,), TAG, MARK, b"y")
    assert journal.frame((2,)) == b"y"


def test_a_torn_record_loses_only_itself(path: Path) -> None:
    journal = Journal(str(path))
    journal.append((1,), TAG, MARK, b"first")
    journal.append((2,), TAG, MARK, b"second")
    whole = path.stat().st_size
    journal.append((3,), TAG, MARK, b"torn")
    data = path.read_bytes()
    journal.close()
    for size in range(whole, len(data)):
        path.write_bytes(data[:size])
        reader = Journal(str(path))
        assert [reader.frame((at,)) for at in (1, 2, 3)] == [b"first", b"second", None]
        reader.append((4,), TAG, MARK, b"after")
        reader.append((2,), TAG, MARK, b"again")
        assert [reader.frame((at,)) for at in (1, 2, 3, 4)] == [b"first", b"again", None, b"after"]
        reader.close()
        assert frames(path, [(1,), (2,), (3,), (4,)]) == [b"first", b"again", None, b"after"]


def test_a_record_that_is_still_being_written_is_found_when_it_is_whole(journal: Journal, path: Path) -> None:
    journal.append((1,), TAG, MARK, b"whole")
    journal.append((2,), TAG, MARK, b"late")
    data = path.read_bytes()
    with open(path, "r+b") as file:
        file.truncate(len(data) - 9)
        assert journal.frame((2,)) is None
        file.seek(len(data) - 9)
        file.write(data[-9:])
        file.flush()
        assert journal.frame((2,)) == b"late"


@settings(deadline=None)
@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_loses_at_most_its_record(tmp_path_factory: pytest.TempPathFactory, at: int, bit: int) -> None:
    path = tmp_path_factory.mktemp("journal") / "parts.log"
    journal = Journal(str(path))
    for number in range(5):
        journal.append((number,), TAG, MARK, b"frame %d" % number)
    journal.close()
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1 << bit
    path.write_bytes(data)
    lost = at % len(data) * 5 // len(data)
    found = frames(path, [(number,) for number in range(5)])
    assert [found[number] in (b"frame %d" % number, *[None] * (number == lost)) for number in range(5)] == [True] * 5


@pytest.mark.parametrize("size", [1, 70_000, 1 << 20, (5 << 20) + 3])
@pytest.mark.parametrize("content", [bytes, random.Random(1).randbytes], ids=["a hole", "noise"])
def test_what_is_no_record_is_passed_over(journal: Journal, path: Path, size: int, content: type[bytes]) -> None:
    journal.append((1,), TAG, MARK, b"before")
    with open(path, "ab") as file:
        file.write(content(size))
    assert journal.frame((1,)) == b"before"
    for at in range(2, 40):
        journal.append((at,), TAG, MARK, bytes(LARGE - 1))
    assert [journal.find((at,)) for at in range(1, 40)] == [(TAG, MARK)] * 39
    assert frames(path, [(1,), (39,)]) == [b"before", bytes(LARGE - 1)]


def test_a_file_that_cannot_be_written_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "parts.log").symlink_to("/dev/full")
    journal = Journal(str(tmp_path / "parts.log"))
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        journal.append((1,), TAG, MARK, b"x")
    journal.close()


WRITER = """
    import sys
    from lokki.store.journal import Journal

    path, first = sys.argv[1], int(sys.argv[2])
    journal = Journal(path)
    print("ready", flush=True)
    sys.stdin.readline()
    for at in range(first, first + 1_000):
        journal.append((at,), at.to_bytes(16, "big"), bytes(16), b"%d" % at * (at % 100))
"""


def test_processes_append_at_once(path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(path), str(first)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in (0, 1_000)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        assert writer.communicate()[0] == ""
        assert writer.returncode == 0
    assert frames(path, [(at,) for at in range(2_000)]) == [b"%d" % at * (at % 100) for at in range(2_000)]
