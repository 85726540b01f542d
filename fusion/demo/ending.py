"""What the demo says when the search is done: the truth beside estimates, and where to look."""

from __future__ import annotations

from pathlib import Path

from fusion.demo.known import POPULATION, compared
from fusion.demo.pictures import write_pictures
from fusion.errors import InputError
from fusion.hierarchical import HierarchicalEnsemble
from fusion.progress import Progress, progress
from fusion.search.report import Report
from fusion.terminal import Style

PLOTS = "pip install 'segfusion[plot]' for a page of figures: report.html"


def ending(
    report: Report,
    out: Path,
    style: Style,
    show: Progress = progress,
    videos: int = POPULATION,
) -> str:
    """Lines; writes pictures, and the report where there is what draws it.

    Args:
        report: of the demo's search, val and test.
        out: the folder of its results.
        style: how words are marked.
        show: progress on the way.
        videos: how many new ones the truth is taken of.
    """
    head = f"What only a simulation knows: the truth, here of {videos} other clips"
    parts = [f"{style.strong(head)}\n\n{compared(report, show, videos)}"]
    test = report.splits[1]
    single = next(iter(report.splits[0].singles))
    alone = test.ensemble.plain().singles()
    alone = alone.regrouped({single: alone.groups[single]})
    fused = HierarchicalEnsemble.load(out / "recommended.json", stores=out / "test")
    drawn = write_pictures(alone, fused, test.truth, out / "pictures")
    head = f"Pictures of test: truth, best single model and fused, in {out / 'pictures'}"
    parts.append("\n".join([style.strong(head), *(f"  {line}" for line in drawn)]))
    parts.append(page(out))
    return "\n\n".join(parts)


def page(out: Path) -> str:
    """The report of the results in a folder, or what is lacking for it, in a line."""
    from fusion.report import write_report

    try:
        return f"report: {write_report(out)}"
    except InputError as error:
        if "pip install" not in str(error):
            raise
        return PLOTS
