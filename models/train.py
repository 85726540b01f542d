"""python -m fusion.models.train --config run.toml: trains one network, goes on where it stopped.

Writes into the run's folder: checkpoint (weights, optimiser and step, replaced as training goes),
baseline (weights at the end of the schedule) and, with [swa] cycles, swa_01 ... and averaged.
`training.config` has every key, `training.run` the run itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fusion import cli
from fusion.models.training import config
from fusion.models.training.run import train


def main(arguments: Sequence[str] | None = None) -> int:
    description = "Train one network; run the same command again to go on."
    parser = cli.parser("fusion.models.train", description, "several GPUs: torchrun -m ...")
    keys = "TOML; keys and defaults: fusion/models/training/config.py"
    parser.add_argument("--config", type=Path, required=True, help=keys)
    cli.add_device(parser)
    options = parser.parse_args(arguments)
    print(f"final weights: {train(config.read(options.config), options.device)}")
    return 0


if __name__ == "__main__":
    cli.command(main)
