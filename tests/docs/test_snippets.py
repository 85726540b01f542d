"""Every python and bash block of README.md and docs/ runs, in order, on data that are made up."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from docs import data
from fusion import cli
from tests.docs.snippets import PAGES, ROOT, Session, blocks, given

NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder; what a command leaves in this process is put back."""
    monkeypatch.setattr(cli, "_parsers", [])
    monkeypatch.setattr(cli, "called_as", {})
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("SEGFUSION_DATA", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, before)


# of lightning's own making, as in tests/integrations/test_lightning.py
@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated")
@pytest.mark.parametrize("name", NAMES)
def test_a_page_runs_from_top_to_bottom(name, folder):
    text = (ROOT / name).read_text(encoding="utf-8")
    session = Session(name, folder)
    for made in given(text):
        session.names |= data.SETS[made](folder) or {}
    for block in blocks(text):
        session.run(block)


@pytest.mark.parametrize("name", NAMES)
def test_a_block_that_does_not_run_says_why(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert text.count("```") == 2 * len(blocks(text)), "a block without a language"
    for block in blocks(text):
        if block.shown_only:
            assert len(block.mark.split(": ", 1)[1]) >= 4, f"{name}:{block.line}"


def test_links_of_the_readme_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)|src=\"([^\"]+)\"|srcset=\"([^\"]+)\"", text):
        target = next(filter(None, target))
        assert target.startswith("http") or Path(ROOT, target).exists(), target


PAGE = """
<!-- data: video -->

```python title="twice.py"
def twice(x): return 2 * x
```

```python
from twice import twice
print(twice(21), "apples")
```

```text
4... apples
```

```bash
cd labels && ls   # both
segfusion --version
```

```text
test
val
segfusion ...
```

<!-- not run: needs a GPU -->
```bash
false
```
"""


def test_a_session_runs_writes_and_compares(folder):
    session = Session("page", folder)
    (folder / "labels" / "val").mkdir(parents=True)
    (folder / "labels" / "test").mkdir()
    for block in blocks(PAGE):
        session.run(block)
    assert given(PAGE) == ["video"]
    assert [block.line for block in blocks(PAGE)] == [5, 9, 14, 18, 23, 30]


@pytest.mark.parametrize(
    "broken",
    [
        "```python\nprint(1)\n```\n```text\n2\n```",
        "```bash\nfalse\n```",
        "```bash\nsegfusion stores info nowhere\n```",
        "```python\nraise AssertionError\n```",
    ],
)
def test_a_broken_page_fails(broken, folder):
    session = Session("page", folder)
    *before, last = blocks(broken)
    for block in before:
        session.run(block)
    with pytest.raises(AssertionError):
        session.run(last)
