"""The machines and workloads of the table, from options; GPU rates from a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scale.model import Machine, Rate, Workload
from fusion.errors import InputError

GPU_RATES = Path(__file__).parents[1] / "results" / "gpu-rates.json"
VSPW_VAL = {"frames": 24_502, "models": 22, "classes": 124, "groups": 3}
NATIVE, SIZE = (120, 214), (480, 853)


@dataclass(frozen=True)
class Prices:
    """Of an hour: round numbers near large clouds' list prices on demand, nobody's offer."""

    core: float = 0.05
    gpu: float = 4.0
    currency: str = "USD"

    def of(self, cores: int, gpus: int) -> float:
        return self.core * cores + self.gpu * gpus


def machines(
    cores: int, workers: int, prices: Prices, thread: float, worker: float, disks: float
) -> list[Machine]:
    """One CPU machine, 1 and 8 GPUs, many workers.

    Args:
        cores: of a machine; a GPU has as many beside it.
        workers: machines of the last row, each with a disk of its own.
        prices: of an hour.
        thread: what is left of a core when all of its machine work.
        worker: what is left of a machine when all work.
        disks: disks of the measured rate in a machine.
    """
    made = []
    for gpus, number in ((0, 1), (1, 1), (8, 1), (0, workers)):
        own = cores * max(1, gpus)
        total = own * number
        kind = f"{gpus} GPU{'s' * (gpus > 1)}, {own} cores" if gpus else f"1 machine, {own} cores"
        name = kind if number == 1 else f"{number} workers, {own} cores each"
        left = thread * (worker if number > 1 else 1.0)
        price = prices.of(total, gpus * number)
        made.append(Machine(name, total, gpus * number, disks * number, left, price))
    return made


def vspw_val(profile: str, stored: float) -> Workload:
    """VSPW val whole, every frame, as the paper's 22 models would lie in stores."""
    item = {"compact": 1, "exact": 2}[profile]
    return Workload(
        f"VSPW val, {profile}", **VSPW_VAL, native=NATIVE, size=SIZE, item=item, stored=stored
    )


def gpu_rates(path: Path) -> tuple[str, dict[str, Rate]]:
    """(device and origin, rates by stage) of a file.

    {"device": ..., "origin": "measured ..." or "predicted ...",
     "rates": {stage: {"median": per second, "low": ..., "high": ..., "unit": ...}}}

    Raises:
        InputError: no such file, or another form.
    """
    try:
        document = json.loads(path.read_text())
        origin = str(document["origin"])
        rates = {
            stage: Rate(row["median"], row["low"], row["high"], row["unit"], origin.split()[0])
            for stage, row in document["rates"].items()
        }
        return f"{document['device']}: {origin}", rates
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        form = '{"device", "origin", "rates": {stage: {"median", "low", "high", "unit"}}}'
        raise InputError(f"--gpu: {path} has no rates ({error}); give a JSON of {form}") from error
