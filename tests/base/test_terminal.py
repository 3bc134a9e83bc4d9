"""What commands print: any text, to any stream, as it is."""

import ast
import errno
import io
import os
import sys
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from wgflow.base import terminal
from wgflow.base.errors import InputError

PACKAGE = Path(terminal.__file__).parents[1]
OURS = "s → ∞: σ × τ ≤ −1 … │⣿⠀"
THEIRS = "[red]a[/] [/nope] [link=x] :eye: \\[b] $x$ \udcff é"


def stream(encoding, errors="strict"):
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors, newline="")


def written(to):
    return to.buffer.getvalue().decode(to.encoding)


class Failing(io.StringIO):
    """A stream that nothing can be written to any more."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def write(self, text):
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("encoding", ["ascii", "iso8859-1", "cp1252", "koi8-r", "utf-8", "utf-16"])
def test_a_stream_takes_any_text(monkeypatch, encoding):
    out, err = stream(encoding), stream(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    terminal.show(OURS + THEIRS)
    terminal.say(OURS + THEIRS)
    terminal.console().print(OURS + THEIRS)
    for printed in (written(out).replace("\r", ""), written(err)):
        assert "[red]a[/] [/nope] [link=x] :eye: \\[b] $x$ \\udcff" in printed
        assert "�" not in printed
    if encoding == "ascii":
        assert "s -> inf: sigma x tau <= -1 ... |* [red]" in written(out)
    if encoding == "utf-8":
        assert OURS in written(out)
        assert OURS in written(err).replace("\\u2800", "⠀")


def test_markup_of_others_is_text(capsys):
    table = Table(THEIRS, title=THEIRS)
    table.add_row(THEIRS)
    console = terminal.console()
    console.print(table)
    console.print(Text("ours", "bold"), THEIRS)
    printed = capsys.readouterr().out
    assert printed.count("[red]a[/] [/nope] [link=x] :eye: \\[b] $x$") == 4


def test_markup_in_a_progress_bar_is_text(monkeypatch):
    tty = stream("utf-8")
    monkeypatch.setattr(tty, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", tty)
    monkeypatch.setenv("COLUMNS", "120")
    with terminal.progress_bar(quiet=False) as progress:
        progress.add_task("[/nope] σ", total=1)
        progress.refresh()
        terminal.say("a line above the bar: [/nope]")
    assert "[/nope] σ" in written(tty)
    assert "a line above the bar: [/nope]" in written(tty)


@pytest.mark.parametrize("name", ["stdout", "stderr"])
@pytest.mark.parametrize("gone", [None, "closed", errno.EPIPE, errno.ENOSPC, errno.EIO])
def test_a_stream_that_is_gone_stops_nothing(monkeypatch, name, gone):
    if gone == "closed":
        there = io.StringIO()
        there.close()
    else:
        there = None if gone is None else Failing(gone)
    monkeypatch.setattr(sys, name, there)
    terminal.say("a line")
    terminal.console(stderr=name == "stderr").print("a table")
    if name == "stdout" and gone in (errno.ENOSPC, errno.EIO):  # what was asked for is lost, and that is said
        with pytest.raises(OSError, match=os.strerror(gone)):
            terminal.show("what was asked for")
    else:
        terminal.show("what was asked for")


def test_one_line_keeps_what_a_path_is_made_of():
    assert terminal.one_line("a  b: bad\n   file\r\nx\t\x1b[31m\u202e") == "a  b: bad file x\\t\\x1b[31m\\u202e"


def test_help_in_any_encoding(monkeypatch):
    make = terminal.Parser(prog="τ", description=OURS)
    make.add_argument("--x", help=THEIRS, metavar="[a|b](c)")
    for encoding in ("ascii", "utf-8"):
        monkeypatch.setattr(sys, "stdout", stream(encoding))
        with pytest.raises(SystemExit):
            make.parse_args(["--help"])
        assert "[/nope]" in written(sys.stdout)
    with pytest.raises(InputError, match="see --help"):
        make.parse_args(["--y"])


ROOT = PACKAGE.parent


@pytest.fixture(scope="module")
def calls():
    """Every call in the sources: the file, the dotted name that is called, the call."""
    found = []
    for path in (path for name in ("wgflow", "analysis", "benchmarks") for path in sorted((ROOT / name).rglob("*.py"))):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        found += [(path, ast.unparse(node.func), node) for node in nodes if isinstance(node, ast.Call)]
    return found


OTHERS = ("os.open", "tarfile.open", "work.open", "self.open", "work.write_text", "self.write_text")  # have their own


def lacks_encoding(name, node):
    """Whether a call reads or writes text in whatever encoding the system has."""
    keywords = {each.arg for each in node.keywords}
    if "encoding" in keywords or name in OTHERS:
        return False
    if keywords & {"text", "universal_newlines"}:
        return True
    constants = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    binary = any("b" in each and set(each) <= set("rwaxb+") for each in constants)
    last = name.rsplit(".", 1)[-1]
    return last in ("read_text", "write_text") or (last in ("open", "fdopen") and not binary)


def test_no_text_file_is_opened_without_its_encoding(calls):
    assert not [f"{path}:{node.lineno}" for path, name, node in calls if lacks_encoding(name, node)]


def test_all_that_commands_print_goes_one_way(calls):
    """The streams, and what renders on them, are the business of one module."""
    kept = ("print", "Console", "Progress", "TextColumn", "rich.print", "sys.stdout", "sys.stderr")
    others = [each for each in calls if each[0].is_relative_to(PACKAGE) and each[0] != PACKAGE / "base" / "terminal.py"]
    assert not [f"{path}:{node.lineno}" for path, name, node in others if name.removesuffix(".write") in kept]
