"""python -m fusion.report: a search's folder as one page with its figures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusion import cli
from fusion.labels import Labels
from fusion.labels.layouts import AUTO
from fusion.report.write import write_report

EPILOG = """examples:
  python -m fusion.report results/
  python -m fusion.report results/ --images frames/ --out shared/report
  python -m fusion.report results/ --labels labels/val --stores cache/

Labels and stores are where the search found them, seen from the folder of its results; options say
where they are now. They must be the same ones, by content.
"""

FOLDER: dict[str, Any] = {"type": Path, "metavar": "DIR"}


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    cli.take_memory(options).check()
    page = write_report(
        options.results,
        options.out,
        labels=read_labels(options),
        stores=options.stores,
        test_labels=options.test_labels,
        test_stores=options.test_stores,
        images=options.images,
        memory=options.memory,
        device=options.device,
        scheduler=options.scheduler,
        progress=True,
    )
    print(f"wrote {page}")
    if options.open:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())
    return 0


def read_labels(options: argparse.Namespace) -> Labels | Path | None:
    """Labels that lie elsewhere; None where nothing is said of them.

    A path alone leaves it to the search to say what they are.
    """
    said = (options.label_pattern, options.label_column, options.label_map, options.split)
    plain = options.label_layout == AUTO and options.stray == "error" and said == (None,) * 4
    if options.vspw is None and plain:
        return options.labels
    return cli.read_truth(options)


def build_parser() -> argparse.ArgumentParser:
    does = "The report of a search: one HTML file that needs no network, and its figures."
    parser = cli.parser("fusion.report", does, EPILOG)
    add = parser.add_argument
    add("results", type=Path, metavar="RESULTS", help="the folder that a search wrote (its --out)")
    add("--out", **FOLDER, help="where report.html and figures/ go (default RESULTS)")
    add("--images", **FOLDER, help="pictures that predictions were made of, shown beside them")
    add("--open", action="store_true", help="show the page in a browser")
    moved = parser.add_argument_group("where data are now (default: where the search found them)")
    add = moved.add_argument
    add("--stores", **FOLDER, help="folder with stores of the same names")
    add("--test-labels", type=Path, metavar="PATH", help="ground truth of the second split")
    add("--test-stores", **FOLDER, help="its stores")
    cli.add_truth(moved)
    group = parser.add_argument_group("running")
    for add_shared in (cli.add_scheduler, cli.add_memory, cli.add_device):
        add_shared(group)
    return parser


if __name__ == "__main__":
    cli.command(main)
