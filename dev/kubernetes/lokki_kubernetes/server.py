"""The server: its objects, its controllers, and what each verb does."""

from __future__ import annotations

import base64
import copy
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import yaml

from lokki_kubernetes import defaults, jobs, rules, schemas
from lokki_kubernetes.certificate import tls
from lokki_kubernetes.errors import ApiError, Object, bad_request, not_found
from lokki_kubernetes.kubelet import Kubelet
from lokki_kubernetes.protocol import Handler, Server
from lokki_kubernetes.request import Fault, Request
from lokki_kubernetes.resources import BY_PLURAL, RESOURCES
from lokki_kubernetes.store import Match, Store, field_selector, label_selector

NAMESPACES = ("default", "kube-system", "kube-public")


class StandIn:
    """The server and its controllers, on loopback; a context manager."""

    def __init__(self, port: int, token: str, schema: str | None, backoff: float, state: Path | None) -> None:
        self.store = Store()
        self.token = token
        self.schema = schemas.schema_version(schema)
        self.faults: list[Fault] = []
        self._http = Server(("127.0.0.1", port), Handler)
        self._http.kube = self
        at = self._http.server_address[1]
        self.url = f"https://127.0.0.1:{at}"
        self._state = state or Path(tempfile.mkdtemp(prefix="lokki-kubernetes-"))
        self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
        context, self._certificate = tls(self._state)
        # The handshake is made by the thread that serves the connection, not by the one that accepts it.
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self.kubelet = Kubelet(self.store, self._state, str(at), backoff)
        self._jobs = jobs.JobController(self.store, backoff)

    def start(self) -> StandIn:
        self.kubelet.sweep()  # what one that was killed has left
        for name in NAMESPACES:
            self.add_namespace(name)
        self.store.create("nodes", self.kubelet.node())
        self.kubelet.start()
        self._jobs.start()
        threading.Thread(target=self._http.serve_forever, name="http", daemon=True).start()
        return self

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._jobs.stop()
        self._jobs.join(timeout=5)
        self.kubelet.stop()
        shutil.rmtree(self._state, ignore_errors=True)

    def __enter__(self) -> StandIn:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def kubeconfig(self, path: Path) -> None:
        """Write what clients need to come here; the file is there when it is whole."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "lokki",
            "clusters": [
                {
                    "name": "lokki",
                    "cluster": {
                        "server": self.url,
                        "certificate-authority-data": base64.b64encode(self._certificate.encode()).decode(),
                    },
                }
            ],
            "users": [{"name": "tester", "user": {"token": self.token}}],
            "contexts": [{"name": "lokki", "context": {"cluster": "lokki", "user": "tester", "namespace": "default"}}],
        }
        new = path.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(yaml.safe_dump(config))
        new.replace(path)

    def add_namespace(self, name: str) -> None:
        namespace: Object = {"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}}
        defaults.set_defaults(BY_PLURAL["namespaces"], namespace)
        self.store.create("namespaces", namespace)
        self.store.create("serviceaccounts", {"metadata": {"name": "default", "namespace": name}})

    def fault(self, request: Request) -> None:
        """Do what a test has asked for, if it is this request that it asked it for."""
        with self.store.changed:
            asked = (request.verb, request.resource.plural, request.namespace, request.name)
            fault = next((each for each in self.faults if each.matches(*asked)), None)
            if fault is None:
                return
            fault.times -= 1
        time.sleep(fault.delay)
        if fault.code:
            raise ApiError(fault.code, fault.reason, fault.message)

    def match(self, request: Request) -> Match:
        tests = []
        if request.query.get("labelSelector"):
            tests.append(label_selector(request.query["labelSelector"]))
        if request.query.get("fieldSelector"):
            tests.append(field_selector(request.query["fieldSelector"]))
        if request.name:
            tests.append(field_selector(f"metadata.name={request.name}"))
        return lambda obj: all(test(obj) for test in tests)

    def list(self, request: Request) -> Object:
        resource = request.resource
        with self.store.changed:
            items = self.store.list(resource.plural, request.namespace, self.match(request))
            version = str(self.store.version)
        start = int(request.query.get("continue") or 0)
        limit = int(request.query.get("limit") or 0)
        metadata: Object = {"resourceVersion": version}
        if limit and len(items) > start + limit:
            metadata.update({"continue": str(start + limit), "remainingItemCount": len(items) - start - limit})
            items = items[start : start + limit]
        else:
            items = items[start:]
        return {
            "kind": f"{resource.kind}List",
            "apiVersion": resource.api_version,
            "metadata": metadata,
            "items": items,
        }

    def create(self, request: Request) -> Object:
        resource, obj = request.resource, self._accept(request, request.body)
        if obj["metadata"].get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        if resource.namespaced and self.store.find("namespaces", "", request.namespace) is None:
            raise not_found("namespaces", request.namespace)
        defaults.set_defaults(resource, obj)
        if request.query.get("dryRun"):
            return obj
        if resource.plural == "namespaces":
            self.add_namespace(obj["metadata"]["name"])
            return self.store.get("namespaces", "", obj["metadata"]["name"])
        obj["metadata"].pop("uid", None)
        if resource.plural == "jobs":
            jobs.prepare(obj)
        return self.store.create(resource.plural, obj)

    def update(self, request: Request, make: Any) -> Object:
        resource = request.resource
        with self.store.changed:
            before = self.store.get(resource.plural, request.namespace, request.name)
            after = make(copy.deepcopy(before))
            if not isinstance(after, dict):
                raise bad_request("the body must be an object")
            if request.sub == "status":
                after = {**before, "status": after.get("status", {}), "metadata": {**before["metadata"]}}
            else:
                if "status" in before:
                    after["status"] = before["status"]
                after = self._accept(request, after)
                if resource.plural == "secrets":
                    defaults.set_defaults(resource, after)
                rules.check_update(resource, before, after)
            return self.store.update(resource.plural, after)

    def delete(self, request: Request) -> Object:
        options = request.body if isinstance(request.body, dict) else {}
        policy = options.get("propagationPolicy") or request.query.get("propagationPolicy")
        seconds = options.get("gracePeriodSeconds", request.query.get("gracePeriodSeconds"))
        resource, store = request.resource, self.store
        with store.changed:
            obj = store.get(resource.plural, request.namespace, request.name)
            wanted = (options.get("preconditions") or {}).get("uid")
            if wanted and wanted != obj["metadata"]["uid"]:
                raise ApiError(409, "Conflict", f"Precondition failed: UID in precondition: {wanted}")
            if resource.plural == "pods":
                grace = int(seconds) if seconds is not None else obj["spec"].get("terminationGracePeriodSeconds", 30)
                return store.mark_deleted("pods", request.namespace, request.name, grace)
            if resource.plural == "jobs":
                self._delete_job(obj, policy, request)
            elif resource.plural == "namespaces":
                for other in RESOURCES:
                    for item in store.list(other.plural, request.name) if other.namespaced else []:
                        name = item["metadata"]["name"]
                        if other.plural == "pods":
                            store.mark_deleted("pods", request.name, name, 0)
                        else:
                            store.remove(other.plural, request.name, name)
                store.remove("namespaces", "", request.name)
            else:
                store.remove(resource.plural, request.namespace, request.name)
        details = {"name": request.name, "kind": resource.plural, "uid": obj["metadata"]["uid"]}
        if resource.group:
            details["group"] = resource.group
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}

    def _delete_job(self, job: Object, policy: str | None, request: Request) -> None:
        metadata = job["metadata"]
        if policy in ("Background", "Foreground"):
            jobs.remove_with_dependents(self.store, job)
            return
        if policy is None:
            request.warnings.append(
                "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background "
                "to remove them or set propagationPolicy=Orphan to suppress this warning"
            )
        self.store.remove("jobs", metadata["namespace"], metadata["name"])
        for pod in self.store.list("pods", metadata["namespace"], jobs.owned_by(job)):
            pod["metadata"].pop("ownerReferences")
            pod["metadata"].pop("resourceVersion")
            self.store.update("pods", pod)

    def delete_collection(self, request: Request) -> Object:
        found = self.list(request)
        for item in found["items"]:
            self.delete(
                Request(
                    "DELETE",
                    request.resource,
                    item["metadata"].get("namespace", ""),
                    item["metadata"]["name"],
                    "",
                    request.query,
                    request.body,
                )
            )
        return found

    def _accept(self, request: Request, body: Any) -> Object:
        """A manifest as the server takes it in: typed, in the right place, valid."""
        resource = request.resource
        if not isinstance(body, dict):
            raise bad_request("the body of the request must be an object")
        obj = copy.deepcopy(body)
        given = obj.setdefault("apiVersion", resource.api_version), obj.setdefault("kind", resource.kind)
        if given != (resource.api_version, resource.kind):
            raise bad_request(
                f'{given[1]} in version "{given[0].rpartition("/")[2]}" cannot be handled as a {resource.kind}: '
                f"the object provided is unrecognized (expected {resource.api_version} {resource.kind})"
            )
        metadata = obj.setdefault("metadata", {})
        if resource.namespaced:
            if metadata.get("namespace") not in (None, "", request.namespace):
                raise bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request"
                )
            metadata["namespace"] = request.namespace
        if request.name and metadata.setdefault("name", request.name) != request.name:
            raise bad_request("the name of the object does not match the name on the URL")
        if request.query.get("fieldValidation") != "Ignore":
            checked = {key: value for key, value in obj.items() if key != "status"}
            schemas.check_schema(resource, checked, self.schema)
        rules.check_rules(resource, obj)
        return obj
