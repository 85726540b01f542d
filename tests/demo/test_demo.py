"""The demo: the same each time, errs as real networks do, and says what is true."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import fusion
from benchmarks.errors import confusion_rates, profile, simulated
from fusion import demo
from fusion.demo import ending, known
from fusion.demo.measured import CONFUSION, PROFILE
from fusion.demo.networks import FAMILIES, evidence, networks
from fusion.demo.pictures import drawing
from fusion.demo.scenes import CLASSES, SIZE, VOID, Scene
from fusion.errors import InputError
from fusion.progress import silent
from fusion.search.exact.climb import Exact
from fusion.search.held import FOUND, SINGLE, UNIFORM
from fusion.search.report import Report
from fusion.search.run import Run
from fusion.stores import LogitStore
from fusion.terminal import Style

# how far the simulation may be from what was measured, as a share of it
BAND = 0.25
WIDER = {
    "classes: share of the most frequent": 0.4,  # a street of rectangles is all ground and houses
    "borders: share of pixels": 0.4,  # small pictures have more of them
    # less than of real networks: weights of classes mend rather too little here
    "predicted over true: spread of classes": 0.35,
}


@pytest.fixture(scope="module")
def clips():
    return simulated(demo.scenes_of("val"))


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A small search of the demo: its report and its folder."""
    out = tmp_path_factory.mktemp("demo")
    for split in ("val", "test"):
        assert len(set(demo.write(out, split))) == demo.VIDEOS
    stores = {
        "strong": [out / "val" / "conv_01.zarr", out / "val" / "conv_02.zarr"],
        "other": sorted((out / "val").glob("attention_*.zarr")),
    }
    truth = {split: fusion.Labels.folder(out / "labels" / split) for split in ("val", "test")}
    run = Run(fusion.HierarchicalEnsemble(stores), truth["val"], folds=3, name="val", reach=4.0)
    found = run.search(Exact(climbs=1, gap=None))
    report = Report([run, run.elsewhere(truth["test"], out / "test")], found, {}, {})
    report.write(out)
    return report, out


def test_whatever_is_made_is_made_alike():
    scene = Scene("val", 3, 8)
    network = networks()[1]
    first = list(network.logits(scene, evidence(scene)))
    again = Scene("val", 3, 8)
    later = dict([*evidence(again).items()][5:])  # a frame does not depend on those before it
    assert np.array_equal(scene.targets, again.targets)
    assert np.array_equal(list(network.logits(again, later)), first[5:])
    other = networks()[2]
    assert not np.array_equal(next(other.logits(scene, evidence(scene))), first[0])
    assert not np.array_equal(Scene("test", 3, 8).targets, scene.targets)


def test_stores_are_what_networks_say_and_are_kept(searched):
    _, out = searched
    scene, network = demo.scenes_of("val")[0], networks()[0]
    store = LogitStore(out / "val" / f"{network.name}.zarr")
    said = np.stack([*network.logits(scene, evidence(scene))])
    assert np.array_equal(store.read(scene.video).argmax(axis=1), said.argmax(axis=1))
    before = store.path.stat().st_mtime_ns, store.digest()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "VIDEOS", 8)
        list(demo.write(out, "val"))
    again = LogitStore(store.path)
    assert (again.path.stat().st_mtime_ns, again.digest()) == before


@pytest.mark.parametrize("name", PROFILE)
def test_networks_err_as_real_ones_do(clips, profiled, name):
    measured, band = PROFILE[name], WIDER.get(name, BAND)
    assert profiled[name] == pytest.approx(measured, rel=band)


@pytest.fixture(scope="module")
def profiled(clips):
    return profile(*clips, len(CLASSES))


def test_classes_are_taken_for_what_they_were_measured_to_be_taken_for(clips):
    rates = 100 * confusion_rates(clips[0])
    off = ~np.eye(len(CLASSES), dtype=bool)
    assert np.corrcoef(rates[off], CONFUSION[off])[0, 1] > 0.9
    usual = np.where(off, CONFUSION, 0).argmax(axis=1)
    assert (np.where(off, rates, 0).argmax(axis=1) == usual).mean() > 0.7
    assert np.allclose(CONFUSION.sum(axis=1), 100, atol=0.3)


def test_the_profile_of_a_case_worked_out_by_hand():
    """Two models of one family and one of another, two frames of 2 x 2, two classes."""
    target = np.array([[[0, 0], [1, VOID]]] * 2, np.uint8)
    tops = np.array([target, target, target])
    tops[:, :, 1, 1] = 0
    tops[0, 1, 0, 0] = tops[1, 1, 0, 0] = 1  # models 0 and 1 err alike in the second frame
    tops[2, :, 1, 0] = 0  # model 2 in both
    probabilities = np.zeros((3, 2, 2, 2, 2), np.float32)
    np.put_along_axis(probabilities, tops[:, :, None].astype(np.int64), 1.0, axis=2)
    clip = simulated_clip(probabilities, target)
    found = profile([clip], [0, 0, 1], 2)
    assert found["accuracy"] == pytest.approx((5 / 6 + 5 / 6 + 4 / 6) / 3)
    assert found["disagree, within a family"] == 0
    assert found["err alike, within a family"] == 1
    assert found["disagree, between"] == pytest.approx(3 / 6)
    assert found["err alike, between"] == 0
    assert found["flicker"] == pytest.approx(2 / 9)
    assert found["errors that stay a frame later"] == 1
    assert found["confidence where wrong"] == 1
    assert found["wrong by most models"] == pytest.approx(1 / 6)


def simulated_clip(probabilities, target):
    from benchmarks.errors import Clip

    return Clip.of(probabilities, target, [[0, 1], [2]], dense=True)


def test_what_is_known_is_what_a_plain_evaluation_gives(searched):
    report, _ = searched
    run = report.splits[0]
    uniform = run.contender(UNIFORM, report.found)
    true = known.true_scores({"it": uniform}, known.batches(3))["it"]
    expected = np.zeros((len(CLASSES),) * 2, np.int64)
    for index in range(3):
        scene = Scene("new", index, known.FRAMES)
        seen = evidence(scene, [known.AT])
        shares = {}
        for network in networks():
            (logits,) = network.logits(scene, seen)
            powers = np.exp(logits.astype(np.float64) - logits.max(axis=0))
            shares[network.name] = powers / powers.sum(axis=0)
        means = [
            np.mean([shares[store.model] for store in group], axis=0)
            for group in run.ensemble.groups.values()
        ]
        labels, target = np.mean(means, axis=0).argmax(axis=0), scene.targets[known.AT]
        np.add.at(expected, (target[target != VOID], labels[target != VOID]), 1)
    assert np.abs(true.confusion - expected).sum() <= 4  # float32 beside float64
    assert true.confusion.sum() == 3 * (SIZE[0] - 1) * SIZE[1]


def test_fusing_helps_on_videos_that_nobody_searched(searched):
    report, _ = searched
    run = report.splits[0]
    names = (SINGLE, UNIFORM, FOUND)
    ensembles = {name: run.contender(name, report.found) for name in names}
    true = known.true_scores(ensembles, known.batches(80))
    assert true[FOUND].score > true[SINGLE].score + 0.01
    assert report.scores["test"].score > report.rungs[next(iter(report.rungs))]["test"].score


def test_what_is_said_at_the_end(searched, monkeypatch):
    report, out = searched
    monkeypatch.setattr(ending, "page", lambda folder: f"page of {folder.name}")
    said = ending.ending(report, out, Style(), silent, 40)
    plain = " ".join(said.split())
    gain = report.found.verdict.gain
    low, high = gain.interval
    held = f"held out {100 * gain.value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}], true "
    assert f"gain over uniform weights: {held}" in plain
    run = report.splits[0]
    best = run.contender(FOUND, report.found)
    (true,) = known.true_scores({"it": best}, known.batches(40)).values()
    row = next(line for line in said.split("\n") if line.startswith("searched: weights"))
    assert f"{100 * true.score:.2f}" in row.split()
    value = true.score - uniform_truth(run, report)
    where = "inside" if low <= value <= high else "outside"
    assert f"{held}{100 * value:+.1f}: {where} the interval" in plain
    assert said.endswith(f"page of {out.name}")
    assert max(map(len, said.split("\n"))) <= 80 + len(str(out))
    for name in ("helped", "typical", "hurt"):
        assert f"{name}.png: test_0" in said
        with Image.open(out / "pictures" / f"{name}.png") as picture:
            assert picture.size == (3 * 7 * SIZE[1], 24 + 2 * 7 * SIZE[0])


def uniform_truth(run, report):
    uniform = run.contender(UNIFORM, report.found)
    return known.true_scores({"it": uniform}, known.batches(40))["it"].score


def test_a_picture_shows_errors_in_red():
    target = np.zeros((2, 3), np.uint8)
    one, both = target.copy(), target.copy()
    one[0, 0] = 3
    target[1, 2] = VOID  # what is void cannot be wrong
    both[1, 2] = 5
    pixels = np.asarray(drawing(target, one, both))
    red = (pixels[24 + 2 * 7 :] == (220, 30, 30)).all(axis=-1)
    assert red.sum() == 7 * 7
    assert red[:7, 3 * 7 : 4 * 7].all()


def test_the_page_is_drawn_where_it_can_be(tmp_path, monkeypatch):
    import fusion.report

    monkeypatch.setattr(fusion.report, "write_report", lambda out: out / "report.html")
    assert ending.page(tmp_path) == f"report: {tmp_path / 'report.html'}"

    def lacking(out):
        raise InputError("report: needs altair; pip install 'segfusion[plot]'")

    monkeypatch.setattr(fusion.report, "write_report", lacking)
    assert ending.page(tmp_path) == ending.PLOTS

    def wrong(out):
        raise InputError("report: no search.json here")

    monkeypatch.setattr(fusion.report, "write_report", wrong)
    with pytest.raises(InputError, match=r"no search\.json"):
        ending.page(tmp_path)


def test_the_demo_is_as_large_as_it_says():
    assert f"{sum(FAMILIES.values())} simulated networks" in demo.OPENING
    assert f"{demo.VIDEOS} clips" in demo.OPENING
