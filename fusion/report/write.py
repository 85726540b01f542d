"""A search's folder -> its report, written beside it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from fusion import files, plain
from fusion.arguments import checked
from fusion.errors import InputError
from fusion.labels import Labels
from fusion.progress import progress as shown
from fusion.progress import silent
from fusion.report.results import Elsewhere, Running, read_results

PAGE, FIGURES = "report.html", "figures"
MARKER = b"segfusion report"  # in the head of every page of ours
HEAD = 4096  # bytes of it
PACKAGES = {"vl_convert": "vl-convert-python", "scipy": "scipy"}  # module -> what is installed


@checked
def write_report(
    results: str | Path,
    out: str | Path | None = None,
    *,
    labels: Labels | str | Path | None = None,
    stores: str | Path | None = None,
    test_labels: Labels | str | Path | None = None,
    test_stores: str | Path | None = None,
    images: str | Path | None = None,
    memory: str | int = "4GB",
    device: str = "auto",
    scheduler: str = "threads",
    progress: bool = False,
) -> Path:
    """The report of a search: one HTML file that needs no network, and its figures.

    Args:
        results: the folder that the search wrote.
        out: where report.html and figures/ go; default the same folder.
        labels, test_labels: ground truth of the splits, where it is not where it was.
        stores, test_stores: folders with stores of the same names, where these have moved.
        images: pictures that predictions were made of, to be shown beside them.
        memory, device, scheduler: as for a search.
        progress: whether to show bars on stderr.

    Returns:
        The path of report.html.

    Raises:
        InputError: no results there, labels that are gone or others, packages that are missing, or
            another report.html than one of ours.
        StoreError: results that are not whole, stores that are gone or others, a full disk.
    """
    folder = Path(results)
    place = folder if out is None else Path(out)
    check_report(place)
    from fusion.report.gather import facts_of
    from fusion.report.page import write_page

    paths = [None if each is None else Path(each) for each in (stores, test_stores, images)]
    truths = [t if t is None or isinstance(t, Labels) else Path(t) for t in (labels, test_labels)]
    elsewhere = Elsewhere(truths[0], paths[0], truths[1], paths[1], paths[2])
    running = Running(memory, device, scheduler, shown if progress else silent)
    write_page(facts_of(read_results(folder, elsewhere, running)), place)
    return place / PAGE


def check_report(out: Path) -> None:
    """Refuses what would keep a report from being written, before anything is worked out.

    Raises:
        InputError: plotting packages are missing, or report.html there is not ours.
        StoreError: the folder cannot be written.
    """
    missing = [name for module, name in PACKAGES.items() if find_spec(module) is None]
    if missing:
        do = "pip install 'segfusion[plot]'"
        raise InputError(f"report: {' and '.join(missing)} not installed; {do}")
    plain.check_writable(out)
    page = out / PAGE
    if page.is_dir():
        raise InputError(f"{page}: a folder of that name is in the way; give another --out")
    figures = out / FIGURES
    if not page.exists() and _holds_something(figures):
        got = f"{figures}: there already, and of no report"
        raise InputError(f"{got}; move it, or give another --out")
    if page.exists():
        with files.refusals(page, problem="cannot be read"), page.open("rb") as file:
            if MARKER not in file.read(HEAD):
                do = "move it, or give another --out"
                raise InputError(f"{page}: not a report of segfusion; {do}")


def _holds_something(folder: Path) -> bool:
    """Whether there is a file of that name, or a folder that is not empty."""
    return folder.is_file() or (folder.is_dir() and any(folder.iterdir()))
