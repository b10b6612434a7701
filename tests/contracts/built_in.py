"""What every component does that comes with this library: one suite that each of them inherits.

A component's own class names it, gives settings and inputs, and says what its outputs must be. Both are plain JSON, as
they stand in a workflow's definition; files are in `folder`, which is the same in a container.
"""

from __future__ import annotations

import inspect
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import jsonschema
import pytest

from tests.components_image import placed
from twingraph import Workflow, component, components, pipeline
from twingraph.components.built_in import BuiltIn
from twingraph.errors import ComponentError
from twingraph.registry import get_component, list_components

ROOT = Path(__file__).resolve().parents[2]


class BuiltInContract:
    """To be inherited by the tests of a component."""

    name: ClassVar[str]
    """What its class is called."""

    libraries: ClassVar[tuple[str, ...]] = ()
    """What its extra installs and only a call imports."""

    network: ClassVar[str] = "none"
    """The network of a container that it runs in."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A folder for files."""
        made = tmp_path / "folder"
        made.mkdir()
        return made

    @pytest.fixture
    def settings(self, folder: Path) -> dict[str, Any]:
        """What it is made with."""
        return {}

    @pytest.fixture
    def inputs(self, folder: Path) -> dict[str, Any]:
        """What it is called with."""
        raise NotImplementedError

    def check(self, outputs: Mapping[str, Any]) -> None:
        """Whether the outputs are what they must be."""
        raise NotImplementedError

    @property
    def cls(self) -> type[BuiltIn]:
        """The class."""
        found: type[BuiltIn] = getattr(components, self.name)
        return found

    @property
    def snake(self) -> str:
        """Its other name."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", self.name).lower()

    def test_it_has_two_names(self) -> None:
        assert get_component(self.name) is get_component(self.snake) is self.cls
        assert {self.name, self.snake} <= list_components().keys()
        assert self.name in components.__all__

    def test_its_schemas_are_those_of_what_it_takes(self, settings: dict[str, Any], inputs: dict[str, Any]) -> None:
        schema = json.loads(json.dumps(self.cls.schema()))
        for given, part in ((settings, schema["settings"]), (inputs, schema["inputs"])):
            jsonschema.Draft202012Validator.check_schema(part)
            jsonschema.validate(given, part)
            assert [name for name, held in part["properties"].items() if not held.get("description")] == []
        both = schema["settings"]["properties"].keys() & schema["inputs"]["properties"].keys()
        assert not both, "a name is a setting or an input"
        assert inspect.getdoc(self.cls)

    def test_making_it_loads_no_library(self, settings: dict[str, Any]) -> None:
        loaded = f"print(sorted({{*sys.modules}} & {{*{self.libraries!r}}}))"
        assert self._said(loaded, settings, {}) == "[]"

    def test_without_its_libraries_it_says_what_installs_them(
        self, settings: dict[str, Any], inputs: dict[str, Any]
    ) -> None:
        told = """
        from twingraph.errors import MissingLibraryError
        try:
            made.run(**json.loads(sys.argv[2]))
        except MissingLibraryError as error:
            print(error)
        """
        said = self._said(inspect.cleandoc(told), settings, inputs, "-S")  # without what is installed
        assert re.search(rf"which is not installed: pip install 'lokki-twingraph\[{self.cls.extra}\]'\.$", said)

    def _said(self, then: str, settings: dict[str, Any], inputs: dict[str, Any], *options: str) -> str:
        """What a program prints that made the component."""
        made = f"from twingraph.components import {self.name}\nmade = {self.name}(json.loads(sys.argv[1]))"
        done = subprocess.run(
            [
                sys.executable,
                *options,
                "-c",
                f"import json, sys\n{made}\n{then}",
                json.dumps(settings),
                json.dumps(inputs),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def test_a_name_that_it_does_not_know_is_told(self, settings: dict[str, Any]) -> None:
        with pytest.raises(ComponentError, match=f"^{self.name} has no setting or input 'no_such_thing'"):
            self.cls({**settings, "no_such_thing": 1})

    def test_a_pickled_one_does_the_same(self, settings: dict[str, Any], inputs: dict[str, Any]) -> None:
        made = self.cls(settings)
        again = pickle.loads(pickle.dumps(made))
        assert again.config == made.config
        self.check(again(**inputs).outputs)
        pickle.dumps(made)  # also after a call, which may have opened something

    def test_it_is_a_node_of_a_stored_workflow(self, settings: dict[str, Any], inputs: dict[str, Any]) -> None:
        nodes = [{"id": "one", "type": "component", "component": self.snake, "config": {**settings, **inputs}}]
        definition = {"name": "stored", "definition": {"nodes": nodes, "edges": []}}
        done = Workflow.from_dict(json.loads(json.dumps(definition))).run()
        self.check(done.outputs)

    def test_it_runs_in_a_process_of_its_own(self, settings: dict[str, Any], inputs: dict[str, Any]) -> None:
        apart = component(config={"isolate": True})(self.cls(settings))

        @pipeline
        def twice() -> Any:
            return [apart.submit(**inputs), apart.submit(**inputs)]

        for each in twice():
            self.check(each)

    def test_it_runs_in_a_container(
        self, components_image: str, folder: Path, settings: dict[str, Any], inputs: dict[str, Any]
    ) -> None:
        there = component(**placed(components_image, folder, network=self.network))(self.cls(settings))
        self.check(there(**inputs).outputs)
