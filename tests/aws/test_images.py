"""Images of functions and jobs: what docker is asked, what ECR has afterwards, and what is said when neither can."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.aws.deployed import ACCOUNT, client
from tests.aws.docker_stand_in import DockerStandIn
from tests.aws.projects import Between, Project
from tests.moto_server import Reply

HOST = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com"
TAG = r"latest-[0-9a-f]{12}"
STUDY = """
    from lokki import flow, main, step

    @step
    def count(): return [1, 2]

    @step(job_type="batch")
    def study(numbers): return sum(numbers)

    @flow
    def NAME(): return count().next(study)

    if __name__ == "__main__":
        main(NAME)
"""


@pytest.fixture
def between(moto_server: str) -> Iterator[Between]:
    """A relay in front of the shared server."""
    relay = Between(moto_server)
    yield relay
    relay.close()


@pytest.fixture
def docker(at_home: Path, monkeypatch: pytest.MonkeyPatch) -> DockerStandIn:
    """The docker command of this test."""
    made = DockerStandIn(at_home / "docker")
    monkeypatch.setenv("PATH", made.install())
    return made


@pytest.fixture
def project(at_home: Path, bucket: str, between: Between, docker: DockerStandIn) -> Project:
    """A flow whose functions are an image, in a repository of ECR that is not there yet."""
    made = between.project(at_home / "project", bucket)
    made.toml = ""
    made.settings["LOKKI_IMAGE_REPOSITORY"] = f"{HOST}/flows"
    return made


def arrived(endpoint: str, repository: str, name: str) -> None:
    """Let ECR know an image that was pushed, as the registry would."""
    config = {"digest": f"sha256:{sha256(name.encode()).hexdigest()}"}
    client(endpoint, "ecr").put_image(
        repositoryName=repository,
        imageManifest=json.dumps({"schemaVersion": 2, "layers": [], "config": config}),
        imageManifestMediaType="application/vnd.docker.distribution.manifest.v2+json",
        imageTag=name.rpartition(":")[2],
    )


def image_of(endpoint: str, project: Project) -> str:
    """The image of a function."""
    found = client(endpoint, "lambda").get_function(FunctionName=f"{project.flow}-flap_bird")
    return str(found["Code"]["ImageUri"])


def test_local_images_are_built_and_stay(project: Project, docker: DockerStandIn) -> None:
    project.settings["LOKKI_IMAGE_REPOSITORY"] = "local"
    project.toml = '[lambda]\narchitecture = "arm64"\n'
    project.done("deploy", "--plan")
    assert docker.words("build") == []
    project.run("deploy", "--confirm")  # whether moto's Lambda takes such a name is its matter
    (built,) = docker.words("build")
    assert built[:3] == ["--platform", "linux/arm64", "--tag"]
    assert re.fullmatch(rf"{project.flow}:{TAG}", built[3])
    assert Path(built[4]).name == "lambdas"
    assert docker.words("push") == docker.words("login") == []


def test_an_image_is_built_and_pushed_once(
    project: Project, docker: DockerStandIn, between: Between, moto_server: str
) -> None:
    ecr, repository = client(moto_server, "ecr"), f"flows/{project.flow}"
    in_registry: list[str] = []

    def pushed(*_: Any) -> None:
        for name in docker.names("pushed"):
            if name not in in_registry:
                arrived(moto_server, repository, name)
                in_registry.append(name)

    between.replies["cloudformation ExecuteChangeSet"] = pushed
    _, said = project.done("deploy", "--confirm")
    assert f"Creating repository {repository} in ECR ..." in said
    (made,) = ecr.describe_repositories(repositoryNames=[repository])["repositories"]
    tags = {
        each["Key"]: each["Value"] for each in ecr.list_tags_for_resource(resourceArn=made["repositoryArn"])["tags"]
    }
    assert tags == {"lokki:managed": "true", "lokki:flow-name": project.flow}
    (name,) = docker.names("pushed")
    assert re.fullmatch(rf"{HOST}/{repository}:{TAG}", name)
    assert docker.names("signed") == [HOST]
    (signed,) = [call for call in docker.calls if call["words"][0] == "login"]
    assert signed["words"][1:3] == ["--username", "AWS"]
    assert signed["given"]
    assert signed["given"] not in str(signed["words"])
    (built,) = [call for call in docker.calls if call["words"][0] == "build"]
    assert built["environ"] == {"DOCKER_BUILDKIT": "1", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
    assert image_of(moto_server, project) == name

    docker.forget()
    assert "nothing changes" in project.done("deploy")[0]
    project.toml = "[lambda]\nmemory = 1024\n"
    project.done("deploy", "--confirm")
    assert docker.words("build") == docker.words("push") == []

    project.change("flappy", "happy")
    out, _ = project.done("deploy", "--confirm")
    assert "steps get_birds, flap_bird, join_birds: code" in out
    assert "The new code is live in all 3 functions." in out
    assert len(docker.names("pushed")) == 2
    assert image_of(moto_server, project) == docker.names("pushed")[1] != name


def test_jobs_have_an_image_of_their_own(project: Project, docker: DockerStandIn) -> None:
    project.text = STUDY
    project.toml = '[lambda]\npackage_type = "zip"\n[batch]\njob_queue = "jobs"\narchitecture = "arm64"\n'
    out, said = project.done("deploy", "--plan")
    assert "  new: Batch job study" in out.splitlines()
    assert said.startswith("[WARNING] There is no Batch job queue 'jobs' in us-east-1: runs fail at their first job")
    project.run("deploy", "--confirm", "--image-tag", "v2")  # whether moto makes the job definition is its matter
    (built,) = docker.words("build")
    assert re.fullmatch(rf"{HOST}/flows/{project.flow}-batch:v2-[0-9a-f]{{12}}", built[3])
    assert (built[1], Path(built[4]).name) == ("linux/arm64", "batch")


def test_a_ready_image_of_jobs_needs_no_docker(project: Project, docker: DockerStandIn) -> None:
    project.text = STUDY
    project.toml = '[lambda]\npackage_type = "zip"\n[batch]\njob_queue = "jobs"\nimage = "studies:1"\n'
    docker.suffer("down")
    project.done("deploy", "--plan")
    assert docker.calls == []


def test_without_buildkit_the_older_builder_builds(project: Project, docker: DockerStandIn) -> None:
    docker.suffer("no-buildx")
    project.run("deploy", "--confirm")
    builds = [call["environ"]["DOCKER_BUILDKIT"] for call in docker.calls if call["words"][0] == "build"]
    assert builds == ["1", "0"]
    assert len(docker.names("pushed")) == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            "down",
            r"the Docker engine does not answer \(Cannot connect .* running\?\): start it, or set lambda.package_t",
        ),
        ("forbidden", "add yourself to the group docker, or set lambda.package_type"),
    ],
)
def test_an_engine_that_does_not_answer_is_one_sentence(
    project: Project, docker: DockerStandIn, between: Between, fault: str, words: str
) -> None:
    docker.suffer(fault)
    said = project.refused("deploy", "--confirm")
    assert re.search(words, said)
    assert said.count("\n") == 1
    assert between.count("cloudformation .*|ecr .*|s3 PUT .*") == 0


def test_no_docker_is_one_sentence(
    project: Project, at_home: Path, between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(at_home))
    said = project.refused("deploy", "--confirm")
    assert said == (
        "error: Images have to be built, and there is no docker command here: install Docker, or set "
        'lambda.package_type = "zip".\n'
    )
    assert between.count("cloudformation .*") == 0


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("broken", "no matching distribution\nTry it yourself: docker build --platform linux/amd64 "),
        ("foreign", "This machine cannot run linux/amd64: install QEMU"),
    ],
)
def test_a_build_that_fails_shows_the_end_of_its_log(
    project: Project, docker: DockerStandIn, between: Between, fault: str, words: str
) -> None:
    docker.suffer(fault)
    said = project.refused("deploy", "--confirm")
    assert f"error: Docker could not build {HOST}/flows/{project.flow}:" in said
    assert words in said
    assert between.count("cloudformation ExecuteChangeSet") == 0
    assert between.count("cloudformation DeleteChangeSet") == 1


def test_a_sign_in_that_is_refused_says_why(project: Project, between: Between) -> None:
    denied = Reply(400, b'{"__type": "AccessDeniedException", "message": "no"}')
    between.replies["ecr GetAuthorizationToken"] = lambda: denied
    said = project.refused("deploy", "--confirm").splitlines()[-1]
    assert said.startswith("error: Could not sign in to ECR: no (AccessDeniedException).")


@pytest.mark.parametrize(
    ("repository", "words"),
    [
        ("", f'is not set: set it, as in "{HOST}/flows", or set lambda.package_type = "zip"'),
        ("docker.io/team", "Lambda takes images from ECR only, and aws.image_repository is 'docker.io/team'"),
        (
            f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com/x",
            "is in eu-west-1, and the flow would be deployed to us-east-1",
        ),
    ],
)
def test_on_aws_functions_come_from_ecr_of_the_same_region(
    project: Project, docker: DockerStandIn, repository: str, words: str
) -> None:
    # A stand-in for AWS takes any repository, so the configuration names none; only the account is asked for there.
    from built_flows import config, map_flow

    from lokki.aws.client import Aws
    from lokki.aws.images import check_repository
    from lokki.builder.builder import compile_flow
    from lokki.errors import DeployError
    from lokki.frozen import replace

    here = config("image", aws={"image_repository": repository, "region": "us-east-1"})
    endpoint = replace(here.aws, endpoint=project.settings["LOKKI_AWS_ENDPOINT"])
    with pytest.raises(DeployError, match=re.escape(words)):
        check_repository(compile_flow(map_flow(), here), Aws(replace(here, aws=endpoint)))
