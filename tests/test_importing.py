"""Steps reach another process by their name when it can import them, and by value when it cannot."""

from __future__ import annotations

import functools
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lokki.decorators import flow, step
from lokki.errors import GraphValidationError
from lokki.graph import Step


@step(retry={"retries": 2}, job_type="batch")
def double(n: int) -> int:
    return 2 * n


class Bird:
    @step
    def flap(self: Any) -> str:
        return f"flappy {self}"


def there_and_back(value: Step) -> Step:
    back = pickle.loads(pickle.dumps(value))
    assert isinstance(back, Step)
    return back


@pytest.mark.parametrize("node", [double, Bird.flap], ids=["module", "class"])
def test_a_step_that_can_be_imported_travels_by_name(node: Any) -> None:
    assert there_and_back(node.step) == node.step
    assert b"flappy" not in pickle.dumps(node.step)


def test_a_use_of_a_step_keeps_its_own_retry() -> None:
    from lokki.policy import RetryConfig

    often = double(retry=RetryConfig(retries=9)).step
    assert there_and_back(often) == often


@pytest.mark.parametrize(
    "local",
    [
        pytest.param(lambda: step(make_adder(3)), id="closure"),
        pytest.param(lambda: step(double.fn), id="made without the decorator's name"),
        pytest.param(lambda: step(functools.partial(make_adder(1)(2).__add__)), id="partial"),
    ],
)
def test_a_step_that_cannot_be_imported_travels_by_value(local: Callable[[], Any]) -> None:
    made = local().step
    back = there_and_back(made)
    assert (back.name, back.retry, back.resources) == (made.name, made.retry, made.resources)
    assert back.fn(4) == made.fn(4)


def make_adder(more: int) -> Callable[[int], int]:
    def add(n: int) -> int:
        return n + more

    return add


def test_a_whole_graph_travels() -> None:
    @step
    def numbers() -> list[int]:
        return [1, 2]

    @flow
    def doubled() -> Any:
        return numbers().map(double)

    nodes = doubled().nodes
    back = pickle.loads(pickle.dumps(nodes))
    assert [node.id for node in back] == ["numbers", "numbers-map"]
    assert back[0].step.fn() == [1, 2]
    assert back[1] == nodes[1]


# The file that was started is the module `__main__`, and in another process that is another file.

STARTED = """
import pickle, sys
from lokki.decorators import step

RAN = __name__

@step
def flap(bird):
    return f"{RAN} flaps {bird}"

if __name__ == "__main__":
    RAN = "not seen by others"
    with open(sys.argv[1], "wb") as file:
        pickle.dump([flap.step, flap.step], file)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    """The pickle of two steps of a started file."""
    (tmp_path / "birds.py").write_text(STARTED, "utf-8")
    done = run(str(tmp_path / "birds.py"), str(tmp_path / "steps.pkl"))
    assert done.stderr == ""
    return tmp_path / "steps.pkl"


@pytest.fixture
def started_module() -> Any:
    """Forgets the started file that a test has loaded."""
    from lokki import importing

    yield
    importing._main.cache_clear()
    sys.modules.pop("__lokki_main__", None)


@pytest.mark.usefixtures("started_module")
def test_a_step_of_the_started_file_is_found_through_the_file(pickled: Path) -> None:
    one, other = pickle.loads(pickled.read_bytes())
    assert one.fn("goose") == "__lokki_main__ flaps goose"
    assert one == other, "the file runs once, however many steps come from it"


@pytest.mark.parametrize("other", ["def flap(bird): ...", "@step\ndef flap(bird): ...", ""])
def test_another_started_file_is_not_mistaken_for_it(other: str, pickled: Path) -> None:
    child = pickled.with_name("child.py")
    child.write_text(
        "import pickle, sys\nfrom lokki.decorators import step\n\n"
        f"{other}\n\nprint(pickle.load(open(sys.argv[1], 'rb'))[0].fn('goose'))\n",
        "utf-8",
    )
    assert run("-W", "ignore", str(child), str(pickled)).stdout == "__lokki_main__ flaps goose\n"


def test_in_a_child_that_runs_the_same_file_the_step_is_the_childs_own(pickled: Path) -> None:
    child = pickled.with_name("birds.py")
    child.write_text(
        STARTED.partition("if __name__")[0] + "assert pickle.load(open(sys.argv[1], 'rb'))[0] == flap.step\n", "utf-8"
    )
    assert run("-W", "ignore", str(child), str(pickled)).stderr == ""


@pytest.mark.usefixtures("started_module")
def test_a_step_that_its_file_no_longer_has_is_named(pickled: Path) -> None:
    pickled.with_name("birds.py").write_text("flap = 'not a step'\n", "utf-8")
    with pytest.raises(GraphValidationError) as caught:
        pickle.loads(pickled.read_bytes())
    assert str(caught.value) == f"Step 'flap' was not found in {pickled.with_name('birds.py')}."


@pytest.mark.parametrize(("name", "text"), [("birds_gone", ""), ("birds_hidden", "flap = 'not a step'")])
def test_a_step_that_its_module_no_longer_has_is_named(
    name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / f"{name}.py"
    module.write_text("from lokki.decorators import step\n\n@step\ndef flap(bird): ...\n", "utf-8")
    dump = f"import pickle, sys, {name} as birds; sys.stdout.buffer.write(pickle.dumps(birds.flap.step))"
    done = subprocess.run([sys.executable, "-B", "-c", dump], cwd=tmp_path, capture_output=True, check=True, timeout=60)
    module.write_text(text, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(GraphValidationError, match=rf"Step 'flap' was not found in {name}\."):
        pickle.loads(done.stdout)
    del sys.modules[name]


@pytest.mark.usefixtures("started_module")
def test_a_started_file_that_is_no_python_module_is_named(pickled: Path) -> None:
    program = pickled.with_name("birds.py").rename(pickled.with_name("birds"))
    done = run(str(program), str(pickled))
    assert done.stderr == ""
    with pytest.raises(GraphValidationError, match=r"birds cannot be imported as Python\."):
        pickle.loads(pickled.read_bytes())


WITHOUT_CLOUDPICKLE = """
import pickle, sys
sys.modules["cloudpickle"] = None  # makes the import fail
from lokki.decorators import step

def make():
    @step
    def flap(bird): ...
    return flap.step

try:
    pickle.dumps(make())
except ValueError as error:
    print(error)
"""


def test_without_cloudpickle_a_local_step_is_refused_with_what_to_do() -> None:
    done = run("-c", WITHOUT_CLOUDPICKLE)
    assert done.stdout == (
        "Step 'flap' is defined inside a function, so another process cannot import it. Move it to the top of its "
        "module, or install cloudpickle (pip install 'lokki-twingraph[processes]').\n"
    )
    assert done.stderr == ""
