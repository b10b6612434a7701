"""A store in a folder: the outputs of steps are files at the documented keys, the many of a map lie in journals.

A small output inside a map is a record in `<step>/parts.log` instead of a file of its own, which would cost a hundred
times more; `read` finds it under its key all the same.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from lokki.codec import LARGE, NO_TAG, Bytes, Seal, decode, digest, encode, seal_frame
from lokki.errors import StoreError
from lokki.store.journal import Journal
from lokki.store.protocol import BlobStore, Index, Kept, damaged, folder, missing, output_key


class LocalStore(BlobStore):
    """Values under `base_dir`; without one, in a new temporary folder that `cleanup` removes.

    Args:
        base_dir: the folder; it is made when the first value is written.
    """

    shared = True
    _worth = 0.25  # a local disk is faster than the deflate: compress only what shrinks to a quarter

    def __init__(self, base_dir: str | os.PathLike[str] | None = None) -> None:
        self._temporary = base_dir is None
        self.base_dir = _temporary_folder() if base_dir is None else os.path.abspath(base_dir)
        self._journals: dict[str, Journal] = {}
        self._runs: set[str] = set()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return LocalStore, (self.base_dir,)

    def keep(
        self, flow_name: str, run_id: str, step_name: str, value: Any, *, index: Index = (), tag: bytes = NO_TAG
    ) -> Kept:
        if not index:
            return super().keep(flow_name, run_id, step_name, value, tag=tag)
        frame = encode(value)
        return Kept(decode(frame), self.put(flow_name, run_id, step_name, frame, index=index, tag=tag))

    def put(
        self, flow_name: str, run_id: str, step_name: str, frame: bytes, *, index: Index = (), tag: bytes = NO_TAG
    ) -> bytes:
        if not index:
            return super().put(flow_name, run_id, step_name, frame, tag=tag)
        journal = self._journal(folder(flow_name, run_id, step_name))
        self._runs.add(folder(flow_name, run_id))
        if len(frame) < LARGE:
            mark = digest(frame)
        else:
            with self._writing(output_key(flow_name, run_id, step_name, index)) as write:
                mark = seal_frame(frame, write, tag, self._worth).digest
            frame = b""  # says that the value has a file of its own
        try:
            journal.append(index, tag, mark, frame)
        except OSError as error:
            raise _cannot_write(output_key(flow_name, run_id, step_name, index), error) from error
        return mark

    def find(self, flow_name: str, run_id: str, step_name: str, *, index: Index = ()) -> Seal | None:
        if not index:
            return super().find(flow_name, run_id, step_name)
        try:
            return self._journal(folder(flow_name, run_id, step_name)).find(index)
        except OSError as error:
            raise _cannot_read(output_key(flow_name, run_id, step_name, index), error) from error

    def load(self, flow_name: str, run_id: str, step_name: str, *, index: Index = ()) -> Any:
        frame = self._frame(flow_name, run_id, step_name, index) if index else None
        if not frame:
            return super().load(flow_name, run_id, step_name, index=index)
        try:
            return decode(frame)
        except StoreError as error:
            raise damaged(output_key(flow_name, run_id, step_name, index), error) from error

    def remove(self, flow_name: str, run_id: str) -> None:
        prefix = folder(flow_name, run_id)
        with self._lock:
            for each in [key for key in self._journals if key.startswith(prefix + "/")]:
                self._journals.pop(each).close()
        super().remove(flow_name, run_id)

    def close(self) -> None:
        """Let go of the open files."""
        with self._lock:
            while self._journals:
                self._journals.popitem()[1].close()

    def cleanup(self) -> None:
        self.close()
        for prefix in [""] if self._temporary else [f"{run}/" for run in self._runs]:
            self._delete(prefix)

    def _frame(self, flow_name: str, run_id: str, step_name: str, index: Index) -> bytes | None:
        try:
            return self._journal(folder(flow_name, run_id, step_name)).frame(index)
        except OSError as error:
            raise _cannot_read(output_key(flow_name, run_id, step_name, index), error) from error

    def _journal(self, key: str) -> Journal:
        journal = self._journals.get(key)
        if journal is None:
            with self._lock:
                journal = self._journals.setdefault(key, Journal(os.path.join(self.base_dir, key, "parts.log")))
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

    def _delete(self, prefix: str) -> None:
        import shutil

        shutil.rmtree(os.path.join(self.base_dir, prefix), ignore_errors=True)


def _temporary_folder() -> str:
    import tempfile

    return tempfile.mkdtemp(prefix="lokki-")


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
