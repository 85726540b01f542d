"""What whole data sets take: the arithmetic by hand, fits of known lines, and the whole, tiny."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from benchmarks.scale import growth, machines, printed, rates
from benchmarks.scale.__main__ import main
from benchmarks.scale.growth import Fit
from benchmarks.scale.model import (
    CORES,
    DISK,
    GPUS,
    LINK,
    Machine,
    Rate,
    Step,
    Workload,
    condensation,
    estimate,
    evaluation,
    sweeping,
)
from fusion.errors import InputError

# 10 frames of 2 models and 3 classes, 4 x 5 to 8 x 10, a quarter of whose bytes are left on disk
WORK = Workload("small", 10, 2, 3, 2, (4, 5), (8, 10), item=2, stored=0.25)


def plain(median: float) -> Rate:
    return Rate(median, median / 2, 2 * median, "things")


def by_stage(steps: list[Step]) -> dict[str, float]:
    found: dict[str, float] = {}
    for step in steps:
        found[step.stage] = found.get(step.stage, 0.0) + step.amount
    return found


def test_amounts_by_hand():
    assert by_stage(evaluation(WORK)) == {
        "read": 600.0,  # 10 x 2 x 3 x 20 numbers x 2 bytes x 0.25
        "decode-exact": 1200,
        "transfer": 2400,
        "fuse-exact": 1200,
        "upsample": 2400,  # 10 x 80 pixels x 3 classes
        "count": 800,
        "write": 800,
    }
    assert by_stage(condensation(WORK, contested=0.25, bundle=30)) == {
        "read": 600.0,
        "decode-exact": 1200,
        "transfer": 2400 + 4 * 10 * 2 * 3 * 20,  # group means come back as float32
        "fuse-exact": 1200,
        "means": 4800,  # of two groups
        "condense": 4800,
        "keep": 6000.0,  # 200 pixels of 30 bytes
    }
    swept = by_stage(sweeping(200, bundle=30, weightings=7, passes=2))
    assert swept == {"read": 12000, "sweep": 1400}


def test_the_paper_s_set_is_as_large_as_people_say():
    work = machines.vspw_val("compact", 0.75)
    assert work.pixels == 24_502 * 480 * 853 == 10_032_098_880  # the 10^10 pixels of its search
    assert work.scores == 24_502 * 22 * 124 * 120 * 214
    assert work.bytes == pytest.approx(1.287e12, rel=1e-3)
    assert machines.vspw_val("exact", 0.75).bytes == 2 * work.bytes


STEPS = [Step("read", 7200), Step("decode", 7200), Step("transfer", 3600), Step("fuse", 3600)]
RATES = {"read": plain(1), "decode": plain(0.5), "fuse": plain(0.25)}


def test_hours_bottleneck_and_cost_by_hand():
    machine = Machine("four", cores=4, gpus=0, disks=2, efficiency=0.5, price=3.0)
    made = estimate(STEPS, machine, RATES, {})
    # two effective cores: 7200 / (0.5 x 2) and 3600 / (0.25 x 2); nothing to transfer
    assert made.stages == {(DISK, "read"): 3600, (CORES, "decode"): 7200, (CORES, "fuse"): 7200}
    assert made.busy == {DISK: 3600, CORES: 14400}
    assert made.hours == 4
    assert made.apart == 5
    assert made.cost == 12
    assert made.bottleneck == "cores: decode 50%"


def test_a_gpu_takes_the_stages_it_has_rates_for():
    gpu = {"transfer": plain(1), "fuse": plain(100)}
    machine = Machine("two GPUs", cores=4, gpus=2, disks=2, efficiency=0.5, price=10.0)
    made = estimate(STEPS, machine, RATES, gpu)
    assert made.busy == {DISK: 3600, CORES: 7200, LINK: 1800, GPUS: 18}
    assert made.hours == 2
    assert made.bottleneck == "cores: decode 100%"


def test_contested_pixels_are_kept_on_disk():
    machine = Machine("one", cores=1, gpus=1, disks=4, efficiency=1.0, price=0.0)
    made = estimate([Step("keep", 80)], machine, {"keep": plain(2)}, {})
    assert made.stages == {(DISK, "keep"): 10}


def test_slow_rates_take_longer():
    machine = Machine("one", cores=1, gpus=0, disks=1, efficiency=1.0, price=0.0)
    slow, middle, fast = (
        estimate(STEPS, machine, RATES, {}, quantile).hours
        for quantile in ("low", "median", "high")
    )
    assert (slow, middle, fast) == (2 * middle, 8, middle / 2)


def test_machines_by_hand():
    prices = machines.Prices(core=0.1, gpu=2.0)
    found = machines.machines(8, 4, prices, thread=0.9, worker=0.5, disks=2)
    shown = [(m.cores, m.gpus, m.disks, m.efficiency, m.price) for m in found]
    assert [row[:3] for row in shown] == [(8, 0, 2), (8, 1, 2), (64, 8, 2), (32, 0, 8)]
    assert [row[3] for row in shown] == [0.9, 0.9, 0.9, 0.45]
    assert [row[4] for row in shown] == pytest.approx([0.8, 2.8, 22.4, 3.2])


def test_the_committed_rates_of_a_gpu_say_that_they_are_predicted():
    device, found = machines.gpu_rates(machines.GPU_RATES)
    assert "H100" in device
    assert {rate.origin for rate in found.values()} == {"predicted"}
    assert all(rate.low <= rate.median <= rate.high for rate in found.values())


@pytest.mark.parametrize("content", ["", "[]", '{"device": "x", "origin": "y", "rates": {"a": 1}}'])
def test_other_rates_are_refused(tmp_path, content, capsys):
    path = tmp_path / "rates.json"
    path.write_text(content)
    with pytest.raises(InputError, match="has no rates"):
        machines.gpu_rates(path)
    assert main(["--gpu", str(path)]) == 2
    assert "--gpu" in capsys.readouterr().err


def test_other_measurements_are_refused(tmp_path, capsys):
    assert main(["--rates", str(tmp_path / "absent.json")]) == 2
    assert "--rates" in capsys.readouterr().err


def test_a_line_is_found_again():
    amounts = (1, 2, 4, 8)
    seconds = tuple(0.5 + 0.25 * n for n in amounts)
    fit = Fit("frames", amounts, seconds, seconds, seconds)
    assert fit.line == pytest.approx((0.5, 0.25))
    assert fit.residual == pytest.approx(0, abs=1e-9)
    assert fit.exponent == pytest.approx(1)
    assert fit.doublings[0] == (1, 2, pytest.approx(1 / 0.75), pytest.approx(1 / 0.75))
    squares = tuple(float(n * n) for n in amounts)
    bent = replace(fit, seconds=squares)
    assert bent.exponent > 1.5
    assert bent.residual > 0.2


def test_the_slow_fifth_is_the_low_rate():
    rate = rates.rate_of([1.0, 2.0, 4.0], 8.0, "things")
    assert rate.low < rate.median == 4.0 < rate.high


@pytest.mark.parametrize(
    ("hours", "said"), [(2, "2 h"), (0.5, "30 min"), (0.01, "36 s"), (1.234, "1.23 h")]
)
def test_times_as_people_say_them(hours, said):
    assert printed.hours(hours) == said


def test_growth_grows_one_thing():
    assert growth.scaled(growth.TINY, "classes", 4) == replace(growth.TINY, classes=8)


def test_the_whole_runs(tmp_path, capsys):
    assert main(["--quick", "--json", "--disk-read", "2", "--pictures", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    made = json.loads(shown)
    assert len(made["plans"]) == 5 * 4
    assert made["measured"]["rates"]["read"] == {
        **dict.fromkeys(("median", "low", "high"), 2000000000.0),
        **{"unit": "bytes", "origin": "given"},
    }
    for plan in made["plans"]:
        fast, slow = plan["hours_fast_slow"]
        assert 0 < fast <= plan["hours"] <= slow < math.inf
        assert plan["hours"] <= plan["hours_in_turn"]
        assert plan["cost"] == pytest.approx(plan["hours"] * plan["machine"]["price"])
        on_gpu = "predicted" in made["gpu"]["is"] and plan["machine"]["gpus"] > 0
        assert ("GPU file" in plan["rates"]) <= on_gpu
    assert made["check"]["predicted"] > 0
    assert {fit["axis"]: len(fit["seconds"]) for fit in made["growth"]} == dict.fromkeys(
        growth.AXES, 4
    )
    assert sorted(file.stem for file in tmp_path.iterdir()) == sorted(growth.AXES)
    (tmp_path / "before.json").write_text(shown)
    before = ["--rates", str(tmp_path / "before.json")]
    assert main([*before, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plans"] == made["plans"]
    assert main([*before, "--cores", "32"]) == 0
    assert "32 cores" in capsys.readouterr().out


def test_tables_say_what_is_measured_and_what_multiplied(capsys):
    assert main(["--quick", "--no-growth"]) == 0
    shown = capsys.readouterr().out
    for word in ("predicted", "measured", "multiplied", "bottleneck", "USD", "TB"):
        assert word in shown
    assert "growth in" not in shown
