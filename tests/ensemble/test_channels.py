"""Independent channels: probabilities, thresholds, counts and searches against sums by hand."""

from __future__ import annotations

import numpy as np
import pytest

import fusion
from fusion.contested.build import condense_ensemble
from fusion.ensemble.channels import composed, multipliers_at, outcomes, thresholds_of
from fusion.errors import InputError
from fusion.metrics.evaluation import objective_of
from fusion.search.exact.multipliers import Classes
from fusion.search.temperatures import fit_temperatures

NAMES = ("core", "whole", "rim")
SIZE, NATIVE, FRAMES = (12, 16), (6, 8), ("0", "1")
VIDEOS = ("a", "b", "c", "d")


def sigmoid(z):
    return 1 / (1 + np.exp(-np.asarray(z, np.float64)))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Logits of three models that know the truth through noise of their own, and the truth."""
    root, rng = tmp_path_factory.mktemp("channels"), np.random.default_rng(3)
    noises, stores, logits = (1.5, 2.0, 4.0), [], []
    hidden = {v: rng.normal(size=(2, 3, *NATIVE)) * 2 - 1 for v in VIDEOS}
    for number, noise in enumerate(noises):
        path = root / f"m{number}.zarr"
        writer = fusion.LogitWriter(path, NAMES, "exact", values="sigmoid")
        kept = {}
        for video in VIDEOS:
            z = hidden[video] + rng.normal(size=hidden[video].shape) * noise - number
            kept[video] = z.astype(np.float16).astype(np.float64)
            with writer.video(video, frames=FRAMES, size=SIZE) as out:
                for frame in z.astype(np.float32):
                    out.append(frame)
        stores.append(path)
        logits.append(kept)
    masks = {}
    for video in VIDEOS:
        mask = (hidden[video].repeat(2, axis=-2).repeat(2, axis=-1) > 0).astype(np.uint8)
        mask[rng.random(mask.shape) < 0.05] = 255
        masks[video] = mask
    truth = fusion.Labels.from_arrays(masks, frames=dict.fromkeys(VIDEOS, FRAMES))
    return stores, logits, truth, masks


@pytest.fixture(scope="module")
def ensemble(data):
    stores = data[0]
    return fusion.HierarchicalEnsemble({"good": stores[:2], "bad": stores[2:]}, {"bad": 0.5})


def upsampled(p):
    """[..., h, w] to SIZE, half-pixel bilinear, by torch."""
    torch = pytest.importorskip("torch")
    flat = torch.from_numpy(p.reshape(-1, 1, *NATIVE))
    big = torch.nn.functional.interpolate(flat, SIZE, mode="bilinear", align_corners=False)
    return big.numpy().reshape(*p.shape[:-2], *SIZE)


def probabilities(data, video, weights=(1.0, 0.5)):
    """Fused [T, C, H, W] in float64."""
    one, two, three = (sigmoid(z[video]) for z in data[1])
    good, bad = upsampled((one + two) / 2), upsampled(three)
    return (weights[0] * good + weights[1] * bad) / sum(weights)


def counts(data, masks_of, thresholds=(0.5, 0.5, 0.5)):
    """[V, C, 2, 2], rows truth, by hand."""
    found = np.zeros((len(VIDEOS), 3, 2, 2), np.int64)
    for v, video in enumerate(VIDEOS):
        truth = data[3][video]
        for c in range(3):
            for t in (0, 1):
                for p in (0, 1):
                    there = (truth[:, c] == t) & (masks_of(video)[:, c] == p)
                    found[v, c, t, p] = there.sum()
    return found


def best_threshold(p, truth, wanted):
    """The highest IoU or Dice of any threshold: one sorted pass."""
    order = np.argsort(-p[truth != 255], kind="stable")
    ranked, there = p[truth != 255][order], truth[truth != 255][order] == 1
    hit, taken = np.cumsum(there), np.arange(1, len(there) + 1)
    apart = np.append(ranked[1:] < ranked[:-1], True)
    both = taken + there.sum()
    score = 2 * hit / both if wanted == "dice" else hit / (both - hit)
    return score[apart].max()


class TestEnsemble:
    def test_it_says_what_it_is(self, ensemble):
        assert ensemble.channels == NAMES
        assert ensemble.classes[:2] == ("not core", "core")
        assert "3 independent channels" in repr(ensemble)
        assert ensemble.thresholds == dict.fromkeys(NAMES, 0.5)

    @pytest.mark.parametrize("video", VIDEOS[:2])
    def test_probabilities_and_masks_are_those_of_float64(self, data, ensemble, video):
        expected = probabilities(data, video)
        assert np.abs(ensemble.predict_proba(video) - expected).max() < 1e-6
        clear = np.abs(expected - 0.5) > 1e-6
        masks = ensemble.predict(video)
        assert masks.dtype == np.uint8
        assert masks.shape == (2, 3, *SIZE)
        assert np.array_equal(masks[clear], (expected > 0.5)[clear])

    def test_thresholds_by_name_and_as_one(self, data, ensemble):
        some = ensemble.regrouped(ensemble.groups, ensemble.weights, thresholds={"rim": 0.2})
        expected = probabilities(data, "a") > np.array([0.5, 0.5, 0.2])[:, None, None]
        assert (some.predict("a") == expected).mean() > 0.9999
        assert some.thresholds == pytest.approx({"core": 0.5, "whole": 0.5, "rim": 0.2})
        assert "rim 0.2" in repr(some)
        alike = ensemble.regrouped(ensemble.groups, ensemble.weights, thresholds=0.3)
        assert set(alike.thresholds.values()) == {0.3}

    def test_void_masks_and_no_frames(self, ensemble):
        assert ensemble.predict("a", []).shape == (0, 3, *SIZE)
        assert ensemble.predict_proba("a", []).shape == (0, 3, *SIZE)

    def test_what_cannot_be(self, data, ensemble, tmp_path):
        stores = data[0]
        plain = fusion.LogitWriter(tmp_path / "plain.zarr", NAMES)
        with plain.video("a", frames=FRAMES, size=SIZE) as out:
            for _ in FRAMES:
                out.append(np.zeros((3, *NATIVE), np.float32))
        for groups, options, said in [
            ([stores[0], plain.path], {}, "fuse with their like alone"),
            (stores, {"mean": "geometric"}, "use mean='arithmetic'"),
            (stores, {"thresholds": {"edge": 0.1}}, "unknown class 'edge'"),
            (stores, {"thresholds": 1.0}, "above 0 and below 1"),
            (stores, {"thresholds": [0.1]}, "give 3 numbers"),
            (stores, {"thresholds": 0.1, "multipliers": [1.0] * 6}, "give one of the two"),
            ([plain.path], {"thresholds": 0.1}, "these classes exclude each other"),
        ]:
            with pytest.raises(InputError, match=said):
                fusion.HierarchicalEnsemble({"g": groups}, **options)
        other = fusion.LogitWriter(tmp_path / "twice.zarr", ["x", "not x"], values="sigmoid")
        with other.video("a", frames=["0"]) as out:
            out.append(np.zeros((2, 4, 4), np.float32))
        with pytest.raises(InputError, match="is also how the absence"):
            fusion.HierarchicalEnsemble({"g": [other.path]})

    def test_thresholds_come_back_from_disk(self, data, ensemble, tmp_path):
        some = ensemble.regrouped(ensemble.groups, ensemble.weights, thresholds=[0.3, 0.5, 0.7])
        some.save(tmp_path / "best.json")
        loaded = fusion.HierarchicalEnsemble.load(tmp_path / "best.json")
        assert loaded.multipliers == some.multipliers
        assert np.array_equal(loaded.predict("c"), some.predict("c"))
        (tmp_path / "e.toml").write_text(
            f'[groups]\ng = ["{data[0][0]}"]\n[thresholds]\nwhole = 0.25\n'
        )
        loaded = fusion.HierarchicalEnsemble.load(tmp_path / "e.toml")
        assert loaded.thresholds["whole"] == pytest.approx(0.25)


class TestScores:
    def test_counts_are_those_by_hand(self, data, ensemble):
        scores = ensemble.evaluate(data[2])
        expected = counts(data, ensemble.predict)
        for v, video in enumerate(VIDEOS):
            matrix = scores.confusions[video]
            for c in range(3):
                here = slice(2 * c, 2 * c + 2)
                assert np.array_equal(matrix[here, here], expected[v, c])
                matrix = matrix.copy()
                matrix[here, here] = 0
            assert not matrix.any()

    @pytest.mark.parametrize("wanted", ["vspw", "dice", "case-dice-nnunet"])
    def test_the_score_is_of_what_is_there(self, data, ensemble, wanted):
        total = counts(data, ensemble.predict)
        hit, rows, columns = total[..., 1, 1], total[..., 1, :].sum(-1), total[..., :, 1].sum(-1)
        summed = [part.sum(axis=0) for part in (hit, rows, columns)]
        expected = {
            "vspw": (summed[0] / (summed[1] + summed[2] - summed[0])).mean(),
            "dice": (2 * summed[0] / (summed[1] + summed[2])).mean(),
            "case-dice-nnunet": (2 * hit / (rows + columns)).mean(axis=0).mean(),
        }
        assert ensemble.evaluate(data[2], convention=wanted).score == pytest.approx(
            expected[wanted], abs=1e-12
        )

    def test_calibration_counts_channels_as_pixels_of_two_classes(self, data, ensemble):
        found = ensemble.calibration(data[2])
        p = np.concatenate([ensemble.predict_proba(v) for v in VIDEOS]).astype(np.float64)
        truth = np.concatenate([data[3][v] for v in VIDEOS])
        counted = truth != 255
        p, truth = p[counted], truth[counted]
        hits = np.where(truth == 1, p, 1 - p)
        assert found.pixels == counted.sum()
        assert found.nll == pytest.approx(-np.log(hits).mean(), abs=1e-6)
        assert found.brier == pytest.approx((2 * (1 - hits) ** 2).mean(), abs=1e-6)


class TestSearch:
    @pytest.mark.parametrize("multiplied", [False, True])
    def test_contested_pixels_count_what_fusion_decides(self, data, ensemble, multiplied):
        rng = np.random.default_rng(5)
        condensed = condense_ensemble(ensemble, data[2], reach=25.0 if multiplied else 1.0)
        assert condensed.classes == ensemble.classes
        for weights in rng.random((4, 2)):
            factors = rng.uniform(0.2, 5, 6) if multiplied else None
            named = dict(zip(ensemble.groups, weights, strict=True))
            fused = ensemble.with_weights(named).with_multipliers(factors)
            scores = fused.evaluate(data[2])
            matrices = condensed.confusion(weights, factors)
            for matrix, video in zip(matrices, condensed.videos, strict=True):
                assert np.array_equal(matrix, scores.confusions[video])

    @pytest.mark.parametrize("wanted", ["vspw", "dice"])
    def test_thresholds_are_the_best_of_all(self, data, ensemble, wanted):
        condensed = condense_ensemble(ensemble, data[2], reach=999.0).fused([1.0, 0.5], 999.0)
        climber = Classes(condensed, objective_of(ensemble, wanted), 999.0)
        score, multipliers = climber.climb([1.0] * 6)
        p = np.concatenate([ensemble.predict_proba(v) for v in VIDEOS])
        truth = np.concatenate([data[3][v] for v in VIDEOS])
        best = [best_threshold(p[:, c], truth[:, c], wanted) for c in range(3)]
        assert score == pytest.approx(np.mean(best), abs=1e-12)
        fused = ensemble.with_multipliers(multipliers)
        assert fused.evaluate(data[2], convention=wanted).score == score

    def test_what_a_search_says_is_what_its_ensemble_scores(self, data, ensemble):
        found = ensemble.search(data[2], "exact", multipliers=True, objective="dice", folds=2)
        assert found.multipliers is not None
        assert found.miou > ensemble.evaluate(data[2], convention="dice").score
        assert found.ensemble.evaluate(data[2], convention="dice").score == found.miou

    def test_auto_goes_to_thresholds_and_says_why_no_further(self, data, ensemble):
        found = ensemble.search(data[2], "auto", folds=2)
        assert "no heads" in found.notes["auto"]
        assert found.ensemble.evaluate(data[2]).score == pytest.approx(found.miou, abs=0)

    def test_temperatures_are_those_of_brute_force(self, data, ensemble):
        found = fit_temperatures(ensemble, data[2], stride=1)
        for (path, temperature), logits in zip(sorted(found.items()), data[1], strict=True):
            truth = np.concatenate([data[3][v] for v in VIDEOS])
            counted = truth != 255

            def nll(t, logits=logits, truth=truth, counted=counted):
                p = np.concatenate([upsampled(sigmoid(logits[v] / t)) for v in VIDEOS])
                return -np.log(np.where(truth == 1, p, 1 - p)[counted]).mean()

            near = nll(temperature)
            assert path.endswith(".zarr")
            assert near <= min(nll(temperature * 1.02), nll(temperature / 1.02))


def test_two_words_for_a_threshold():
    pairs = multipliers_at([0.2, 0.5, 0.9], NAMES)
    assert list(pairs)[:2] == ["not core", "core"]
    assert thresholds_of(pairs, NAMES) == pytest.approx({"core": 0.2, "whole": 0.5, "rim": 0.9})
    assert thresholds_of(None, NAMES) == dict.fromkeys(NAMES, 0.5)
    assert multipliers_at(None, NAMES) is None


def test_outcomes_of_many_channels_are_wide():
    masks = np.array([[0, 1, 255]] * 200, np.uint8)
    ids = outcomes(masks)
    assert ids.dtype == np.uint16
    assert ids[3].tolist() == [6, 7, 65535]
    assert outcomes(masks[:2]).tolist() == [[0, 1, 255], [2, 3, 255]]


def test_regions_are_painted_in_order():
    masks = np.array([[1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 1, 1]], np.uint8)
    assert composed(masks, [2, 1, 3]).tolist() == [2, 1, 3, 3]
    assert composed(np.stack([masks[:, None]]), [2, 1, 300]).dtype == np.uint16
    with pytest.raises(InputError, match="2 labels"):
        composed(masks, [1, 2])
