"""Both clients on a real server, called in the same way."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.twingraph.live import Story, serving
from twingraph.client import AsyncTwinGraphClient, TwinGraphClient
from twingraph.executions.recorder import Recorder


class Awaited:
    """Something whose methods are awaited, called as if they were not."""

    def __init__(self, inner: Any, runner: asyncio.Runner) -> None:
        self._inner = inner
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found if isinstance(found, int | str | list) else Awaited(found, self._runner)

        def call(*args: Any, **kwargs: Any) -> Any:
            made = found(*args, **kwargs)
            made = self._runner.run(made) if inspect.iscoroutine(made) else made
            return Awaited(made, self._runner) if hasattr(made, "__aiter__") else made

        return call

    def __getitem__(self, index: int) -> Any:
        return self._inner[index]

    def __iter__(self) -> Iterator[Any]:
        coming = self._inner.__aiter__()

        async def following() -> Any:
            return await anext(coming, None)

        while (each := self._runner.run(following())) is not None:
            yield each


@pytest.fixture
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    recorder = Recorder(home=str(tmp_path_factory.mktemp("served")))
    yield Story(recorder)
    recorder.close()


@pytest.fixture
def server(story: Story) -> Iterator[str]:
    with serving(story) as url:
        yield url


@pytest.fixture(params=["blocking", "awaiting"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Makes clients of both kinds, which are called alike."""
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner()) if request.param == "awaiting" else None

        def connected(*args: Any, **kwargs: Any) -> Any:
            if runner is None:
                return stack.enter_context(TwinGraphClient(*args, **kwargs))
            client = AsyncTwinGraphClient(*args, **kwargs)
            stack.callback(lambda: runner.run(client.close()))
            return Awaited(client, runner)

        yield connected


@pytest.fixture
def client(connect: Callable[..., Any], server: str) -> Any:
    return connect(server)
