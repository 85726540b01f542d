"""python -m fusion.models.statistics: counts videos and pixels per class (figure 2 of the paper).

--vspw VSPW_480p --split train --out statistics/     -> statistics.json, statistics.png
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fusion import cli
from fusion.files import write_bytes
from fusion.models.data.source import add_source, source_of
from fusion.models.data.statistics import FILE, PICTURE, class_statistics, picture
from fusion.text import table


def main(arguments: Sequence[str] | None = None) -> int:
    parser = cli.parser("fusion.models.statistics", "Count videos and pixels per class (figure 2).")
    add_source(parser)
    there = f"where {FILE} and {PICTURE} go"
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=there)
    options = parser.parse_args(arguments)
    found = class_statistics(source_of(options).open(labelled=True), options.out / FILE)
    image = io.BytesIO()
    picture(found).save(image, format="PNG")
    write_bytes(options.out / PICTURE, image.getvalue())
    order = np.argsort(-found.pixels, kind="stable")
    rows = [(found.classes[c], str(found.videos[c]), str(found.pixels[c])) for c in order]
    print(table(rows, ("class", "videos", "pixels")))
    return 0


if __name__ == "__main__":
    cli.command(main)
