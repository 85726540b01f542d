"""Versions are pinned and licences known; the answers are worked out by hand."""

from __future__ import annotations

from email.message import Message
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

from tests.faults import dependencies
from tests.faults.dependencies import (
    installed,
    is_permissive,
    licence_of,
    licences,
    pins,
    unpinned,
)


def test_what_the_tests_install_is_pinned_to_what_is_installed():
    assert list(unpinned()) == []


def test_extras_are_tested():
    """So that their versions are pinned, and their licences looked at."""
    own = {r.name for e in dependencies.extras() - {"test"} for r in dependencies.wanted([e])}
    assert own - {r.name for r in dependencies.wanted(["test"])} == set()


def test_licences_ask_for_no_more_than_is_known():
    wrong = [row for row in licences() if not row[-1]]
    assert wrong == []


def test_what_is_accepted_is_there():
    names = {row[0] for row in licences()}
    assert {*dependencies.ACCEPTED, *dependencies.CARRIED} - names == set()


def test_a_version_that_moved_is_told(tmp_path):
    path = tmp_path / "constraints.txt"
    lines = dependencies.CONSTRAINTS.read_text().splitlines()
    kept = [line for line in lines if not line.startswith(("numpy==", "toolz=="))]
    path.write_text("\n".join([*kept, "numpy==1.0"]))
    found = list(unpinned(path))
    assert len(found) == 2
    assert found[0].endswith("is installed, 1.0 is pinned")
    assert found[1].endswith("is installed, nothing is pinned")


@pytest.mark.parametrize(
    "line", ["numpy>=2", "numpy", "numpy==2.*", "a==1\nA==2", "a_b==1\na-b==1"]
)
def test_a_line_that_pins_nothing_is_refused(tmp_path, line):
    path = tmp_path / "constraints.txt"
    path.write_text(f"# words\n\n{line}\n")
    with pytest.raises(ValueError, match=r"constraints\.txt: '.*' is no exact version"):
        pins(path)


def test_what_is_needed_in_turn_is_found():
    """pytest needs pluggy; psycopg's extra needs psycopg-binary; markers of no system need none."""
    found = installed(
        [
            Requirement("pytest"),
            Requirement("psycopg[binary]"),
            Requirement("no-such-package"),
            Requirement("torch; platform_system == 'None'"),
        ]
    )
    assert {"pytest", "pluggy", "psycopg", "psycopg-binary", "no-such-package"} <= set(found)
    assert found["no-such-package"] is None
    assert "torch" not in found
    assert "psycopg-binary" not in installed([Requirement("psycopg")])


@pytest.mark.parametrize(
    ("fields", "licence", "permissive"),
    [
        ({"License-Expression": "MIT"}, "MIT", True),
        ({"License": "Apache 2.0"}, "Apache-2.0", True),
        ({"License": "BSD-3-Clause"}, "BSD-3-Clause", True),
        ({"License": "MPL-2.0 AND MIT"}, "MPL-2.0 AND MIT", False),
        ({"License-Expression": "GPL-2.0-only OR MIT"}, "GPL-2.0-only OR MIT", True),
        ({"License-Expression": "(MIT OR GPL-3.0-only) AND MIT"}, None, False),
        ({"License-Expression": "(MIT OR Apache-2.0) AND ISC"}, None, True),
        ({"License-Expression": "GPL-3.0-or-later"}, "GPL-3.0-or-later", False),
        ({"Classifier": "License :: OSI Approved :: MIT License"}, "MIT", True),
        ({"Classifier": "Programming Language :: C"}, "", False),
        ({"License": "Copyright 2020, somebody\nall words of it"}, "", False),
        (
            {
                "License": "a text\nof many lines",
                "Classifier": "License :: OSI Approved :: BSD License",
            },
            *("BSD", True),
        ),
        ({}, "", False),
    ],
)
def test_what_metadata_says(fields, licence, permissive):
    message = Message()
    for name, value in fields.items():
        message[name] = value
    found = licence_of(SimpleNamespace(metadata=message))
    assert found == (fields.get("License-Expression") if licence is None else licence)
    assert is_permissive(found) == permissive


@pytest.mark.parametrize(("words", "code"), [(["pins"], 0), (["licences"], 0), ([], 2)])
def test_the_command(words, code, capsys):
    assert dependencies.main(words) == code
    out, err = capsys.readouterr()
    assert bool(out) == (code == 0)
    assert bool(err) == (code == 2)


def test_an_unknown_licence_ends_the_command(monkeypatch, capsys):
    row = ("package", "1.0", "unknown", "", False)
    monkeypatch.setattr(dependencies, "licences", lambda: [row])
    assert dependencies.main(["licences"]) == 1
    assert capsys.readouterr().out.startswith("! package")


def test_an_audit_without_its_program_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(dependencies, "AUDIT", ["no-such-program"])
    assert dependencies.main(["audit"]) == 2
    assert "pip install pip-audit" in capsys.readouterr().err
