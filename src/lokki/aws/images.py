"""The images of functions and jobs: built by the docker command, pushed to where AWS pulls them from.

An image is tagged with a digest of what it is made of. So changed code is another image to CloudFormation, and one that
is in the registry already is neither built nor pushed.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

from lokki.aws.client import Aws, code_of, refusals
from lokki.builder.builder import Bundle
from lokki.builder.package import Package
from lokki.errors import DeployError, DockerNotAvailableError
from lokki.frozen import frozen

_PLATFORMS = {"x86_64": "linux/amd64", "arm64": "linux/arm64"}
_ECR = re.compile(
    r"(?P<host>(?P<account>[0-9]{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?)/(?P<path>.+)"
)
_LONGEST_TAG = 128
_DIGITS = 12
_SHOWN = 15  # lines of a failed build
_NO_BUILDX = "buildx component is missing"
_QUIET = {"DOCKER_BUILDKIT": "1", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1", "DOCKER_CLI_HINTS": "false"}
Tell = Callable[[str], object]


@frozen
class Image:
    """An image: the folder below `build_dir` that it is built from, its repository and tag, its processor."""

    folder: str
    repository: str
    tag: str
    platform: str

    @property
    def name(self) -> str:
        """How docker calls it."""
        return f"{self.repository}:{self.tag}"


def image_tag(bundle: Bundle) -> str:
    """The tag of a flow's images: the configured one, and a digest of their content."""
    config = bundle.deployment.config
    wanted = config.lambda_.image_tag
    made = [f"{package.digest} {platform}" for _, package, platform in _built(bundle)]
    if not made:
        return wanted
    digest = sha256("\n".join(made).encode()).hexdigest()[:_DIGITS]
    return f"{wanted[: _LONGEST_TAG - _DIGITS - 1]}-{digest}"


def images(bundle: Bundle) -> tuple[Image, ...]:
    """The images that the flow needs built."""
    repository = bundle.deployment.config.aws.image_repository.strip("/")
    place = "" if is_local(repository) else f"{repository}/"
    flow, tag = bundle.deployment.graph.name, image_tag(bundle)
    ends = {"lambdas": "", "batch": "-batch"}
    return tuple(Image(folder, f"{place}{flow}{ends[folder]}", tag, platform) for folder, _, platform in _built(bundle))


def is_local(repository: str) -> bool:
    """Whether images stay on this machine."""
    return repository.strip("/") in ("", "local")


def check_repository(bundle: Bundle, aws: Aws) -> None:
    """Refuse a repository that Lambda cannot pull from; a stand-in for AWS takes any."""
    config = bundle.deployment.config
    if config.aws.endpoint or config.lambda_.package_type != "image":
        return
    found = _ECR.fullmatch(f"{config.aws.image_repository.strip('/')}/x")
    if not found:
        given = repr(config.aws.image_repository) if config.aws.image_repository else "not set"
        raise DeployError(
            "Lambda takes images from ECR only, and aws.image_repository is "
            f"{given}: set it, as in "
            f'"{aws.account}.dkr.ecr.{aws.region}.amazonaws.com/flows", or set lambda.package_type = "zip".'
        )
    if found["region"] != aws.region:
        raise DeployError(
            f"aws.image_repository is in {found['region']}, and the flow would be deployed to {aws.region}: Lambda "
            "takes images from its own region only. Change one of them."
        )


class Docker:
    """The docker command of this machine."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def check(self, for_jobs_only: bool) -> None:
        """Refuse a machine without the command, or whose engine does not answer."""
        other = "name a ready image in batch.image" if for_jobs_only else 'set lambda.package_type = "zip"'
        done = self._run("version", "--format", "{{.Server.Version}}")
        if done is None:
            raise DockerNotAvailableError(
                f"Images have to be built, and there is no docker command here: install Docker, or {other}."
            )
        if done.returncode:
            said = _last(done.stderr) or "no reason"
            what = "add yourself to the group docker" if "permission denied" in said.lower() else "start it"
            raise DockerNotAvailableError(
                f"Images have to be built, and the Docker engine does not answer ({said}): {what}, or {other}."
            )

    def build(self, image: Image, build_dir: str) -> None:
        """Build an image from its folder."""
        self._tell(f"Building image {image.name} ...")
        where = os.path.join(build_dir, image.folder)
        arguments = ("build", "--platform", image.platform, "--tag", image.name, where)
        done = self._done(*arguments)
        if done.returncode and _NO_BUILDX in done.stderr:  # then the builder that docker had before does it
            done = self._done(*arguments, buildkit="0")
        if done.returncode:
            log = "\n".join((done.stdout + done.stderr).strip().splitlines()[-_SHOWN:])
            foreign = "exec format error" in log
            advice = (
                f"This machine cannot run {image.platform}: install QEMU (docker run --privileged --rm "
                "tonistiigi/binfmt --install all), or change the architecture."
                if foreign
                else f"Try it yourself: docker build --platform {image.platform} {where}"
            )
            raise DeployError(f"Docker could not build {image.name}:\n{log}\n{advice}")

    def sign_in(self, registry: str, user: str, password: str) -> None:
        """Sign in to a registry."""
        done = self._done("login", "--username", user, "--password-stdin", registry, given=password)
        if done.returncode:
            raise DeployError(f"Docker could not sign in to {registry}: {_last(done.stderr)}.")

    def push(self, image: Image) -> None:
        """Push an image to its registry."""
        self._tell(f"Pushing image {image.name} ...")
        done = self._done("push", image.name)
        if done.returncode:
            denied = re.search("denied|unauthorized|authentication", done.stderr, re.IGNORECASE)
            host = image.repository.partition("/")[0]
            advice = f" Sign in to it (docker login {host}), or check your rights there." if denied else ""
            raise DeployError(f"Docker could not push {image.name}: {_last(done.stderr)}.{advice}")

    def _done(self, *arguments: str, given: str = "", buildkit: str = "1") -> subprocess.CompletedProcess[str]:
        done = self._run(*arguments, given=given, buildkit=buildkit)
        if done is None:
            raise DockerNotAvailableError("The docker command has gone away: install Docker, and deploy again.")
        return done

    def _run(self, *arguments: str, given: str = "", buildkit: str = "1") -> subprocess.CompletedProcess[str] | None:
        """What the command did, None where there is no such command."""
        environment = {**os.environ, **_QUIET, "DOCKER_BUILDKIT": buildkit}
        try:
            return subprocess.run(  # noqa: S603 - a list of words, no shell
                ["docker", *arguments],  # noqa: S607 - the user's own docker, wherever it lies
                input=given,
                env=environment,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        except (FileNotFoundError, PermissionError):
            return None


class Shipping:
    """Brings a flow's images to where AWS pulls them from.

    Args:
        build_dir: where the build was written to.
        tell: hears what is being done.
    """

    def __init__(self, aws: Aws, bundle: Bundle, build_dir: str, tell: Tell) -> None:
        self._aws = aws
        self._bundle = bundle
        self._build_dir = build_dir
        self._tell = tell
        self._docker = Docker(tell)
        self._images = images(bundle)
        self._signed_in: set[str] = set()

    def check(self) -> None:
        """Refuse, before anything is changed, what would fail later."""
        if self._images:
            check_repository(self._bundle, self._aws)
            self._docker.check(all(each.folder == "batch" for each in self._images))

    def ship(self, *, again: bool = False) -> None:
        """Build and push what is not there yet; all of it, if `again`."""
        for image in self._images:
            found = _ECR.fullmatch(image.repository)
            if found and not again and self._pushed(image, found):
                continue
            if found:
                self._ready(found)
            self._docker.build(image, self._build_dir)
            if not is_local(self._bundle.deployment.config.aws.image_repository):
                self._docker.push(image)

    def _pushed(self, image: Image, found: re.Match[str]) -> bool:
        from botocore.exceptions import ClientError

        with refusals(f"look for image {image.name}", DeployError):
            try:
                self._ecr(found).describe_images(
                    registryId=found["account"], repositoryName=found["path"], imageIds=[{"imageTag": image.tag}]
                )
            except ClientError as error:
                if code_of(error) in ("ImageNotFoundException", "RepositoryNotFoundException"):
                    return False
                raise
        return True

    def _ready(self, found: re.Match[str]) -> None:
        """A repository that is there, in a registry that docker is signed in to."""
        if not self._exists(found):
            self._create(found)
        if found["host"] in self._signed_in:
            return
        with refusals("sign in to ECR", DeployError):
            answer = self._ecr(found).get_authorization_token()["authorizationData"][0]
        user, _, password = base64.b64decode(answer["authorizationToken"]).decode().partition(":")
        self._docker.sign_in(found["host"], user, password)
        self._signed_in.add(found["host"])

    def _exists(self, found: re.Match[str]) -> bool:
        from botocore.exceptions import ClientError

        with refusals(f"look for the repository {found['path']!r} in ECR", DeployError):
            try:
                self._ecr(found).describe_repositories(registryId=found["account"], repositoryNames=[found["path"]])
            except ClientError as error:
                if code_of(error) == "RepositoryNotFoundException":
                    return False
                raise
        return True

    def _create(self, found: re.Match[str]) -> None:
        self._tell(f"Creating repository {found['path']} in ECR ...")
        with refusals(f"create the repository {found['path']!r} in ECR", DeployError):
            tags = {"lokki:managed": "true", "lokki:flow-name": self._bundle.deployment.graph.name}
            self._ecr(found).create_repository(
                registryId=found["account"],
                repositoryName=found["path"],
                tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            )

    def _ecr(self, found: re.Match[str]) -> Any:
        if found["region"] == self._aws.region:
            return self._aws.client("ecr")
        return Aws(self._bundle.deployment.config, found["region"]).client("ecr")


def _built(bundle: Bundle) -> Iterator[tuple[str, Package, str]]:
    """What is built here: the folder, what is in it, and for which processor."""
    config = bundle.deployment.config
    if config.lambda_.package_type == "image":
        yield "lambdas", bundle.functions, _PLATFORMS[config.lambda_.architecture]
    if bundle.jobs is not None and not config.batch.image:
        yield "batch", bundle.jobs, _PLATFORMS[config.batch.architecture]


def _last(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else ""
