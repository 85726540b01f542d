"""What every command shares: one line and exit code 2 for the caller's mistakes, 130 or 143 when stopped, progress on stderr."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from fusion.errors import FusionError

Item = TypeVar("Item")


def run(
    main: Callable[[Sequence[str] | None], int | None], arguments: Sequence[str] | None = None
) -> int:
    """Runs a command's main; library errors become one line on stderr and exit code 2."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return main(arguments) or 0
    except FusionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; what was committed stays, run the same command to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left; there is nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _terminate(*_: object) -> None:
    """SIGTERM unwinds like Ctrl-C, so that staging folders are removed."""
    print("terminated; what was committed stays, run the same command to go on", file=sys.stderr)
    raise SystemExit(143)


def parser(prog: str, description: str, epilog: str | None = None) -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(
        prog=f"python -m {prog}", description=description, epilog=epilog, formatter_class=formatter
    )


def progress(
    items: Iterable[Item], description: str, total: int | None = None, unit: str = "it"
) -> Iterable[Item]:
    """A bar on stderr, shown once half a second has passed."""
    from tqdm import tqdm

    return tqdm(
        items,
        desc=description,
        total=total,
        unit=unit,
        file=sys.stderr,
        delay=0.5,
        mininterval=0.5,
        dynamic_ncols=True,
    )


def say_bytes(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, sort_keys=True, allow_nan=False))


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Columns of text, the first flush left, the others flush right."""
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [
            str(c).ljust(w) if i == 0 else str(c).rjust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])
