"""The HTTP side: REST as Kubernetes speaks it, for the resources in `resources`."""

from __future__ import annotations

import hmac
import json
import re
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLError
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import yaml

from lokki_kubernetes import patch
from lokki_kubernetes.errors import ApiError, Object, bad_request
from lokki_kubernetes.request import Fault, Request, flag
from lokki_kubernetes.resources import BY_PLURAL, GROUPS, RESOURCES, api_resource_list, table

if TYPE_CHECKING:
    from lokki_kubernetes.server import StandIn

ROUTE = re.compile(
    r"/(?:api/v1|apis/(?P<group>[^/]+)/v1)"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/))?/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[a-z]+))?"
)
HEALTH = ("/healthz", "/readyz", "/livez")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    kube: StandIn

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError | SSLError):  # a client that left
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def _serve(self) -> None:
        self._headers_sent = False
        try:
            body = self._read_body()
            self._authenticate()
            if not self._serve_fixed(body):
                self._serve_resource(body)
        except ApiError as error:
            if not self._headers_sent:
                self._answer(error.status(), error.code)
        except (BrokenPipeError, ConnectionResetError, SSLError):
            self.close_connection = True

    def _read_body(self) -> Any:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not raw:
            return None
        kind = self.headers.get("Content-Type", "")
        if "protobuf" in kind:
            raise ApiError(415, "UnsupportedMediaType", "protobuf is not served")
        try:
            return yaml.safe_load(raw) if "yaml" in kind else json.loads(raw)
        except (ValueError, yaml.YAMLError) as error:
            raise bad_request(f"the body of the request could not be read: {error}") from None

    def _authenticate(self) -> None:
        if urlsplit(self.path).path in HEALTH:
            return
        told = self.headers.get("Authorization", "")
        if not hmac.compare_digest(told.encode(), f"Bearer {self.server.kube.token}".encode()):
            raise ApiError(401, "Unauthorized", "Unauthorized")

    def _serve_fixed(self, body: Any) -> bool:
        path = urlsplit(self.path).path.rstrip("/")
        if path in HEALTH:
            self._send(200, b"ok", "text/plain")
        elif path == "/_lokki/faults":
            self._serve_faults(body)
        elif (found := _discovery(path, self.server.kube.schema)) is not None:
            self._answer(found)
        else:
            return False
        return True

    def _serve_faults(self, body: Any) -> None:
        faults = self.server.kube.faults
        if self.command == "POST":
            faults.append(Fault(**body))
        elif self.command == "DELETE":
            only = dict(parse_qsl(urlsplit(self.path).query)).get("namespace")
            faults[:] = [fault for fault in faults if only not in (None, fault.namespace)]
        self._answer({"faults": [vars(fault) for fault in faults]})

    # What is asked of objects.

    def _serve_resource(self, body: Any) -> None:
        kube, request = self.server.kube, self._request(body)
        kube.fault(request)
        resource, verb = request.resource, request.verb
        if verb == "log":
            self._logs(request)
        elif verb == "watch":
            self._watch(request)
        elif verb == "get":
            self._show(request, kube.store.get(resource.plural, request.namespace, request.name))
        elif verb == "list":
            self._show(request, kube.list(request))
        elif verb == "create" and not request.name:
            self._answer(kube.create(request), 201)
        elif verb == "update":
            self._answer(kube.update(request, lambda _: request.body))
        elif verb == "patch":
            self._answer(kube.update(request, lambda was: patch.apply(request.content_type, was, request.body)))
        elif verb == "delete":
            done = kube.delete(request) if request.name else kube.delete_collection(request)
            self._answer(done, warnings=request.warnings)
        else:
            raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")

    def _request(self, body: Any) -> Request:
        url = urlsplit(self.path)
        route = ROUTE.fullmatch(url.path)
        resource = BY_PLURAL.get(route["plural"]) if route else None
        if route is None or resource is None or (route["group"] or "") != resource.group:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        if route["sub"] and route["sub"] not in resource.subresources:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        return Request(
            method=self.command,
            resource=resource,
            namespace=route["namespace"] or "",
            name=route["name"] or "",
            sub=route["sub"] or "",
            query=dict(parse_qsl(url.query)),
            body=body,
            content_type=self.headers.get("Content-Type", ""),
        )

    def _wants_table(self) -> bool:
        return "as=Table" in self.headers.get("Accept", "").split(",")[0]

    def _show(self, request: Request, found: Object) -> None:
        if self._wants_table():
            items = found.get("items", [found])
            found = table(request.resource, items, found["metadata"].get("resourceVersion", ""))
        self._answer(found)

    def _watch(self, request: Request) -> None:
        kube, query = self.server.kube, request.query
        if flag(query, "sendInitialEvents"):
            message = (
                "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch "
                "unless the WatchList feature gate is enabled"
            )
            raise ApiError(422, "Invalid", message)
        since = query.get("resourceVersion", "")
        start = int(since) if since not in ("", "0") else None
        seconds = float(query.get("timeoutSeconds") or 1800)
        as_table = self._wants_table()

        def lines() -> Iterator[bytes]:
            changes = kube.store.watch(request.resource.plural, request.namespace, kube.match(request), start, seconds)
            try:
                for kind, obj in changes:
                    version = obj["metadata"]["resourceVersion"]
                    shown = table(request.resource, [obj], version) if as_table else obj
                    yield json.dumps({"type": kind, "object": shown}).encode() + b"\n"
            except ApiError as error:
                yield json.dumps({"type": "ERROR", "object": error.status()}).encode() + b"\n"

        self._stream(lines(), "application/json")

    def _logs(self, request: Request) -> None:
        kube = self.server.kube
        pod = kube.store.get("pods", request.namespace, request.name)
        self._stream(kube.kubelet.logs(pod, request.query), "text/plain")

    def _answer(self, obj: Object, code: int = 200, warnings: list[str] | None = None) -> None:
        headers = {"Warning": ", ".join(f'299 - "{text}"' for text in warnings)} if warnings else {}
        self._send(code, json.dumps(obj).encode(), "application/json", headers)

    def _send(self, code: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self._headers_sent = True
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, chunks: Iterator[bytes], kind: str) -> None:
        self._headers_sent = True
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        for chunk in chunks:
            if chunk:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")


def _discovery(path: str, version: str) -> Object | None:
    """What the server is and serves, as clients ask for it first."""
    if path == "/version":
        major, minor = version.lstrip("v").split(".")[:2]
        named = {"gitVersion": f"v{major}.{minor}.0-lokki", "gitCommit": "", "gitTreeState": "clean"}
        built = {"buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "", "platform": "linux/amd64"}
        return {"major": major, "minor": minor, **named, **built}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if path == "/apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(each) for each in GROUPS if each]}
    if path == "/api/v1":
        return api_resource_list("")
    if (group := path.removeprefix("/apis/").removesuffix("/v1")) in GROUPS and group:
        return api_resource_list(group)
    if path == "/openapi/v3":
        known = ["api/v1"] + [f"apis/{group}/v1" for group in GROUPS if group]
        return {"paths": {name: {"serverRelativeURL": f"/openapi/v3/{name}"} for name in known}}
    if path.startswith("/openapi/v3/"):
        return _openapi(path.removeprefix("/openapi/v3"))
    return None


def _group(name: str) -> Object:
    served = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [served], "preferredVersion": served}


def _openapi(path: str) -> Object:
    """Just enough for kubectl to learn that the server itself validates fields."""
    group = path.removeprefix("/apis/").removesuffix("/v1") if path.startswith("/apis/") else ""
    parameter = {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}
    paths = {}
    for resource in RESOURCES:
        if resource.group == group:
            kind = {"group": group, "version": "v1", "kind": resource.kind}
            patch_operation = {"x-kubernetes-group-version-kind": kind, "parameters": [parameter], "responses": {}}
            space = "/namespaces/{namespace}" if resource.namespaced else ""
            paths[f"{path}{space}/{resource.plural}/{{name}}"] = {"patch": patch_operation}
    return {"openapi": "3.0.0", "info": {"title": "lokki_kubernetes", "version": "v1"}, "paths": paths}
