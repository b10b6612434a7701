"""The build as a whole: the same in gives the same out, and what is in `build_dir` is always one whole build."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from built_flows import config

from lokki.builder import Builder, Bundle
from lokki.builder.builder import compile_flow, write
from lokki.errors import BuildError, ConfigurationError
from lokki.frozen import replace
from lokki.settings import LokkiConfig
from tests.builder.modules import imported
from tests.builder.projects import write as write_files

FLOW = """
@step
def lay(count: int = 3) -> list[int]: return list(range(count))

@step
def hatch(egg: int) -> int: return egg

@flow
def nest_flow(count: int = 3) -> Any: return lay().map(hatch)
"""
PROJECT = {
    "nests.py": """
        import os
        import resource
        import signal

        from eggs import colours
        from lokki import flow, main, step
        from songs.verse import verse

        if "LARGEST_FILE" in os.environ:  # no file may become larger; who tries is killed, or told
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["LARGEST_FILE"]),) * 2)
            signal.signal(signal.SIGXFSZ, getattr(signal, os.environ["THEN"]))

        @step
        def lay(count):
            return [verse(colours) for _ in range(count)]

        @step(job_type="batch")
        def hatch(egg, kinds=frozenset({"goose", "duck", "gull", "owl"})):
            return egg in kinds

        @flow
        def nests(count: int = 3, kinds: set[str] = {"goose", "duck", "gull", "owl", "dodo"}):
            return lay().map(hatch)

        if __name__ == "__main__":
            main(nests)
    """,
    "eggs.py": "colours = {'blue', 'white', 'brown'}\n",
    "songs/__init__.py": "",
    "songs/verse.py": "def verse(words):\n    return ' '.join(sorted(words))\n",
    "data/one.csv": "1\n",
    "data/more/two.csv": "2,2\n" * 200_000,
    "lokki.toml": """
        [aws]
        artifact_bucket = "nests-artifacts"
        [batch]
        job_queue = "jobs"
        [include]
        paths = ["data/**"]
        [lambda.env]
        B2 = "1"
        A1 = "2"
        [secrets.secret_arns]
        S2 = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:two-a1B2c3"
        S1 = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:one-a1B2c3"
    """,
}


def files_in(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def build(script: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """What `python ... build` says of a project."""
    where = {"PYTHONDONTWRITEBYTECODE": "1", **environ}
    return subprocess.run(
        [sys.executable, str(script), "build"], env={**os.environ, **where}, capture_output=True, text=True, check=False
    )


def compiled(patch: pytest.MonkeyPatch, folder: Path, text: str = FLOW, **settings: Any) -> Bundle:
    """What a module with the flow `nest_flow` in it is built into."""
    return compile_flow(imported(patch, folder, "nests", text).nest_flow(), config(**settings))


# --- the same in, the same out


@pytest.mark.parametrize("kind", ["zip", "image"])
def test_builds_in_fresh_folders_are_the_same_bytes(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builds = []
    for number, (seed, away) in enumerate([("1", False), ("22", True), ("random", False)]):
        folder = write_files(tmp_path / f"project-{number}", dict(sorted(PROJECT.items(), reverse=number == 1)))
        with (folder / "lokki.toml").open("a") as file:
            file.write(f'\n[lambda]\npackage_type = "{kind}"\n')
        for path in folder.rglob("*"):
            os.utime(path, (10**9 + number, 10**9 + number))
        monkeypatch.chdir(tmp_path if away else folder)
        made = tmp_path / f"made-{number}"
        script = folder / "nests.py" if away else Path("nests.py")
        done = build(script, PYTHONHASHSEED=seed, LOKKI_BUILD_DIR=str(made))
        assert done.returncode == 0, done.stderr
        builds.append((files_in(made), done.stdout.replace(str(made), "made")))
    assert builds[0] == builds[1] == builds[2]
    code = "lambdas/function.zip" if kind == "zip" else "lambdas/data/more/two.csv"
    assert {code, "batch/data/one.csv", "batch/songs/verse.py", "template.yaml"} <= builds[0][0].keys()


def test_what_the_code_says_changes_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = compiled(monkeypatch, tmp_path)
    other = compiled(monkeypatch, tmp_path, FLOW.replace("return egg", "return -egg"))
    assert one.functions.digest != other.functions.digest
    assert one.files["statemachine.json"] == other.files["statemachine.json"]
    assert one.files["template.yaml"] != other.files["template.yaml"]
    assert compiled(monkeypatch, tmp_path).files == one.files


def test_a_build_says_what_deploying_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = compiled(monkeypatch, tmp_path)
    assert list(bundle.files) == [
        ".gitignore",
        "lambdas/function.zip",
        "lokki-build.json",
        "sam.yaml",
        "statemachine.json",
        "template.yaml",
    ]
    assert json.loads(bundle.files["lokki-build.json"]) == {
        "flow": "nest-flow",
        "fingerprint": bundle.deployment.graph.fingerprint,
        "package_type": "zip",
        "code": bundle.functions.digest,
        "jobs": None,
        "functions": {"lay": "${FlowName}-lay", "hatch": "${FlowName}-hatch"},
    }


def test_the_builder_builds_into_the_folder_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = imported(monkeypatch, tmp_path, "nests", FLOW)
    settings = replace(config(), build_dir="out/of/here")
    bundle = Builder.build(module.nest_flow(), settings, defaults={"count": 5})
    assert files_in(tmp_path / "out/of/here") == bundle.files
    assert b'{\\"count\\": 5}' in bundle.files["statemachine.json"]


# --- large flows


def numbered(count: int) -> str:
    """A module with a flow of so many different steps."""
    steps = "\n".join(f"@step\ndef step_{at}(x: int = 0) -> int: return x + {at}" for at in range(count))
    chain = "".join(f".next(step_{at})" for at in range(1, count))
    return f"{steps}\n@flow\ndef nest_flow() -> Any: return step_0(){chain}\n"


def test_a_flow_of_two_hundred_steps_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = compiled(monkeypatch, tmp_path, numbered(200))
    assert len(bundle.deployment.functions) == bundle.deployment.state_count == 200
    assert len(json.loads(bundle.files["statemachine.json"])["States"]) == 200
    assert 51_200 < len(bundle.files["template.yaml"]) <= 1_048_576
    with pytest.raises(BuildError, match="has 250 different steps, which needs about"):
        compiled(monkeypatch, tmp_path, numbered(250))


# --- what is refused before anything is written


def test_a_graph_that_no_flow_function_made_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = replace(imported(monkeypatch, tmp_path, "nests", FLOW).nest_flow(), remake=None)
    with pytest.raises(BuildError, match="Flow 'nest-flow' was not made by a flow function, so no execution could"):
        Builder.build(graph, replace(config(), build_dir="made"))
    assert not (tmp_path / "made").exists()


def test_a_build_needs_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = imported(monkeypatch, tmp_path, "nests", FLOW).nest_flow()
    with pytest.raises(ConfigurationError, match=r"aws\.artifact_bucket is not set: .*LOKKI_ARTIFACT_BUCKET") as caught:
        compile_flow(graph, LokkiConfig())
    assert caught.value.field == "aws.artifact_bucket"


def test_a_schedule_gives_no_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = FLOW.replace("@flow", '@flow(schedule="rate(1 day)")').replace(
        "count: int = 3) -> Any", "count: int) -> Any"
    )
    graph = imported(monkeypatch, tmp_path, "nests", text).nest_flow(count=1)
    with pytest.raises(BuildError) as caught:
        compile_flow(graph, config())
    assert str(caught.value) == (
        "Flow 'nest-flow' starts by itself (rate(1 day)), and nothing gives it --count: give a default in its "
        "signature, or build with --count ..."
    )
    assert compile_flow(graph, config(), {"count": 3}).deployment.schedule == "rate(1 day)"


# --- the folder


@pytest.fixture
def bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Bundle, Bundle]:
    """Two builds that differ."""
    folder = tmp_path / "project"
    folder.mkdir()
    return compiled(monkeypatch, folder), compiled(monkeypatch, folder, FLOW + "# changed\n", package_type="image")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder in which nothing is but what a test puts there."""
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


def test_how_code_is_shipped_does_not_change_what_runs(bundles: tuple[Bundle, Bundle]) -> None:
    zipped, image = bundles
    assert zipped.files["statemachine.json"] == image.files["statemachine.json"]
    assert zipped.functions.files.keys() == {"lambdas/function.zip"}
    assert "lambdas/Dockerfile" in image.functions.files


def test_a_build_replaces_an_earlier_one_as_a_whole(bundles: tuple[Bundle, Bundle], place: Path) -> None:
    for bundle in (*bundles, bundles[0]):
        write(bundle, str(place / "made"))
        assert files_in(place / "made") == bundle.files
        assert os.listdir(place) == ["made"]
    (place / "made").chmod(0o700)
    (place / "made" / "template.yaml").unlink()  # a build that somebody has been at is still a build
    write(bundles[1], str(place / "made"))
    assert files_in(place / "made") == bundles[1].files
    assert (place / "made").stat().st_mode & 0o777 == 0o755


def test_an_empty_folder_is_taken(bundles: tuple[Bundle, Bundle], place: Path) -> None:
    (place / "made").mkdir()
    write(bundles[0], str(place / "made"))
    assert files_in(place / "made") == bundles[0].files


@pytest.mark.parametrize("build_dir", ["mine", "mine/", ".", "link", "mine/../mine"])
def test_a_folder_that_no_build_made_is_never_touched(
    build_dir: str, bundles: tuple[Bundle, Bundle], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    write_files(place, {"mine/notes.txt": "dear diary", "mine/lambdas/handler.py": "1"})
    os.symlink("mine", place / "link")
    before = files_in(place)
    with pytest.raises(
        BuildError, match=r"holds files that no build has made .*Set build_dir to another folder"
    ) as caught:
        write(bundles[0], build_dir)
    assert str(caught.value).startswith(build_dir)
    assert files_in(place) == before


@pytest.mark.parametrize(("build_dir", "said"), [("file", "file is a file: set build_dir to another folder."),
                                                  ("file/made", "file/made cannot be read (Not a directory): set"),
                                                  ("/proc/made", "/proc/made cannot be written: ")])  # fmt: skip
def test_a_place_that_cannot_be_written_is_named(
    build_dir: str, said: str, bundles: tuple[Bundle, Bundle], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    (place / "file").write_text("dear diary")
    with pytest.raises(BuildError) as caught:
        write(bundles[0], build_dir)
    assert str(caught.value).startswith(said)
    assert files_in(place) == {"file": b"dear diary"}


@pytest.mark.skipif(os.getuid() == 0, reason="nothing is closed to root")
def test_a_folder_that_cannot_be_read_stays(bundles: tuple[Bundle, Bundle], place: Path) -> None:
    (place / "made").mkdir(mode=0o300)
    with pytest.raises(BuildError, match=r"made cannot be read \(Permission denied\)"):
        write(bundles[0], str(place / "made"))
    place.chmod(0o500)
    with pytest.raises(BuildError, match="other cannot be written: Permission denied"):
        write(bundles[0], str(place / "other"))
    place.chmod(0o700)


def test_a_link_stays_a_link(bundles: tuple[Bundle, Bundle], place: Path) -> None:
    write(bundles[0], str(place / "real"))
    os.symlink("real", place / "link")
    os.symlink("gone", place / "dangling")
    write(bundles[1], str(place / "link"))
    write(bundles[1], str(place / "dangling"))
    assert files_in(place / "real") == files_in(place / "gone") == bundles[1].files
    assert sorted(os.listdir(place)) == ["dangling", "gone", "link", "real"]
    assert (place / "link").is_symlink()


def test_builds_at_once_leave_one_whole_build(bundles: tuple[Bundle, Bundle], place: Path) -> None:
    failures: list[BaseException] = []

    def builds(bundle: Bundle) -> None:
        try:
            for _ in range(25):
                write(bundle, str(place / "made"))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=builds, args=[each]) for each in (*bundles, *bundles)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failures == []
    assert os.listdir(place) == ["made"]
    assert files_in(place / "made") in [each.files for each in bundles]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that has been built, and changed since."""
    folder = write_files(tmp_path / "project", PROJECT)
    monkeypatch.chdir(folder)
    assert build(Path("nests.py")).returncode == 0
    (folder / "eggs.py").write_text("colours = {'green'}\n")
    return folder


def test_a_build_that_is_killed_half_way_leaves_the_one_before(project: Path) -> None:
    before = files_in(project / "lokki-build")
    done = build(Path("nests.py"), LARGEST_FILE="500000", THEN="SIG_DFL")
    assert done.returncode < 0
    assert files_in(project / "lokki-build") == before
    assert [name for name in os.listdir(project) if name.startswith(".lokki-build-")]  # it was in the middle of it
    assert build(Path("nests.py")).returncode == 0
    assert files_in(project / "lokki-build")["lambdas/eggs.py"] == b"colours = {'green'}\n"


def test_a_disk_that_takes_no_more_leaves_the_build_before(project: Path) -> None:
    before = files_in(project)
    done = build(Path("nests.py"), LARGEST_FILE="500000", THEN="SIG_IGN")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: lokki-build cannot be written: File too large.\n"
    assert files_in(project) == before


def test_files_that_are_no_longer_built_are_gone(project: Path) -> None:
    write_files(project, {"lokki.toml": PROJECT["lokki.toml"].replace('paths = ["data/**"]', "paths = []")})
    before = files_in(project / "lokki-build")
    assert build(Path("nests.py")).returncode == 0
    gone = _without(before, files_in(project / "lokki-build"))
    assert gone == {f"{folder}/data/{name}" for folder in ("lambdas", "batch") for name in ("one.csv", "more/two.csv")}


def _without(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> set[str]:
    return before.keys() - after.keys()
