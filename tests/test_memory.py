"""Budgets of whole processes: what they leave, what they refuse, and that commands keep to them."""

from __future__ import annotations

import json
import os
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
