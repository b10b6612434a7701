"""What a deployment would change, in the words of the flow: the deployed template beside the new one.

CloudFormation's change set says which resources it would touch; what about them is new is found by comparing the
templates. Values of variables are never shown: some of them may be secret.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lokki.aws.templates import FUNCTION, JOB, LOG, POLICY, ROLE, Resource, Template
from lokki.frozen import frozen

CODE = "code"
_MOST = 6  # things that are named one by one
_UNITS = {"MemorySize": ("memory", " MB"), "Timeout": ("timeout", " s"), "Runtime": ("Python", "")}
_PLAIN = {
    "Architectures": "processor",
    "PackageType": "package type",
    "Role": "role",
    "FunctionName": "name",
    "JobDefinitionName": "name",
    "StateMachineName": "name",
    "LogGroupName": "name",
    "ScheduleExpression": "when it starts",
    "RoleArn": "role",
}
Permission = tuple[str, str]


@frozen
class Change:
    """A resource that a deployment touches.

    Attributes:
        does: `new`, `changed`, `replaced` or `removed`.
        what: the resource, as in `step flap_bird`.
        how: what about it changes.
        kind: its type in CloudFormation.
    """

    logical: str
    does: str
    what: str
    how: tuple[str, ...] = ()
    kind: str = ""


@frozen
class Plan:
    """All that a deployment would change; `code_only` when that is nothing but the code of functions."""

    changes: tuple[Change, ...]
    creates: bool = False

    @property
    def code_only(self) -> bool:
        """Whether only the code of functions differs."""
        return bool(self.changes) and all(
            each.kind == FUNCTION and each.does == "changed" and each.how == (CODE,) for each in self.changes
        )

    def lines(self) -> Iterator[str]:
        """The plan for people: what is new, what changes, what is replaced and what goes."""
        yield from (f"new: {each}" for each in _listed("new", self.changes))
        yield from _changed([each for each in self.changes if each.does == "changed"])
        yield from (f"replaced: {_told(each)}" for each in self.changes if each.does == "replaced")
        yield from (f"removed: {each}" for each in _listed("removed", self.changes))


def compared(old: Template | None, new: Template) -> Plan:
    """What differs between what is deployed, if anything, and what shall be."""
    before = old.resources if old is not None else {}
    changes = [
        *(_one(new, name, "new") for name in new.resources if name not in before),
        *(
            Change(name, "changed", new.called(name), how, each.kind)
            for name, each in new.resources.items()
            if old is not None and name in before and (how := tuple(_differences(old, new, name)))
        ),
        *(_one(old, name, "removed") for name in before if old is not None and name not in new.resources),
    ]
    return Plan(tuple(changes), creates=old is None)


def with_entries(plan: Plan, entries: Iterable[Mapping[str, Any]], new: Template) -> Plan:
    """The plan with what only CloudFormation knows: what it has to make anew, and what it touches besides."""
    known = {each.logical: each for each in plan.changes}
    for entry in entries:
        logical = entry["LogicalResourceId"]
        if entry.get("Replacement") == "True":
            how = known[logical].how if logical in known else ()
            known[logical] = Change(logical, "replaced", new.called(logical), how, entry["ResourceType"])
        elif logical not in known and (how := _beside(entry)):
            known[logical] = Change(logical, "changed", new.called(logical), how, entry["ResourceType"])
    return Plan(tuple(known.values()), plan.creates)


def _one(template: Template | None, name: str, does: str) -> Change:
    assert template is not None
    return Change(name, does, template.called(name), kind=template.resources[name].kind)


def _beside(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """What an entry says that the templates do not, such as new tags of the stack.

    What follows from a change of another resource, which CloudFormation cannot rule out beforehand, is no news.
    """
    details = entry.get("Details") or ()
    certain = [each for each in details if each.get("Evaluation") == "Static"]
    targets = (each.get("Target", {}) for each in certain)
    return tuple(dict.fromkeys(str(each.get("Name") or each.get("Attribute", "")).lower() for each in targets))


# --- in words


def _listed(does: str, changes: Iterable[Change]) -> Iterator[str]:
    """What is new or removed; logs and policies come and go with what they belong to."""
    chosen = [each for each in changes if each.does == does]
    shown = [each.what for each in chosen if each.kind not in (LOG, POLICY)]
    yield from dict.fromkeys(shown or [each.what for each in chosen])


def _changed(changes: list[Change]) -> Iterator[str]:
    """The changes; steps that change alike share a line."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for each in changes:
        if each.kind == FUNCTION:
            alike.setdefault(each.how, []).append(each.what.removeprefix("step "))
    for how, steps in alike.items():
        who = f"step {steps[0]}" if len(steps) == 1 else f"steps {', '.join(steps)}"
        yield f"{f'{len(steps)} steps' if len(steps) > _MOST else who}: {', '.join(how)}"
    for each in changes:
        if each.kind in (ROLE, POLICY):
            yield from (f"{each.what}: {how}" for how in each.how)
        elif each.kind != FUNCTION:
            yield _told(each)


def _told(change: Change) -> str:
    return f"{change.what}: {', '.join(change.how)}" if change.how else change.what


# --- what differs


def _differences(old: Template, new: Template, name: str) -> Iterator[str]:
    before, after = old.resources[name], new.resources[name]
    if before == after:
        return
    match after.kind:
        case _ if before.kind != after.kind:
            yield f"{before.kind} becomes {after.kind}"
        case "AWS::Lambda::Function":
            yield from _of_function(before, after)
        case "AWS::Batch::JobDefinition":
            yield from _of_job(before, after)
        case "AWS::StepFunctions::StateMachine":
            yield from _of_machine(before, after)
        case "AWS::IAM::Role" | "AWS::IAM::ManagedPolicy":
            yield from _of_role(old, new, before, after)
        case _:
            yield from _of_others(before.properties, after.properties)


def _of_function(before: Resource, after: Resource) -> Iterator[str]:
    if _code(before) != _code(after):
        yield CODE
    yield from _variables(before.variables, after.variables)
    yield from _of_others(before.properties, after.properties, "Code", "Environment", "Tags")
    yield from _tags(before, after)


def _of_job(before: Resource, after: Resource) -> Iterator[str]:
    if _code(before) != _code(after):
        yield CODE
    yield from _variables(before.variables, after.variables)
    old, new = (each.properties.get("ContainerProperties", {}) for each in (before, after))
    if old.get("ResourceRequirements") != new.get("ResourceRequirements"):
        yield f"{_needs(old)} → {_needs(new)}"
    yield from _of_others(old, new, "Image", "Environment", "ResourceRequirements")
    yield from _of_others(before.properties, after.properties, "ContainerProperties", "Tags")
    yield from _tags(before, after)


def _of_machine(before: Resource, after: Resource) -> Iterator[str]:
    texts = [each.properties.get("DefinitionString", "") for each in (before, after)]
    if texts[0] != texts[1]:
        yield from _of_states(*(dict(_states(_json(text))) for text in texts))
    elif before.properties.get("DefinitionSubstitutions") != after.properties.get("DefinitionSubstitutions"):
        yield "what it calls"
    yield from _of_others(before.properties, after.properties, "DefinitionString", "DefinitionSubstitutions", "Tags")
    yield from _tags(before, after)


def _of_states(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    said = False
    for word, names in (
        ("new state", [each for each in new if each not in old]),
        ("changed state", [each for each in new if each in old and new[each] != old[each]]),
        ("removed state", [each for each in old if each not in new]),
    ):
        if names:
            said = True
            yield f"{word} {names[0]}" if len(names) == 1 else f"{word}s {_few(names)}"
    if not said:
        yield "definition"


def _of_role(old: Template, new: Template, before: Resource, after: Resource) -> Iterator[str]:
    had, has = _permissions(before), _permissions(after)
    yield from _worded(new, "new permission", [each for each in has if each not in had])
    yield from _worded(old, "no more permission", [each for each in had if each not in has])
    yield from _of_others(before.properties, after.properties, "Policies", "PolicyDocument", "Tags")
    if set(had) == set(has) and before.properties.get("Policies") != after.properties.get("Policies"):
        yield "conditions of its permissions"
    yield from _tags(before, after)


def _worded(template: Template, word: str, permissions: Iterable[Permission]) -> Iterator[str]:
    """Permissions, those on one thing together."""
    on: dict[str, list[str]] = {}
    for action, resource in permissions:
        on.setdefault(resource, []).append(action)
    for resource, actions in on.items():
        yield f"{word} {', '.join(actions)} on {template.plainly(resource)}"


def _of_others(old: Mapping[str, Any], new: Mapping[str, Any], *but: str) -> Iterator[str]:
    for name in dict.fromkeys([*old, *new]):
        before, after = old.get(name), new.get(name)
        if name in but or before == after:
            continue
        if name in _UNITS:
            word, unit = _UNITS[name]
            yield f"{word} {before}{unit} → {after}{unit}"
        elif isinstance(before, str | int) and isinstance(after, str | int) and len(f"{before}{after}") < 100:
            yield f"{_PLAIN.get(name, name)} {before} → {after}"
        else:
            yield _PLAIN.get(name, name)


def _variables(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name):
            word = "new variable" if name not in old else "changed variable" if name in new else "removed variable"
            yield f"{word} {name}"


def _tags(before: Resource, after: Resource) -> Iterator[str]:
    if _tagged(before) != _tagged(after):
        yield "tags"


def _tagged(resource: Resource) -> dict[str, Any]:
    """The tags but those that say which code it is."""
    given = resource.properties.get("Tags") or {}
    pairs = given.items() if isinstance(given, Mapping) else ((each["Key"], each["Value"]) for each in given)
    own = resource.kind in (FUNCTION, JOB)
    return {key: value for key, value in pairs if not (own and key == "lokki:code")}


def _code(resource: Resource) -> Any:
    """Where the code of a function or a job lies, and which it is."""
    given = resource.properties.get("Tags") or {}
    pairs = given.items() if isinstance(given, Mapping) else ((each["Key"], each["Value"]) for each in given)
    place = resource.properties.get("Code") or resource.properties.get("ContainerProperties", {}).get("Image")
    return place, dict(pairs).get("lokki:code")


def _needs(container: Mapping[str, Any]) -> str:
    needed = {each["Type"]: each["Value"] for each in container.get("ResourceRequirements", ())}
    return f"{needed.get('VCPU', '?')} vCPU and {needed.get('MEMORY', '?')} MB"


def _json(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, Mapping) else {}


def _states(machine: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every state of a machine by its name, those inside maps by themselves."""
    for name, state in (machine.get("States") or {}).items():
        inner = state.get("ItemProcessor") or {}
        yield name, {**state, "ItemProcessor": {key: value for key, value in inner.items() if key != "States"}}
        yield from _states(inner)


def _permissions(resource: Resource) -> dict[Permission, None]:
    documents = [each.get("PolicyDocument", {}) for each in resource.properties.get("Policies") or ()]
    documents.append(resource.properties.get("PolicyDocument") or {})
    found: dict[Permission, None] = {}
    for statement in (each for document in documents for each in document.get("Statement", ())):
        for action in _many(statement.get("Action")):
            found |= {(action, str(on)): None for on in _many(statement.get("Resource"))}
    return found


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _few(names: list[str]) -> str:
    return ", ".join(names[:_MOST]) + (f" and {len(names) - _MOST} more" if len(names) > _MOST else "")
