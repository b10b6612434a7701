"""What is in a file: its bytes, unpacked and as text, with the place told where they are not what they should be."""

from __future__ import annotations

import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from twingraph.components.filing.finding import File
from twingraph.components.filing.web import answered, refused
from twingraph.errors import FileError, MissingFileError

_BLOCK = 1 << 20
_BEGINS = {"gzip": b"\x1f\x8b", "bz2": b"BZh", "xz": b"\xfd7zXZ", "zstd": b"\x28\xb5\x2f\xfd"}


@contextmanager
def opened(file: File) -> Iterator[IO[bytes]]:
    """The content of a file, unpacked, from its begin; what fails meanwhile is said of the file."""
    with told(file), file.open() as stream, _unpacked(stream, file.compression) as content:
        yield content


@contextmanager
def told(file: File) -> Iterator[None]:
    """Inside, an error of the file system is one that names the file."""
    try:
        yield
    except FileError:
        raise
    except EOFError as error:
        cut_off = f"{file.shown} is cut off: it ends in the middle of its {file.compression} data."
        raise FileError(_not_packed(file) or cut_off) from error
    except (zlib.error, lzma.LZMAError) as error:
        raise FileError(_not_packed(file) or f"{file.shown} is damaged: {error}.") from error
    except OSError as error:
        raise of_system(file, error) from error
    except Exception as error:
        if (refusal := refused(error)) or (answer := answered(error)):
            raise FileError(f"{file.shown}: {refusal}" if refusal else f"{file.shown}: {answer}.") from None
        raise


def _not_packed(file: File) -> str | None:
    """The sentence for a file that is not compressed as its name says."""
    with file.open() as stream:
        begins = stream.read(len(_BEGINS[file.compression]))
    if begins != _BEGINS[file.compression]:
        return f"{file.shown} is not {file.compression} data: it begins with {begins!r}."
    return None


def of_system(file: File, error: OSError) -> FileError:
    """What a file system says, as a sentence about the file."""
    if refusal := refused(error):
        return FileError(f"{file.shown}: {refusal}")
    if answer := answered(error):
        return FileError(f"{file.shown}: {answer}.")
    if isinstance(error, FileNotFoundError):
        return MissingFileError(f"There is no file {file.shown}.")
    if isinstance(error, PermissionError):
        return FileError(f"{file.shown} may not be read by the user that this runs as.")
    if file.compression and type(error).__name__ in ("BadGzipFile", "OSError"):
        return FileError(_not_packed(file) or f"{file.shown} is damaged: {error}.")
    return FileError(f"{file.shown} cannot be read: {error}.")


def content(file: File) -> bytes:
    """All bytes of a file, unpacked."""
    with opened(file) as stream:
        return stream.read()


def head(file: File, rows: int) -> bytes:
    """The begin of a file of csv in UTF-8, with at least so many rows, all of them whole; all of a shorter file."""
    data, seen, quoted, end = bytearray(), 0, False, 0
    with opened(file) as stream:
        while seen < rows and (block := stream.read(_BLOCK)):
            for index, part in enumerate(block.split(b'"')):  # what stands between quotes is inside of a field
                quoted ^= index > 0
                if not quoted and b"\n" in part:
                    seen += part.count(b"\n")
                    end = len(data) + part.rfind(b"\n") + 1
                data += (b'"' if index else b"") + part
    return bytes(data if seen < rows else data[:end])


def text(file: File, encoding: str = "utf-8") -> str:
    """All of a file as text."""
    data = content(file)
    try:
        return data.decode(_marked(encoding))
    except UnicodeDecodeError as error:
        raise wrong_encoding(file, encoding, data, error.start) from None


def lines(file: File, encoding: str = "utf-8") -> Iterator[str]:
    """The lines of a file as text, without their ends."""
    with opened(file) as stream:
        wide = io.TextIOWrapper(stream, _marked(encoding), newline="\n")
        try:
            for line in wide:
                yield line[:-1].removesuffix("\r") if line.endswith("\n") else line
        except UnicodeDecodeError:
            text(file, encoding)  # says where
            raise


def wrong_encoding(file: File, encoding: str, data: bytes, start: int) -> FileError:
    """Where bytes are not text in the encoding that they should be in."""
    line = data.count(b"\n", 0, start) + 1
    column = start - data.rfind(b"\n", 0, start)
    return FileError(
        f"{file.shown}, line {line}, byte {column}: 0x{data[start]:02x} is not {encoding}: say how the file is "
        "encoded, such as encoding='latin-1'."
    )


def _marked(encoding: str) -> str:
    """UTF-8 may begin with a byte order mark, which is not part of the text."""
    return "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding


@contextmanager
def _unpacked(stream: Any, compression: str) -> Iterator[IO[bytes]]:
    if not compression:
        yield stream
        return
    with _unpacking(stream, compression) as unpacking:
        yield unpacking


def _unpacking(stream: Any, compression: str) -> Any:
    match compression:
        case "gzip":
            from isal import igzip

            return igzip.GzipFile(fileobj=stream, mode="rb")
        case "bz2":
            import bz2

            return bz2.BZ2File(stream)
        case "xz":
            return lzma.LZMAFile(stream)
    import pyarrow as pa

    return pa.CompressedInputStream(stream, compression)
