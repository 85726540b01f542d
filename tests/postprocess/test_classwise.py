"""Priors, masks and thresholds of classes: against twins, and shifts that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusion import HierarchicalEnsemble, MemoryStore
from fusion.errors import InputError
from fusion.kernels.arithmetic import Fused
from fusion.postprocess import Frame, Pipeline, operation_of
from fusion.postprocess.class_mask import ClassMask
from fusion.postprocess.priors import Priors, estimate_priors, estimated, with_estimated
from fusion.postprocess.thresholds import Thresholds
from tests.postprocess.contract import CLASSES, OperationContract, array, frames_of, make_video

SOURCE = dict(zip(CLASSES, (0.4, 0.3, 0.2, 0.09, 0.01), strict=True))
TARGET = dict(zip(CLASSES, (0.1, 0.1, 0.2, 0.3, 0.3), strict=True))


class TestPriors(OperationContract):
    operation = Priors(tau=0.7, source=SOURCE, target=TARGET)

    def test_it_is_bayes_rule_pixel_by_pixel(self, video):
        frames = frames_of(self.operation, video)
        for before, after in zip(frames, self.run(video, frames), strict=True):
            for y, x in [(0, 0), (5, 7), (11, 15)]:
                old = array(before)[:, y, x].astype(np.float64)
                new = [
                    p * (TARGET[name] / SOURCE[name]) ** 0.7
                    for p, name in zip(old, CLASSES, strict=True)
                ]
                np.testing.assert_allclose(array(after)[:, y, x], new / np.sum(new), atol=1e-6)

    def test_no_target_is_logit_adjustment(self, video):
        """Menon et al.: argmax of log P - tau log pi."""
        operation = Priors(tau=1.5, source=SOURCE)
        frames = frames_of(operation, video)
        pi = np.array(list(SOURCE.values()))[:, None, None]
        for before, after in zip(frames, self.run_of(operation, video, frames), strict=True):
            expected = (np.log(array(before).astype(np.float64)) - 1.5 * np.log(pi)).argmax(0)
            assert np.array_equal(array(after).argmax(0), expected)

    def run_of(self, operation, video, frames):
        return list(operation.apply(iter(frames), video))

    def test_tau_0_and_equal_priors_change_nothing(self, video):
        for operation in (Priors(0.0, SOURCE), Priors(1.0, SOURCE, SOURCE)):
            frames = frames_of(operation, video)
            for before, after in zip(frames, self.run_of(operation, video, frames), strict=True):
                np.testing.assert_allclose(array(after), array(before), atol=1e-6)

    def test_it_is_fitted_to_labelled_pixels(self):
        rows = [70, 0, 9, 19, 0]
        fitted = Priors(tau=0.5).fitted(rows)
        expected = (np.array(rows) + 1) / (sum(rows) + 5)
        np.testing.assert_allclose(fitted.source, expected)
        assert operation_of(fitted.get_config()) == fitted
        named = Priors(tau=0.5).fitted(dict(zip(CLASSES, rows, strict=True)))
        assert named.source == dict(zip(CLASSES, fitted.source, strict=True))
        assert np.array_equal(named.factors(CLASSES), fitted.factors(CLASSES))
        assert self.operation.fitted(rows) == self.operation

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({}, "no source"),
            ({"source": {"sky": 1.0}}, "none of 'road'"),
            ({"source": {**SOURCE, "rod": 1}}, "did you mean 'road'"),
            ({"source": (0.5, 0.5)}, "2 numbers for 5 classes"),
            ({"source": dict.fromkeys(CLASSES, 0)}, "all are 0"),
            ({"source": {**SOURCE, "sky": -1}}, "-1 for 'sky'"),
            ({"source": SOURCE, "target": {"sky": 1}}, "target: none of 'road'"),
        ],
    )
    def test_priors_that_are_none_are_refused(self, options, said):
        with pytest.raises(InputError, match=said):
            Priors(**options).check(CLASSES, independent=False)
        with pytest.raises(InputError, match="source"):
            Priors(source=3)


def shifted(source, target, samples, seed=0):
    """Posteriors under `source` of Gaussian classes, whose samples come as `target` says."""
    draw = np.random.default_rng(seed)
    classes = len(source)
    means = np.eye(classes) * 2.5
    truth = draw.choice(classes, samples, p=target)
    points = means[truth] + draw.normal(size=(samples, classes))
    logs = -0.5 * ((points[:, None] - means) ** 2).sum(2) + np.log(source)
    weights = np.exp(logs - logs.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True), np.bincount(truth, minlength=classes) / samples


def test_em_recovers_a_known_shift():
    source, target = [0.7, 0.2, 0.05, 0.05], [0.05, 0.15, 0.3, 0.5]
    samples, drawn = shifted(source, target, 40_000)
    found = estimate_priors(samples, source)
    np.testing.assert_allclose(found, drawn, atol=0.01)
    assert abs(samples.mean(0) - drawn).max() > 0.05  # what averaging alone would say
    assert found.sum() == pytest.approx(1)


def test_em_stays_where_nothing_has_shifted():
    source = [0.6, 0.3, 0.1]
    samples, drawn = shifted(source, source, 40_000)
    np.testing.assert_allclose(estimate_priors(samples, source), drawn, atol=0.01)


def test_em_is_equation_2_9_written_out():
    source = np.array([0.5, 0.3, 0.2])
    samples, _ = shifted(source, [0.1, 0.3, 0.6], 200)
    new = source.copy()
    for _ in range(3000):
        total = np.zeros(3)
        for posterior in samples:
            weighted = new / source * posterior
            total += weighted / weighted.sum()
        if abs(total / len(samples) - new).max() < 1e-10:
            break
        new = total / len(samples)
    np.testing.assert_allclose(estimate_priors(samples, source * 7), new, atol=1e-5)


@pytest.mark.parametrize(
    ("samples", "source", "said"),
    [
        (np.ones((0, 2)), [1, 1], "N above 0"),
        (np.ones((3, 2)), [1, 1, 1], r"\[3, 2\], source \[3\]"),
        (np.full((3, 2), np.nan), [1, 1], "no probability"),
        (np.ones((3, 2)), [1, 0], "above 0"),
    ],
)
def test_em_refuses_what_is_none(samples, source, said):
    with pytest.raises(InputError, match=said):
        estimate_priors(samples, source)


def ensemble_of(samples, classes, **options):
    """One model whose pixels are these samples, over two videos of other lengths."""
    logits = np.log(samples).T.reshape(len(classes), -1, 20, 25).swapaxes(0, 1)
    videos = {"a": logits[:60], "b": logits[60:]}
    return HierarchicalEnsemble([MemoryStore(videos, classes)], **options)


def test_an_ensemble_tells_the_priors_of_its_data():
    source, target = [0.7, 0.2, 0.1], [0.1, 0.3, 0.6]
    samples, drawn = shifted(source, target, 500 * 80)
    classes = ("sky", "road", "car")
    ensemble = ensemble_of(samples, classes)
    found = estimated(ensemble, dict(zip(classes, source, strict=True)), pixels=20_000)
    np.testing.assert_allclose(list(found.values()), drawn, atol=0.03)
    assert estimated(ensemble, source, pixels=20_000) == found
    priors = Priors(tau=1.0, source=tuple(source))
    given = ensemble.with_postprocess([priors, "small-components:pixels=3"])
    made = with_estimated(given, pixels=20_000)
    assert made.postprocess.operations[0].target == found
    assert made.postprocess.operations[1:] == given.postprocess.operations[1:]
    with pytest.raises(InputError, match="postprocess is none"):
        with_estimated(ensemble)
    some = estimated(ensemble, source, videos=["a"], pixels=20_000)
    assert some == estimated(ensemble, source, videos=("a",), pixels=20_000) != found
    for none in ([], ()):  # not all of them
        with pytest.raises(InputError, match=r"got videos=\[\], nothing to look at; leave it"):
            with_estimated(given, videos=none)


class TestClassMask(OperationContract):
    operation = ClassMask(classes=("car", "bus"))

    def test_what_is_masked_is_gone_and_the_rest_stays_in_proportion(self, video):
        frames = frames_of(self.operation, video)
        for before, after in zip(frames, self.run(video, frames), strict=True):
            left = [0, 1, 3]
            expected = array(before)[left] / array(before)[left].sum(0)
            np.testing.assert_allclose(array(after)[left], expected, atol=1e-6)
            assert not array(after)[[2, 4]].any()

    @pytest.mark.parametrize(
        ("options", "missing"),
        [
            ({"classes": ("car",), "videos": ("night_*", "x")}, []),
            ({"classes": ("car",), "videos": ("cl?p",)}, [2]),
            ({"absent": {"c*": ["car"], "*p": ["bus", "car"], "CLIP": ["sky"]}}, [2, 4]),
            ({"absent": {"night": ["car"]}, "classes": ("sky",)}, [0]),
        ],
    )
    def test_patterns_say_which_videos(self, options, missing):
        operation = ClassMask(**options)
        assert operation.missing(make_video()) == missing
        assert operation_of(operation.get_config()) == operation

    def test_a_pixel_without_anything_left_is_uniform(self):
        values = torch.zeros(5, 2, 2)
        values[2] = 1
        (frame,) = self.operation.apply(iter([Frame("00010", values)]), make_video(frames=1))
        np.testing.assert_allclose(array(frame)[:, 0, 0], [1 / 3, 1 / 3, 0, 1 / 3, 0])

    def test_channels_are_masked_alone(self):
        video = make_video(independent=True)
        frames = frames_of(self.operation, video)
        for before, after in zip(frames, self.run(video, frames), strict=True):
            assert np.array_equal(array(after)[[0, 1, 3]], array(before)[[0, 1, 3]])
            assert not array(after)[[2, 4]].any()

    def test_what_masks_nothing_or_all_is_refused(self):
        for options, said in [
            ({}, "no class"),
            ({"classes": CLASSES}, "all classes are masked"),
            ({"absent": {"*": ["cra"]}}, "did you mean 'car'"),
        ]:
            with pytest.raises(InputError, match=said):
                ClassMask(**options).check(CLASSES, independent=False)
        with pytest.raises(InputError, match="of video 'clip' are masked"):
            ClassMask(CLASSES[:2], absent={"*": CLASSES[2:]}).missing(make_video())
        with pytest.raises(InputError, match="absent"):
            ClassMask(absent={"*": "car"})


class TestThresholds(OperationContract):
    operation = Thresholds(0.6, {"sky": 0.9, "car": 0.2})

    def by_hand(self, operation, frame):
        limits = [operation.by_class.get(name, operation.least) for name in CLASSES]
        made = frame.values.copy()
        for y, x in np.ndindex(made.shape):
            label, p = made[y, x], frame.beside.probabilities[:, y, x]
            if label == 255 or p[label] >= np.float32(limits[label]):
                continue
            if operation.fallback == "second":
                rest = [c for c in range(5) if c != label and p[c] >= np.float32(limits[c])]
                made[y, x] = max(rest, key=lambda c: (p[c], -c)) if rest else label
            elif operation.fallback == "void":
                made[y, x] = 255
            else:
                made[y, x] = CLASSES.index(operation.fallback or "sky")
        return made

    @pytest.mark.parametrize("fallback", ["", "second", "void", "tree"])
    def test_it_is_the_rule_written_out(self, video, fallback):
        operation = Thresholds(0.6, {"sky": 0.9, "car": 0.2}, fallback)
        frames = frames_of(operation, video)
        frames[0].values[0, :5] = 255
        made = list(operation.apply(iter(frames), video))
        for before, after in zip(frames, made, strict=True):
            assert np.array_equal(after.values, self.by_hand(operation, before))
        assert any((a.values != b.values).any() for a, b in zip(frames, made, strict=True))

    def test_the_next_best_must_reach_its_own(self):
        soft = torch.tensor([0.45, 0.3, 0.15, 0.1, 0.0]).reshape(5, 1, 1)
        for limits, expected in [((0.5, 0.4, 0.1, 0, 0), 2), ((0.5, 0.4, 0.2, 0.2, 0.2), 0)]:
            operation = Thresholds(0.5, limits, "second")
            frame = Frame("00010", np.zeros((1, 1), np.uint8), Fused(probabilities=soft))
            (made,) = operation.apply(iter([frame]), make_video(frames=1))
            assert made.values.item() == expected

    def test_names_are_checked(self):
        for options, said in [
            ({"fallback": "secnd"}, "did you mean 'second'"),
            ({"fallback": "second"}, "one threshold for all"),
            ({"by_class": {"ski": 0.1}}, "did you mean 'sky'"),
            ({"by_class": {"sky": 1.1}}, "0 to 1"),
        ]:
            with pytest.raises(InputError, match=said):
                Thresholds(**options).check(CLASSES, independent=False)


def test_all_of_them_in_one_ensemble(tmp_path):
    """From text, saved and loaded: the same labels."""
    samples, _ = shifted([0.7, 0.2, 0.1], [0.2, 0.3, 0.5], 500 * 80)
    given = [
        "priors:tau=0.5,source=sky:0.7+road:0.2+car:0.1",
        "class-mask:classes=road,videos=b",
        "thresholds:least=0.6",
        "small-components:pixels=4",
        "fill-holes:pixels=9",
        "largest-component:classes=car,dimensions=3",
    ]
    ensemble = ensemble_of(samples, ("sky", "road", "car"), postprocess=given)
    made = ensemble.predict("b")
    assert 1 not in made
    assert ensemble.postprocess == Pipeline(tuple(operation_of(each) for each in given))
    bare = ensemble.with_postprocess(None)
    again = bare.with_postprocess(ensemble.postprocess.get_config())
    assert np.array_equal(again.predict("b"), made)
    assert not np.array_equal(bare.predict("b"), made)
    some = bare.frames("b")[3:5]
    assert np.array_equal(ensemble.predict("b", some), made[3:5])
    soft = ensemble.predict_proba("b", some)
    assert np.allclose(soft.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("given", ["class-mask:classes=road,videos=x", "thresholds:least=0"])
def test_operations_on_single_frames_see_each_of_a_long_video(given):
    """More frames than are read at a time; the operation itself changes nothing."""
    samples, _ = shifted([0.7, 0.2, 0.1], [0.2, 0.3, 0.5], 500 * 110)
    ensemble = ensemble_of(samples, ("sky", "road", "car"))
    assert ensemble.plan("b").frames < len(ensemble.frames("b"))
    made = ensemble.with_postprocess(given)
    assert np.array_equal(made.predict("b"), ensemble.predict("b"))
