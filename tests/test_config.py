"""Settings: where they are read from, which source wins, what is refused and what the user is told."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lokki.config import (
    AwsConfig,
    BatchConfig,
    IncludeConfig,
    LambdaConfig,
    LocalConfig,
    LoggingConfig,
    LokkiConfig,
    SecretsConfig,
    describe,
    load_config,
    reference,
)
from lokki.errors import ConfigurationError

DOCS = Path(__file__).parents[1] / "docs" / "config.md"

VARIABLES = [
    ("LOKKI_BUILD_DIR", "out", "build_dir", "out"),
    ("LOKKI_ARTIFACT_BUCKET", "nest", "aws.artifact_bucket", "nest"),
    ("LOKKI_IMAGE_REPOSITORY", "docker.io", "aws.image_repository", "docker.io"),
    ("LOKKI_ECR_REPO_PREFIX", "1.ecr/birds", "aws.image_repository", "1.ecr/birds"),
    ("LOKKI_AWS_REGION", "eu-west-1", "aws.region", "eu-west-1"),
    ("AWS_REGION", "eu-west-2", "aws.region", "eu-west-2"),
    ("AWS_DEFAULT_REGION", "eu-west-3", "aws.region", "eu-west-3"),
    ("LOKKI_AWS_ENDPOINT", "http://localhost:4566", "aws.endpoint", "http://localhost:4566"),
    ("AWS_ENDPOINT_URL", "http://localhost:4567", "aws.endpoint", "http://localhost:4567"),
    ("LOKKI_AWS_PREFIX", "/team/a/", "aws.prefix", "team/a"),
    ("LOKKI_BATCH_JOB_QUEUE", "queue", "batch.job_queue", "queue"),
    ("LOKKI_BATCH_JOB_DEFINITION", "job", "batch.job_definition_name", "job"),
    ("LOKKI_LOG_LEVEL", "debug", "logging.level", "DEBUG"),
    ("LOKKI_LOG_FORMAT", "JSON", "logging.format", "json"),
    ("LOKKI_STORE_TYPE", "memory", "local.store_type", "memory"),
    ("LOKKI_EXECUTOR", "processes", "local.executor", "processes"),
    ("LOKKI_WORKERS", " 4\n", "local.workers", 4),
    ("LOKKI_KEEP_RUNS", "0", "local.keep_runs", 0),
    ("LOKKI_STATE_DIR", "/var/lokki", "local.state_dir", "/var/lokki"),
    ("LOKKI_INCLUDE_PATHS", "data/*.csv, ,sql/*", "include.paths", ("data/*.csv", "sql/*")),
]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project to stand in, an empty home, and no variable that lokki reads."""
    for name in [*os.environ]:
        if name.startswith("LOKKI_") or name in ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"):
            monkeypatch.delenv(name)
    for name in ("home/.lokki", "project"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def home(project: Path) -> Path:
    return project.parent / "home" / ".lokki"


def value_of(config: LokkiConfig, path: str) -> Any:
    table, _, name = path.rpartition(".")
    return getattr(getattr(config, table.replace("lambda", "lambda_")) if table else config, name)


def refused(make: Callable[[], object]) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        make()
    return caught.value


def test_without_files_and_variables_everything_is_a_default() -> None:
    config = load_config()
    assert config == LokkiConfig()
    assert (config.build_dir, config.aws.region) == ("lokki-build", "us-east-1")
    assert (config.lambda_.timeout, config.lambda_.memory, config.lambda_.env) == (900, 512, {})
    assert (config.batch.timeout_seconds, config.batch.vcpu, config.batch.memory_mb) == (3600, 2, 4096)
    assert config.logging == LoggingConfig("INFO", "human", 10, True)
    assert config.local == LocalConfig("local", "threads", 0, 10, ".lokki")
    assert config.warnings == ()
    assert set(config.origins.values()) == {"default"}


def test_the_project_overrides_the_user_and_the_environment_both(
    project: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "lokki.toml").write_text(
        '[aws]\nregion = "a"\nartifact_bucket = "a"\nprefix = "a"\n[lambda]\nmemory = 1024'
    )
    (project / "lokki.toml").write_text('[aws]\nregion = "b"\nartifact_bucket = "b"')
    monkeypatch.setenv("LOKKI_AWS_REGION", "c")
    config = load_config()
    assert config.aws == AwsConfig(region="c", artifact_bucket="b", prefix="a")
    assert {path: origin for path, origin in config.origins.items() if origin != "default"} == {
        "aws.region": "$LOKKI_AWS_REGION",
        "aws.artifact_bucket": "lokki.toml",
        "aws.prefix": "~/.lokki/lokki.toml",
        "lambda.memory": "~/.lokki/lokki.toml",
    }


def test_tables_merge_entry_by_entry_and_lists_are_replaced(project: Path, home: Path) -> None:
    (home / "lokki.toml").write_text('include.paths = ["a", "b"]\n[lambda.env]\nTEAM = "birds"\nLEVEL = "1"\n')
    (project / "lokki.toml").write_text('include.paths = ["c"]\n[lambda.env]\nLEVEL = "2"\n')
    config = load_config()
    assert config.include.paths == ("c",)
    assert config.lambda_.env == {"TEAM": "birds", "LEVEL": "2"}
    assert config.origins["lambda.env.TEAM"] == "~/.lokki/lokki.toml"
    assert config.origins["lambda.env.LEVEL"] == "lokki.toml"
    assert config.origins["lambda.env"] == "~/.lokki/lokki.toml, lokki.toml"


def test_an_empty_table_says_nothing(project: Path) -> None:
    (project / "lokki.toml").write_text("[lambda.env]\n[aws]\n")
    config = load_config()
    assert config == LokkiConfig()
    assert config.origins["lambda.env"] == "default"


@pytest.mark.parametrize(("variable", "text", "path", "value"), VARIABLES)
def test_a_variable_sets_its_key(
    variable: str, text: str, path: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, text)
    config = load_config()
    assert value_of(config, path) == value
    assert config.origins[path] == f"${variable}"


def test_every_variable_is_tested() -> None:
    assert {name for name, *_ in VARIABLES} == set(re.findall(r"`((?:LOKKI|AWS)_[A-Z_]+)`", reference()))


@pytest.mark.parametrize(
    ("path", "first", "second"),
    [
        ("aws.endpoint", "LOKKI_AWS_ENDPOINT", "AWS_ENDPOINT_URL"),
        ("aws.image_repository", "LOKKI_IMAGE_REPOSITORY", "LOKKI_ECR_REPO_PREFIX"),
    ],
)
def test_the_first_of_two_variables_counts_unless_it_is_empty(
    path: str, first: str, second: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(second, "http://second")
    monkeypatch.setenv(first, "http://first")
    assert value_of(load_config(), path) == "http://first"
    monkeypatch.setenv(first, " ")
    assert value_of(load_config(), path) == "http://second"


def test_the_region_of_all_aws_tools_counts_where_neither_a_file_nor_lokkis_variable_has_one(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def region() -> tuple[str, str]:
        config = load_config()
        return config.aws.region, config.origins["aws.region"]

    found = [region()]
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    found.append(region())
    monkeypatch.setenv("AWS_REGION", "eu-west-2")
    found.append(region())
    (project / "lokki.toml").write_text('[aws]\nregion = "eu-north-1"\n')
    found.append(region())
    monkeypatch.setenv("LOKKI_AWS_REGION", "eu-west-1")
    assert [*found, region()] == [
        ("us-east-1", "default"),
        ("eu-west-3", "$AWS_DEFAULT_REGION"),
        ("eu-west-2", "$AWS_REGION"),
        ("eu-north-1", "lokki.toml"),
        ("eu-west-1", "$LOKKI_AWS_REGION"),
    ]


def test_an_empty_variable_leaves_the_file_alone(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "lokki.toml").write_text('build_dir = "out"')
    monkeypatch.setenv("LOKKI_BUILD_DIR", "")
    assert load_config().build_dir == "out"


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ('artifact_bucket = "nest"', "aws.artifact_bucket", "nest"),
        ('ecr_repo_prefix = "1.ecr"', "aws.image_repository", "1.ecr"),
        ('[aws]\necr_repo_prefix = "1.ecr"', "aws.image_repository", "1.ecr"),
        ('[aws.roles]\npipeline = "arn:p"', "aws.stepfunctions_role", "arn:p"),
        ('[aws.roles]\nlambda = "arn:l"', "aws.lambda_execution_role", "arn:l"),
        ('roles.pipeline = "arn:p"', "aws.stepfunctions_role", "arn:p"),
        ('roles.lambda = "arn:l"', "aws.lambda_execution_role", "arn:l"),
        ('lambda_env = { A = "1" }', "lambda.env", {"A": "1"}),
        ("lambda_defaults.timeout = 60", "lambda.timeout", 60),
        ("lambda_defaults.memory = 256", "lambda.memory", 256),
        ('lambda_defaults.image_tag = "v1"', "lambda.image_tag", "v1"),
        ('[build]\nbuild_dir = "out"', "build_dir", "out"),
        ("[batch]\ntimeout = 120", "batch.timeout_seconds", 120),
    ],
)
def test_an_old_name_still_sets_its_key(text: str, path: str, value: object, project: Path) -> None:
    (project / "lokki.toml").write_text(text)
    config = load_config()
    assert value_of(config, path) == value
    assert config.origins[path] == "lokki.toml"
    assert config.warnings == ()


def test_the_new_name_wins_in_one_file_and_the_old_one_is_reported(project: Path) -> None:
    (project / "lokki.toml").write_text('ecr_repo_prefix = "old"\n[aws]\nimage_repository = "new"')
    config = load_config()
    assert config.aws.image_repository == "new"
    assert config.warnings == ("lokki.toml: 'ecr_repo_prefix' is ignored because 'aws.image_repository' is given too",)


def test_an_old_name_in_the_project_wins_over_the_new_one_of_the_user(project: Path, home: Path) -> None:
    (home / "lokki.toml").write_text('[aws]\nimage_repository = "user"')
    (project / "lokki.yml").write_text("ecr_repo_prefix: project")
    config = load_config()
    assert (config.aws.image_repository, config.warnings) == ("project", ())


@pytest.mark.parametrize("name", ["lokki.yml", "lokki.yaml"])
def test_yaml_is_read_where_there_is_no_toml(name: str, project: Path, home: Path) -> None:
    (home / name).write_text("lambda_env: {A: '1'}\nroles:\naws: {region: eu-west-1}\nbuild_dir:\n")
    (project / name).write_text("")
    config = load_config()
    assert config == LokkiConfig(aws=AwsConfig(region="eu-west-1"), lambda_=LambdaConfig(env={"A": "1"}))
    assert config.origins["lambda.env.A"] == f"~/.lokki/{name}"
    (home / "lokki.toml").write_text("")
    assert load_config() == LokkiConfig()


def test_a_script_elsewhere_brings_its_file_unless_the_current_directory_has_one(project: Path) -> None:
    flows = project / "flows"
    flows.mkdir()
    (flows / "lokki.toml").write_text('build_dir = "beside"')
    beside = load_config(Path("flows", "birds.py"))
    assert (beside.build_dir, beside.origins["build_dir"]) == ("beside", os.path.join("flows", "lokki.toml"))
    assert load_config("birds.py").build_dir == "lokki-build"
    (project / "lokki.yml").write_text("build_dir: here")
    assert load_config("flows/birds.py").build_dir == "here"


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("[lambda]\ntimeot = 3", "unknown key 'lambda.timeot'; did you mean 'lambda.timeout'?"),
        ("[lamda]\ntimeout = 3\nmemory = 128", "unknown key 'lamda'; did you mean 'lambda'?"),
        ('region = "x"', "unknown key 'region'; did you mean 'aws.region'?"),
        ("[roles]\nqqq = 1", "unknown key 'roles.qqq'"),
        ("qqq = 1", "unknown key 'qqq'"),
    ],
)
def test_an_unknown_key_is_reported_with_the_nearest_known_one(text: str, warning: str, project: Path) -> None:
    (project / "lokki.toml").write_text(text)
    config = load_config()
    assert config.warnings == (f"lokki.toml: {warning}",)
    assert config == LokkiConfig()


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ("lambda.timeout = 4000", "lambda.timeout", "must be between 1 and 900, not 4000"),
        ("lambda.memory = 64", "lambda.memory", "must be between 128 and 10240, not 64"),
        ("batch.vcpu = 0", "batch.vcpu", "must be at least 1, not 0"),
        ("lambda.timeout = '900'", "lambda.timeout", "must be a whole number, not '900'"),
        ("lambda.timeout = true", "lambda.timeout", "must be a whole number, not true"),
        ("lambda.timeout = 1.5", "lambda.timeout", "must be a whole number, not 1.5"),
        ("lambda.timeout = {a = 1}", "lambda.timeout", "must be a whole number, not a table"),
        ("lambda.timeout = 2024-01-31", "lambda.timeout", "must be a whole number, not 2024-01-31"),
        ("logging.show_timestamps = 1", "logging.show_timestamps", "must be true or false, not 1"),
        ("lambda.python_version = 3.13", "lambda.python_version", "must be text, not 3.13; put it in quotes"),
        ("aws.region = ['a']", "aws.region", "must be text, not ['a']"),
        ("aws.region = ''", "aws.region", "must not be empty"),
        ("lambda.env = 'A=1'", "lambda.env", "must be a table of texts, not 'A=1'"),
        ("lambda.env.DEBUG = false", "lambda.env.DEBUG", "must be text, not false; put it in quotes"),
        ("include.paths = 'a'", "include.paths", "must be a list of texts, not 'a'"),
        ("include.paths = ['a', 1]", "include.paths", "must be a list of texts, not ['a', 1]"),
        ("lambda.package_type = 'jar'", "lambda.package_type", "must be 'image' or 'zip', not 'jar'"),
        ("local.executor = 'dask'", "local.executor", "must be 'threads', 'processes' or 'inline', not 'dask'"),
        ("aws = 'here'", "aws", "must be a table, not 'here'"),
    ],
)
def test_a_value_that_cannot_be_used_names_key_value_and_file(
    text: str, field: str, message: str, project: Path
) -> None:
    (project / "lokki.toml").write_text(text)
    error = refused(load_config)
    assert str(error) == f"{field} {message} (lokki.toml)"
    assert error.field == field


def test_a_wrong_value_under_an_old_name_says_so(project: Path) -> None:
    (project / "lokki.yml").write_text("lambda_defaults:\n  timeout: 4000\n")
    assert str(refused(load_config)) == (
        "lambda.timeout must be between 1 and 900, not 4000 (lokki.yml, as 'lambda_defaults.timeout')"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lambda_env: {1: x}", "lambda.env must have texts as names, not 1; put it in quotes"),
        ("lambda_env: {A: }", "lambda.env.A must be text, not nothing"),
    ],
)
def test_entries_of_a_yaml_table_must_be_text(text: str, message: str, project: Path) -> None:
    (project / "lokki.yml").write_text(text)
    assert str(refused(load_config)) == f"{message} (lokki.yml, as 'lambda_env')"


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("LOKKI_WORKERS", "many", "local.workers must be a whole number, not 'many'"),
        ("LOKKI_KEEP_RUNS", "-1", "local.keep_runs must be at least 0, not -1"),
        ("LOKKI_LOG_LEVEL", "loud", "logging.level must be 'DEBUG', 'INFO', 'WARNING' or 'ERROR', not 'loud'"),
        (
            "LOKKI_STORE_TYPE",
            "s3",
            (
                "local.store_type must be 'local' or 'memory', not 's3': "
                "a local run keeps its values on this machine, only deployed functions store in S3"
            ),
        ),
    ],
)
def test_a_wrong_variable_is_named(variable: str, text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, text)
    assert str(refused(load_config)) == f"{message} (${variable})"


@pytest.mark.parametrize(
    ("make", "field", "message"),
    [
        (lambda: LambdaConfig(timeout=0), "lambda.timeout", "must be between 1 and 900, not 0"),
        (lambda: BatchConfig(timeout_seconds=59), "batch.timeout_seconds", "must be at least 60, not 59"),
        (lambda: SecretsConfig(mode="plain"), "secrets.mode", "must be 'runtime' or 'cfn', not 'plain'"),
        (lambda: LokkiConfig(build_dir=""), "build_dir", "must not be empty"),
    ],
)
def test_sections_made_by_hand_are_checked_too(make: Callable[[], object], field: str, message: str) -> None:
    error = refused(make)
    assert (str(error), error.field) == (f"{field} {message}", field)


def test_a_section_does_not_change_with_what_it_was_made_from() -> None:
    env, paths = {"A": "1"}, ["data/*"]
    function, include = LambdaConfig(env=env), IncludeConfig(paths=paths)  # type: ignore[arg-type]
    env["B"] = "2"
    paths.append("sql/*")
    assert (function.env, include.paths) == ({"A": "1"}, ("data/*",))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "lokki.toml",
            b"[aws]\nregion eu",
            "is not valid TOML: Expected '=' after a key in a key/value pair (at line 2, ",
        ),
        ("lokki.toml", b"[aws]\n\nregion = [", "is not valid TOML: Invalid value (at line 3, the end of the file)"),
        ("lokki.toml", b"region = '\xff'", "cannot be read: it is not UTF-8 text"),
        ("lokki.yml", b"aws:\n  region: a: b\n", "is not valid YAML: mapping values are not allowed here (at line 2, "),
        ("lokki.yml", b"a: 1\nb: \x07\n", "is not valid YAML: special characters are not allowed (at line 2)"),
        ("lokki.yml", b"a: 2024-13-01", "is not valid YAML: month must be in 1..12"),
        ("lokki.yml", b"- aws\n", "must hold keys and values, not ['aws']"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_place(
    name: str, content: bytes, message: str, project: Path
) -> None:
    (project / name).write_bytes(content)
    assert str(refused(load_config)).startswith(f"{name} {message}")


def test_a_file_that_is_a_directory_or_leads_nowhere_is_named(project: Path, home: Path) -> None:
    (project / "lokki.toml").mkdir()
    assert str(refused(load_config)) == "lokki.toml cannot be read: Is a directory"
    (home / "lokki.yml").symlink_to("gone.yml")
    assert str(refused(load_config)) == "~/.lokki/lokki.yml cannot be read: No such file or directory"


def test_a_byte_order_mark_does_not_matter(project: Path) -> None:
    (project / "lokki.toml").write_text('build_dir = "out"', encoding="utf-8-sig")
    assert load_config().build_dir == "out"


def test_describe_lists_every_key_as_toml_that_gives_the_same_settings(project: Path) -> None:
    (project / "lokki.toml").write_text(
        'include.paths = ["é\\\\*"]\nlambda.env = { A = "say \\"hi\\"" }\naws.prefix = "p"'
    )
    config = load_config()
    rows = describe(config)
    assert ("lambda.env.A", json.dumps('say "hi"'), "lokki.toml") in rows
    assert ("secrets.secret_arns", "{}", "default") in rows
    assert ("logging.show_timestamps", "true", "default") in rows
    (project / "lokki.toml").write_text("\n".join(f"{key} = {value}" for key, value, _ in rows if value != "{}"))
    again = load_config()
    assert again == config
    assert again.warnings == ()


def test_describe_tells_what_was_set_by_hand_from_what_is_default() -> None:
    rows = {key: (value, origin) for key, value, origin in describe(LokkiConfig(local=LocalConfig(workers=2)))}
    assert rows["local.workers"] == ("2", "code")
    assert rows["local.executor"] == ('"threads"', "default")


def test_the_list_of_keys_in_the_docs_is_current() -> None:
    text = DOCS.read_text(encoding="utf-8")
    begin, end = "<!-- keys: begin -->\n", "<!-- keys: end -->"
    before, after = text[: text.index(begin)], text[text.index(end) :]
    current = f"{before}{begin}\n{reference()}\n{after}"
    if os.environ.get("RENEW_DOCS"):
        DOCS.write_text(current, encoding="utf-8")
        text = current
    assert text == current, "docs/config.md is out of date; renew it with: RENEW_DOCS=1 pytest tests/test_config.py"


@pytest.mark.parametrize(("name", "language"), [("lokki.toml", "toml"), ("lokki.yml", "yaml")])
def test_the_examples_in_the_docs_are_understood(name: str, language: str, project: Path) -> None:
    (example,) = re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    (project / name).write_text(example)
    config = load_config()
    assert config.warnings == ()
    assert config.aws.artifact_bucket == "my-lokki-artifacts"
    assert config.lambda_.env["PAGE_SIZE"] == "100"


def test_importing_it_does_not_import_what_only_some_runs_need() -> None:
    code = f"import sys; sys.path.append({str(DOCS.parents[1] / 'src')!r}); import lokki.config; print(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", code]  # without site-packages, whose start-up files import at will
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert "lokki.settings" in loaded
    assert not {"tomllib", "yaml", "difflib", "json", "pathlib"} & loaded
