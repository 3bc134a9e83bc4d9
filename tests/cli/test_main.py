"""The command ``wgflow``: its subcommands, help and version, and the module names that keep working."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from wgflow.base.errors import InputError
from wgflow.base.exit_codes import BAD_INPUT, DONE
from wgflow.cli import main as cli
from wgflow.cli.main import COMMANDS, main
from wgflow.cli.runs import run_folder
from wgflow.study.workspace import Workspace

FORMER = ["sims.run", "analysis.watch", "analysis.report", "analysis.export", "trajectory", "doctor"]


def python(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def test_help_names_every_command(capsys):
    for arguments in ([], ["--help"], ["-h"], ["help"]):
        assert main(arguments) == DONE
        shown = capsys.readouterr().out
        assert all(f"\n  {name} " in shown for name in COMMANDS)


def test_version(capsys):
    assert main(["--version"]) == DONE
    assert capsys.readouterr().out == f"wgflow {metadata.version('wgflow')}\n"


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"list", "schema"}))
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == DONE
    assert "usage:" in capsys.readouterr().out


def test_a_study_alone_is_run(monkeypatch):
    from wgflow.sims import run

    given = []
    monkeypatch.setattr(run, "main", lambda arguments: given.append(arguments) or 0)
    for arguments in (["quickstart", "--quiet"], ["mine.toml"], ["--list"]):
        assert main(arguments) == 0
    main(["run", "quickstart"])
    main(["list"])
    assert given == [["quickstart", "--quiet"], ["mine.toml"], ["--list"], ["quickstart"], ["--list"]]


def test_a_misspelt_command_is_one_line(capsys):
    assert main(["exprot", "a", "b"]) == BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert "unknown command 'exprot'" in line
    assert "'export'" in line


@pytest.mark.parametrize("name", FORMER)
def test_former_names_keep_working(name):
    found = python("-m", f"wgflow.{name}", "--help")
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("usage:")


def test_help_and_version_load_no_numerics():
    script = (
        "import sys; from wgflow.cli.main import main; main(sys.argv[1:]); print(sorted(sys.modules), file=sys.stderr)"
    )
    for arguments in (["--help"], ["--version"]):
        found = python("-c", script, *arguments)
        assert not {"numpy", "numba", "h5py", "matplotlib", "pydantic", "rich"} & set(eval(found.stderr))


def test_errors_are_one_line_and_debug_shows_where(capsys, tmp_path):
    from wgflow.cli import runs

    assert runs.figure(["sizing", str(tmp_path)]) == BAD_INPUT
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert cli.main(["figure", "sizing", str(tmp_path), "--debug"]) == BAD_INPUT
    assert "Traceback" in capsys.readouterr().err
    assert runs.figure(["nosuch", str(tmp_path)]) == BAD_INPUT
    assert "unknown figure 'nosuch'" in capsys.readouterr().err


WRONG = {  # arguments that a command refuses once they are parsed; list and schema have none
    "run": ["nosuch.toml"],
    "figure": ["sizing", "nosuch"],
    "report": ["nosuch"],
    "watch": ["nosuch", "--interval", "-1"],
    "export": ["nosuch", "out.txt"],
    "check": ["nosuch.h5"],
    "repair": ["nosuch.h5"],
    "doctor": ["--backend", "tpu"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_debug(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wrong = WRONG.get(name, [])
    traced = wrong and name != "check"  # which says what is wrong with a file and goes on to the next
    code = main([name, *wrong])
    assert (code == DONE) == (not wrong)
    assert "Traceback" not in capsys.readouterr().err
    assert main([name, *wrong, "--debug"]) == code
    assert ("Traceback" in capsys.readouterr().err) == bool(traced)


def test_debug_before_a_subcommand_counts(capsys):
    from wgflow.cli import trajectory

    assert trajectory.main(["--debug", "repair", "nosuch.h5"]) != DONE
    assert "Traceback" in capsys.readouterr().err


def test_a_study_stands_for_its_latest_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "quickstart" / "0123456789ab"
    run.mkdir(parents=True)
    (run / "study.json").touch()
    latest = run.with_name("latest")
    for point in (lambda: latest.symlink_to(run.name), lambda: latest.write_text(run.name)):
        point()
        for given in ("quickstart", "runs/quickstart", "runs/quickstart/latest"):
            assert Workspace(run_folder(Path(given))).folder.samefile(run)
        latest.unlink()
    for given in ("runs/quickstart/0123456789ab", "runs/quickstart"):
        assert run_folder(Path(given)) == Path(given)
    for given in ("nosuch", "x" * 5000):
        with pytest.raises(InputError, match=rf"{given}: expected the folder .*first \(wgflow run {given}\)"):
            run_folder(Path(given))


@pytest.mark.parametrize("first", [["run"], []])
def test_the_command_of_a_run_reproduces_it(first, monkeypatch):
    from wgflow.study import provenance

    monkeypatch.setattr(sys, "argv", ["wgflow", *first, "quickstart", "--jobs", "1"])
    assert provenance.provenance("cpu", 1)["command"] == "python -m wgflow.sims.run quickstart --jobs 1"
