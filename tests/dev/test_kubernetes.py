"""What TwinGraph relies on of Kubernetes, held against the stand-in of `dev/kubernetes` or a real cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from tests.kubernetes_cluster import FAULTS, Kubernetes

IMAGE = "python:3.13-slim"
POD, CONTAINER = "spec.template.spec", "spec.template.spec.containers[0]"
HOG = "b = bytearray(300 * 2**20); b[::4096] = b'1' * len(b[::4096]); print('survived')"


class Cluster:
    """Shorthands for what these tests do in a namespace."""

    def __init__(self, kubernetes: Kubernetes) -> None:
        self.kubernetes, self.namespace = kubernetes, kubernetes.namespace
        self.core, self.batch = kubernetes.core, kubernetes.batch

    def create(self, name: str, code: str, pod: Any = None, container: Any = None, **spec: Any) -> None:
        self.batch.create_namespaced_job(self.namespace, manifest(name, code, pod, container, **spec))

    def secret(self, name: str, **data: str) -> None:
        self.core.create_namespaced_secret(self.namespace, {"metadata": {"name": name}, "stringData": data})

    def end(self, name: str) -> Any:
        """The condition that a job ended with."""

        def ended(kind: str, job: Any) -> Any:
            found = job.status.conditions or []
            return next((each for each in found if each.type in ("Complete", "Failed") and each.status == "True"), None)

        return self.kubernetes.await_("job", ended, field_selector=f"metadata.name={name}")

    def pod(self, name: str, found: Any = lambda pod: True) -> Any:
        """A pod of a job, when it is as it should be."""
        watched = f"job-name={name}"
        return self.kubernetes.await_("pod", lambda kind, pod: pod if found(pod) else None, label_selector=watched)

    def ended(self, name: str) -> Any:
        """How the container of a job's pod ended."""
        return self.pod(name, lambda pod: _state(pod, "terminated")).status.container_statuses[0].state.terminated

    def log(self, name: str, **options: Any) -> str:
        pod = self.pod(name).metadata.name
        answer = self.core.read_namespaced_pod_log(pod, self.namespace, _preload_content=False, **options)
        return bytes(answer.data).decode()


def manifest(name: str, code: str, pod: Any = None, container: Any = None, **spec: Any) -> dict[str, Any]:
    main = {"name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["python", "-uc", code]}
    main.update(container or {})
    inner = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [main], **(pod or {})}
    told = {"template": {"spec": inner}, "backoffLimit": 0, **spec}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": told}


def _state(pod: Any, name: str) -> Any:
    statuses = pod.status.container_statuses
    return statuses and getattr(statuses[0].state, name)


@pytest.fixture
def cluster(kubernetes: Kubernetes) -> Cluster:
    return Cluster(kubernetes)


@pytest.fixture
def stand_in(kubernetes: Kubernetes) -> Kubernetes:
    if not kubernetes.server.is_stand_in:
        pytest.skip("The real cluster of dev/kubernetes is a Kubernetes 1.20, which has not this")
    return kubernetes


def test_a_job_runs_its_command_and_completes(cluster: Cluster) -> None:
    cluster.create("ok", "import os; print(os.environ['SAID'], os.getpid())", container={"env": [ENV]})
    assert cluster.end("ok").type == "Complete"
    assert (cluster.ended("ok").exit_code, cluster.ended("ok").reason) == (0, "Completed")
    assert cluster.log("ok") == "hello, $(NOBODY) 1\n"
    status = cluster.batch.read_namespaced_job_status("ok", cluster.namespace).status
    assert (status.succeeded, status.failed, status.active) == (1, None, None)
    missing = {"SuccessfulCreate", "Scheduled", "Created", "Started"}

    def told(kind: str, event: Any) -> bool:
        missing.discard(event.reason)
        return not missing

    assert cluster.kubernetes.await_("event", told)


ENV = {"name": "SAID", "value": "hello, $(NOBODY)"}


def test_a_failing_job_says_how_it_ended(cluster: Cluster) -> None:
    said = "open('/dev/termination-log', 'w').write('because')"
    cluster.create("bad", f"import sys; print('oh no'); {said}; sys.exit(7)")
    assert (cluster.end("bad").type, cluster.end("bad").reason) == ("Failed", "BackoffLimitExceeded")
    ended = cluster.ended("bad")
    assert (ended.exit_code, ended.reason, ended.message) == (7, "Error", "because")
    assert cluster.log("bad") == "oh no\n"


def test_a_job_that_takes_too_much_memory_or_time_is_ended(cluster: Cluster) -> None:
    cluster.create("hog", HOG, container={"resources": {"limits": {"memory": "64Mi"}}})
    cluster.create("slow", "import time; time.sleep(60)", activeDeadlineSeconds=2)
    ended = cluster.ended("hog")
    assert (ended.exit_code, ended.reason) == (137, "OOMKilled")
    assert (cluster.end("slow").type, cluster.end("slow").reason) == ("Failed", "DeadlineExceeded")


def test_secrets_are_files_of_a_volume(cluster: Cluster) -> None:
    cluster.secret("one", key="value")
    cluster.secret("two", other="more")
    sources = [{"secret": {"name": name}} for name in ("one", "two")]
    volumes = [{"name": "s", "projected": {"sources": sources, "defaultMode": 0o444}}]
    code = "import os; print(open('/s/key').read(), open('/s/other').read(), os.access('/s/key', os.W_OK))"
    mounts = {"volumeMounts": [{"name": "s", "mountPath": "/s", "readOnly": True}]}
    cluster.create("files", code, {"volumes": volumes}, mounts)
    assert cluster.end("files").type == "Complete"
    assert cluster.log("files") == "value more False\n"


def test_a_missing_secret_keeps_a_container_waiting_until_it_is_there(cluster: Cluster) -> None:
    env = [{"name": "T", "valueFrom": {"secretKeyRef": {"name": "late", "key": "t"}}}]
    cluster.create("late", "import os; print(os.environ['T'])", container={"env": env})
    cluster.pod("late", lambda pod: getattr(_state(pod, "waiting"), "reason", "") == "CreateContainerConfigError")
    path = f"/api/v1/namespaces/{cluster.namespace}/pods/{cluster.pod('late').metadata.name}/log"
    status, answer = cluster.kubernetes.ask("GET", path)
    assert status == 400
    assert "waiting to start" in answer["message"]
    cluster.secret("late", t="now")
    assert cluster.end("late").type == "Complete"
    assert cluster.log("late") == "now\n"


@pytest.mark.parametrize(
    ("policy", "reasons"), [("Never", {"ErrImageNeverPull"}), ("IfNotPresent", {"ErrImagePull", "ImagePullBackOff"})]
)
def test_an_image_that_is_not_there(cluster: Cluster, policy: str, reasons: set[str]) -> None:
    cluster.create("none", "", container={"image": "no.such.registry.invalid/x:1", "imagePullPolicy": policy})
    found = cluster.pod("none", lambda pod: getattr(_state(pod, "waiting"), "reason", "") in reasons)
    assert found.status.phase == "Pending"


@pytest.mark.parametrize(
    ("name", "amount", "message"),
    [("cpu", "500", "Insufficient cpu"), ("nvidia.com/gpu", "1", "Insufficient nvidia.com/gpu")],
)
def test_what_no_node_has_is_unschedulable(cluster: Cluster, name: str, amount: str, message: str) -> None:
    cluster.create("big", "", container={"resources": {"requests": {name: amount}, "limits": {name: amount}}})
    pod = cluster.pod("big", lambda pod: pod.status.conditions)
    assert [(each.type, each.reason) for each in pod.status.conditions] == [("PodScheduled", "Unschedulable")]
    assert message in pod.status.conditions[0].message


def test_a_node_selector_that_no_node_has(cluster: Cluster) -> None:
    cluster.create("picky", "pass", {"nodeSelector": {"disk": "gold"}})
    assert cluster.pod("picky", lambda pod: pod.status.conditions).status.conditions[0].reason == "Unschedulable"


def test_a_log_is_followed_while_the_job_runs(cluster: Cluster) -> None:
    mount = {"volumeMounts": [{"name": "d", "mountPath": "/d"}]}
    watched = "import os\nprint('first')\nwhile not os.path.exists('/d/go'): pass\nprint('second')"
    go = {"name": "go", "image": IMAGE, "command": ["sh", "-c", "sleep 1; touch /d/go"], **mount}
    main = manifest("live", watched, container=mount)["spec"]["template"]["spec"]["containers"][0]
    cluster.create("live", "", {"containers": [main, go], "volumes": [{"name": "d", "emptyDir": {}}]})
    pod = cluster.pod("live", lambda pod: pod.status.phase in ("Running", "Succeeded")).metadata.name
    told = {"container": "main", "follow": True, "timestamps": True, "_preload_content": False}
    lines = bytes(cluster.core.read_namespaced_pod_log(pod, cluster.namespace, **told).data).decode().splitlines()
    assert [line.partition(" ")[2] for line in lines] == ["first", "second"]
    assert cluster.log("live", container="main", tail_lines=1) == "second\n"


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
def test_what_a_job_made_goes_with_it(cluster: Cluster, policy: str) -> None:
    cluster.create("gone", "import time; time.sleep(60)")
    cluster.pod("gone", lambda pod: pod.status.phase == "Running")
    owner = cluster.batch.read_namespaced_job("gone", cluster.namespace).metadata
    reference = {"apiVersion": "batch/v1", "kind": "Job", "name": "gone", "uid": owner.uid}
    owned = {"metadata": {"name": "owned", "ownerReferences": [reference]}}
    cluster.core.create_namespaced_secret(cluster.namespace, owned)
    cluster.secret("free", a="b")
    cluster.batch.delete_namespaced_job("gone", cluster.namespace, propagation_policy=policy)
    cluster.kubernetes.await_none("pod")
    cluster.kubernetes.await_none("job")
    cluster.kubernetes.await_none("secret", field_selector="metadata.name=owned")
    assert "free" in [secret.metadata.name for secret in cluster.core.list_namespaced_secret(cluster.namespace).items]


def test_without_a_policy_the_pods_of_a_job_stay(cluster: Cluster) -> None:
    cluster.create("orphan", "pass")
    cluster.end("orphan")
    cluster.batch.delete_namespaced_job("orphan", cluster.namespace)
    cluster.kubernetes.await_none("job")
    assert cluster.pod("orphan", lambda pod: pod.metadata.owner_references is None).status.phase == "Succeeded"


def test_a_finished_job_is_removed_when_its_time_to_live_is_over(cluster: Cluster) -> None:
    cluster.create("ttl", "pass", ttlSecondsAfterFinished=1)
    cluster.kubernetes.await_none("job")
    cluster.kubernetes.await_none("pod")


BROKEN: dict[str, tuple[dict[str, Any], tuple[int, str, str]]] = {
    "restart policy": (manifest("x", "", {"restartPolicy": "Always"}), (422, "Invalid", f"{POD}.restartPolicy")),
    "no containers": (manifest("x", "", {"containers": []}), (422, "Invalid", f"{POD}.containers")),
    "no image": (manifest("x", "", container={"image": ""}), (422, "Invalid", f"{CONTAINER}.image")),
    "bad name": (manifest("Bad_Name", ""), (422, "Invalid", "metadata.name")),
    "request over limit": (
        manifest("x", "", container={"resources": {"limits": {"memory": "1Gi"}, "requests": {"memory": "2Gi"}}}),
        (422, "Invalid", f"{CONTAINER}.resources.requests"),
    ),
    "unknown volume": (
        manifest("x", "", container={"volumeMounts": [{"name": "v", "mountPath": "/v"}]}),
        (422, "Invalid", f"{CONTAINER}.volumeMounts[0].name"),
    ),
    "negative number": (manifest("x", "", backoffLimit=-1), (422, "Invalid", "spec.backoffLimit")),
    "string for number": (manifest("x", "", backoffLimit="three"), (400, "BadRequest", "")),
    "object for list": (manifest("x", "", container={"env": {"A": "b"}}), (400, "BadRequest", "")),
    "bad quantity": (
        manifest("x", "", container={"resources": {"limits": {"memory": "lots"}}}),
        (400, "BadRequest", ""),
    ),
    "bad variable": (
        manifest("x", "", container={"env": [{"name": "1 a", "value": ""}]}),
        (422, "Invalid", f"{CONTAINER}.env[0].name"),
    ),
    "pull policy": (
        manifest("x", "", container={"imagePullPolicy": "Sometimes"}),
        (422, "Invalid", f"{CONTAINER}.imagePullPolicy"),
    ),
}


def test_broken_manifests_are_refused(cluster: Cluster) -> None:
    jobs = f"/apis/batch/v1/namespaces/{cluster.namespace}/jobs"
    for what, (broken, (code, reason, field)) in BROKEN.items():
        status, answer = cluster.kubernetes.ask("POST", jobs, broken)
        fields = {cause["field"] for cause in answer.get("details", {}).get("causes", [])}
        assert (status, answer["reason"]) == (code, reason), what
        assert not field or field in fields, what


def test_names_conflicts_and_absences(cluster: Cluster) -> None:
    ask, home = cluster.kubernetes.ask, f"/apis/batch/v1/namespaces/{cluster.namespace}/jobs"
    assert ask("POST", home, manifest("twice", "pass"))[0] == 201
    assert ask("POST", home, manifest("twice", "pass"))[1]["reason"] == "AlreadyExists"
    assert ask("GET", f"{home}/never")[1]["message"] == 'jobs.batch "never" not found'
    assert ask("POST", "/apis/batch/v1/namespaces/no-such/jobs", manifest("x", "pass"))[0] == 404
    change = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "other:1"}]}}}}
    strategic = {"Content-Type": "application/strategic-merge-patch+json"}
    assert ask("PATCH", f"{home}/twice", change, **strategic)[0] == 422
    secrets = f"/api/v1/namespaces/{cluster.namespace}/secrets"
    big = {"metadata": {"name": "big"}, "stringData": {"key": "x" * (1 << 20) + "x"}}
    assert ask("POST", secrets, big)[0] == 422
    made = ask("POST", secrets, {"metadata": {"name": "s"}})[1]
    assert ask("PATCH", f"{secrets}/s", {"stringData": {"a": "b"}}, **strategic)[0] == 200
    assert ask("PUT", f"{secrets}/s", made)[1]["reason"] == "Conflict"


def test_selectors_and_pages(cluster: Cluster) -> None:
    ask, home = cluster.kubernetes.ask, f"/api/v1/namespaces/{cluster.namespace}/configmaps"
    for name in "abc":
        labels = {"n": name, **({"vowel": ""} if name == "a" else {})}
        assert ask("POST", home, {"metadata": {"name": name, "labels": labels}})[0] == 201

    def names(query: str) -> str:
        return "".join(each["metadata"]["name"] for each in ask("GET", f"{home}?{query}")[1]["items"])

    own = "labelSelector=n"
    assert names(f"{own}%3Da") == names(f"{own},vowel") == names(f"{own}%20in%20(a,x)") == "a"
    assert names(f"{own}!%3Da,n") == names(f"{own},!vowel") == names(f"{own},n%20notin%20(a)") == "bc"
    assert names(f"{own}&fieldSelector=metadata.name%3Db") == "b"
    page = ask("GET", f"{home}?{own}&limit=2")[1]
    assert [each["metadata"]["name"] for each in page["items"]] == ["a", "b"]
    assert names(f"{own}&limit=2&continue={page['metadata']['continue']}") == "c"


@pytest.mark.usefixtures("stand_in")
def test_unknown_fields_are_refused(cluster: Cluster) -> None:
    broken = manifest("x", "pass", container={"imagePullPolcy": "Never"})
    status, answer = cluster.kubernetes.ask("POST", f"/apis/batch/v1/namespaces/{cluster.namespace}/jobs", broken)
    assert status == 400
    assert 'unknown field "spec.template.spec.containers[0].imagePullPolcy"' in answer["message"]


@pytest.mark.usefixtures("stand_in")
def test_an_indexed_job_runs_once_for_each_index(cluster: Cluster) -> None:
    code = "import os; open('/dev/termination-log', 'w').write(os.environ['JOB_COMPLETION_INDEX'])"
    cluster.create("indexed", code, completionMode="Indexed", completions=2, parallelism=2)
    assert cluster.end("indexed").type == "Complete"
    pods = cluster.core.list_namespaced_pod(cluster.namespace).items
    assert {pod.status.container_statuses[0].state.terminated.message for pod in pods} == {"0", "1"}


def test_a_stranger_is_refused_and_faults_come_as_often_as_they_are_asked_for(stand_in: Kubernetes) -> None:
    home = f"/api/v1/namespaces/{stand_in.namespace}/configmaps"
    assert stand_in.ask("GET", home, token="another")[0] == 401
    assert stand_in.ask("GET", FAULTS, token="another")[0] == 401
    stand_in.fail("create", "configmaps", times=2)
    body = {"metadata": {"name": "c"}}
    assert [stand_in.ask("POST", home, body)[0] for _ in range(3)] == [503, 503, 201]


def test_kubectl_from_apply_to_delete(cluster: Cluster) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")

    def kubectl(*arguments: str, given: str | None = None) -> str:
        command = ["kubectl", f"--kubeconfig={cluster.kubernetes.server.kubeconfig}", f"-n={cluster.namespace}"]
        command += arguments
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr

    text = json.dumps(manifest("cli", "print('from kubectl')"))
    assert "created" in kubectl("apply", "-f", "-", given=text)
    kubectl("wait", "--for=condition=complete", "job/cli", "--timeout=40s")
    assert "unchanged" in kubectl("apply", "-f", "-", given=text)
    assert "1/1" in kubectl("get", "job", "cli")
    assert kubectl("logs", "job/cli") == "from kubectl\n"
    assert "SuccessfulCreate" in kubectl("describe", "job", "cli")
    kubectl("delete", "job", "cli")
    assert "not found" in kubectl("get", "job", "cli")
