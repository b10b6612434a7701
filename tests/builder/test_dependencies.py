"""Functions get the Python that the project asks for, and the packages that its lock pins."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from lokki.builder.dependencies import (
    base_image,
    batch_image_for,
    image_for,
    install,
    local_paths,
    python_version,
    requirements,
)
from lokki.errors import BuildError, ConfigurationError
from lokki.settings import BatchConfig, LambdaConfig, LokkiConfig
from tests.builder.projects import wheel, write

HAS_UV = pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed")


def project(folder: Path, wanted: str = "", asked: str = "[]", name: str = "finches", more: str = "") -> str:
    python = f"requires-python = '{wanted}'" if wanted else ""
    text = f"[project]\nname = '{name}'\nversion = '1'\ndependencies = {asked}\n{python}\n{more}"
    return str(write(folder, {"pyproject.toml": text}))


@pytest.mark.parametrize(
    ("wanted", "version"),
    [
        ("", "3.13"),
        (">=3.11", "3.13"),
        (">=3.9, <4", "3.13"),
        (">=3.11,<3.13", "3.12"),
        (">=3.11,<3.12.4", "3.11"),  # Lambda runs the latest patch
        ("<=3.12", "3.11"),
        (">3.11", "3.13"),
        ("==3.12.*", "3.12"),
        ("==3.*", "3.13"),
        ("~=3.12", "3.13"),
        ("~=3.12.1", "3.12"),
        (">=3.11, !=3.13.*", "3.12"),
        (">=3.11, !=3.13.1", "3.13"),
        (" >= 3.12.7 ", "3.13"),
    ],
)
def test_the_newest_python_that_the_project_admits_is_taken(tmp_path: Path, wanted: str, version: str) -> None:
    assert python_version(LokkiConfig(), project(tmp_path, wanted)) == version


@pytest.mark.parametrize("wanted", [">=3.14", "<3.11", "==3.12", "^3.12", ">=3.11,<4.0a1", "===3.12", "~=3", "three"])
def test_a_project_that_leaves_python_open_is_asked_to_name_one(tmp_path: Path, wanted: str) -> None:
    with pytest.raises(ConfigurationError, match=r"pyproject\.toml.*python_version = ") as caught:
        python_version(LokkiConfig(), project(tmp_path, wanted))
    assert caught.value.field == "lambda.python_version"
    assert wanted in str(caught.value)


def test_the_configuration_decides_on_python(tmp_path: Path) -> None:
    config = LokkiConfig(lambda_=LambdaConfig(python_version="3.14"))
    assert python_version(config, project(tmp_path, "<3.11")) == "3.14"
    assert python_version(LokkiConfig(), None) == "3.13"


@pytest.mark.parametrize("version", ["3.10", "3.15", "3.13.1", "3"])
def test_a_python_that_lambda_does_not_have_is_refused(version: str) -> None:
    origins = {"lambda.python_version": "lokki.toml"}
    config = LokkiConfig(lambda_=LambdaConfig(python_version=version), origins=origins)
    with pytest.raises(
        ConfigurationError, match=r"must be 3\.11, 3\.12, 3\.13 or 3\.14, not '.*' \(lokki\.toml\)"
    ) as caught:
        python_version(config, None)
    assert caught.value.field == "lambda.python_version"


def test_images_follow_python_until_one_is_named(tmp_path: Path) -> None:
    default = "public.ecr.aws/lambda/python:3.13"
    assert base_image(LokkiConfig(), project(tmp_path, "<3.13")) == "public.ecr.aws/lambda/python:3.12"
    assert batch_image_for(LokkiConfig(), "3.12") == "python:3.12-slim"
    named = LokkiConfig(lambda_=LambdaConfig(base_image="mine:1"), batch=BatchConfig(base_image="theirs:2"))
    assert (image_for(named, "3.12"), batch_image_for(named, "3.12")) == ("mine:1", "theirs:2")
    written_out = LokkiConfig(origins={"lambda.base_image": "lokki.toml"})
    assert image_for(written_out, "3.12") == default


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("finches", "[]"),
        ("finches", "['lokki-twingraph']"),
        ("finches", "['Lokki_TwinGraph[dask]>=0.1 ; python_version > \"3\"']"),
        ("lokki-twingraph", "['boto3>=1.34']"),
    ],
)
def test_nothing_is_needed_where_nothing_is_asked_for(tmp_path: Path, name: str, asked: str) -> None:
    assert requirements(project(tmp_path, asked=asked, name=name)) == ""
    assert requirements(None) == ""


def test_packages_without_a_lock_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        BuildError, match=r"pyproject\.toml asks for packages, but there is no uv\.lock .* run `uv lock` in"
    ):
        requirements(project(tmp_path, asked="['pandas']"))


def test_a_missing_uv_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    write(tmp_path, {"uv.lock": ""})
    if find_spec("uv") is not None:
        pytest.skip("uv is installed as a package")
    with pytest.raises(BuildError, match="not on this machine; get it with `pip install uv`"):
        requirements(project(tmp_path, asked="['pandas']"))


SOURCES = """
[tool.uv.sources]
finchsong = { path = "finchsong-1.0-py3-none-any.whl" }
lokki-twingraph = { path = "lokki" }
[dependency-groups]
dev = ["finchdev"]
"""


@pytest.fixture
def locked(tmp_path: Path) -> str:
    """A project with a lock: it asks for one package beside this library, which needs another."""
    wheel(tmp_path, "finchsong")
    needs = "[tool.uv.sources]\nfinchlog = { path = '../finchlog-1.0-py3-none-any.whl' }\n"
    wheel(tmp_path, "finchlog")
    project(tmp_path / "lokki", asked="['finchlog']", name="lokki-twingraph", more=needs)
    asked = "['finchsong', 'lokki-twingraph']"
    folder = project(tmp_path, asked=asked, wanted=">=3.11", more=SOURCES.replace("finchdev", "finchsong"))
    uv_lock(folder)
    return folder


def uv_lock(folder: str) -> None:
    subprocess.run(["uv", "lock", "--offline", "--quiet"], cwd=folder, check=True)


@HAS_UV
def test_the_lock_says_what_is_installed(locked: str, tmp_path: Path) -> None:
    pinned = requirements(locked)
    assert pinned == "./finchsong-1.0-py3-none-any.whl\n"
    for python, architecture in (("3.13", "arm64"), ("3.11", "x86_64"), (None, None)):
        target = tmp_path / f"target-{python}"
        installed = install(pinned, str(target), python, architecture, locked)
        assert (target / "finchsong-1.0.dist-info" / "direct_url.json").exists()
        assert (target / "bin" / "finchsong").exists()
        assert list(installed) == [
            "finchsong-1.0.dist-info/METADATA",
            "finchsong-1.0.dist-info/WHEEL",
            "finchsong-1.0.dist-info/entry_points.txt",
            "finchsong/__init__.py",
        ]
        assert installed["finchsong/__init__.py"] == b"NAME = 'finchsong'\n"
        assert "finchsong-1.0.dist-info/RECORD" not in installed


@HAS_UV
def test_a_lock_that_is_out_of_date_is_refused_in_the_words_of_uv(locked: str) -> None:
    path = Path(locked) / "pyproject.toml"
    text = path.read_text("utf-8").replace("['finchsong', ", "['finchsong', 'finchlog', ")
    source = "finchlog = { path = 'finchlog-1.0-py3-none-any.whl' }"
    path.write_text(text.replace("[tool.uv.sources]", f"[tool.uv.sources]\n{source}"), "utf-8")
    with pytest.raises(BuildError, match=r"uv says: .*needs to be updated.*\. Run `uv lock` in that folder\.$"):
        requirements(locked)


@HAS_UV
def test_a_member_of_a_workspace_has_the_lock_of_the_whole(tmp_path: Path) -> None:
    wheel(tmp_path, "finchsong")
    project(tmp_path, name="nest", wanted=">=3.11", more="[tool.uv.workspace]\nmembers = ['flows']\n")
    source = "[tool.uv.sources]\nfinchsong = { path = '../finchsong-1.0-py3-none-any.whl' }\n"
    member = project(tmp_path / "flows", asked="['finchsong']", wanted=">=3.11", more=source)
    uv_lock(member)
    pinned = requirements(member)
    assert not (tmp_path / "flows" / "uv.lock").exists()
    assert "finchsong/__init__.py" in install(pinned, str(tmp_path / "target"), "3.12", "x86_64", member)


@HAS_UV
@pytest.mark.parametrize(
    ("pinned", "said"),
    [
        ("./finchsong-1.0-cp313-cp313-win_amd64.whl\n", r"for Python 3\.13 on arm64: uv says: .*finchsong.*\.$"),
        ("finchsong==9.9\n", r"for Python 3\.13 on arm64: uv says: .*finchsong.*\.$"),
    ],
)
def test_a_package_that_lambda_cannot_run_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pinned: str, said: str
) -> None:
    wheel(tmp_path, "finchsong", "cp313-cp313-win_amd64")
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path))
    with pytest.raises(BuildError, match=said) as caught:
        install(pinned, str(tmp_path / "target"), "3.13", "arm64", str(tmp_path))
    assert "\n" not in str(caught.value)


def test_nothing_is_installed_where_nothing_is_pinned(tmp_path: Path) -> None:
    assert install("", str(tmp_path / "target"), "3.13", "arm64") == {}
    assert os.listdir(tmp_path) == []


def test_what_lies_on_this_machine_is_told_from_what_an_index_has() -> None:
    pinned = (
        "./nest ; python_version > '3.11'\n/opt/song.whl\nfile:///opt/egg.whl\npandas==3.0\nx @ https://host/x.whl\n"
    )
    assert local_paths(pinned) == ("./nest", "/opt/song.whl", "file:///opt/egg.whl")
