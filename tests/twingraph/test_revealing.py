"""References to secrets: the function gets the secret, and nobody else sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.twingraph.conftest import Heard
from twingraph import component, pipeline
from twingraph.events import NodeLogged, NodeStarted
from twingraph.executions.recorder import open_recorder


@component
def use(key: str, options: Any = None) -> int:
    print("using", key)  # noqa: T201 - that is what is looked for
    return len(key) + len(options["nested"][0] if options else "")


@pipeline
def uses(**inputs: Any) -> Any:
    return use(**inputs)


def test_the_function_gets_it_and_the_record_does_not(
    heard: Heard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, twingraph_home: Path
) -> None:
    monkeypatch.setenv("TWINGRAPH_RECORD", "on")
    monkeypatch.setenv("TWINGRAPH_SECRET_KEY", "hunter2-from-the-environment")
    monkeypatch.setenv("TWINGRAPH_SECRETS", str(tmp_path))
    (tmp_path / "OTHER").write_text("from-a-file\n")
    given: dict[str, Any] = {"key": "secret://KEY", "options": {"nested": ["secret://OTHER"]}}
    execution = uses.run(listen=heard, **given)
    assert execution.result().value == len("hunter2-from-the-environment") + len("from-a-file")
    assert heard.of(NodeStarted)[0].inputs == given
    assert heard.of(NodeLogged)[0].message == "using hunter2-from-the-environment"
    recorder = open_recorder()
    node = recorder.repository().node(execution.id, "use")
    lines = recorder.repository().logs(execution.id)
    assert "hunter2" not in repr((node, lines))
    assert "from-a-file" not in repr(node)
    assert lines[0].message == "using ***"
    recorder.close()


@pytest.mark.parametrize(
    ("name", "words"),
    [("NOT_THERE", "set TWINGRAPH_SECRET_NOT_THERE"), ("../etc/passwd", "letters, digits"), ("", "letters, digits")],
)
def test_one_that_is_not_there_is_named(name: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TWINGRAPH_SECRETS", str(tmp_path))
    with pytest.raises(Exception, match=words):
        use(f"secret://{name}")
