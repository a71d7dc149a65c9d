"""The command line itself: help, versions, exit codes, what goes where."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pmtrain import __version__
from tests.conftest import SMALL, command, environment

COMMANDS = [
    *(
        (),
        ("train",),
        ("pretrain",),
        ("eval",),
        ("compare",),
        ("predict",),
        ("explain",),
        ("export",),
        ("calibrate",),
        ("fit-domain",),
        ("serve",),
        ("trace-shapes",),
        ("env",),
    ),
    *(("report",), ("data",), *(("data", name) for name in ("check", "split", "preview", "cache", "synth"))),
]


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_help_answers_without_paddle(names, tmp_path):
    # A stand-in that ends the process is found before the real Paddle: help must not want it.
    (tmp_path / "paddle.py").write_text("import os; os._exit(99)")
    (tmp_path / "cv2.py").write_text("import os; os._exit(98)")
    env = environment({})
    env["PYTHONPATH"] = os.pathsep.join([str(tmp_path), env["PYTHONPATH"]])
    done = subprocess.run(command(*names, "--help"), capture_output=True, env=env, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Usage: " in done.stdout


def test_train_help_states_the_defaults(run_cli):
    text = " ".join(run_cli("train", "--help").stdout.split())
    for flag in ("--layers", "--lr", "-b, --batch-size", "-j, --workers", "--resume", "--dry-run"):
        assert flag in text
    for default in ("[default: 50]", "[default: 0.001]", "[default: 0.9]", "[default: auto]"):
        assert default in text


def sections(text: str) -> dict[str, list[str]]:
    """The lines of --help below each head, without their indentation."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            lines = found.setdefault(line[:-1], [])
        elif line.strip():
            lines.append(line.strip())
    return found


@pytest.mark.parametrize("names", [(), ("data",)], ids=" ".join)
def test_no_summary_is_cut_at_80_columns(run_cli, monkeypatch, names):
    monkeypatch.setenv("COLUMNS", "80")
    commands = sections(run_cli(*names, "--help").stdout)["Commands"]
    listed = {line.split()[0]: line for line in commands}
    assert {(*names, name) for name in listed} == {each for each in COMMANDS if each[:-1] == names and each}
    for line in listed.values():
        assert line.endswith(".") and "..." not in line


def test_options_stand_under_heads(run_cli):
    found = sections(run_cli("train", "--help").stdout)
    assert list(found) == ["Arguments", "Run", "Data", "Network", "Training", "Output", "Machine", "Options"]
    heads = {line.split()[0]: head for head, lines in found.items() for line in lines if line.startswith("--")}
    expected = {
        "--data": "Data",
        "--layers": "Network",
        "--lr": "Training",
        "--output": "Output",
        "--device": "Machine",
    }
    assert {flag: heads[flag] for flag in expected} == expected
    assert heads["--config"] == heads["--seed"] == "Run"


def test_help_shows_the_choices(run_cli):
    text = " ".join(run_cli("train", "--help").stdout.split())
    for choices in ("--layers 18|34|50|101|152", "--sampler shuffle|balanced", "--track tensorboard|visualdl|mlflow"):
        assert choices in text


@pytest.mark.parametrize("command", [("train", "--dry-run", *SMALL), ("data", "check")], ids=" ".join)
def test_data_is_given_as_an_argument_or_as_a_flag(run_cli, small_set, command):
    """Both ways name the same data set; without data both commands would make or miss one."""
    as_argument = run_cli(*command, small_set)
    as_flag = run_cli(*command, "--data", small_set)
    assert as_argument.exit_code == as_flag.exit_code
    assert str(small_set) in as_argument.stderr + as_argument.stdout
    assert as_argument.stdout == as_flag.stdout


@pytest.mark.parametrize(
    "command",
    [
        *(("train",), ("eval", "best.pdparams"), ("compare", "a.pdparams", "b.pdparams")),
        *(("data", "check"), ("data", "split"), ("data", "preview")),
    ],
    ids=" ".join,
)
def test_data_given_twice_is_refused(run_cli, command):
    done = run_cli(*command, "mine", "--data", "other")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "error: mine and --data other: the data is given twice\nhint: give it once\n"


def test_version(run_cli):
    assert run_cli("--version").stdout == f"pmtrain {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--epochs", "0"),
        ("train", "--epochs", "many"),
        ("train", "--epoch", "5"),
        ("train", "--precision", "fp8"),
        ("train", "--config", "none.yaml"),
        ("train", "--resume", "run", "--config", "x.yaml"),
        ("tain",),
        ("eval",),
        ("compare", "best.pdparams"),
        ("env", "--format", "xml"),
    ],
    ids=" ".join,
)
def test_usage_errors_exit_with_2_on_stderr(run_cli, arguments):
    done = run_cli(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "rror" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_fault_of_ours_is_told_without_a_traceback(run_cli, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("nothing\nto see")

    monkeypatch.setattr("pmtrain.models.trace.trace", broken)
    done = run_cli("trace-shapes")
    assert done.exit_code == 1
    assert "ZeroDivisionError: nothing to see" in done.stderr
    assert "--debug" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in run_cli("--debug", "trace-shapes").stderr


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("(ResourceExhausted) Fail to alloc"), RuntimeError("can't start new thread")]
)
def test_lack_of_memory_is_named_whoever_tells_of_it(run_cli, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr("pmtrain.system.environment.describe", fail)
    result = run_cli("env")
    assert result.exit_code == 1 and "error: out of memory\nhint: " in result.stderr


def test_ctrl_c_exits_with_130(run_cli, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pmtrain.models.trace.trace", interrupted)
    done = run_cli("trace-shapes")
    assert (done.exit_code, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_a_reader_that_leaves_early_is_no_error():
    shape = command("trace-shapes", "--batch-size", "1", "--image-size", "32", "--format", "json")
    process = subprocess.Popen(shape, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment({}))
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait(timeout=60)


@pytest.mark.parametrize("encoding", ["ascii", "gbk", "utf-16"])
def test_chinese_reaches_a_pipe_of_any_encoding_as_utf8(run_process, encoding):
    done = run_process("eval", "病理/模型.pdparams", env={"PYTHONIOENCODING": encoding})
    assert done.returncode == 1
    assert "病理" in done.stderr.decode("utf-8")


def test_env_tells_what_a_report_needs(run_process):
    done = run_process("env")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = dict(line.split(": ", 1) for line in done.stdout.decode().splitlines())
    assert lines["pmtrain"] == __version__
    assert {"python", "system", "processor", "cores", "gpus", "numpy"} <= lines.keys()
    assert lines["OMP_NUM_THREADS"].endswith(("(set by pmtrain)", "(given)"))


def test_the_users_own_thread_count_is_kept(run_process):
    done = run_process("env", env={"OMP_NUM_THREADS": "1"})
    assert b"OMP_NUM_THREADS: 1 (given)" in done.stdout


def test_missing_paddle_is_told_with_the_extra(tmp_path, run_process):
    hidden = tmp_path / "sitecustomize.py"
    hidden.write_text("import sys; sys.modules['paddle'] = None")
    done = run_process("env", env={"PYTHONPATH": os.pathsep.join([str(tmp_path), environment({})["PYTHONPATH"]])})
    assert done.returncode == 1
    assert b'pip install "pmtrain[cpu]"' in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_missing_libgl_is_told_with_the_build_that_needs_none(tmp_path, run_process):
    message = "libGL.so.1: cannot open shared object file: No such file or directory"
    (tmp_path / "cv2.py").write_text(f"raise ImportError({message!r})")
    env = {"PYTHONPATH": os.pathsep.join([str(tmp_path), environment({})["PYTHONPATH"]])}
    done = run_process("train", "--data", tmp_path, env=env)
    assert done.returncode == 1
    assert b"opencv-python-headless" in done.stderr
    assert b"bug in pmtrain" not in done.stderr


def test_two_paddle_wheels_over_each_other_are_told(tmp_path, run_process):
    for name in ("paddlepaddle", "paddlepaddle-gpu"):
        folder = tmp_path / f"{name.replace('-', '_')}-9.9.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n")
    done = run_process("env", env={"PYTHONPATH": os.pathsep.join([str(tmp_path), environment({})["PYTHONPATH"]])})
    assert done.returncode == 1
    assert b"are both installed; they share their files" in done.stderr
    assert b'pip install "pmtrain[gpu]"' in done.stderr


def test_module_and_console_script_are_the_same_program():
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        scripts = [entry for entry in distribution("pmtrain").entry_points if entry.group == "console_scripts"]
    except PackageNotFoundError:
        pytest.skip("pmtrain isn't installed")
    assert [(entry.name, entry.value) for entry in scripts] == [("pmtrain", "pmtrain.cli:main")]
    done = subprocess.run([sys.executable, "-m", "pmtrain", "--version"], capture_output=True, env=environment({}))
    assert done.stdout.decode() == f"pmtrain {__version__}\n"
