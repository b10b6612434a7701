"""What a component's `config=`, `resources=` and `labels=` say, checked, in the words of Kubernetes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lokki.errors import nearest
from lokki.frozen import frozen
from twingraph.errors import ComponentError, ComponentTypeError
from twingraph.placed import Placed
from twingraph.platforms.sizes import memory_bytes, processors

OPTIONS = frozenset({
    "namespace", "resources", "node_selector", "pull_policy", "image_pull_secrets", "service_account", "tolerations",
    "host_network", "environment", "timeout", "start_timeout", "context", "kubeconfig", "store", "pickle",
})  # fmt: skip
START_TIMEOUT = 120.0
_POLICIES = ("Always", "IfNotPresent", "Never")
_SHORT = ("cpu", "memory", "gpu")
_GPU = "nvidia.com/gpu"
_KEY = 63  # characters of a label's name and of its value


@frozen
class Wishes:
    """How a call is to run.

    Attributes:
        kubeconfig: the path of a kubeconfig.
        context: one of its contexts.
        namespace: where its job is made.
        start_timeout: seconds that its pod may wait to start.
        container: what its container's manifest says of it.
        pod: what its pod's manifest says of it.
        labels: its labels.
    """

    kubeconfig: str | None
    context: str | None
    namespace: str | None
    start_timeout: float
    container: Mapping[str, Any]
    pod: Mapping[str, Any]
    labels: Mapping[str, str]


def wishes(call: Placed) -> Wishes:
    """What is said of a call; `ComponentError` where that cannot be."""
    start = _of(call, "start_timeout", (int, float), "seconds")
    container: dict[str, Any] = {"resources": _resources(call)}
    if policy := _of(call, "pull_policy", str, "a text"):
        container["imagePullPolicy"] = _policy(call, policy)
    return Wishes(
        _of(call, "kubeconfig", str, "a path"),
        _of(call, "context", str, "a text"),
        _of(call, "namespace", str, "a text"),
        START_TIMEOUT if start is None else float(start),
        container,
        _pod(call),
        {key: text for key, text in map(_label, call.placement.labels.items()) if key},
    )


def _of(call: Placed, name: str, kind: Any, words: str) -> Any:
    value = call.placement.config.get(name)
    if value is None or (isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool)):
        return value
    raise ComponentTypeError(f"{_where(call, name)} takes {words}, not {value!r}.")


def _where(call: Placed, name: str) -> str:
    return f"{call.who}: config[{name!r}]"


def _policy(call: Placed, told: str) -> str:
    for each in _POLICIES:
        if each.lower() == told.lower():
            return each
    near = nearest(told, _POLICIES)
    raise ComponentError(f"{_where(call, 'pull_policy')} is one of {', '.join(_POLICIES)}, not {told!r}{near}.")


def _pod(call: Placed) -> dict[str, Any]:
    pod: dict[str, Any] = {}
    if selector := _of(call, "node_selector", Mapping, "a dict"):
        pod["nodeSelector"] = {str(key): _word(value) for key, value in selector.items()}
    if account := _of(call, "service_account", str, "a text"):
        pod["serviceAccountName"] = account
    if tolerations := _of(call, "tolerations", list, "a list of dicts"):
        pod["tolerations"] = [dict(each) for each in tolerations]
    if secrets := _of(call, "image_pull_secrets", list, "a list of names"):
        pod["imagePullSecrets"] = [{"name": str(each)} for each in secrets]
    if _of(call, "host_network", bool, "True or False"):
        pod["hostNetwork"] = True
    return pod


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _resources(call: Placed) -> dict[str, dict[str, str]]:
    """Requests and limits: `config` wins over `resources`, and Kubernetes' own form in it over the short one."""
    told = _of(call, "resources", Mapping, "a dict") or {}
    for name in told:
        if name not in ("requests", "limits", *_SHORT):
            known = ("requests", "limits", *_SHORT)
            near = nearest(str(name), known)
            raise ComponentError(f"{_where(call, 'resources')} has no {name!r}{near}; it has {', '.join(known)}.")
    own = {
        group: {str(key): str(value) for key, value in (told.get(group) or {}).items()}
        for group in ("requests", "limits")
    }
    short = {**call.placement.resources, **{name: told[name] for name in _SHORT if name in told}}
    made: dict[str, dict[str, str]] = {"requests": {}, "limits": {}}
    for name in _SHORT:
        key = _GPU if name == "gpu" else name
        if short.get(name) in (None, False) or any(key in group for group in own.values()):
            continue
        made["limits"][key] = made["requests"][key] = _amount(call, name, short[name])
    for group, amounts in own.items():
        made[group].update(amounts)
    return {group: amounts for group, amounts in made.items() if amounts}


def _amount(call: Placed, name: str, told: Any) -> str:
    try:
        if name == "cpu":
            return f"{max(1, round(processors(told) * 1000))}m"
        if name == "memory":
            amount = memory_bytes(told)
            return f"{amount >> 20}Mi" if amount % (1 << 20) == 0 else str(amount)
        if not isinstance(told, int) or told < 0:
            raise ValueError(f"{told!r} is no number of GPUs: write True or a whole number.")
    except ValueError as error:
        raise ComponentError(f"{call.who}: resources[{name!r}]: {error}") from None
    return str(int(told))


def _label(pair: tuple[str, str]) -> tuple[str, str]:
    prefix, slash, name = pair[0].rpartition("/")
    name = label(name)
    whole = f"{prefix}/{name}" if slash and re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", prefix) else name
    return (whole if name else ""), label(pair[1])


def label(text: str) -> str:
    """A text as the value of a label, which takes letters, digits and a few signs in between."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text)[:_KEY].strip("-_.")
