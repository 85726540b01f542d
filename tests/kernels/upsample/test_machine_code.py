"""What upsampling executes a label score, in machine code that is compiled without a GPU.

One pixel of one class of one map is a score. Its floor with one rounding per operation is 3 for the
vertical step, 1.5 for its share of the horizontal ones (24 for 4 x 4 pixels), 3 for best, class and
NaN: 7.5 for labels; loads and their addresses take the rest. With resize="logits" a strip of 4 rows
and one column shares 6 operations, 4 loads, their conversions and addresses (about 8 a score with
these), and the softmax takes 6 and the shuffles.
"""

from __future__ import annotations

import math

import pytest

pytest.importorskip("triton")

from fusion.kernels import compile_table
from fusion.kernels.compile_table import CODES, FLOAT16, TARGETS, Row
from fusion.kernels.machine_code import figures, streaming_loop
from fusion.kernels.tiles import mask

NVIDIA = TARGETS[:2]
MAPS = {
    ("labels",): 8.6,
    ("group_means",): 8.9,  # 2 of them a store and its address
    ("labels", "probabilities"): 14.8,  # 2 more a store, 2 multipliers
}
LOGITS = {(19, FLOAT16): 18.2, (19, CODES): 16.9, (124, FLOAT16): 20.3, (124, CODES): 18.4}


@pytest.fixture(autouse=True)
def compiled_afresh(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def check(
    row: Row, target, scores: int, most: float, *, special: float = 0, shuffles: float = 0
) -> None:
    loop = streaming_loop(compile_table.compile_kernel(row, target))
    found = figures(loop, scores)
    assert not found.forbidden, loop
    assert found.special <= special, loop
    assert found.shuffles <= shuffles, loop
    assert found.instructions <= most, loop


@pytest.mark.parametrize("target", NVIDIA, ids=lambda target: str(target.arch))
@pytest.mark.parametrize("outputs", MAPS, ids="+".join)
def test_maps(outputs, target):
    constants = {"ROWS": 4, "SLOTS": 4, "ALONE": True, "WIDE": False, "WANTED": mask(outputs)}
    constants |= {"BLOCK_C": 1, "BLOCK_P": 128}
    check(Row("upsample_maps", tuple(constants.items()), 4), target, 16, MAPS[outputs])


@pytest.mark.parametrize(
    ("case", "target"),
    [(case, NVIDIA[k % 2]) for k, case in enumerate(LOGITS)],
    ids=lambda value: str(getattr(value, "arch", value)),
)
def test_logits(case, target):
    classes, kind = case
    (row,) = compile_table._upsampled_logits(classes, kind)
    scores = math.ceil(classes / row["CL"]) * row["ROWS"]
    check(row, target, scores, LOGITS[case], special=1.1, shuffles=0.45)
