"""How a written file comes to its place: whole or not at all.

On this machine it is written beside its place and takes it with one renaming; elsewhere it is written here first, and
goes up when it is whole. What is appended goes in while no other process appends, and is taken back when it fails.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, Literal, TypeAlias

from twingraph.components.filing.addresses import WEB, Address
from twingraph.components.filing.finding import Place
from twingraph.components.filing.formats import compression_of
from twingraph.components.filing.systems import upload
from twingraph.components.filing.web import refused
from twingraph.errors import FileError

Mode: TypeAlias = Literal["overwrite", "append", "error"]
Writing: TypeAlias = Callable[[IO[bytes]], None]

_BLOCK = 8 << 20


def put(to: Address, place: Place, mode: Mode, writing: Writing) -> int:
    """Write a file; how many bytes it has."""
    if to.scheme in WEB:
        raise FileError(f"{to.shown}: nothing can be written to the web; write to a folder, s3:// or gs://.")
    try:
        return _here(to, mode, writing) if to.local else _there(to, place, mode, writing)
    except FileError:
        raise
    except OSError as error:
        raise refused(error) or FileError(f"{to.shown} cannot be written: {error.strerror or error}.") from error


def append(to: Address, writing: Callable[[IO[bytes], bool], None]) -> int:
    """Write at the end of a file of text; `writing` is told whether it is the begin of it as well."""
    import fcntl

    if not to.local:
        raise FileError(f"{to.shown}: nothing can be appended there; write another file beside it.")
    try:
        os.makedirs(os.path.dirname(to.rest), exist_ok=True)
        with open(to.rest, "a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            try:
                if size and not compression_of(to.rest) and _last(file, size) != b"\n":
                    file.write(b"\n")
                with packed(file, compression_of(to.rest)) as stream:
                    writing(stream, size == 0)
                file.flush()
            except BaseException:
                file.truncate(size)
                raise
            return file.seek(0, os.SEEK_END)
    except OSError as error:
        raise FileError(f"{to.shown} cannot be written: {error.strerror or error}.") from error


def _last(file: IO[bytes], size: int) -> bytes:
    file.seek(size - 1)
    return file.read(1)


def _here(to: Address, mode: Mode, writing: Writing) -> int:
    target = os.path.realpath(to.rest)
    if os.path.isdir(target) or to.rest.endswith("/"):
        raise FileError(f"{to.shown} is a folder: name a file in it.")
    if mode == "error" and os.path.exists(target):
        raise _exists(to)
    folder, name = os.path.split(target)
    os.makedirs(folder, exist_ok=True)
    beside = os.path.join(folder, f".{name[:100]}.{uuid.uuid4().hex[:12]}.part")
    try:
        with open(beside, "xb") as file:
            with packed(file, compression_of(name)) as stream:
                writing(stream)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            shutil.copymode(target, beside)
        size = os.path.getsize(beside)
        _take(beside, target, mode, to)
        return size
    finally:
        with suppress(FileNotFoundError):
            os.unlink(beside)


def _take(beside: str, target: str, mode: Mode, to: Address) -> None:
    if mode != "error":
        os.replace(beside, target)
        return
    try:
        os.link(beside, target)  # unlike a renaming, it fails when another was faster
    except FileExistsError:
        raise _exists(to) from None


def _exists(to: Address) -> FileError:
    return FileError(f"{to.shown} exists already: choose another path, or mode='overwrite'.")


def _there(to: Address, place: Place, mode: Mode, writing: Writing) -> int:
    spoken = place.system(to)
    if to.rest.endswith("/"):
        raise FileError(f"{to.shown} is a folder: name a file in it.")
    if mode == "error" and spoken.exists(to.rest):
        raise _exists(to)
    with tempfile.TemporaryFile() as here:
        with packed(here, compression_of(to.rest)) as stream:
            writing(stream)
        size = here.seek(0, os.SEEK_END)
        here.seek(0)
        if to.scheme == "s3":
            upload(to, place.options, here)
        else:
            _moved_up(here, spoken, to)
    return size


def _moved_up(here: IO[bytes], spoken: Any, to: Address) -> None:
    """Bring a file up under another name first: what is left of an upload that breaks would look like a file."""
    folder, _, name = to.rest.rpartition("/")
    beside = f"{folder}/.{name}.{uuid.uuid4().hex[:12]}.part"
    try:
        with spoken.open(beside, "wb") as up:
            shutil.copyfileobj(here, up, _BLOCK)
        spoken.mv(beside, to.rest)
    except BaseException:
        with suppress(OSError):
            spoken.rm(beside)
        raise


@contextmanager
def packed(file: IO[bytes], compression: str) -> Iterator[IO[bytes]]:
    """A stream into a file, which compresses what goes through."""
    if not compression:
        yield file
        return
    with _packing(file, compression) as stream:
        yield stream


def _packing(file: Any, compression: str) -> Any:
    match compression:
        case "gzip":
            from isal import igzip

            return igzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0)
        case "bz2":
            import bz2

            return bz2.BZ2File(file, "wb")
        case "xz":
            import lzma

            return lzma.LZMAFile(file, "wb")
    return _zstd(file)


@contextmanager
def _zstd(file: IO[bytes]) -> Iterator[Any]:
    import pyarrow as pa

    held = pa.BufferOutputStream()  # pyarrow would close the file, which is not its own
    with pa.CompressedOutputStream(held, "zstd") as stream:
        yield stream
    file.write(held.getvalue())
