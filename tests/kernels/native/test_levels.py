"""The libraries of a wheel: one a level of processor, equal bits, and which one is taken."""

from __future__ import annotations

import ctypes
import itertools
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fusion import kernels
from fusion.errors import InputError
from fusion.kernels.arithmetic import OUTPUTS
from fusion.kernels.average import cpu as average_cpu
from fusion.kernels.native import build, levels
from fusion.kernels.native.build import UncompiledWarning
from fusion.kernels.upsample import cpu as upsample_cpu
from tests.kernels import test_cheap as cheaply
from tests.kernels.average import test_cpu as average
from tests.kernels.confusion import test_cpu as confusion
from tests.kernels.contested import test_cpu as contested
from tests.kernels.contract import UpsampleContract
from tests.kernels.head import test_cpu as head
from tests.kernels.inputs import KINDS, VALUES, make
from tests.kernels.resized import test_resized as resized
from tests.kernels.sweep import test_sweep as sweep

NAMES = list(levels.here())
SIZES = ((33, 1, 3), (31, 65, 2), (32, 1023, 2))  # of inputs.CASES
NEEDS = (  # names in /proc/cpuinfo, level by level
    {"pni", "ssse3", "sse4_1", "sse4_2", "popcnt", "cx16", "lahf_lm"},
    {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"},
    {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    {"avx512vbmi"},
)


@pytest.fixture(scope="module")
def packaged(tmp_path_factory) -> Path:
    """What setup.py puts into a wheel."""
    folder = tmp_path_factory.mktemp("package") / "built"
    made = levels.compile_levels(build.KERNELS, folder)
    assert sorted(made) == sorted(folder.iterdir())
    assert len(made) == len(NAMES) > 0
    return folder


@pytest.fixture
def wheel(packaged, monkeypatch) -> Iterator[Path]:
    """As in a wheel on a machine without a compiler."""
    monkeypatch.setattr(build, "PACKAGED", packaged)
    monkeypatch.setenv("CC", "/no/such/cc")
    monkeypatch.delenv("FUSION_COMPILED", raising=False)
    build._library.cache_clear()
    yield packaged
    build._library.cache_clear()


def reach() -> int:
    """How many levels this processor has."""
    library = build._opened(NAMES[0])
    assert library is not None
    return library.fusion_level()


def choose(monkeypatch, level: str) -> None:
    monkeypatch.setenv("FUSION_COMPILED", level)
    build._library.cache_clear()


class Upsample(UpsampleContract):
    backend = upsample_cpu


def averages() -> None:
    contract = average.TestCpu()
    for kind, case in itertools.product(KINDS, SIZES):
        contract.test_shapes_and_kinds(kind, case, OUTPUTS)
        contract.test_shapes_and_kinds(kind, case, ("labels",))
    for value, dtype in itertools.product(VALUES, (torch.float16, torch.float32)):
        contract.test_values(value, dtype, OUTPUTS, (1.0, 0.0, 1.0))
        contract.test_values(value, dtype, ("labels",), (1e-8, 1.0, 0.5))
    contract.test_every_half_and_every_code()


def heads() -> None:
    contract = head.TestCpu()
    for form, kind, case in itertools.product(head.FORMS, KINDS, SIZES[:2]):
        contract.test_shapes_and_kinds(kind, case, form, head.HEAD_OUTPUTS)
    for form, value in itertools.product(head.FORMS, VALUES):
        contract.test_values(value, torch.float16, form)


def upsampled() -> None:
    for kind, outputs in itertools.product(KINDS, (OUTPUTS, ("labels",))):
        Upsample().test_kinds(kind, "probabilities", (1, 4), outputs)
    Upsample().test_multipliers("codes", "probabilities", ("labels",))


def cheap() -> None:
    """Every bound's cases, of all kinds of value."""
    for dtype, case in itertools.product(cheaply.KINDS.values(), ((1, 2), (3, 33))):
        cheaply.test_near_ties(*case, dtype)
    for kind in ("float16", "float32", "codes"):
        cheaply.test_temperatures(kind, 0.03)
        cheaply.test_multipliers_that_bring_classes_near(kind)
    for shift in (-80, 80, 5000):
        cheaply.test_logits_far_from_zero(torch.float32, shift)
    cheaply.test_codes_that_nearly_tie_across_models(2)
    cheaply.test_float32_nan_of_every_payload()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cheaply.strips, "MOST_OPEN", 1.0)
        for kind in (*cheaply.KINDS, "codes"):
            cheaply.test_interpolated_labels(kind, (9, 41), None)
            cheaply.test_interpolated_labels(kind, (33, 100), None)
            cheaply.test_interpolated_models_that_agree(kind, None)


def pixels() -> None:
    confusion.TestCpu().test_counts(11, (3, 701), torch.uint8)
    for groups, levels_of_score in ((3, 0), (3, 8), (1, 4), (5, 3)):
        contested.test_compiled_and_naive_return_the_same_bits(groups, 11, 700, levels_of_score)


def weights() -> None:
    sweep.test_compiled_and_naive_are_the_same()
    sweep.test_flips_to_a_class_compiled_and_naive_are_the_same()
    for name in resized.SIZES:
        resized.test_counts_and_flips_of_every_size(name, 5)


@pytest.mark.parametrize("operations", [averages, cheap, heads, upsampled, pixels, weights])
@pytest.mark.parametrize("name", NAMES)
def test_every_level_gives_the_bits_of_naive(wheel, monkeypatch, name, operations):
    choose(monkeypatch, name)
    if NAMES.index(name) >= reach():
        with pytest.raises(InputError, match=f"{name}' is not to be had here; choose of 0, native"):
            build.library()
        return
    assert Path(build.library()._name) == wheel / levels.file_name(name)
    operations()


def test_logarithms_are_those_of_the_lowest_level(wheel, monkeypatch):
    """Entropy, which naive computes otherwise."""
    logits, values = make("mixed", 5, 19, (1023,))
    found = []
    for name in NAMES[: reach()]:
        choose(monkeypatch, name)
        call = average.check(logits, [1, 2, 3, 4, 5], values=values, outputs=OUTPUTS)
        found.append(average_cpu.average(call))
    for other in found[1:]:
        assert all(torch.equal(getattr(found[0], n), getattr(other, n)) for n in OUTPUTS)


def test_the_highest_level_is_taken_without_a_compiler_or_a_warning(wheel):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        library = build.library()
        assert kernels.softmax_average([torch.eye(3)], [1]).labels.tolist() == [0, 1, 2]
    assert Path(library._name) == wheel / levels.file_name(NAMES[reach() - 1])


def test_the_processors_levels_are_those_that_the_system_names(wheel):
    """Linux lists features; an ARM processor has the one level that there is."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = {word for line in lines if line.startswith("flags") for word in line.split()}
    have = list(itertools.takewhile(lambda needs: needs <= flags, NEEDS))
    assert reach() == (len(have) if NAMES[0].startswith("x86") else 1)


def test_levels_beyond_the_processor_are_not_taken(wheel, monkeypatch):
    opened = build._opened

    def of_an_old_processor(name: str) -> ctypes.CDLL | None:
        library = opened(name)
        library.fusion_level = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 1)
        return library

    monkeypatch.setattr(build, "_opened", of_an_old_processor)
    assert Path(build.library()._name) == wheel / levels.file_name(NAMES[0])


def test_a_build_for_this_processor_can_be_asked_for(wheel, monkeypatch):
    choose(monkeypatch, "native")
    with pytest.warns(UncompiledWarning, match="no C compiler '/no/such/cc'"):
        assert build.library() is None


@pytest.mark.parametrize("choice", ["x86-64-v9", "2", "off"])
def test_a_choice_that_is_none_is_named(wheel, monkeypatch, choice):
    choose(monkeypatch, choice)
    with pytest.raises(InputError) as caught:
        build.library()
    assert f"FUSION_COMPILED={choice!r}" in str(caught.value)
    assert f"choose of 0, native, {', '.join(NAMES[: reach()])}" in str(caught.value)


def test_libraries_of_other_sources_are_not_taken(wheel, tmp_path, monkeypatch):
    own = levels.digest(build.KERNELS)
    assert build._opened(NAMES[0]).fusion_sources() == own.encode()
    shutil.copytree(build.KERNELS, tmp_path / "kernels")
    assert levels.digest(tmp_path / "kernels") == own
    for file in ("native/softmax.h", "average/average.c"):
        with (tmp_path / "kernels" / file).open("a") as source:
            source.write("/* something else */\n")
        assert levels.digest(tmp_path / "kernels") != own
        own = levels.digest(tmp_path / "kernels")
    build._digest.cache_clear()
    monkeypatch.setattr(build, "KERNELS", tmp_path / "kernels")
    try:
        with pytest.warns(UncompiledWarning, match="no C compiler '/no/such/cc'"):
            assert build.library() is None
    finally:
        build._digest.cache_clear()


@pytest.mark.parametrize("damage", [b"nonsense", None])
def test_damaged_or_missing_libraries_are_passed_over(wheel, tmp_path, monkeypatch, damage):
    """The level below serves; without the lowest, which asks the processor, none does."""
    for sound in reversed(range(reach())):
        folder = tmp_path / str(sound)  # a new one: the system knows what it loaded by its path
        shutil.copytree(wheel, folder)
        for name in NAMES[sound:]:
            (folder / levels.file_name(name)).unlink()
            if damage is not None:
                (folder / levels.file_name(name)).write_bytes(damage)
        monkeypatch.setattr(build, "PACKAGED", folder)
        build._library.cache_clear()
        if sound:
            below = folder / levels.file_name(NAMES[sound - 1])
            assert Path(build.library()._name) == below
    with pytest.warns(UncompiledWarning, match="no C compiler '/no/such/cc'"):
        assert build.library() is None
