"""Luigi: every task's result is a file, so everything it does is durable and resumable."""

from __future__ import annotations

import pickle
import sys

import luigi
from work import BIRDS, consume, cpu, each, flaky, in_order, main, payload, ran_again, same

_held = []


class Kept(luigi.Task):
    """A task whose result is a pickle in a folder of its run."""

    run_id = luigi.IntParameter(default=0)

    def output(self):
        return luigi.LocalTarget(f"kept/{self.task_id}", format=luigi.format.Nop)

    def keep(self, value) -> None:
        with self.output().open("w") as file:
            pickle.dump(value, file, 5)


def read(target):
    with target.open() as file:
        return pickle.load(file)


class Flap(Kept):
    bird = luigi.Parameter()

    def run(self) -> None:
        self.keep(f"flappy {self.bird}")


class Birds(Kept):
    def requires(self):
        return [Flap(bird=bird) for bird in BIRDS]

    def run(self) -> None:
        self.keep(", ".join(map(read, self.input())))


class Same(Kept):
    item = luigi.IntParameter()

    def run(self) -> None:
        self.keep(same(self.item))


class Flaky(Kept):
    item = luigi.IntParameter()
    fails = luigi.IntParameter()

    def run(self) -> None:
        self.keep(flaky(self.item, self.fails))


class Joined(Kept):
    count = luigi.IntParameter()
    fails = luigi.IntParameter(default=-1)

    def requires(self):
        if self.fails < 0:
            return [Same(run_id=self.run_id, item=item) for item in range(self.count)]
        return [Flaky(item=item, fails=self.fails) for item in range(self.count)]

    def run(self) -> None:
        self.keep(in_order([read(each) for each in self.input()]))


class More(Kept):
    at = luigi.IntParameter()

    def requires(self):
        return More(run_id=self.run_id, at=self.at - 1) if self.at else []

    def run(self) -> None:
        self.keep(read(self.input()) + 1 if self.at else 0)


class Give(Kept):
    def run(self) -> None:
        self.keep(_held.pop())


class Take(Kept):
    def requires(self):
        return Give()

    def run(self) -> None:
        self.keep(consume(read(self.input())))


class Numbered:
    """Runs what it is given with a run id of its own each time."""

    def __init__(self, task) -> None:
        self.task = task
        self.runs = 0

    def __call__(self, count: int) -> None:
        self.runs += 1
        build(self.task(self.runs, count))


def build(task) -> None:
    if not luigi.build([task], local_scheduler=True, log_level="ERROR"):
        sys.exit("a task failed")


def birds() -> None:
    build(Birds())
    print(read(Birds().output()))


def map_durable(count: int) -> dict[str, float]:
    return {"figure": each(count, Numbered(lambda run, size: Joined(run_id=run, count=size)), times=3)[0]}


def chain_durable(count: int) -> dict[str, float]:
    sys.setrecursionlimit(20_000)
    return {"figure": each(count, Numbered(lambda run, size: More(run_id=run, at=size)), times=3)[0]}


def value(kind: str) -> dict[str, float]:
    _held.append(payload(kind))
    return {"figure": cpu(lambda: build(Take()))}


def resume(count: int) -> dict[str, float]:
    build(Joined(count=count, fails=count * 9 // 10))
    return {"figure": ran_again()}


if __name__ == "__main__":
    main(birds, map_durable, chain_durable, value, resume)
