"""A store in a folder: the outputs of steps are files at the documented keys, the many small ones lie in a journal.

A file of its own costs a hundred times what a small output does. So the small outputs inside maps, and those of steps
that come after the first `_FILES` of a run, are records in `<flow>/runs/<run_id>/parts.log`; `read` finds them under
their keys all the same.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

from lokki.codec import LARGE, NO_TAG, Bytes, Seal, decode, digest, encode, seal_frame
from lokki.errors import StoreError
from lokki.store.journal import Journal
from lokki.store.protocol import BlobStore, Index, Kept, damaged, folder, missing, output_key

_JOURNAL = "parts.log"
_FILES = 64  # so many steps of a run have a file for their output, however small it is


class LocalStore(BlobStore):
    """Values under `base_dir`; without one, in a new temporary folder that `cleanup` removes.

    Args:
        base_dir: the folder; it is made when the first value is written.
    """

    shared = True
    _worth = 0.25  # a local disk is faster than the deflate: compress only what shrinks to a quarter

    def __init__(self, base_dir: str | os.PathLike[str] | None = None) -> None:
        self._temporary = base_dir is None
        self.base_dir = self._temporary_folder() if base_dir is None else os.path.abspath(base_dir)
        self._journals: dict[str, Journal] = {}
        self._runs: set[str] = set()
        self._files: dict[str, set[str]] = {}  # by run, the steps whose outputs have a file
        self._earlier: set[str] = set()  # the runs whose journal was there before this object stored anything
        self._lock = threading.Lock()
        self._closed = False

    def __reduce__(self) -> tuple[Any, ...]:
        return LocalStore, (self.base_dir,)

    def keep(
        self, flow_name: str, run_id: str, step_name: str, value: Any, *, index: Index = (), tag: bytes = NO_TAG
    ) -> Kept:
        self._refuse_when_closed(flow_name, run_id, step_name, index)
        if not index and self._gets_a_file(flow_name, run_id, step_name):
            return super().keep(flow_name, run_id, step_name, value, tag=tag)
        frame = encode(value)
        return Kept(decode(frame), self.put(flow_name, run_id, step_name, frame, index=index, tag=tag))

    def put(
        self, flow_name: str, run_id: str, step_name: str, frame: bytes, *, index: Index = (), tag: bytes = NO_TAG
    ) -> bytes:
        self._refuse_when_closed(flow_name, run_id, step_name, index)
        self._runs.add(folder(flow_name, run_id))
        if len(frame) < LARGE:
            mark = digest(frame)
        else:
            with self._writing(output_key(flow_name, run_id, step_name, index)) as write:
                mark = seal_frame(frame, write, tag, self._worth).digest
            frame = b""  # says that the value has a file of its own
        try:
            self._journal(flow_name, run_id).append(_record(flow_name, run_id, step_name, index), tag, mark, frame)
        except OSError as error:
            raise _cannot_write(output_key(flow_name, run_id, step_name, index), error) from error
        return mark

    def find(self, flow_name: str, run_id: str, step_name: str, *, index: Index = ()) -> Seal | None:
        found = self._seal(flow_name, run_id, step_name, index)
        return found if found or index else super().find(flow_name, run_id, step_name)

    def load(self, flow_name: str, run_id: str, step_name: str, *, index: Index = ()) -> Any:
        frame = self._frame(flow_name, run_id, step_name, index)
        if not frame:
            return super().load(flow_name, run_id, step_name, index=index)
        try:
            return decode(frame)
        except StoreError as error:
            raise damaged(output_key(flow_name, run_id, step_name, index), error) from error

    def remove(self, flow_name: str, run_id: str) -> None:
        prefix = folder(flow_name, run_id)
        with self._lock:
            if prefix in self._journals:
                self._journals.pop(prefix).close()
        super().remove(flow_name, run_id)

    def close(self) -> None:
        """Let go of the open files; nothing is stored any more, by threads that were given up either."""
        self._closed = True
        with self._lock:
            while self._journals:
                self._journals.popitem()[1].close()

    def cleanup(self) -> None:
        closed = self._closed
        self.close()
        self._closed = closed
        for prefix in [""] if self._temporary else [f"{run}/" for run in self._runs]:
            self._delete(prefix)

    def _temporary_folder(self) -> str:
        import shutil
        import tempfile
        from weakref import finalize

        path = tempfile.mkdtemp(prefix="lokki-")
        finalize(self, shutil.rmtree, path, ignore_errors=True)  # for a store that nobody cleans up
        return path

    def _seal(self, flow_name: str, run_id: str, step_name: str, index: Index) -> Seal | None:
        try:
            return self._journal(flow_name, run_id).find(_record(flow_name, run_id, step_name, index))
        except OSError as error:
            raise _cannot_read(output_key(flow_name, run_id, step_name, index), error) from error

    def _frame(self, flow_name: str, run_id: str, step_name: str, index: Index) -> bytes | None:
        try:
            return self._journal(flow_name, run_id).frame(_record(flow_name, run_id, step_name, index))
        except OSError as error:
            raise _cannot_read(output_key(flow_name, run_id, step_name, index), error) from error

    def _refuse_when_closed(self, flow_name: str, run_id: str, step_name: str, index: Index) -> None:
        if self._closed:
            key = output_key(flow_name, run_id, step_name, index)
            raise StoreError(f"{key} cannot be written: the store is closed.", key)

    def _gets_a_file(self, flow_name: str, run_id: str, step_name: str) -> bool:
        """Whether the output of a step goes under its own key: so do the first of a run, and what has one already."""
        run = folder(flow_name, run_id)
        if run not in self._files:
            self._files[run] = set()
            if os.path.exists(os.path.join(self.base_dir, run, _JOURNAL)):
                self._earlier.add(run)
        files = self._files[run]
        if step_name not in files and len(files) >= _FILES:
            return False
        files.add(step_name)
        return run not in self._earlier or self._seal(flow_name, run_id, step_name, ()) is None

    def _journal(self, flow_name: str, run_id: str) -> Journal:
        key = folder(flow_name, run_id)
        journal = self._journals.get(key)
        if journal is None:
            with self._lock:
                journal = self._journals.setdefault(key, Journal(os.path.join(self.base_dir, key, _JOURNAL)))
        return journal

    @contextmanager
    def _writing(self, key: str) -> Iterator[Callable[[Bytes], Any]]:
        path = os.path.join(self.base_dir, key)
        new = f"{path}.{os.urandom(6).hex()}.new"
        self._runs.add("/".join(key.split("/")[:3]))
        with _writes(key):
            fd = _create(new)

        def write(data: Bytes) -> None:
            with _writes(key):
                _write_all(fd, data)

        try:
            try:
                yield write
            finally:
                os.close(fd)
            with _writes(key):
                os.replace(new, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(new)
            raise

    def _blob(self, key: str) -> Bytes:
        try:
            with open(os.path.join(self.base_dir, key), "rb") as file:
                size = os.fstat(file.fileno()).st_size
                return file.read() if size < LARGE else _mapped(file.fileno())
        except FileNotFoundError:
            raise missing(key) from None
        except OSError as error:
            raise _cannot_read(key, error) from error

    def _tail(self, key: str, size: int) -> bytes | None:
        try:
            fd = os.open(os.path.join(self.base_dir, key), os.O_RDONLY | os.O_CLOEXEC)
            try:
                return os.pread(fd, size, max(os.fstat(fd).st_size - size, 0))
            finally:
                os.close(fd)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _cannot_read(key, error) from error

    def _keys(self, prefix: str) -> Iterator[str]:
        found = []
        for path, _, names in os.walk(os.path.join(self.base_dir, prefix)):
            inside = os.path.relpath(path, self.base_dir).replace(os.sep, "/")
            found += [name if inside == "." else f"{inside}/{name}" for name in names if not _is_internal(name)]
        return iter(sorted(found))

    def _delete(self, prefix: str) -> None:
        import shutil

        shutil.rmtree(os.path.join(self.base_dir, prefix), ignore_errors=True)


def _record(flow_name: str, run_id: str, step_name: str, index: Index) -> Index:
    """The index of an output in its run's journal."""
    return (_number(folder(flow_name, run_id, step_name)), *index)


@lru_cache(maxsize=4096)
def _number(key: str) -> int:
    return int.from_bytes(digest(key.rpartition("/")[2].encode())[:8], "little")


def _is_internal(name: str) -> bool:
    """Whether a file is no blob: a journal, or what is being written."""
    return name == _JOURNAL or name.endswith(".new")


def _create(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o644)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return os.open(path, flags, 0o644)


def _write_all(fd: int, data: Bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _mapped(fd: int) -> memoryview:
    import mmap

    populate = getattr(mmap, "MAP_POPULATE", 0)
    return memoryview(mmap.mmap(fd, 0, flags=mmap.MAP_SHARED | populate, prot=mmap.PROT_READ))


@contextmanager
def _writes(key: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _cannot_write(key, error) from error


def _cannot_write(key: str, error: OSError) -> StoreError:
    return StoreError(f"{key} cannot be written: {error.strerror}. Free some space or check its permissions.", key)


def _cannot_read(key: str, error: OSError) -> StoreError:
    return StoreError(f"{key} cannot be read: {error.strerror}. Check its permissions.", key)
