"""The command line as a person meets it: what is printed where, exit codes, messages, help."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from lokki import main
from lokki.console import console
from lokki.errors import GraphTypeError

FLOW = '''
from lokki import flow, main, step

@step
def get_birds(names):
    return names

@step
def flap_bird(bird, loudly=False):
    if bird == "dodo":
        raise LookupError("no such bird")
    return f"FLAPPY {bird}" if loudly else f"flappy {bird}"

@step
def join_birds(birds):
    return ", ".join(birds)

@flow
def birds_flow(names: list[str] = ["goose", "duck"], loudly: bool = False):
    """Flaps some birds.

    Loudly if asked."""
    return get_birds(names).map(flap_bird).agg(join_birds)

if __name__ == "__main__":
    main(birds_flow)
'''
STRICT = """
from lokki import flow, main, step

@step
def count(count, start_date):
    return count, start_date

@flow
def strict_flow(count: int, start_date: str):
    return count_(count)

count_ = count

if __name__ == "__main__":
    main(strict_flow)
"""


@pytest.fixture
def birds(at_home: Path) -> Path:
    (at_home / "birds.py").write_text(FLOW)
    return at_home / "birds.py"


def command(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env={**os.environ, **environ}, check=False
    )


# --- run


def test_the_result_alone_is_on_stdout_and_the_log_on_stderr(birds: Path) -> None:
    done = command("birds.py", "run", "--names", "goose,duck,gull", "--loudly")
    assert (done.returncode, done.stdout) == (0, "FLAPPY goose, FLAPPY duck, FLAPPY gull\n")
    assert re.search(
        r"^\[INFO\] Step 'get_birds' started at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$", done.stderr, re.MULTILINE
    )
    assert re.search(
        r"^\[INFO\] Step 'join_birds' completed in \d\.\d{3}s \(status=success\)$", done.stderr, re.MULTILINE
    )
    assert "[INFO] Map 'flap_bird' started (3 items)" in done.stderr


def test_json_logs_and_levels_follow_the_flags(birds: Path) -> None:
    lines = [json.loads(line) for line in command("birds.py", "--log-format", "json", "run").stderr.splitlines()]
    assert [line["event"] for line in lines if line["event"] != "map_progress"] == [
        "step_start", "step_complete", "map_start", "map_complete", "step_start", "step_complete"
    ]  # fmt: skip
    assert command("birds.py", "run", "--log-level", "error").stderr == ""
    assert command("birds.py", "run", LOKKI_LOG_LEVEL="warning").stderr == ""


def test_a_failure_shows_the_users_traceback_then_step_item_and_how_to_go_on(birds: Path) -> None:
    done = command("birds.py", "run", "--names", "goose,dodo", "--log-level", "error")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        r"\[ERROR\] Step 'flap_bird' failed on item 1 of its map \('dodo'\) after \d\.\d{3}s: "
        r"LookupError: no such bird\n"
        r"\[ERROR\] Map 'flap_bird' stopped after \d\.\d{3}s: 1 of 2 items completed, 1 failed\n"
        r"\nTraceback \(most recent call last\):\n"
        r"  File \".*birds\.py\", line 11, in flap_bird\n"
        r"    raise LookupError\(\"no such bird\"\)\n"
        r"LookupError: no such bird\n"
        r"\nStep 'flap_bird' failed on item 1: 'dodo'\.\n"
        r"What is finished \(1 of 2 items of flap_bird\) is kept\. Go on with: python birds\.py run --resume\n",
        done.stderr,
    )


def test_resume_takes_the_last_run_with_its_parameters_and_flags_replace_them(birds: Path) -> None:
    command("birds.py", "run", "--names", "goose,dodo", "--loudly")
    birds.write_text(FLOW.replace('raise LookupError("no such bird")', 'return "dead"'))
    assert command("birds.py", "run", "--resume").stdout == "FLAPPY goose, dead\n"
    assert command("birds.py", "run", "--resume", "--names", "gull").stdout == "FLAPPY gull\n"
    done = command("birds.py", "run", "--resume", "--run-id", "nope")
    assert (done.returncode, "There is no run 'nope' of birds-flow" in done.stderr) == (1, True)


def test_memory_runs_keep_nothing_and_say_so(birds: Path, at_home: Path) -> None:
    assert command("birds.py", "run", LOKKI_STORE_TYPE="memory").stdout == "flappy goose, flappy duck\n"
    assert not (at_home / ".lokki").exists()
    for flag in ("--resume", "--run-id=x"):
        done = command("birds.py", "run", flag, LOKKI_STORE_TYPE="memory")
        assert done.returncode == 1
        assert 'local.store_type is "memory", which keeps nothing' in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "1"], "error: Missing required parameter: '--start-date'"),
        (["--count", "abc", "--start-date", "x"], "error: Invalid value for '--count': 'abc' is not a valid integer"),
        (["--count", "1", "--start-date", "x", "--x", "1"], "error: Unexpected parameter: '--x'"),
    ],
)
def test_parameters_are_checked_with_the_documented_messages(at_home: Path, arguments: list[str], message: str) -> None:
    (at_home / "strict.py").write_text(STRICT)
    done = command("strict.py", "run", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(message)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "flags", [["--start-date", "d"], ["--start_date", "d"], ["--start-date=d"], ["--start_date=d"]]
)
def test_every_spelling_of_a_flag_is_taken(at_home: Path, flags: list[str]) -> None:
    (at_home / "strict.py").write_text(STRICT)
    assert command("strict.py", "run", "--count", "-5", *flags).stdout == "(-5, 'd')\n"


def test_an_error_in_the_flow_function_is_shown_as_the_users(at_home: Path) -> None:
    (at_home / "broken.py").write_text(
        "from lokki import flow, main\n@flow\ndef broken():\n    return missing()\n"
        'if __name__ == "__main__":\n    main(broken)\n'
    )
    done = command("broken.py", "run")
    assert done.returncode == 1
    assert "line 4, in broken" in done.stderr
    assert "NameError: name 'missing' is not defined" in done.stderr
    assert "lokki/" not in done.stderr
    assert done.stderr.endswith("error: The flow function 'broken' failed before any step ran.\n")


def test_a_step_that_exits_is_a_failure_and_breakpoints_see_the_terminal(at_home: Path) -> None:
    (at_home / "stop.py").write_text(
        "from lokki import flow, main, step\n@step\ndef stop():\n"
        "    x = 42\n    breakpoint()\n    raise SystemExit(3)\n"
        '@flow\ndef stops():\n    return stop()\nif __name__ == "__main__":\n    main(stops)\n'
    )
    done = subprocess.run(
        [sys.executable, "stop.py", "run", "--executor", "inline"],
        input="p x\nc\n", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "(Pdb) 42" in done.stdout
    assert "Step 'stop' failed." in done.stderr


def test_wrong_configuration_is_one_sentence_and_unknown_keys_warn(birds: Path, at_home: Path) -> None:
    (at_home / "lokki.toml").write_text('[local]\nexecutor = "fibers"\n')
    done = command("birds.py", "run")
    assert done.returncode == 1
    assert re.match(r"error: local\.executor must be .*lokki\.toml", done.stderr)
    (at_home / "lokki.toml").write_text("[local]\nexecuter = 1\n")
    done = command("birds.py", "run")
    assert done.returncode == 0
    assert re.match(r"\[WARNING\] .*local\.executer.*did you mean 'local\.executor'", done.stderr)


@pytest.mark.parametrize(
    ("parameters", "flags", "wanted"),
    [
        (
            "workers: str = 'two', resume: int = 0",
            ["--workers", "three", "--resume", "4"],
            "{'workers': 'three', 'resume': 4}",
        ),
        ("log_level: int = 1, help: str = ''", ["--log-level", "7", "--help", "me"], "{'log_level': 7, 'help': 'me'}"),
    ],
)
def test_a_flow_parameter_takes_the_place_of_an_option_of_the_same_name(
    at_home: Path, parameters: str, flags: list[str], wanted: str
) -> None:
    (at_home / "own.py").write_text(
        "from lokki import flow, main, step\n@step\ndef show(**kwargs):\n    return kwargs\n"
        f'@flow\ndef f({parameters}):\n    return show()\nif __name__ == "__main__":\n    main(f)\n'
    )
    assert command("own.py", "run", *flags).stdout == f"{wanted}\n"


def test_an_error_of_the_run_itself_says_how_to_go_on_too(at_home: Path) -> None:
    (at_home / "lock.py").write_text(
        "import threading\nfrom lokki import flow, main, step\n@step\ndef one():\n    return [1, 2]\n"
        "@step\ndef lock(x):\n    return threading.Lock() if x == 2 else x\n"
        '@flow\ndef locks():\n    return one().map(lock)\nif __name__ == "__main__":\n    main(locks)\n'
    )
    done = command("lock.py", "run", "--executor", "inline")
    assert done.returncode == 1
    assert "[ERROR] Map 'lock' stopped" in done.stderr
    assert "error: The result of step 'lock' for item 1: a value of type lock cannot be stored" in done.stderr
    assert "(1 of 2 items of lock) is kept. Go on with: python lock.py run --resume" in done.stderr


def test_a_json_log_stays_json_when_the_run_fails(birds: Path) -> None:
    done = command("birds.py", "run", "--log-format", "json", "--names", "goose,dodo")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert (lines[-1]["event"], lines[-1]["level"], lines[-1]["status"]) == ("run_complete", "ERROR", "failed")
    assert lines[-1]["error"] == "LookupError: no such bird"
    assert done.returncode == 1


def test_the_command_that_goes_on_can_be_typed_as_it_stands(birds: Path, at_home: Path) -> None:
    (at_home / "my birds.py").write_text(FLOW)
    done = command("my birds.py", "run", "--names", "dodo", "--executor", "inline", "--run-id", "r")
    assert "Go on with: python 'my birds.py' run --resume --run-id r --executor inline\n" in done.stderr
    assert "Go on with: python -m birds run --resume\n" in command("-m", "birds", "run", "--names", "dodo").stderr
    assert "Go on with: lokki run 'my birds.py' --resume\n" in lokki("run", "my birds.py", "--names", "dodo").stderr


@pytest.mark.parametrize(
    ("result", "environ", "wanted"),
    [
        ("'gänse'", {"PYTHONIOENCODING": "ascii"}, (0, "g\\xe4nse\n", "")),
        ("Mute()", {}, (1, "", "error: The run succeeded, but its result cannot be shown (RuntimeError).\n")),
    ],
)
def test_a_result_that_is_hard_to_print(
    at_home: Path, result: str, environ: dict[str, str], wanted: tuple[int, str, str]
) -> None:
    (at_home / "hard.py").write_text(
        "from lokki import flow, main, step\nclass Mute:\n    def __str__(self):\n        raise RuntimeError\n"
        f"@step\ndef hard():\n    return {result}\n@flow\ndef f():\n    return hard()\n"
        'if __name__ == "__main__":\n    main(f)\n'
    )
    done = command("hard.py", "run", "--log-level", "error", **environ)
    assert (done.returncode, done.stdout, done.stderr) == wanted


def test_a_mistyped_option_is_recognised_and_an_empty_run_id_refused(birds: Path) -> None:
    assert "'--resum'; did you mean '--resume'?" in command("birds.py", "run", "--resum").stderr
    done = command("birds.py", "run", "--run-id=")
    assert (done.returncode, "'' cannot be a run id" in done.stderr) == (1, True)


def test_a_list_may_be_given_in_pieces(birds: Path) -> None:
    assert command("birds.py", "run", "--names", "gull", "--names", "owl,goose").stdout == (
        "flappy gull, flappy owl, flappy goose\n"
    )


def test_a_live_bar_is_drawn_on_a_terminal(birds: Path) -> None:
    leader, follower = pty.openpty()
    done = subprocess.Popen([sys.executable, "birds.py", "run"], stdout=subprocess.PIPE, stderr=follower)
    os.close(follower)
    shown = b""
    while True:
        try:
            more = os.read(leader, 4096)
        except OSError:
            break
        if not more:
            break
        shown += more
    os.close(leader)
    out, _ = done.communicate()
    assert out == b"flappy goose, flappy duck\n"
    assert b"\r" in shown
    assert b"flap_bird  [" in shown


# --- graph, help


def test_graph_prints_the_flow_in_each_format(birds: Path) -> None:
    assert "map over get_birds" in command("birds.py", "graph").stdout
    assert command("birds.py", "graph", "--format", "mermaid").stdout.startswith("flowchart TD\n")
    told = json.loads(command("birds.py", "graph", "--format", "json", "--names", "gull").stdout)
    assert told["params"] == {"names": ["gull"], "loudly": False}
    ET.fromstring(command("birds.py", "graph", "--format", "svg").stdout)


def test_help_teaches(birds: Path) -> None:
    done = command("birds.py", "--help")
    assert done.returncode == 0
    assert "Flaps some birds." in done.stdout
    assert re.search(r"run +run the flow on this machine", done.stdout)
    assert re.search(r"graph +print the flow", done.stdout)
    done = command("birds.py", "run", "--help")
    assert done.returncode == 0
    assert re.search(r"--names .*goose,duck", done.stdout)
    assert "--resume" in done.stdout


@pytest.mark.parametrize("arguments", [[], ["fly"], ["graph", "--format", "png"]])
def test_unknown_commands_and_options_exit_with_1_and_usage(birds: Path, arguments: list[str]) -> None:
    done = command("birds.py", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert "usage: python birds.py" in done.stderr


def test_main_refuses_what_is_not_a_flow() -> None:
    with pytest.raises(GraphTypeError, match="Is its @flow missing"):
        main(lambda: None)  # type: ignore[arg-type]


# --- lokki


def lokki(*arguments: str) -> subprocess.CompletedProcess[str]:
    return command("-m", "lokki", *arguments)


def test_lokki_runs_and_draws_flow_files(birds: Path, at_home: Path) -> None:
    assert lokki("run", "birds.py", "--names", "gull").stdout == "flappy gull\n"
    assert lokki("run", "birds.py", "--executor", "processes").stdout == "flappy goose, flappy duck\n"
    assert "flap_bird" in lokki("graph", "birds.py").stdout
    (at_home / "two.py").write_text(FLOW + "\n@flow\ndef second():\n    return get_birds(['owl'])\n")
    assert lokki("run", "two.py:second").stdout == "['owl']\n"
    done = lokki("graph", "two.py")
    assert (
        "There is no single flow in two.py: it has birds_flow, second; name one: lokki graph two.py:birds_flow"
        in done.stderr
    )
    assert "Go on with: lokki run birds.py --resume" in lokki("run", "birds.py", "--names", "dodo").stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "which file? lokki run FILE"),
        (["simulat", "birds.py"], "there is no 'simulat'; did you mean 'simulate'?"),
        (["clean", "--json"], "unrecognized arguments: --json"),
        (["run", "none.py"], "There is no file none.py."),
        (["run", "empty.py"], "it has no function with @flow"),
        (["run", "wrong.py"], "wrong.py cannot be loaded."),
        (["run", "text.txt"], "text.txt is not a Python file."),
        (["list", "--bogus"], "unrecognized arguments: --bogus"),
        (["list", "--jsn"], "unrecognized arguments: --jsn; did you mean '--json'?"),
        ([], "usage: lokki"),
    ],
)
def test_lokki_explains_what_is_wrong(at_home: Path, arguments: list[str], message: str) -> None:
    (at_home / "empty.py").write_text("")
    (at_home / "wrong.py").write_text("1 / 0\n")
    (at_home / "text.txt").write_text("")
    done = lokki(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr


def test_lokki_runs_a_file_whose_main_is_not_guarded_and_explains_itself(at_home: Path) -> None:
    (at_home / "bare.py").write_text(FLOW.replace('if __name__ == "__main__":\n    main', "main"))
    assert lokki("run", "bare.py", "--names", "gull").stdout == "flappy gull\n"
    assert "lokki run FILE --help" in lokki("run", "--help").stdout
    assert "--names" in lokki("run", "bare.py", "--help").stdout


def test_lokki_lists_and_cleans_what_is_kept(birds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    console(["list"])
    assert capsys.readouterr().err == "No runs are kept here.\n"
    for name in ("a", "b"):
        command("birds.py", "run", "--run-id", name)
    command("birds.py", "run", "--run-id", "c", "--names", "dodo")
    console(["list"])
    out = capsys.readouterr().out
    assert re.search(r"birds-flow  c  +failed +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  \d\.\d{3}s\n", out)
    rows = [line.split()[:3] for line in out.splitlines()]
    assert rows == [
        ["FLOW", "RUN", "ID"],
        *(["birds-flow", n, s] for n, s in [("c", "failed"), ("b", "success"), ("a", "success")]),
    ]
    console(["list", "birds-flow", "--json"])
    assert [json.loads(line)["run_id"] for line in capsys.readouterr().out.splitlines()] == ["c", "b", "a"]
    console(["clean", "--run-id", "b", "--yes"])
    assert capsys.readouterr().err == "Removed 1 run(s).\n"
    with pytest.raises(SystemExit):
        console(["clean"])
    assert "2 run(s) and what they kept would be removed: say --yes" in capsys.readouterr().err
    console(["clean", "--yes"])
    console(["clean"])
    assert capsys.readouterr().err == "Removed 2 run(s).\nThere is nothing to remove.\n"


def test_lokki_clean_asks_on_a_terminal(birds: Path) -> None:
    command("birds.py", "run", "--run-id", "a")
    leader, follower = pty.openpty()
    os.write(leader, b"n\n")
    done = subprocess.run(
        [sys.executable, "-c", "from lokki.console import console; console()", "clean"],
        stdin=follower, capture_output=True, text=True, check=False,
    )  # fmt: skip
    os.close(leader)
    os.close(follower)
    assert "Remove 1 run(s)" in done.stdout
    assert done.stderr == "Nothing was removed.\n"


def test_lokki_config_says_where_each_value_comes_from(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (at_home / "lokki.toml").write_text("[local]\nkeep_runs = 3\nkeep = 1\n")
    console(["config"])
    out, err = capsys.readouterr()
    assert re.search(r"^local\.keep_runs +3 +.*lokki\.toml$", out, re.MULTILINE)
    assert re.search(r'^aws\.region +"us-east-1" +default$', out, re.MULTILINE)
    assert "unknown key 'local.keep'" in err


def test_lokki_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        console(["--version"])
    assert caught.value.code == 0
    assert re.fullmatch(r"lokki \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


def test_a_reader_of_stdout_that_goes_away_is_no_traceback(birds: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} birds.py graph --format svg | true", shell=True, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr


def test_importing_lokki_loads_nothing_heavy() -> None:
    bare = {"COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}
    code = "import sys, lokki, lokki.runner, lokki.cli; print(*sys.modules)"
    loaded = set(command("-c", code, **bare).stdout.split())
    assert not loaded & {
        "boto3",
        "botocore",
        "yaml",
        "beartype",
        "numpy",
        "asyncio",
        "concurrent.futures",
        "multiprocessing",
    }
    assert not {
        name
        for name in set(command("-c", "import sys, lokki; print(*sys.modules)").stdout.split())
        if name.startswith("lokki.")
    }
