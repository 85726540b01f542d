"""Budgets of whole processes: what they leave, what they refuse, and that commands keep to them."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import dask
import numpy as np
import pytest

import fusion
from benchmarks.memory import LAUNCHER
from fusion import memory
from fusion.errors import InputError
from fusion.labels import write_labels
from fusion.text import parse_bytes

ROOT = Path(__file__).parents[1]
CLASSES, SIZE, FRAMES = [f"class {k}" for k in range(40)], (240, 320), ["0", "1", "2", "3"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four models of 40 classes, whose whole frames of probabilities are 12 MB."""
    folder = tmp_path_factory.mktemp("data")
    draw = np.random.default_rng(0)
    for k in range(4):
        writer = fusion.LogitWriter(folder / f"m{k}.zarr", CLASSES)
        for video in ("a", "b"):
            with writer.video(video, frames=FRAMES, size=SIZE) as out:
                for _ in FRAMES:
                    out.append(np.repeat(draw.normal(0, 3, (40, 60, 40)), 2, axis=2))
    stores = [folder / f"m{k}.zarr" for k in range(4)]
    ensemble = fusion.HierarchicalEnsemble({"a": stores[:2], "b": stores[2:]})
    ensemble.save(folder / "best.json")
    for video in ensemble.videos:
        for frame, labels in ensemble.label_maps(video):
            write_labels(folder / "labels" / video / f"{frame}.png", labels)
    return folder


def run(*words):
    """(exit code, stderr, peak bytes) of a command."""
    command = [sys.executable, "-S", "-c", LAUNCHER, "-m", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    *said, peak = done.stderr.strip().split("\n")
    return done.returncode, "\n".join(said), int(peak)


def test_what_is_left_of_a_budget():
    made = memory.share(10**12)
    assert made.pixels == made.total - made.taken
    assert memory.resident() + memory.ROOM <= made.taken + 10**7
    two = memory.share(10**12, processes=3)
    assert 2.9 < two.taken / made.taken < 3.1
    with pytest.raises(InputError, match=r"1 MB for the whole process, .* libraries; give"):
        memory.share(10**6).check()


COMMANDS = {
    "evaluate": "fusion.evaluate --ensemble {0}/best.json --labels {0}/labels",
    "predict": "fusion.predict --ensemble {0}/best.json --out {1}/out",
    "probabilities": "fusion.predict --ensemble {0}/best.json --out {1}/out --format npy "
    "--probabilities",
    "search": "fusion.search --ensemble {0}/best.json --labels {0}/labels --out {1}/out "
    "--method grid --folds 0",
}


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read as Linux gives them")
@pytest.mark.parametrize("name", ["evaluate", "probabilities", "search"])
def test_a_command_is_refused_or_keeps_to_its_budget(name, data, tmp_path):
    """First with what nothing fits in, then with the least that it then asks for."""
    words = COMMANDS[name].format(data, tmp_path).split()
    code, said, _ = run(*words, "--memory", "200MB")
    assert code == 2
    assert "Traceback" not in said
    least = int(re.search(r"give at least (\d+)MB", said).group(1)) + 8  # libraries vary a little
    code, said, peak = run(*words, "--memory", f"{least}MB")
    assert code == 0, said
    assert peak <= 1.1 * parse_bytes(f"{least}MB")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_plan_is_printed_and_nothing_is_done(name, data, tmp_path, capsys):
    from fusion import evaluate, predict
    from fusion.search import __main__ as search

    module, *words = COMMANDS[name].format(data, tmp_path).split()
    mains = {"fusion.evaluate": evaluate, "fusion.predict": predict, "fusion.search": search}
    main = mains[module].main
    assert main([*words, "--plan", "--memory", "9GB"]) == 0
    said = capsys.readouterr().out
    assert "Plan(4 stores (40x60x80) -> 2 group means" in said
    assert "8 frames of 2 videos" in said
    assert main([*words, "--plan", "--json", "--memory", "9GB"]) == 0
    found = json.loads(capsys.readouterr().out)["plan"]
    shards = [p for p in data.glob("m*.zarr/*/**/*") if p.is_file()]
    assert found["read"] == sum(p.stat().st_size for p in shards)
    assert found["frames"] == 8
    assert found["budget"] == 9 * 10**9
    assert 0 < found["held"] <= found["budget"]
    assert found["seconds"] > 0
    assert (found["written"] > 0) == (name != "evaluate")
    if name == "probabilities":
        assert found["written"] == 8 * 4 * 40 * 240 * 320
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("fits", [True, False])
def test_a_search_on_maps_writes_nothing_and_holds_them_where_they_fit(fits, data, capsys):
    from fusion.search.__main__ import main

    words = COMMANDS["search"].format(data, data).replace("grid", "greedy").split()[1:]
    maps = 8 * 4 * 40 * 60 * 80 * 4  # frames, models, classes, pixels, bytes
    taken = memory.share(10**12).taken
    budget = taken + maps * (20 if fits else 1.8)  # half of it is for maps
    with dask.config.set(num_workers=1):
        assert main([*words, "--plan", "--json", "--memory", f"{budget / 1e6:.0f}MB"]) == 0
    found = json.loads(capsys.readouterr().out)["plan"]
    assert found["written"] == 0
    assert found["plan"].startswith("Plan(4 stores (40x60x80) -> 4 group means -> labels")
    reading = 10**6 * int(re.search(r"(\d+) MB\)$", found["plan"]).group(1))
    assert (found["held"] - taken - reading > maps // 2) == fits
    assert ("do not fit" in found["rest"]) == (not fits)


def test_a_plan_is_of_an_ensemble(data):
    from fusion import evaluate

    words = ["--predictions", str(data / "labels"), "--labels", str(data / "labels"), "--plan"]
    (data / "names.txt").write_text("\n".join(CLASSES))
    with pytest.raises(InputError, match="--plan is of an ensemble"):
        evaluate.main([*words, "--classes", str(data / "names.txt")])


def test_budgets_are_checked_before_anything_is_estimated_or_formed(data, tmp_path, monkeypatch):
    """Groups are formed of scored models, and priors are estimated, of what fits alone."""
    from fusion import evaluate, predict
    from fusion.search import __main__ as search

    def early(*_, **__):
        raise AssertionError("work before the check")

    monkeypatch.setattr("fusion.search.split.score_models", early)
    monkeypatch.setattr("fusion.search.split.fit_each", early)
    for module in (predict, evaluate):
        monkeypatch.setattr(module, "with_estimated", early)
    stores = [str(data / f"m{k}.zarr") for k in range(4)]
    labels = ["--labels", str(data / "labels")]
    formed = ["--auto-groups", "--basic", *stores[:3], "--other", stores[3], *labels]
    formed += ["--strong", "auto", "--out", str(tmp_path / "s"), "--temperatures", "fit"]
    priors = ["--ensemble", str(data / "best.json"), "--estimate-priors"]
    prior = dict.fromkeys(CLASSES, 1 / len(CLASSES))
    (tmp_path / "p.json").write_text(json.dumps([{"operation": "priors", "source": prior}]))
    priors += ["--postprocess", str(tmp_path / "p.json")]
    budget = ["--memory", f"{(memory.share(10**12).taken + 10**6) / 1e6:.0f}MB"]
    for main, words in (
        (search.main, formed),
        (predict.main, [*priors, "--out", str(tmp_path / "o")]),
        (evaluate.main, [*priors, *labels]),
    ):
        with pytest.raises(InputError, match=r"one frame of .* give at least \d+MB"):
            main([*words, *budget])
        assert main([*words, "--memory", "9GB", "--plan"]) == 0
    assert not (tmp_path / "s").exists()


def test_a_plan_says_what_follows(data, tmp_path, capsys):
    from fusion.search.__main__ import main

    words = COMMANDS["search"].format(data, tmp_path).replace("--folds 0", "--folds 2").split()[1:]
    assert main([*words, "--plan", "--json", "--calibration"]) == 0
    found = json.loads(capsys.readouterr().out)["plan"]
    steps = dict(found["steps"])
    assert steps["grid: 21 weightings at most"] > 0
    again = steps["the same again without each of 2 folds"]
    assert again == pytest.approx(steps["grid: 21 weightings at most"])  # half of it, twice
    assert steps["scoring single models"] > 0
    assert steps["calibration, one more pass over all probabilities"] is None
    assert main([*words, "--plan", "--method", "auto", "--multipliers"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"\nthen +\? +class multipliers, from pixels", said)
    assert "heads" not in said  # two units are too few to judge them


def test_matrices_of_narrow_bands_count_in_a_video_being_condensed(data, monkeypatch):
    """A few rows a band: matrices of 40 classes for each, beside pixels that are not many more."""
    from fusion.contested.build import CondenseVideo
    from fusion.ensemble.plan import Budget

    ensemble = fusion.HierarchicalEnsemble.load(data / "best.json", memory="6MB")
    plan = ensemble.plan("a", ("group_means",), Budget(ensemble.memory, 1).condensing)
    assert plan.bands[0][1] < 8
    task, limit = CondenseVideo(ensemble, fusion.Labels.folder(data / "labels"), 1, None), 300_000
    monkeypatch.setattr(
        Budget, "__init__", lambda self, *_: vars(self).update(block=limit, condensing=0)
    )
    blocks = list(task.blocks("a"))
    assert len(blocks) > 3
    assert max(block.nbytes for block in blocks) <= limit + 8 * 40**2 + 320 * 8 * 200
    kept = {each: getattr(task("a"), each) for each in ("constant", "rows")}
    assert kept["constant"].sum() + kept["rows"].sum() == 4 * 240 * 320


REUSED = """
import resource, sys, torch
from fusion.memory import roomy
torch.set_num_threads(1)
if sys.argv[1] == "roomy":
    roomy()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for turn in range(20):
    torch.ones(8 << 20)
before = faults()
for turn in range(10):
    torch.ones(8 << 20)
print(faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_training_keeps_the_blocks_that_it_uses_again():
    """Pages that the system has to give anew: 32 MB are 8192 of them, or fewer larger ones."""

    def given(how: str) -> int:
        command = [sys.executable, "-c", REUSED, how]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    usual = given("usual")
    if platform.libc_ver()[0] == "glibc":
        assert given("roomy") < 100 < usual
