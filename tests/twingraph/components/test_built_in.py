"""What the built-in components have in common, on one of a test's own."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import pytest

from tests.twingraph.components.greeting import Greeter, Loud, Saver
from twingraph import Workflow, component, pipeline
from twingraph.components import DataTransform
from twingraph.components.built_in import needed
from twingraph.errors import ComponentError, MissingLibraryError

LOOSE: Any = Greeter  # as a caller without a type checker has it


def test_settings_are_given_by_name_or_as_a_dict_and_inputs_may_have_defaults_there() -> None:
    assert Greeter(style="long", times=2)("Ada")["said"] == ["Good day Ada!"] * 2
    assert Greeter({"style": "long", "times": "2", "name": "Ada"})()["said"] == ["Good day Ada!"] * 2
    assert Greeter({"times": 2, "mark": "?"}, times=1)(name="Ada")["said"] == ["Hi Ada?"]
    assert Greeter(None)(name="Ada", mark=".")["said"] == ["Hi Ada."]
    assert Loud({"style": "long", "mark": "?"}, louder=2)(name="Ada")["said"] == ["Good day ADA???"]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Greeter({"tims": 3}), r"^Greeter has no setting or input 'tims'; did you mean 'times'\?$"),
        (
            lambda: Greeter({"x": 3}),
            r"^Greeter has no setting or input 'x'; it knows style, times, api_key, name, mark\.",
        ),
        (lambda: Greeter({"style": "big"}), r"^Greeter: setting 'style': 'big' is not one of: short, long\.$"),
        (lambda: Greeter({"api_key": ["s3cret"]}), r"^Greeter: setting 'api_key': its value is not text\.$"),
        (lambda: LOOSE("long"), r"^Greeter takes its settings by name, or a dict of them, not str\.$"),
        (Greeter(), r"^Greeter: input 'name' is missing: give it as name=\.\.\., or in the configuration\."),
        (lambda: Greeter()(name=3), r"^Greeter: input 'name': 3 is not text\."),
    ],
)
def test_a_wrong_setting_or_input_is_told(make: Any, why: str) -> None:
    with pytest.raises(ComponentError, match=why):
        make()


def test_an_instance_is_what_it_was_made_with() -> None:
    made = Greeter({"style": "long", "name": "Ada"}, api_key="s3cret")

    again = pickle.loads(pickle.dumps(made))
    assert again.config == made.config
    assert again()["said"] == ["Good day Ada!"]
    assert repr(made) == "Greeter(style='long', name='Ada', api_key=***)"
    with pytest.raises(AttributeError, match=r"^Greeter: setting 'style' cannot be changed; make another Greeter\.$"):
        made.style = "short"


def test_a_secret_is_looked_up_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Greeter({"api_key": "secret://GREETER_KEY", "name": "Ada"})
    monkeypatch.setenv("TWINGRAPH_SECRET_GREETER_KEY", "hush-hush")
    assert made()["key"] == "hush-hush"
    assert made.api_key == "secret://GREETER_KEY"


def test_it_is_described_by_its_signatures_and_docstrings() -> None:
    told = Greeter.schema()
    assert told["settings"]["properties"]["style"] == {
        "enum": ["short", "long"],
        "default": "short",
        "description": "how it is done.",
    }
    assert told["settings"]["properties"]["api_key"]["writeOnly"] is True
    assert told["inputs"]["required"] == ["name"]
    assert told["inputs"]["properties"]["name"]["description"] == "who is greeted, by name."
    assert list(Loud.schema()["settings"]["properties"]) == ["style", "times", "api_key", "louder"]


def test_it_is_a_node_of_workflows_and_of_pipelines() -> None:
    flow = Workflow("greet")
    flow.add_component("greet", Greeter, config={"style": "long", "mark": "?"})
    assert flow.run(inputs={"name": "Ada"}).outputs["said"] == ["Good day Ada?"]

    apart = component(config={"isolate": True})(Greeter(style="long"))

    @pipeline
    def both() -> Any:
        first = apart(name="Ada")
        return Loud()(name=first["said"][0], mark="")

    assert both()["said"] == ["Hi GOOD DAY ADA!"]


def test_it_is_started_and_mapped_as_any_component() -> None:
    greet = Greeter(style="long")
    assert greet.submit(name="Ada")["said"] == ["Good day Ada!"]
    assert [each["said"] for each in greet.map(["Ada", "Bob"], mark="?")] == [["Good day Ada?"], ["Good day Bob?"]]


def test_a_missing_library_is_an_error_that_says_what_to_install() -> None:
    why = r"^Greeter needs no_such_library, which is not installed: pip install 'lokki-twingraph\[transform\]'\.$"
    with pytest.raises(MissingLibraryError, match=why), needed(Greeter.extra, "Greeter"):
        import no_such_library  # type: ignore[import-not-found]  # noqa: F401


def test_what_the_configuration_has_needs_no_other_value() -> None:
    @component
    def source() -> dict[str, Any]:
        return {"rows": [{"a": 1}], "row_count": 1, "columns": ["a"]}

    flow = Workflow("save")
    flow.add_component("source", source)
    flow.add_component("sort", DataTransform().sort("a"))
    flow.add_component("save", Saver, config={"path": "out"})
    flow.connect("source", "sort").connect("sort", "save")
    assert flow.run().outputs == {"saved": [{"a": 1}], "path": "out"}

    made = Saver({"path": "secret://PLACE"})
    assert str(inspect.signature(made)) == "(path: 'str' = 'secret://PLACE', data: 'Any')"
    assert component(made).by_place({"data": 1}) == ((), {"data": 1})


def test_an_instance_in_a_workflow_is_written_down_as_what_it_was_made_with() -> None:
    flow = Workflow("greet")
    flow.add_component("greet", Greeter({"style": "long", "mark": "?"}), config={"mark": "."})

    told = flow.to_dict()["definition"]["nodes"][0]
    assert (told["component"], told["config"]) == ("Greeter", {"style": "long", "mark": "."})
    assert flow.run(inputs={"name": "Ada"}).outputs["said"] == ["Good day Ada."]
