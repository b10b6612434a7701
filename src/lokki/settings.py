"""What may be configured: every key of `lokki.toml`, said once, as a field of its section.

A field carries the key's default, environment variables, older names and what it may hold. Reading, checking,
explaining and documenting all work from that. A section can be built by hand as well, and is checked in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from lokki.errors import ConfigurationError
from lokki.frozen import field, frozen, replace

_KINDS = {str: "text", int: "a whole number", bool: "true or false", tuple: "a list of texts", dict: "a table of texts"}
_UNLIMITED = float("inf")


@frozen
class Key:
    """One key: all that reading, checking, explaining and documenting it need to know."""

    default: Any  # its type is the type of the key: one of those above
    about: str
    env: tuple[str, ...] = ()  # the first that is set counts; for texts, whole numbers and lists
    usual: tuple[str, ...] = ()  # variables of all AWS tools, which count where no file says anything
    old: tuple[str, ...] = ()  # what older files call it; the first that is given counts
    choices: tuple[str, ...] = ()  # read in any case, kept in this one
    low: int = 0
    high: float = _UNLIMITED
    advice: str = ""  # said after a wrong choice
    path: str = ""

    def checked(self, value: Any, where: str = "") -> Any:
        """`value` as the configuration keeps it, or an error that says what is wanted and `where` the value is from."""
        match self.default:
            case dict() if isinstance(value, Mapping):
                return {name: self._entry(name, where).checked(item, where) for name, item in value.items()}
            case tuple() if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
                return tuple(value)
            case str() if isinstance(value, str):
                return self._text(value, where)
            case int() if type(value) is type(self.default):  # a bool is no whole number, nor the other way round
                return self._in_range(value, where)
        quotes = "; put it in quotes" if isinstance(self.default, str) and isinstance(value, int | float) else ""
        raise self._error(f"be {_KINDS[type(self.default)]}, not {shown(value)}{quotes}", where)

    def from_text(self, text: str) -> Any:
        """What an environment variable says, still to be checked."""
        if isinstance(self.default, tuple):
            return [part.strip() for part in text.split(",") if part.strip()]
        if isinstance(self.default, int) and text.removeprefix("-").isdecimal():
            return int(text)
        return text

    def rule(self, quote: str = "'") -> str:
        """What a value must be besides of the right type, or nothing."""
        if self.choices:
            *others, last = (f"{quote}{choice}{quote}" for choice in self.choices)
            return f"{', '.join(others)} or {last}"
        if type(self.default) is int:
            return f"at least {self.low}" if self.high == _UNLIMITED else f"between {self.low} and {self.high}"
        return ""

    def _text(self, value: str, where: str) -> str:
        if self.choices:
            for choice in self.choices:
                if choice.lower() == value.lower():
                    return choice
            raise self._error(f"be {self.rule()}, not {value!r}{self.advice}", where)
        if self.default and not value:
            raise self._error("not be empty", where)
        return value

    def _in_range(self, value: int, where: str) -> int:
        if not self.low <= value <= self.high:
            raise self._error(f"be {self.rule()}, not {value}", where)
        return value

    def _entry(self, name: Any, where: str) -> Key:
        if not isinstance(name, str):
            raise self._error(f"have texts as names, not {shown(name)}; put it in quotes", where)
        return Key("", "", path=f"{self.path}.{name}")

    def _error(self, must: str, where: str) -> ConfigurationError:
        return ConfigurationError(f"{self.path} must {must}{f' ({where})' if where else ''}", self.path)


def shown(value: Any) -> str:
    """A wrong value as a sentence names it."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case Mapping():
            return "a table"
        case str() | list() | tuple():
            return repr(value)
        case _:
            return str(value)


def _key(default: Any, about: str, **rules: Any) -> Any:
    return Key(default, about, **rules)  # `Section` puts the default in its place


class Section:
    """A table of the file: knows its keys by the name of their field, and checks each of them on construction."""

    table: ClassVar[str] = ""
    known: ClassVar[Mapping[str, Key]] = {}

    def __init_subclass__(cls) -> None:
        prefix = f"{cls.table}." if cls.table else ""
        cls.known = {
            name: replace(item, path=f"{prefix}{name}") for name, item in vars(cls).items() if isinstance(item, Key)
        }
        for name, key in cls.known.items():
            setattr(cls, name, field(default_factory=dict) if isinstance(key.default, dict) else key.default)

    def __post_init__(self) -> None:
        for name, key in self.known.items():
            object.__setattr__(self, name, key.checked(getattr(self, name)))


@frozen
class AwsConfig(Section):
    """Where in AWS a flow lives. Nothing here is needed to run a flow on this machine."""

    table: ClassVar[str] = "aws"
    artifact_bucket: str = _key(
        "",
        "S3 bucket for packages and for the values that steps hand on; `build` and `deploy` need it",
        env=("LOKKI_ARTIFACT_BUCKET",),
        old=("artifact_bucket",),
    )
    image_repository: str = _key(
        "",
        "where images lie: an ECR prefix, which functions need; another registry, for jobs only; or `local`",
        env=("LOKKI_IMAGE_REPOSITORY", "LOKKI_ECR_REPO_PREFIX"),
        old=("aws.ecr_repo_prefix", "ecr_repo_prefix"),
    )
    region: str = _key("us-east-1", "AWS region", env=("LOKKI_AWS_REGION",), usual=("AWS_REGION", "AWS_DEFAULT_REGION"))
    endpoint: str = _key(
        "",
        "address of an AWS stand-in such as LocalStack; empty means AWS itself",
        env=("LOKKI_AWS_ENDPOINT", "AWS_ENDPOINT_URL"),
    )
    stepfunctions_role: str = _key(
        "",
        "ARN of the role of the state machine; empty: the template makes one",
        old=("aws.roles.pipeline", "roles.pipeline"),
    )
    lambda_execution_role: str = _key(
        "",
        "ARN of the role of the functions; empty: the template makes one",
        old=("aws.roles.lambda", "roles.lambda"),
    )
    prefix: str = _key(
        "",
        "put before every key in the bucket, as in `<prefix>/<flow>/runs/...`; slashes at its ends do not count",
        env=("LOKKI_AWS_PREFIX",),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "prefix", self.prefix.strip("/"))


_ARCHITECTURES = ("x86_64", "arm64")


@frozen
class LambdaConfig(Section):
    """The Lambda functions that steps become."""

    table: ClassVar[str] = "lambda"
    package_type: str = _key("image", "how code is shipped", choices=("image", "zip"))
    base_image: str = _key(
        "public.ecr.aws/lambda/python:3.13",
        "image that function images start from; while it is not set, its tag follows the Python version",
    )
    python_version: str = _key(
        "", "Python of the functions, as in `3.12`; empty: what the project's `requires-python` asks for, else 3.13"
    )
    timeout: int = _key(900, "seconds a call may take", low=1, high=900, old=("lambda_defaults.timeout",))
    memory: int = _key(512, "MB of memory of a function", low=128, high=10240, old=("lambda_defaults.memory",))
    image_tag: str = _key("latest", "tag of images, those of jobs too", old=("lambda_defaults.image_tag",))
    architecture: str = _key("x86_64", "processor of the functions", choices=_ARCHITECTURES)
    env: Mapping[str, str] = _key({}, "environment variables of every function", old=("lambda_env",))


@frozen
class BatchConfig(Section):
    """The AWS Batch jobs that steps with `job_type="batch"` become."""

    table: ClassVar[str] = "batch"
    job_queue: str = _key("", "job queue, by name or ARN", env=("LOKKI_BATCH_JOB_QUEUE",))
    job_definition_name: str = _key(
        "",
        "what the names of job definitions begin with; empty: the flow's name",
        env=("LOKKI_BATCH_JOB_DEFINITION",),
    )
    base_image: str = _key("python:3.13-slim", "image that job images start from")
    # Batch itself refuses job definitions below these two minimums.
    timeout_seconds: int = _key(3600, "seconds a job may take", low=60, old=("batch.timeout",))
    memory_mb: int = _key(4096, "MB of memory of a job", low=4)
    vcpu: int = _key(2, "virtual processors of a job", low=1)
    image: str = _key(
        "", "image that jobs run; empty: the one that `batch/Dockerfile` makes, `<repository>/<flow>-batch`"
    )
    architecture: str = _key("x86_64", "processor of the jobs", choices=_ARCHITECTURES)
    platform: str = _key("ec2", "what the job queue runs jobs on", choices=("ec2", "fargate"))
    env: Mapping[str, str] = _key({}, "environment variables of every job")


@frozen
class LoggingConfig(Section):
    """What a run says while it runs."""

    table: ClassVar[str] = "logging"
    level: str = _key(
        "INFO", "least level that is shown", env=("LOKKI_LOG_LEVEL",), choices=("DEBUG", "INFO", "WARNING", "ERROR")
    )
    format: str = _key(
        "human", "lines for people or one JSON object per line", env=("LOKKI_LOG_FORMAT",), choices=("human", "json")
    )
    progress_interval: int = _key(10, "items of a map between two reports of its progress", low=1)
    show_timestamps: bool = _key(True, "whether lines for people carry the time")


@frozen
class LocalConfig(Section):
    """Runs on this machine."""

    table: ClassVar[str] = "local"
    store_type: str = _key(
        "local",
        "where a run keeps its values: in files, or in memory",
        env=("LOKKI_STORE_TYPE",),
        choices=("local", "memory"),
        advice=": a local run keeps its values on this machine, only deployed functions store in S3",
    )
    executor: str = _key(
        "threads", "what runs the items of a map", env=("LOKKI_EXECUTOR",), choices=("threads", "processes", "inline")
    )
    workers: int = _key(0, "how many threads or processes; 0 lets the executor choose", env=("LOKKI_WORKERS",))
    keep_runs: int = _key(10, "how many runs of a flow are kept in `state_dir`", env=("LOKKI_KEEP_RUNS",))
    state_dir: str = _key(".lokki", "directory that runs are kept in", env=("LOKKI_STATE_DIR",))


@frozen
class SecretsConfig(Section):
    """Values from AWS Secrets Manager that deployed steps find in their environment."""

    table: ClassVar[str] = "secrets"
    secret_arns: Mapping[str, str] = _key(
        {}, "for each environment variable the ARN of its secret; `:SecretString:<key>` after it picks one JSON key"
    )
    mode: str = _key(
        "runtime",
        "`runtime` fetches secrets when a function starts; `cfn` lets CloudFormation write them into its settings",
        choices=("runtime", "cfn"),
    )


@frozen
class IncludeConfig(Section):
    """Files besides the modules that a flow imports that go into the packages of functions and jobs."""

    table: ClassVar[str] = "include"
    paths: tuple[str, ...] = _key((), "glob patterns, relative to the flow's script", env=("LOKKI_INCLUDE_PATHS",))


@frozen
class LokkiConfig(Section):
    """All settings; `warnings` are sentences about keys that were not understood, `origins` where each key was set."""

    build_dir: str = _key(
        "lokki-build", "directory that `build` writes to", env=("LOKKI_BUILD_DIR",), old=("build.build_dir",)
    )
    aws: AwsConfig = field(default_factory=AwsConfig)
    lambda_: LambdaConfig = field(default_factory=LambdaConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    local: LocalConfig = field(default_factory=LocalConfig)
    secrets: SecretsConfig = field(default_factory=SecretsConfig)
    include: IncludeConfig = field(default_factory=IncludeConfig)
    warnings: tuple[str, ...] = field(default=(), compare=False)
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
