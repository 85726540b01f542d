"""The oracle against float64 arithmetic that shares nothing with it, and in small tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusion import kernels
from fusion.kernels.arithmetic import HEAD_OUTPUTS
from fusion.kernels.call import check_head
from fusion.kernels.head import naive
from tests.kernels.head.contract import FORMS, OverflowContract
from tests.kernels.inputs import KINDS

Z = torch.zeros(3, 4, 5)


class TestNaive(OverflowContract):
    backend = naive

    def head(self, call):
        return naive.head(call, tile=500)

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("kind", KINDS)
    def test_shapes_and_kinds(self, kind, form):
        """One shape that has several tiles; the others would be compared with themselves."""
        super().test_shapes_and_kinds(kind, (11, 1023, 4), form, HEAD_OUTPUTS)


def reference(maps, mixing, bias, temperatures, values) -> torch.Tensor:
    """Scores in float64, by torch's own functions."""
    logs = []
    for z, temperature, value in zip(maps, temperatures, values, strict=True):
        z = z.to(torch.float64)
        logs.append(z.log() if value == "probabilities" else (z / temperature).log_softmax(0))
    stack = torch.stack(logs).clamp(min=-24)
    letters = "mck,mkp->cp" if mixing.ndim == 3 else "mc,mcp->cp"
    return torch.einsum(letters, mixing.double(), stack) + bias.double()[:, None]


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "probabilities"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("classes", [1, 2, 11, 124, 257])
def test_scores_against_float64(classes, form, kind):
    maker = TestNaive()
    maps, values = maker.make(kind, 4, classes, (90,))
    mixing, bias = maker.weights(form, 4, classes)
    temperatures = [1.0, 0.7, 2.0, 1.3]
    expected = reference(maps, mixing, bias, temperatures, values)
    options = {"temperatures": temperatures, "values": values, "outputs": HEAD_OUTPUTS}
    call = check_head(maps, mixing, bias, **options)
    torch.testing.assert_close(naive.scores(call, torch.float64), expected, rtol=0, atol=1e-9)
    fused = naive.head(call)
    torch.testing.assert_close(fused.scores.double(), expected, rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(fused.probabilities.double(), expected.softmax(0), rtol=0, atol=5e-5)
    best = expected.sort(dim=0, descending=True).values
    clear = best[0] - best[1] > 2e-4 if classes > 1 else torch.ones(90, dtype=torch.bool)
    assert clear.float().mean() > 0.9
    assert torch.equal(fused.labels[clear].long(), expected.argmax(0)[clear])


def test_codes_are_logits_of_their_gaps():
    codes, gaps = torch.tensor([[0, 51, 255]], dtype=torch.uint8).T, [0.0, -0.96, -24.0]
    z = torch.tensor(gaps)[:, None]
    given = [[1.0, 2.0, -1.0]], [0.0, 0.5, 0.0]
    from_codes, from_logits = (
        kernels.head([x], *given, outputs="scores").scores for x in (codes, z)
    )
    torch.testing.assert_close(from_codes, from_logits)


def test_by_hand():
    """Two classes at odds 3 to 1; scores that are written down here."""
    z = torch.tensor([[0.0], [-np.log(3.0)]], dtype=torch.float32)
    quarter, most = np.log(0.25), np.log(0.75)
    got = kernels.head([z], [[[1.0, 2.0], [-1.0, 0.5]]], [0.0, 3.0], outputs=HEAD_OUTPUTS)
    scores = [most + 2 * quarter, 3 - most + 0.5 * quarter]
    assert got.scores[:, 0].tolist() == pytest.approx(scores, abs=1e-6)
    share = 1 / (1 + np.exp(scores[0] - scores[1]))
    assert got.probabilities[:, 0].tolist() == pytest.approx([1 - share, share], abs=1e-6)
    assert got.labels.tolist() == [1]


def test_weights_of_one_third_are_the_geometric_mean():
    p = torch.tensor(np.random.default_rng(0).dirichlet(np.ones(5), (3, 40)), dtype=torch.float32)
    maps = [x.T for x in p]
    got = kernels.head(maps, np.full((3, 5), 1 / 3), np.zeros(5), values="probabilities")
    product = p.double().prod(dim=0).T ** (1 / 3)
    torch.testing.assert_close(
        got.probabilities.double(), product / product.sum(0), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("error", "names", "arguments"),
    [
        (ValueError, "^maps: got no models", {"maps": []}),
        (
            TypeError,
            r"^maps\[1\]: got torch.float64",
            {"maps": [Z, Z.double()]},
        ),
        (ValueError, r"^maps\[1\]: got shape .* of maps\[0\]; all", {"maps": [Z, Z[:, :2]]}),
        (ValueError, r"^maps\[1\]: got 2 classes beside 3 in maps\[0\]", {"maps": [Z, Z[:2]]}),
        (ValueError, "^mixing: got shape .*; give .M, C. or .M, C, C.", {"mixing": [[1.0] * 3]}),
        (ValueError, "^mixing: .*shape", {"mixing": np.ones((2, 3, 4))}),
        (ValueError, "^mixing: .*finite", {"mixing": [[1.0, 2, 3], [1, 1e39, 1]]}),
        (ValueError, "^mixing: .*finite", {"mixing": torch.full((2, 3), torch.nan)}),
        (TypeError, "^mixing: .*no array", {"mixing": [[1.0], [1.0, 2.0]]}),
        (ValueError, r"^bias: got shape \(2,\); give \[C\], here \(3,\)", {"bias": [1.0, 2.0]}),
        (ValueError, "^bias: .*finite", {"bias": [0.0, float("inf"), 0.0]}),
        (TypeError, "^bias: .*no array", {"bias": "three"}),
        (ValueError, "^temperatures", {"temperatures": [1.0, 0.0]}),
        (ValueError, "^values", {"values": ["logits"]}),
        (ValueError, "^outputs: got 'margin'; give some of .*scores", {"outputs": "margin"}),
        (ValueError, "^device: got meta", {"maps": [Z.to("meta"), Z.to("meta")]}),
    ],
)
def test_wrong_arguments_are_named(error, names, arguments):
    given = {"maps": [Z, Z], "mixing": np.ones((2, 3)), "bias": [0, 0, 0]} | arguments
    with pytest.raises(error, match=names) as raised:
        kernels.head(given.pop("maps"), given.pop("mixing"), given.pop("bias"), **given)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("mixing", [np.ones((2, 3)), torch.ones(2, 3, requires_grad=True)])
def test_scores_are_no_output_of_the_average(mixing):
    with pytest.raises(ValueError, match="outputs"):
        kernels.softmax_average([Z, Z], [1, 1], outputs="scores")
    assert not kernels.head([Z, Z], mixing, [0] * 3).probabilities.requires_grad
