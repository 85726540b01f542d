"""The public face: what is refused and how, dispatch, and what importing costs."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from fusion import kernels
from fusion.kernels.call import check

Z = torch.zeros(3, 4, 5)


@pytest.mark.parametrize(
    ("error", "names", "arguments"),
    [
        (ValueError, "logits", {"logits": [], "weights": []}),
        (TypeError, r"logits\[1\]", {"logits": [Z, Z.numpy()]}),
        (TypeError, r"logits\[1\].*float64", {"logits": [Z, Z.double()]}),
        (TypeError, r"logits\[0\].*int64", {"logits": [Z.long(), Z]}),
        (ValueError, r"logits\[1\].*shape", {"logits": [Z, Z[:, :2]]}),
        (ValueError, r"logits\[1\].*classes", {"logits": [Z, Z[:2]]}),
        (ValueError, r"logits\[0\].*classes", {"logits": [Z[:0], Z[:0]]}),
        (ValueError, r"logits\[0\]", {"logits": [torch.tensor(1.0), Z]}),
        (ValueError, r"logits\[1\].*meta", {"logits": [Z, Z.to("meta")]}),
        (ValueError, "meta", {"logits": [Z.to("meta"), Z.to("meta")]}),
        (ValueError, "weights", {"weights": [1.0]}),
        (ValueError, "weights", {"weights": [1.0, -1.0]}),
        (ValueError, "weights", {"weights": [1.0, float("nan")]}),
        (ValueError, "weights", {"weights": [1.0, float("inf")]}),
        (ValueError, "weights", {"weights": [0.0, 0.0]}),
        (ValueError, "groups", {"groups": [[0], []]}),
        (ValueError, "groups", {"groups": [[0], [2]]}),
        (ValueError, "groups", {"groups": [[0], [-1]]}),
        (ValueError, "groups", {"groups": [[0, 1], [1]]}),
        (ValueError, "groups", {"groups": [[0]], "weights": [1.0]}),
        (ValueError, "temperatures", {"temperatures": [1.0]}),
        (ValueError, "temperatures", {"temperatures": [1.0, 0.0]}),
        (ValueError, "temperatures", {"temperatures": [1.0, float("inf")]}),
        (ValueError, "outputs", {"outputs": ("label",)}),
        (ValueError, "outputs", {"outputs": ()}),
        (ValueError, "values", {"values": "logit"}),
        (ValueError, "values", {"values": ["logits"]}),
        (ValueError, "channels.*rank", {"channels": True, "outputs": ("labels", "confidence")}),
        (ValueError, "channels.*rank", {"channels": True, "outputs": "margin"}),
        (ValueError, "channels.*rank", {"channels": True, "outputs": ("entropy",)}),
        (ValueError, "multipliers.*give 6 ", {"channels": True, "multipliers": [1.0] * 3}),
        (ValueError, "multipliers.*give 3 ", {"multipliers": [1.0] * 6}),
        (TypeError, "uint8", {"values": "probabilities", "logits": [Z.to(torch.uint8), Z]}),
    ],
)
def test_wrong_arguments_are_named(error, names, arguments):
    given = {"logits": [Z, Z], "weights": [1.0, 2.0]} | arguments
    with pytest.raises(error, match=names):
        kernels.softmax_average(given.pop("logits"), given.pop("weights"), **given)


@pytest.mark.parametrize(
    ("names", "arguments"),
    [
        ("resize", {"resize": "nearest"}),
        ("rows", {"rows": (3, 9)}),
        ("rows", {"rows": (-1, 3)}),
        ("rows", {"rows": (3, 2)}),
        ("size", {"size": (8,)}),
        (r"logits\[0\]", {"logits": [Z[None, None], Z[None, None]]}),
        (r"logits\[1\].*frames", {"logits": [Z[:, None], torch.stack([Z, Z], dim=1)]}),
        (r"logits\[1\]", {"logits": [Z, Z[:, :0]]}),
    ],
)
def test_wrong_resizes_are_named(names, arguments):
    given = {"logits": [Z, Z], "size": (8, 8)} | arguments
    with pytest.raises(ValueError, match=names):
        kernels.upsample_softmax_average(
            given.pop("logits"), [1.0, 2.0], given.pop("size"), **given
        )


def test_wrong_labels_are_named():
    ids = torch.zeros(4, dtype=torch.uint8)
    with pytest.raises(TypeError, match="targets"):
        kernels.confusion(ids.float(), ids, 3)
    with pytest.raises(ValueError, match="labels"):
        kernels.confusion(ids, ids[:3], 3)
    with pytest.raises(ValueError, match="classes"):
        kernels.confusion(ids, ids, 0)


def test_no_pixels_give_empty_outputs():
    fused = kernels.softmax_average(
        [Z[:, :0], Z[:, :0]], [1, 2], outputs=("labels", "probabilities", "group_means")
    )
    assert (fused.labels.shape, fused.probabilities.shape, fused.group_means.shape) == (
        (0, 5),
        (3, 0, 5),
        (2, 3, 0, 5),
    )
    assert kernels.upsample_softmax_average([Z], [1], (8, 8), rows=(3, 3)).labels.shape == (0, 8)
    assert kernels.confusion(
        torch.zeros(0, dtype=torch.uint8), torch.zeros(0, dtype=torch.uint8), 2
    ).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("classes", [1, 3, 300])
def test_labels_of_channels_are_a_byte_each(classes):
    maps = [torch.zeros(classes, 4, 5)] * 2
    made = kernels.softmax_average(maps, [1, 2], channels=True)
    resized = kernels.upsample_softmax_average(maps, [1, 2], (8, 9), channels=True)
    for labels, shape in ((made.labels, (classes, 4, 5)), (resized.labels, (classes, 8, 9))):
        assert labels.dtype == torch.uint8
        assert labels.shape == shape
        assert not labels.any()


def test_one_output_may_be_named_alone():
    assert kernels.softmax_average([Z], [1], outputs="labels").labels.shape == (4, 5)


def test_import_stays_light():
    code = (
        "import sys, fusion.kernels as k; assert not {'torch', 'triton'} & set(sys.modules); "
        "assert not hasattr(k, '__version__')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_groups_of_weight_zero_are_left_out_and_models_numbered_anew():
    maps = [torch.full((3, 2), float(m)) for m in range(4)]
    options = {"groups": [[3, 0], [1], [2]], "temperatures": [1, 2, 3, 4]}
    options["values"] = ["logits", "probabilities", "logits", "logits"]
    used = check(maps, [1, 0, 2], **options).used()
    assert [int(z[0, 0]) for z in used.logits] == [3, 0, 2]
    assert (used.groups, used.weights) == (((0, 1), (2,)), (1.0, 2.0))
    assert (used.temperatures, used.values) == ((4, 1, 3), ("logits",) * 3)
    everything = check(maps, [1, 0, 2], outputs=("group_means",), **options)
    assert everything.used() is everything
