"""The moving average beside its formula, and all weights of a run at equal steps."""

from __future__ import annotations

import torch

from fusion.models.training import checkpoint
from fusion.models.training.distributed import world
from fusion.models.training.run import Run, trained
from tests.models.tools import CPU, SWA, same_state, same_weights


def test_the_average_is_the_formula(configure):
    run = Run(configure(train={"ema": 0.75}), CPU)
    run.network.train()
    expected = None
    for step in range(4):
        run.update(list(run.batches(step, step + 1)))
        run.step += 1
        now = {name: weights.detach().double() for name, weights in run.network.named_parameters()}
        expected = {n: 0.75 * expected[n] + 0.25 * now[n] for n in now} if expected else now
    for name, weights in run.ema.module.named_parameters():
        torch.testing.assert_close(weights.detach().double(), expected[name], atol=1e-7, rtol=1e-5)


def test_weights_of_a_run_at_equal_steps(configure):
    result = trained(configure(train={"ema": 0.5}, swa=SWA), world("cpu"))
    assert list(result.files) == ["baseline", "last", "averaged", "ema"]
    assert result.final == result.files["averaged"]
    assert same_weights(result.files["last"], result.final.with_stem("swa_02"))
    said = {name: checkpoint.load(path)[1]["step"] for name, path in result.files.items()}
    assert said == {"baseline": 4, "last": 8, "averaged": 8, "ema": 8}
    networks = [checkpoint.load_network(path)[0] for path in result.files.values()]
    assert not same_state(networks[1].state_dict(), networks[3].state_dict())


def test_batch_norm_is_counted_anew(configure):
    """As `swa.refreshed` does: under the average's weights, on the first batches."""
    options = configure(train={"ema": 0.5}, swa={"refresh": 2})
    result = trained(options, world("cpu"))
    network = checkpoint.load_network(result.files["ema"])[0]
    run = Run(options, CPU)
    entering = [network.stem[0](batch[0]) for batch in run.batches(0, 2)]
    mean = torch.stack([each.mean((0, 2, 3)) for each in entering]).mean(dim=0)
    torch.testing.assert_close(network.stem[1].running_mean, mean)
