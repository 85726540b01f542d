"""Names from data reach people as letters: on terminals, in pages, spreadsheets, paths and JSON.

One ensemble whose models, groups, classes, videos and frames are called what an attacker would call
them, run through the commands; every byte that they print and write is searched.
"""

from __future__ import annotations

import contextlib
import csv
import html.parser
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from fusion import cli, evaluate, predict
from fusion.labels import write_labels
from fusion.report import __main__ as report
from fusion.search import __main__ as search
from fusion.stores import LogitWriter
from fusion.stores import __main__ as stores
from fusion.terminal import Guarded
from fusion.text import csv_text, table, visible

BIDI, BELL = "\u202e", "\a"
CLASSES = [
    "<script>alert(1)</script>",
    '=HYPERLINK("http://x","y")',
    f"\x1b[2Jcleared{BELL}",
    f"two\nlines {BIDI}desrever",
]
VIDEOS = [
    "<img src=x onerror=alert(1)>",
    "-1+cmd|' C calc'!A0",
    "clip\x1b]0;renamed\x07",
    "new\nline",
]
MODELS = ['@sum(1)"><svg onload=alert(1)>', "+1\x1b[31m", f"net\r\n{BIDI}x", "</script><b>"]
FRAMES = ["0", "1"]
FORBIDDEN = [b"\x1b", b"\x07", BIDI.encode(), b"\0", b"\x9b"]
MARKUP = [b"<script>alert", b"<img src=x", b"<svg onload", b"</script><b>", b"<u>strong"]


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    """Stores and labels of these names, and an ensemble.toml."""
    folder, draw = tmp_path_factory.mktemp("nasty"), np.random.default_rng(0)
    truth = {video: draw.integers(0, 4, (2, 8, 10)).astype(np.uint8) for video in VIDEOS}
    for k, model in enumerate(MODELS):
        with LogitWriter(folder / f"net_{k}.zarr", CLASSES, model=model) as writer:
            for video, maps in truth.items():
                with writer.video(video, frames=FRAMES) as out:
                    for target in maps:
                        sure = np.eye(4)[target].transpose(2, 0, 1)
                        out.append(1.5 * sure + draw.normal(0, 0.8 + 0.3 * k, sure.shape))
    for video, maps in truth.items():
        for frame, target in zip(FRAMES, maps, strict=True):
            write_labels(folder / "labels" / video / f"{frame}.png", target)
    names = [json.dumps(f"net_{k}.zarr") for k in range(4)]
    groups = f'"<u>strong</u>" = [{names[0]}, {names[1]}]\n'
    groups += f'"=1+1\\u001b[7m\\nlined" = [{names[2]}, {names[3]}]\n'
    (folder / "ensemble.toml").write_text(f"[groups]\n{groups}")
    return folder


def said(capfd, main, *arguments: object) -> tuple[int, bytes, bytes]:
    code = cli.run(main, [str(argument) for argument in arguments])
    sys.stdout.flush()
    out, err = capfd.readouterr()
    return code, os.fsencode(out), os.fsencode(err)


def shown(text: bytes) -> None:
    found = [bad for bad in FORBIDDEN if bad in text]
    assert not found, (found, text[:2000])
    lines = text.decode().split("\n")
    assert not any(line.startswith(("lines ", "line", "lined", "cleared")) for line in lines), text


def test_commands_print_letters_only(sample, capfd):
    for arguments in (
        (stores.main, "info", sample / "net_0.zarr"),
        (stores.main, "info", sample / "net_0.zarr", "--json"),
        (
            evaluate.main,
            "--ensemble",
            sample / "ensemble.toml",
            "--labels",
            sample / "labels",
            "--per-class",
        ),
        (
            evaluate.main,
            "--ensemble",
            sample / "ensemble.toml",
            "--labels",
            sample / "labels",
            "--json",
        ),
    ):
        code, out, err = said(capfd, *arguments)
        assert code == 0, err
        shown(out)
        shown(err)
        if "--json" in arguments:
            text = json.dumps(json.loads(out))
            assert json.dumps(CLASSES[2])[1:-1] in text  # the very name, escaped as JSON has it


def test_errors_print_letters_only(sample, capfd):
    """Names in errors: of a class, a video; and what somebody typed."""
    (sample / "bad.toml").write_text(
        '[groups]\n"a" = ["net_0.zarr"]\n[weights]\n"\\u001b[2Jx\\ny" = 1\n'
    )
    for name in ("bad.toml", "no\x1b[2J\nsuch.toml"):
        arguments = ("--ensemble", sample / name, "--labels", sample / "labels")
        code, out, err = said(capfd, evaluate.main, *arguments)
        assert (code, out) == (2, b"")
        remark, error, end = err.split(b"\n")  # what was recognised comes first
        assert (remark.startswith(b"error: "), error.startswith(b"error: "), end) == (
            False,
            True,
            b"",
        )
        shown(err)


def test_a_search_and_its_report(sample, tmp_path, capfd):
    out = tmp_path / "out"
    asked = (
        "--ensemble",
        sample / "ensemble.toml",
        "--labels",
        sample / "labels",
        "--out",
        out,
        "--method",
        "grid",
    )
    code, printed, err = said(capfd, search.main, *asked, "--no-cache", "--per-class")
    assert code == 0, err
    shown(printed)
    shown(err)
    with (out / "trials.csv").open(newline="") as file:
        header, first, *_ = csv.reader(file)
    assert header[1].startswith("'=1+1\\x1b[7m\\n") or header[1].startswith("'=1+1\\x1b[7m\n")
    assert float(first[0]) >= 0
    code, printed, err = said(capfd, report.main, out)
    assert code == 0, err
    shown(printed)
    shown(err)
    tags = Tags()
    tags.feed((out / "report.html").read_text())
    assert not tags.found & {"u", "onerror", "onload"}
    assert tags.scripts == 1
    for path in out.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".csv", ".html", ".svg"):
            content = path.read_bytes()
            found = [bad for bad in FORBIDDEN if bad in content]
            found += [bad for bad in MARKUP if bad in content and path.suffix in (".html", ".svg")]
            assert not found, path
    document = json.loads((out / "best.json").read_text())
    assert "=1+1\x1b[7m\nlined" in document["weights"]  # the very name comes back


def test_predictions_stay_in_their_folder(sample, tmp_path, capfd):
    asked = ("--ensemble", sample / "ensemble.toml", "--out", tmp_path / "maps")
    code, printed, err = said(capfd, predict.main, *asked)
    assert code == 0, err
    shown(printed)
    shown(err)
    assert {p.name for p in (tmp_path / "maps").iterdir() if p.is_dir()} >= set(VIDEOS)
    assert [p.name for p in tmp_path.iterdir()] == ["maps"]


def test_what_is_not_seen_is_escaped():
    assert visible("plain \u00e9 \u4e2d") == "plain \u00e9 \u4e2d"
    assert visible("\x1b[2J\n\r\t\x07\x9b\u202e\ud800\u00a0\u200b") == (
        "\\x1b[2J\\n\\r\\t\\x07\\x9b\\u202e\\ud800\\xa0\\u200b"
    )
    assert table([["a\nb", "1"]], ("name\x1b", "n")).count("\n") == 2


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", " =", "\uff1d"])
def test_no_text_is_a_formula(start):
    (row,) = csv.reader(io.StringIO(csv_text([[f"{start}1+1", -1.5, "plain-1"]]), newline=""))
    assert row == [f"'{start}1+1", "-1.5", "plain-1"]


class Recorded(io.StringIO):
    encoding = "ascii"


def test_the_last_net(monkeypatch):
    """Whatever is printed while a command runs; colours of ours pass where they are shown."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = Recorded()
    with contextlib.redirect_stdout(Guarded(stream)):
        print("a\x1b[1mb\x1b[0m\x1b[2J\x1b]0;t\x07\u202e\ud800 \u4e2d\n\tc\r")
    escaped = "\\x1b[2J\\x1b]0;t\\x07\\u202e\\ud800 \\u4e2d\n\tc\r\n"
    assert stream.getvalue() == f"a\x1b[1mb\x1b[0m{escaped}"
    monkeypatch.setenv("FORCE_COLOR", "0")
    stream = Recorded()
    print("\x1b[1mb", file=Guarded(stream))
    assert stream.getvalue() == "\\x1b[1mb\n"


class Tags(html.parser.HTMLParser):
    """Names of tags, and of attributes that run code."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.scripts += tag == "script"
        self.found |= {tag, *(name for name, _ in attrs if name.startswith("on"))}
