"""The bare things: what the Python library alone takes for the same work, with nothing kept, planned or told."""

from __future__ import annotations

import os
import pickle
import zlib
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

from work import BIRDS, CORES, beyond_ideal, consume, cpu, in_order, main, payload, same, spin


def flap(bird: str) -> str:
    return f"flappy {bird}"


def birds() -> None:
    with ThreadPoolExecutor() as pool:
        print(", ".join(pool.map(flap, BIRDS)))


def map_in_threads(count: int) -> None:
    with ThreadPoolExecutor() as pool:
        in_order(list(pool.map(same, range(count))))


def chain_in_a_thread(count: int) -> None:
    with ThreadPoolExecutor() as pool:
        value = 0
        for _ in range(count):
            value = pool.submit(same, value).result()


def append_each(count: int) -> None:
    """Each result one checked record at the end of a file."""
    log = os.open("bare.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for value in map(same, range(count)):
        frame = pickle.dumps(value, 5)
        os.write(log, len(frame).to_bytes(4, "little") + zlib.crc32(frame).to_bytes(4, "little") + frame)
    os.close(log)


def file_each(count: int) -> None:
    """Each result a file of its own, renamed into place and read back."""
    value = 0
    for at in range(count):
        with open("bare.new", "wb") as file:
            pickle.dump(value, file, 5)
        os.replace("bare.new", f"bare-{at}")
        with open(f"bare-{at}", "rb") as file:
            value = pickle.load(file)


def spins(count: int) -> dict[str, float]:
    def run(count: int) -> None:
        with ProcessPoolExecutor(CORES) as pool:
            in_order(list(pool.map(spin, range(count))))

    return {"figure": beyond_ideal(count, run)}


def value_called(kind: str) -> dict[str, float]:
    held = payload(kind)
    return {"figure": cpu(lambda: consume(held))}


def value_pickled(kind: str) -> dict[str, float]:
    held = payload(kind)

    def run() -> None:
        with open("value", "wb") as file:
            pickle.dump(held, file, 5)
        with open("value", "rb") as file:
            consume(pickle.load(file))

    return {"figure": cpu(run)}


def million(count: int) -> None:
    map_in_threads(count)


if __name__ == "__main__":
    main(birds, spins, value_called, value_pickled, million)
