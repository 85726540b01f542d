"""python -m fusion.models.train --config run.toml: trains one network, goes on where it stopped.

Writes into the run's folder: checkpoint (weights, optimiser and step, replaced as training goes),
weights, each by its name (`training.run` says which), and log.csv.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fusion import cli
from fusion.errors import InputError
from fusion.memory import roomy
from fusion.models.training import config, keys
from fusion.models.training.distributed import world
from fusion.models.training.overfit import Overfit, overfit
from fusion.models.training.run import Result, trained
from fusion.text import percent, table

EPILOG = """examples:
  python -m fusion.models.train --example > run.toml     then edit: out, [data], [network]
  python -m fusion.models.train --config run.toml --overfit 8
  python -m fusion.models.train --config run.toml
  torchrun --nproc-per-node 8 -m fusion.models.train --config run.toml

The same command goes on where a run was stopped or killed, with the same bits in the end. A run
that is done goes on when train.steps is raised. SIGTERM and SIGUSR1 (SLURM) end the step, save a
checkpoint and exit with 143 and 138; Ctrl-C stops at once and loses what came after the last
checkpoint.

keys of run.toml, with their defaults; paths count from its folder:

"""


def main(arguments: Sequence[str] | None = None) -> int:
    description = "Train one network; run the same command again to go on."
    parser = cli.parser("fusion.models.train", description, EPILOG + keys.reference())
    add = parser.add_argument
    add("--config", type=Path, metavar="FILE", help="the run's configuration, TOML")
    add("--example", action="store_true", help="print a configuration to begin with, and stop")
    few = "only see whether N images can be learned, without augmentation; exit code 1 if not"
    add("--overfit", type=int, metavar="N", help=few)
    cli.add_device(parser)
    cli.add_json(parser)
    options = parser.parse_args(arguments)
    if options.example:
        print(keys.example(), end="")
        return 0
    if options.config is None:
        raise InputError("config: give --config FILE; --example prints one to begin with")
    chosen, place = config.read(options.config), world(options.device)
    roomy()
    if options.overfit is not None:
        found = overfit(chosen, options.overfit, place)
        _say(found, found.text(), options.json)
        return 0 if found.learned else 1
    result = trained(chosen, place)
    if place.first:
        _say(result, _text(result), options.json)
    return 0


def _say(found: Overfit | Result, text: str, as_json: bool) -> None:
    if as_json:
        cli.print_json(found.to_json())
    else:
        print(text)


def _text(result: Result) -> str:
    lines = [f"final weights: {result.final}"]
    if result.scores:
        rows = [(name, percent(score)) for name, score in result.scores.items()]
        lines = [table(rows, ("weights", "val mIoU")), *lines]
    return "\n".join(lines)


if __name__ == "__main__":
    cli.command(main)
