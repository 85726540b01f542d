"""What tensor cores may do to scores: their products done by hand, against the stated bound."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from fusion.kernels.call import Head, check_head
from fusion.kernels.head import naive, triton
from tests.kernels.head.contract import FORMS, HeadContract


def parts(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 as two numbers of the 11 bits of tf32, the rest cut off."""

    def cut(x: torch.Tensor) -> torch.Tensor:
        return (x.contiguous().view(torch.int32) & -0x2000).view(torch.float32)

    return cut(x), cut(x - cut(x))


def on_tensor_cores(call: Head, products: int) -> torch.Tensor:
    """Scores [C, P], a chunk of classes at a time: of tf32, or of tf32x3's parts."""
    total, step = call.bias[:, None].repeat(1, *call.shape), triton.chunk(call.classes)
    for m, mixing in enumerate(call.mixing):
        for w, x in zip(
            mixing.split(step, 1), naive.log_probabilities(call, m).split(step), strict=True
        ):
            (big_w, small_w), (big_x, small_x) = parts(w), parts(x)
            if products == 3:
                total = total + small_w @ big_x + big_w @ small_x
            total = total + big_w @ big_x
    return total


def example(form: str, models: int, classes: int) -> Head:
    maker = HeadContract()
    maps, values = maker.make("mixed", models, classes, (500,))
    return check_head(maps, *maker.weights(form, models, classes), values=values)


@pytest.mark.parametrize(("models", "classes"), [(1, 11), (3, 19), (22, 124), (3, 150)])
def test_three_products_of_parts_stay_within_the_bound(models, classes):
    """And one would not: it is what rules tf32 out."""
    call = example("mix", models, classes)
    exact, bound = naive.scores(call, torch.float64), triton.bound(call)[:, None]
    made = on_tensor_cores(call, products=3)
    assert ((made - exact).abs() / bound).max() < 0.5
    assert (on_tensor_cores(call, products=1) - exact).abs().max() > 20 * (made - exact).abs().max()
    margin = exact.sort(dim=0).values.diff(dim=0)[-1]
    clear = margin > 2 * bound.max()
    assert clear.float().mean() > 0.8
    assert torch.equal(made.argmax(0)[clear], exact.argmax(0)[clear])


@pytest.mark.parametrize("form", FORMS)
def test_the_oracle_stays_within_the_bound(form):
    call = example(form, 22, 124)
    exact, bound = naive.scores(call, torch.float64), triton.bound(call)[:, None]
    assert ((naive.scores(call) - exact).abs() < bound / 4).all()


def test_the_bound_by_hand():
    call = check_head([torch.zeros(2, 1)], [[[1.0, -3.0], [0.5, 0.0]]], [2.0, 0.0])
    sizes = torch.tensor([2 + 24 * 4, 24 * 0.5], dtype=torch.float64)
    assert triton.bound(call).tolist() == (sizes * (2 * 2.0**-23 + 2.0**-19)).tolist()
    assert triton.precision(hip=True) == "ieee"
