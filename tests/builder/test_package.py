"""A package holds all that a function needs and nothing else, and depends on nothing but what is in it."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lokki.builder.package import MOST_UNZIPPED, Package, batch_files, lambda_files, runtime_files
from lokki.builder.source import Source, collect
from lokki.errors import BuildError
from lokki.settings import BatchConfig, LambdaConfig, LokkiConfig
from tests.builder.projects import flow_in, write

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ZIP = LokkiConfig(lambda_=LambdaConfig(package_type="zip"))
IMAGE = LokkiConfig()
BROUGHT_ALONG = {"boto3", "botocore", "isal", "cloudpickle"}  # imported only where they are there
NOT_IN_A_FUNCTION = {"lokki.cli", "lokki.config", "lokki.hints", "lokki.runner"}  # imported only outside of one


def birds() -> Source:
    return collect(flow_in(EXAMPLES / "birds.py"), LokkiConfig())


def finches(folder: Path, **files: str) -> Source:
    write(folder, {"finches.py": "import nest\n", "nest/__init__.py": "", "nest/egg.csv": "blue\n", **files})
    return collect(flow_in(folder / "finches.py"), LokkiConfig())


def zip_of(source: Source, program: bytes = b"{}", installed: Mapping[str, bytes] | None = None) -> Package:
    return lambda_files(source, program, ZIP, "3.13", "", installed or {})


def image_of(source: Source, requirements: str = "", python: str = "3.13") -> Package:
    return lambda_files(source, b"{}", IMAGE, python, requirements, {})


def archive(package: Package) -> zipfile.ZipFile:
    assert list(package.files) == ["lambdas/function.zip"]
    return zipfile.ZipFile(io.BytesIO(package.files["lambdas/function.zip"]))


# Zips


def test_the_birds_are_a_small_zip() -> None:
    package = zip_of(birds())
    with archive(package) as found:
        names = found.namelist()
        assert found.testzip() is None
        assert sum(entry.file_size for entry in found.infolist()) == package.unzipped
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"birds.py", "handler.py", "lokki", "lokki_flow.json"}
    assert package.zipped == len(package.files["lambdas/function.zip"]) <= 100_000
    assert package.largest[0][0] == "lokki"


def test_a_flow_can_be_imported_from_its_package_alone(tmp_path: Path) -> None:
    with archive(zip_of(birds())) as found:
        found.extractall(tmp_path)
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; import birds; print(birds.birds_flow().fingerprint)"
    command = [sys.executable, "-I", "-S", "-c", code]  # without site-packages
    made = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    there = [sys.executable, "-c", "import birds; print(birds.birds_flow().fingerprint)"]
    here = subprocess.run(there, capture_output=True, text=True, check=True, cwd=EXAMPLES).stdout
    assert made == here


def test_the_runtime_imports_nothing_that_is_not_packaged() -> None:
    files = runtime_files()
    modules = {path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in files}
    imported = {name for content in files.values() for name in imports(content)}
    missing = {name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names} - modules
    assert missing <= BROUGHT_ALONG | NOT_IN_A_FUNCTION
    assert {"lokki.runtime.handler", "lokki.runtime.batch", "lokki.store.local", "lokki.start"} <= modules


def imports(content: bytes) -> Iterator[str]:
    tree = ast.parse(content)
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in typing_only and node.module:
            yield node.module if node.module.startswith("lokki") else node.module.partition(".")[0]
        elif isinstance(node, ast.Import) and id(node) not in typing_only:
            yield from (alias.name.partition(".")[0] for alias in node.names)


def test_the_bytes_depend_on_nothing_but_the_content(tmp_path: Path) -> None:
    packages = []
    for name, moment, mode in (("here", 1_000_000_000, 0o600), ("there", 1_600_000_000, 0o755)):
        source = finches(tmp_path / name)
        for path in (tmp_path / name).rglob("*.*"):
            os.utime(path, (moment, moment))
            path.chmod(mode)
        reordered = dict(reversed(list(source.files.items())))
        packages.append(zip_of(Source(source.module, "", reordered, "", None, (), ())))
    assert packages[0] == packages[1]
    for entry in archive(packages[0]).infolist():
        assert (entry.date_time, entry.external_attr >> 16) == ((1980, 1, 1, 0, 0, 0), 0o100644)


@pytest.mark.parametrize("seed", ["1", "77"])
def test_the_bytes_do_not_depend_on_the_process(seed: str) -> None:
    code = (
        "import hashlib; from tests.builder.test_package import birds, finch_images, zip_of;"
        "files = zip_of(birds()).files | finch_images();"
        "print(hashlib.sha256(repr(list(files.items())).encode()).hexdigest())"
    )
    root = str(EXAMPLES.parent)
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join((root, *sys.path))}
    command = [sys.executable, "-c", code]
    made = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    files = dict(zip_of(birds()).files) | finch_images()
    assert made == hashlib.sha256(repr(list(files.items())).encode()).hexdigest()


def finch_images() -> dict[str, bytes]:
    source = Source(
        "finches", "", {f"{name}.py": name.encode() for name in ("a", "b", "c", "finches")}, "", None, (), ()
    )
    return {**image_of(source).files, **batch_files(source, b"{}", IMAGE, "3.13", "pandas==3.0\n").files}


def test_the_digest_changes_with_what_a_function_sees_and_with_nothing_else(tmp_path: Path) -> None:
    source = finches(tmp_path)
    installed = {"numpy/__init__.py": b"1"}
    digests = [
        zip_of(source).digest,
        zip_of(source, program=b"[]").digest,
        zip_of(source, installed=installed).digest,
        zip_of(source, installed={"numpy/__init__.py": b"2"}).digest,
        zip_of(finches(tmp_path, **{"nest/egg.csv": "green\n"})).digest,
        zip_of(finches(tmp_path, **{"nest/eggs.csv": "green\n"})).digest,
        image_of(source).digest,
        image_of(source, "numpy==2.5\n").digest,
        image_of(source, python="3.12").digest,
    ]
    assert len(set(digests)) == len(digests)
    assert zip_of(source, installed=dict(installed)).digest == digests[2]
    project = write(tmp_path / "project", {"pyproject.toml": "[project]\nname = 'finches'\n", "uv.lock": "a = 1\n"})
    known = Source(source.module, "", source.files, "", str(project), (), ())
    before = image_of(known).digest
    write(project, {"uv.lock": "a = 2\n"})
    assert image_of(known).digest == before == digests[6]


def test_programs_in_a_package_can_be_started(tmp_path: Path) -> None:
    installed = {"ffmpeg/run": b"\x7fELF...", "ffmpeg/run.sh": b"#!/bin/sh\n", "ffmpeg/notes": b"ELF"}
    with archive(zip_of(finches(tmp_path), installed=installed)) as found:
        modes = {name: found.getinfo(name).external_attr >> 16 & 0o777 for name in installed}
    assert modes == {"ffmpeg/run": 0o755, "ffmpeg/run.sh": 0o755, "ffmpeg/notes": 0o644}


class Heavy(Mapping[str, bytes]):
    """Installed packages that are heavier than they are worth writing."""

    def __init__(self, **sizes: int) -> None:
        self._sizes = {f"{name}/lib.so": size for name, size in sizes.items()}

    def __getitem__(self, path: str) -> bytes:
        return bytes(self._sizes[path])

    def __iter__(self) -> Iterator[str]:
        return iter(self._sizes)

    def __len__(self) -> int:
        return len(self._sizes)


def test_a_zip_that_lambda_would_refuse_is_refused(tmp_path: Path) -> None:
    megabyte = 1024 * 1024
    installed = Heavy(pandas=70 * megabyte, torch=120 * megabyte, numpy=30 * megabyte, scipy=40 * megabyte)
    with pytest.raises(BuildError) as caught:
        zip_of(finches(tmp_path), installed=installed)
    assert str(caught.value) == (
        "The functions' code is 260.3 MB unzipped, and Lambda takes less than 250.0 MB in a zip. The largest parts are "
        'torch (120.0 MB), pandas (70.0 MB), scipy (40.0 MB). Ship an image instead: lambda.package_type = "image".'
    )
    assert 250 * megabyte == MOST_UNZIPPED


# Images


def test_an_image_is_built_from_a_folder_with_all_that_its_functions_see(tmp_path: Path) -> None:
    files = {"pyproject.toml": "[project]\nname = 'finches'\n", "uv.lock": "version = 1\n", "nest/a b.csv": ""}
    package = image_of(finches(tmp_path, **files), "numpy==2.5\n", python="3.12")
    runtime = {f"lambdas/{path}" for path in runtime_files()}
    assert package.files.keys() - runtime == {
        "lambdas/Dockerfile",
        "lambdas/finches.py",
        "lambdas/handler.py",
        "lambdas/lokki_flow.json",
        "lambdas/nest/__init__.py",
        "lambdas/nest/a b.csv",
        "lambdas/nest/egg.csv",
        "lambdas/pyproject.toml",
        "lambdas/requirements.txt",
        "lambdas/uv.lock",
    }
    assert package.files["lambdas/requirements.txt"] == b"numpy==2.5\n"
    assert package.files["lambdas/uv.lock"] == b"version = 1\n"
    assert dockerfile(package, "lambdas") == [
        "FROM public.ecr.aws/lambda/python:3.12 AS builder",
        "COPY pyproject.toml uv.lock requirements.txt ./",
        "RUN uv pip install --no-deps --requirement requirements.txt --target /packages --compile-bytecode",
        "FROM public.ecr.aws/lambda/python:3.12",
        "COPY --from=builder /packages/ ./",
        "COPY finches.py handler.py lokki_flow.json ./",
        "COPY lokki/ ./lokki/",
        "COPY nest/ ./nest/",
        'CMD ["handler.lambda_handler"]',
    ]


def dockerfile(package: Package, folder: str) -> list[str]:
    """The lines that say what is in an image."""
    lines = package.files[f"{folder}/Dockerfile"].decode().splitlines()
    return [line for line in lines if line.startswith(("FROM", "COPY", "RUN uv", "CMD"))]


def test_an_image_without_packages_is_built_in_the_same_way() -> None:
    package = image_of(birds())  # in the project of this library, whose own packages are not those of a flow
    assert package.files["lambdas/requirements.txt"] == b""
    assert "lambdas/pyproject.toml" not in package.files
    assert "COPY requirements.txt ./" in dockerfile(package, "lambdas")
    assert package.zipped == 0


def test_a_name_with_a_space_is_copied(tmp_path: Path) -> None:
    source = Source("finches", "", {"a b.csv": b"", "c d/e.csv": b"", "finches.py": b""}, "", None, (), ())
    lines = dockerfile(image_of(source), "lambdas")
    assert 'COPY ["a b.csv", "finches.py", "handler.py", "lokki_flow.json", "./"]' in lines
    assert 'COPY ["c d/", "./c d/"]' in lines


def test_a_job_has_its_own_entry_and_the_client_that_its_image_lacks(tmp_path: Path) -> None:
    config = LokkiConfig(batch=BatchConfig(base_image="python:3.12-slim"))
    package = batch_files(finches(tmp_path), b"{}", config, "3.13", "numpy==2.5\nurllib3==2.0\n")
    own = {path for path in package.files if not path.startswith(("batch/lokki/", "batch/nest/"))}
    assert own == {
        f"batch/{name}"
        for name in ("Dockerfile", "batch.py", "batch_main.py", "finches.py", "lokki_flow.json", "requirements.txt")
    }
    pinned = package.files["batch/requirements.txt"].decode().splitlines()
    assert {"numpy==2.5", "urllib3==2.0"} < set(pinned)
    assert [line.partition("==")[0] for line in pinned].count("urllib3") == 1
    assert [line for line in pinned if line.startswith(("boto3==", "botocore=="))] == pinned[:2]
    lines = dockerfile(package, "batch")
    assert lines[0] == "FROM python:3.12-slim AS builder"
    assert lines[-1] == 'CMD ["python", "batch_main.py"]'


def test_a_project_that_asks_for_the_client_keeps_its_own(tmp_path: Path) -> None:
    package = batch_files(finches(tmp_path), b"{}", IMAGE, "3.13", "boto3==1.34.0\n")
    assert package.files["batch/requirements.txt"] == b"boto3==1.34.0\n"


def test_a_package_from_this_machine_cannot_go_into_an_image(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"asks for \./nest, which lies on this machine"):
        image_of(finches(tmp_path), "./nest\nnumpy==2.5\n")


def test_a_module_in_the_place_of_a_generated_file_is_refused() -> None:
    source = Source("batch", "", {"batch.py": b"", "requirements.txt": b"x"}, "", None, (), ())
    with pytest.raises(BuildError, match=r"The project has batch\.py"):
        batch_files(source, b"{}", IMAGE, "3.13", "")
    with pytest.raises(BuildError, match=r"The project has requirements\.txt"):
        image_of(source)
    assert zip_of(source).unzipped > 0


@pytest.mark.parametrize(("folder", "entry"), [("lambdas", "handler.py"), ("batch", "batch.py")])
def test_an_entry_takes_what_it_does_from_the_environment(tmp_path: Path, folder: str, entry: str) -> None:
    source = birds()
    package = image_of(source) if folder == "lambdas" else batch_files(source, b"{}", IMAGE, "3.13", "")
    text = package.files[f"{folder}/{entry}"].decode()
    compile(text, entry, "exec")
    names = ("LOKKI_MODULE_NAME", "LOKKI_STEP_NAME")
    assert all(name in text for name in names) or "run_job(os.environ)" in text
    assert json.loads(package.files[f"{folder}/lokki_flow.json"]) == {}
