"""Colours where a terminal wants them, lines that end where it ends."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion import cli
from fusion.terminal import Guarded, Style, midline, style_of, wrapped
from fusion.text import table

SAYS = (
    "import sys\nfrom fusion.terminal import style_of\n"
    "print(style_of(sys.stdout).good('real'), style_of(sys.stdout).strong('use this'))"
)


def on_a_terminal(**environment):
    """What a program prints whose stdout is a pseudo-terminal."""
    master, slave = pty.openpty()
    known = {n: v for n, v in os.environ.items() if n not in ("NO_COLOR", "FORCE_COLOR")}
    known |= {"TERM": "xterm", **environment}
    with subprocess.Popen([sys.executable, "-c", SAYS], stdout=slave, env=known) as running:
        os.close(slave)
        running.wait()
        said = os.read(master, 1000).decode()
    os.close(master)
    return said


def test_a_terminal_gets_colours_unless_it_does_not_want_them():
    assert on_a_terminal() == "\x1b[1;32mreal\x1b[0m \x1b[1muse this\x1b[0m\r\n"
    for refused in ({"NO_COLOR": "1"}, {"TERM": "dumb"}, {"NO_COLOR": "1", "FORCE_COLOR": "1"}):
        assert on_a_terminal(**refused) == "real use this\r\n"


@pytest.mark.parametrize(
    ("environment", "colour"),
    [
        ({}, False),
        ({"TERM": "xterm"}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "0"}, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": ""}, True),  # an empty one counts as unset
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, True),
    ],
)
def test_what_is_piped_has_none_unless_they_are_forced(environment, colour):
    assert style_of(io.StringIO(), environment) == Style(colour)


def test_every_line_is_marked_by_itself():
    assert Style(True).strong("a\n\nb") == "\x1b[1ma\x1b[0m\n\n\x1b[1mb\x1b[0m"
    assert Style().doubtful("a\nb") == "a\nb"


def test_remarks_end_where_the_terminal_does(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("COLUMNS", "60")
    said = "warning: " + "many words " * 20 + "\na short line"
    for stream, lines in ((Terminal(), 6), (io.StringIO(), 2)):
        monkeypatch.setattr("sys.stderr", stream)
        cli.remark(said)
        shown = stream.getvalue().rstrip("\n").split("\n")
        assert len(shown) == lines
        assert shown[-1] == "a short line"
        assert lines == 2 or max(map(len, shown)) <= 60


WORDS = st.lists(st.text("abc-.", min_size=1, max_size=90), min_size=1, max_size=30)


@given(WORDS)
def test_sentences_are_wrapped_at_spaces_alone(words):
    lines = wrapped(" ".join(words)).split("\n")
    assert " ".join(" ".join(lines).split()) == " ".join(words)
    longest = max(map(len, words))
    assert all(len(line) <= max(80, longest + 2) for line in lines)
    assert all(line.startswith("  ") for line in lines[1:])


def test_an_indented_sentence_stays_indented():
    assert wrapped("  " + "word " * 20, 40).split("\n")[1].startswith("    word")


@given(WORDS, st.integers(0, 6))
def test_a_table_within_a_width_says_the_same(words, columns):
    rows = [[" ".join(words), *(["12.34"] * columns)], ["short", *(["-"] * columns)]]
    header = ["a heading", *(["val"] * columns)]
    lines = table(rows, header, 80).split("\n")
    longest = max(map(len, words))
    assert all(len(line) <= max(80, longest + 2) for line in lines)
    said = " ".join("\n".join(lines[2:]).split())
    assert said.startswith(words[0])
    assert said.split()[-1 - columns :] == ["short", *["-"] * columns]
    assert said.split().count("12.34") == columns
    told = " ".join(word for word in said.split()[: -1 - columns] if word != "12.34")
    assert told == " ".join(words)
    assert table(rows, header, 10_000) == table(rows, header)


def test_a_guarded_stream_knows_whether_its_line_has_ended():
    stream = Guarded(io.StringIO())
    assert not stream.midline
    for text, half in [("half a line", True), ("", True), ("\n", False), ("bar\r", False)]:
        stream.write(text)
        assert stream.midline is half


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_line_whose_end_was_not_written_has_none(monkeypatch, name):
    """Ctrl-C between a print's text and its line end, on a terminal that shows both streams."""

    class Stopped(io.StringIO):
        def write(self, text):
            if text == "\n":
                raise KeyboardInterrupt
            return super().write(text)

        def isatty(self):
            return True

    for each in ("stdout", "stderr"):
        monkeypatch.setattr(sys, each, Guarded(Stopped()))
    assert not midline()
    with pytest.raises(KeyboardInterrupt):
        print("half a line", file=getattr(sys, name))
    assert midline()
