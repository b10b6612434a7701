"""A disk that is full while a flow is packaged: one sentence, the build before stays, and AWS is not asked."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.aws.projects import Between, Project
from tests.builder.projects import wheel, write

ASKED = """
    [project]
    name = "birds"
    version = "1"
    requires-python = ">=3.11"
    dependencies = ["finchsong @ {}"]
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 600 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(place)]
    if os.getuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("A file system of one's own takes root: run the tests as root, or in a container that may mount")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path, but: int = 0) -> None:
    """Leave only so many bytes."""
    there = os.statvfs(disk)
    (disk / "birdsong.wav").write_bytes(bytes(there.f_bavail * there.f_frsize - but))


@pytest.fixture
def between(moto_server: str) -> Iterator[Between]:
    """A relay in front of the shared server."""
    relay = Between(moto_server)
    yield relay
    relay.close()


@pytest.fixture
def project(at_home: Path, bucket: str, between: Between) -> Project:
    """A flow that can be deployed."""
    return between.project(at_home / "project", bucket)


def test_the_build_before_stays_whole_and_nothing_is_deployed(project: Project, disk: Path, between: Between) -> None:
    project.settings["LOKKI_BUILD_DIR"] = place = str(disk / "made")
    project.done("build")
    before = {path: path.read_bytes() for path in (disk / "made").rglob("*") if path.is_file()}
    fill(disk, but=20_000)
    project.change("flappy", "happy")
    assert project.refused("deploy", "--confirm") == f"error: {place} cannot be written: No space left on device.\n"
    assert {path: path.read_bytes() for path in (disk / "made").rglob("*") if path.is_file()} == before
    assert sorted(os.listdir(disk)) == ["birdsong.wav", "made"]
    assert between.actions == []
    (disk / "birdsong.wav").unlink()
    project.done("build")


def test_packages_that_find_no_room_are_told(project: Project, disk: Path) -> None:
    song = wheel(project.folder.parent, "finchsong", large=200_000)
    write(project.folder, {"pyproject.toml": ASKED.format(song.as_uri())})
    subprocess.run(["uv", "lock", "--quiet", "--offline"], cwd=project.folder, check=True)
    fill(disk, but=80_000)
    project.settings["TMPDIR"] = str(disk)
    said = project.refused("build")
    assert said.startswith("error: The packages cannot be installed for Python 3.13 on x86_64: uv says: ")
    assert said.endswith("Make room, or set TMPDIR and UV_CACHE_DIR to folders that have some.\n")
    assert os.listdir(disk) == ["birdsong.wav"]


def test_no_place_for_temporary_files_is_told(project: Project) -> None:
    def no_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    process = project.start("build", preexec_fn=no_files)
    out, said = process.communicate(timeout=100)
    assert (process.returncode, out) == (1, "")
    assert said.startswith("error: There is no place for temporary files: ")
    # Coverage, where it is measured, complains after that.
    assert ". Make room, or set TMPDIR to a folder that has some.\n" in said
    assert not (project.folder / "lokki-build").exists()


def test_what_is_printed_to_a_full_disk_is_missed(project: Project) -> None:
    with open("/dev/full", "w") as full:
        process = project.start("build", stdout=full)
        _, said = process.communicate(timeout=100)
    assert (process.returncode, said) == (
        1,
        "error: What this command prints cannot be written: No space left on device. What it did until then is done.\n",
    )
    assert (project.folder / "lokki-build").exists()
