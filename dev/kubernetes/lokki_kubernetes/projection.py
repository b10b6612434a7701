"""The environment of a container and what its volumes hold: from its pod, from configmaps and secrets."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from lokki_kubernetes.causes import quantity
from lokki_kubernetes.containers import NODE, Waiting
from lokki_kubernetes.errors import Object
from lokki_kubernetes.store import Store


class Projection:
    """What a pod's containers see, read anew each time that one starts."""

    def __init__(self, store: Store, capacity: dict[str, float], pod: Object, folder: Path) -> None:
        self._store, self._capacity, self._pod, self._folder = store, capacity, pod, folder
        self._namespace = pod["metadata"]["namespace"]

    def environment(self, container: Object) -> dict[str, str]:
        environment: dict[str, str] = {}
        for source in container.get("envFrom") or []:
            for kind, plural in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
                if kind in source:
                    data = self._data(plural, source[kind]["name"], bool(source[kind].get("optional")))
                    environment.update({source.get("prefix", "") + k: v.decode() for k, v in data.items()})
        for item in container.get("env") or []:
            value = self._value(container, item["valueFrom"]) if item.get("valueFrom") else item.get("value") or ""
            if value is not None:
                environment[item["name"]] = value if item.get("valueFrom") else expand(value, environment)
        return environment

    def _value(self, container: Object, source: Object) -> str | None:
        for kind, plural in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
            if kind in source:
                reference = source[kind]
                data = self._data(plural, reference["name"], bool(reference.get("optional")))
                if reference["key"] in data:
                    return data[reference["key"]].decode()
                if reference.get("optional"):
                    return None
                what = "ConfigMap" if plural == "configmaps" else "Secret"
                raise Waiting(
                    "CreateContainerConfigError",
                    f"couldn't find key {reference['key']} in {what} {self._namespace}/{reference['name']}",
                )
        if "fieldRef" in source:
            return self._field(source["fieldRef"]["fieldPath"])
        resource = source["resourceFieldRef"]["resource"]
        group, _, name = resource.partition(".")
        amount = (container.get("resources") or {}).get(group, {}).get(name, self._capacity.get(name, 0))
        divisor = quantity(source["resourceFieldRef"].get("divisor") or "1") or 1
        return str(-int(-quantity(amount) // divisor))

    def _field(self, path: str) -> str:
        if indexed := re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", path):
            return str((self._pod["metadata"].get(indexed[1]) or {}).get(indexed[2], ""))
        if path in ("metadata.labels", "metadata.annotations"):
            found = self._pod["metadata"].get(path.partition(".")[2]) or {}
            return "\n".join(f'{key}="{value}"' for key, value in sorted(found.items()))
        fixed = {
            "spec.nodeName": NODE,
            "status.hostIP": "127.0.0.1",
            "status.podIP": "",
            "spec.serviceAccountName": "default",
        }
        if path in fixed:
            return fixed[path]
        head, _, name = path.partition(".")
        if head == "metadata" and name in ("name", "namespace", "uid"):
            return str(self._pod["metadata"][name])
        raise Waiting("CreateContainerConfigError", f"fieldPath {path} is not supported")

    def _data(self, plural: str, name: str, optional: bool) -> dict[str, bytes]:
        found = self._store.find(plural, self._namespace, name)
        if found is None:
            if optional:
                return {}
            raise Waiting(
                "CreateContainerConfigError",
                f'{"configmap" if plural == "configmaps" else "secret"} "{name}" not found',
            )
        if plural == "secrets":
            return {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}
        data = {key: value.encode() for key, value in (found.get("data") or {}).items()}
        return {**data, **{k: base64.b64decode(v) for k, v in (found.get("binaryData") or {}).items()}}

    def mounts(self, container: Object) -> list[str]:
        volumes = {volume["name"]: volume for volume in self._pod["spec"].get("volumes") or []}
        mounts = []
        for mount in container.get("volumeMounts") or []:
            volume = volumes[mount["name"]]
            path, writable = self._volume(volume)
            inner = mount.get("subPath")
            if inner:
                path = path / expand(inner, {})
                if not path.exists() and writable:
                    path.mkdir(parents=True)
            mode = "ro" if mount.get("readOnly") or not writable else "rw"
            mounts.append(f"{path}:{mount['mountPath']}:{mode}")
        return mounts

    def _volume(self, volume: Object) -> tuple[Path, bool]:
        path = self._folder / "volumes" / volume["name"]
        if "hostPath" in volume:
            return Path(volume["hostPath"]["path"]), True
        if "emptyDir" in volume:
            if not path.exists():
                path.mkdir(parents=True)
                path.chmod(0o777)
            return path, True
        if not path.exists():
            try:
                files = self._projection(volume)
            except Waiting as why:
                text = f'MountVolume.SetUp failed for volume "{volume["name"]}" : {why.message}'
                raise Waiting("ContainerCreating", text) from None
            for name, (content, mode) in files.items():
                target = path / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
                target.chmod(mode)
            path.mkdir(parents=True, exist_ok=True)
        return path, False

    def _projection(self, volume: Object) -> dict[str, tuple[bytes, int]]:
        if "projected" in volume:
            merged: dict[str, tuple[bytes, int]] = {}
            for source in volume["projected"].get("sources") or []:
                merged.update(self._projection(source))
            return merged
        if "downwardAPI" in volume:
            items = volume["downwardAPI"].get("items") or []
            return {
                i["path"]: (self._field(i["fieldRef"]["fieldPath"]).encode(), i.get("mode", 0o644))
                for i in items
                if "fieldRef" in i
            }
        kind = "configMap" if "configMap" in volume else "secret"
        source = volume[kind]
        name = source.get("name") or source.get("secretName")
        data = self._data("configmaps" if kind == "configMap" else "secrets", name, bool(source.get("optional")))
        mode = source.get("defaultMode", 0o644)
        if not source.get("items"):
            return {key: (value, mode) for key, value in data.items()}
        missing = [item["key"] for item in source["items"] if item["key"] not in data]
        if missing and not source.get("optional"):
            raise Waiting(
                "", f"references non-existent {'config' if kind == 'configMap' else 'secret'} key: {missing[0]}"
            )
        return {i["path"]: (data[i["key"]], i.get("mode", mode)) for i in source["items"] if i["key"] in data}


def expand(text: str, environment: dict[str, str]) -> str:
    """`$(NAME)` from the environment, `$$(NAME)` as it stands; unknown names stay."""

    def one(match: re.Match[str]) -> str:
        if match[0].startswith("$$"):
            return match[0][1:]
        return environment.get(match[1], match[0])

    return re.sub(r"\$?\$\(([-._a-zA-Z0-9]+)\)", one, text)
