"""Files in an output folder that would be taken for predictions, and are none of this ensemble.

A folder of predictions is read as one result, by `evaluate` and by servers alike. What stands there
under a name that the format could have given (a picture of another day, another tool's label maps)
is refused; other files, and outputs of other units that the folder's record knows, stay.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence, Set
from pathlib import Path

from fusion.errors import InputError, StoreError
from fusion.outputs.archive import fitting
from fusion.outputs.output import Output
from fusion.outputs.record import read_record
from fusion.outputs.unit import Unit


def refuse_strangers(out: Path, output: Output, units: Sequence[Unit]) -> None:
    """StoreError where an output folder holds some.

    Args:
        out: the folder, which need not be there.
        output: the format.
        units: all of the ensemble.
    """
    patterns = [pattern for pattern in output.packed if "**" not in pattern]
    found = sorted(fitting(out, patterns))
    if not found:
        return
    own = set(output.shared)
    for unit in units:
        with contextlib.suppress(InputError):  # of a unit that is not written
            own |= {name for part in output.parts(unit) for name in part.files}
    recorded = read_record(out, output).keys() - {unit.video for unit in units}
    strangers = [name for name in found if name not in own and not _is_of(name, recorded)]
    if strangers:
        more = f" and {len(strangers) - 1} more are" if len(strangers) > 1 else " is"
        what = f"{out / strangers[0]}{more} none of this ensemble's and would be taken for it"
        raise StoreError(f"{what}; give another folder, or move them away")


def _is_of(name: str, videos: Set[str]) -> bool:
    """Whether a file is one of these videos', by its name."""
    first = Path(name).parts[0]
    stems = (first[:place] for place, letter in enumerate(first) if letter == ".")
    return first in videos or any(stem in videos for stem in stems)
