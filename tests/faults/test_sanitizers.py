"""A bounded run of the kernels under the compiler's sanitizers; `python -m tests.faults.sanitized`
is the whole.
"""

from __future__ import annotations

import pytest

from fusion.kernels.native import build
from tests.faults import sanitized

BOUNDED = {  # pytest's -k over the generated calls
    "both": "touched and not ever",
    "thread": "threads and (labels or count or flips or sums)",
}


@pytest.mark.parametrize("name", BOUNDED)
def test_nothing_is_said(name, tmp_path):
    if build.library() is None:
        pytest.skip("FUSION_COMPILED=0")
    if reason := sanitized.lacking(name):
        pytest.skip(reason)
    sanitized.compiled(name, sanitized.usable()[-1], tmp_path, ("-O0",))
    given = (sanitized.CALLS, "-k", BOUNDED[name])
    code, said = sanitized.run(name, tmp_path, given)
    assert code == 0, said
