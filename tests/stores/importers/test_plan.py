"""What an import refuses before and while it writes: contradicted values, sizes, names, links."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from PIL import Image

from fusion.errors import InputError
from fusion.stores import GapCodec, LogitStore
from fusion.stores.importers import choose, import_folder, plan_folder
from fusion.stores.importers.arrays import Arrays, load_array
from fusion.stores.importers.values import check_values
from tests.stores.common import CLIP, run, save

P = (np.exp(CLIP) / np.exp(CLIP).sum(axis=1, keepdims=True)).astype(np.float32)
SIGMOID = np.random.default_rng(4).uniform(0.1, 0.9, CLIP.shape).astype(np.float32)
BENT = P.copy()
BENT[1, 2, 3, 4] += 0.02
ROUNDED = P.astype(np.float16).astype(np.float32)
NEGATIVE = P.copy()
NEGATIVE[2, 3, 0, 1] = -0.25

# numbers, what they are said to be, what is wrong (None: nothing)
CASES = [
    (CLIP, "auto", None),
    (CLIP, "logits", None),
    (CLIP * 1e-3, "auto", None),
    (P, "probabilities", None),
    (ROUNDED, "probabilities", None),
    (P * 1.009, "probabilities", None),
    (P, "auto", r"frame '00000': all .* sum to 1 at every pixel.* values='probabilities'$"),
    (P, "logits", r"frame '00000': all .* sum to 1 at every pixel.* values='probabilities'$"),
    (SIGMOID, "auto", "do not sum to 1 at every pixel; say values='sigmoid-probabilities' or"),
    (SIGMOID, "logits", None),
    (SIGMOID, "sigmoid-probabilities", None),
    (SIGMOID, "sigmoid", "give them as values='sigmoid-probabilities'$"),
    (CLIP, "sigmoid", None),
    (
        BENT,
        "probabilities",
        r"frame '00001': probabilities sum to something else than 1 at 1 of 30 pixels, to 1.02 at"
        r" the first, \[y, x\] = \[3, 4\]; .*sigmoid-prob.* normalise=True",
    ),
    (
        NEGATIVE,
        "probabilities",
        r"frame '00002': 1 of 120 numbers lie outside 0..1, the first -0.25 at \[class, y, x\] ="
        r" \[3, 0, 1\]; write logits with values='logits'$",
    ),
    (CLIP, "probabilities", r"frame '00000': \d+ of 120 numbers lie outside 0..1, the first"),
    (CLIP, "sigmoid-probabilities", "write logits with values='sigmoid'$"),
    (P[:, :1], "auto", "there is one class, of which a softmax is 1 everywhere; say values="),
    (CLIP[:, :1], "sigmoid", None),
    (np.where(CLIP[0, 0, 0, 0] == CLIP, np.nan, CLIP), "auto", r"NaN or \+inf, the first at"),
    (np.where(P[0, 0, 0, 0] == P, np.nan, P), "probabilities", r"NaN or \+inf, the first at"),
]


@pytest.mark.parametrize(("array", "values", "problem"), CASES)
def test_numbers_that_contradict_what_they_are_said_to_be(tmp_path, array, values, problem):
    save(tmp_path / "source/v.npy", array)
    arguments = (tmp_path / "source", tmp_path / "s.zarr", array.shape[1])
    if problem is None:
        assert import_folder(*arguments, values=values) == (1, 0)
        assert LogitStore(tmp_path / "s.zarr").values == values.replace("auto", "logits")
        return
    with pytest.raises(InputError, match=problem) as caught:
        import_folder(*arguments, values=values)
    assert "v.npy, frame '0000" in str(caught.value) or "video 'v', frame 0" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "s.zarr").exists() or LogitStore(tmp_path / "s.zarr").videos == ()


def test_a_refused_import_is_not_in_the_way_of_the_next(tmp_path, bring):
    save(tmp_path / "source/v.npy", P)
    code, _, err = bring()
    assert (code, err.endswith("give them as --values probabilities\n")) == (2, True)
    assert bring("--values", "probabilities")[0] == 0
    assert np.array_equal(LogitStore(tmp_path / "s.zarr").codes("v"), GapCodec().encode(np.log(P)))


def test_scores_are_normalised_where_that_is_asked_for(tmp_path, bring):
    save(tmp_path / "source/v.npy", P * 3)
    assert bring("--values", "probabilities")[0] == 2
    assert bring("--values", "probabilities", "--normalise")[0] == 0
    codes = LogitStore(tmp_path / "s.zarr").codes("v").astype(int)
    assert np.abs(codes - GapCodec().encode(np.log(P))).max() <= 1


def test_the_oracle_of_sums():
    """The same sums by a loop, over random arrays near and beyond the limit."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        array = rng.dirichlet(np.ones(3), (2, 2)).transpose(2, 0, 1).astype(np.float32)
        array[0, 1, 1] *= rng.uniform(0.9, 1.1)
        sums = [sum(float(array[c, y, x]) for c in range(3)) for y in (0, 1) for x in (0, 1)]
        bad = any(abs(total - 1) > 1e-2 for total in sums)
        try:
            check_values(array, "probabilities", told=True)
            assert not bad
        except InputError:
            assert bad


def label(path, size):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros(size, np.uint8)).save(path)


@pytest.mark.parametrize(
    ("shape", "turned"),
    [((480, 853), False), ((853, 480), True), ((120, 214), False), ((214, 120), True),
     ((128, 128), False)],
)  # fmt: skip
def test_height_and_width_that_are_swapped(tmp_path, bring, shape, turned):
    array = np.random.default_rng(0).normal(0, 3, (1, 4, *shape)).astype(np.float32)
    save(tmp_path / "source/v.npy", array)
    label(tmp_path / "labels/v/f.png", (480, 853))
    code, _, err = bring("--labels", tmp_path / "labels")
    assert code == (2 if turned else 0)
    if turned:
        got = f"arrays of {shape[0]}x{shape[1]} for images of 480x853: height and width are swapped"
        assert got in err
        assert bring("--labels", tmp_path / "labels", "--axes", "TCWH")[0] == 0
        found = LogitStore(tmp_path / "s.zarr").codes("v")
        assert np.array_equal(found, GapCodec().encode(array.swapaxes(2, 3)))


def test_videos_without_labels_are_counted_and_named(tmp_path, bring):
    for n in range(5):
        save(tmp_path / f"source/v{n}.npy", CLIP[:1] + n)
    for n in (3, 4, 5):
        label(tmp_path / f"labels/v{n}/f.png", (5, 6))
    options = ("--labels", tmp_path / "labels")
    code, _, err = bring(*options)
    assert code == 2
    assert (
        "source: 3 of 5 videos ('v0', 'v1', 'v2') have no labels or frame ids; choose one of v3"
        in err
    )
    assert err.endswith("; --intersect imports the others\n")
    assert not (tmp_path / "s.zarr").exists()
    code, out, err = bring(*options, "--intersect")
    assert (code, "left out without labels: v0, v1, v2" in err) == (0, True)
    assert out.startswith("2 videos written")
    assert LogitStore(tmp_path / "s.zarr").videos == ("v3", "v4")
    label(tmp_path / "others/w/f.png", (5, 6))
    code, _, err = bring("--labels", tmp_path / "others", "--intersect", dest="t.zarr")
    assert (code, "5 of 5 videos" in err, "imports the others" in err) == (2, True, False)


def test_a_dry_run_shows_three_and_writes_nothing(tmp_path, bring):
    for n in range(4):
        save(tmp_path / f"source/v{n}.npy", CLIP + n)
    code, out, err = bring("--dry-run")
    assert code == 0
    assert err == f"{tmp_path}/source: NumPy arrays, 4 videos, 4 classes, logits (assumed)\n"
    shown = "frames (00000, 00001, 00002) of 4x5x6 for images of 5x6, logits, geometry none"
    lines = [f"  v{n}: 3 {shown}" for n in range(3)]
    first = f"{tmp_path}/s.zarr: 4 videos, classes sky, road, car, tree"
    assert out.splitlines() == [first, *lines, "nothing was written"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["classes.txt", "source"]


def test_overwriting_is_said_to_the_writer(tmp_path, bring, places):
    save(tmp_path / "source/v.npy", CLIP)
    assert bring()[0] == 0
    assert places["v"] == {"geometry": None, "overwrite": False}
    assert bring("--overwrite")[0] == 0
    assert places["v"] == {"geometry": None, "overwrite": True}


def test_classes_by_their_number(tmp_path, capsys):
    save(tmp_path / "source/v.npy", CLIP)
    command = ("import", tmp_path / "source", tmp_path / "s.zarr")
    code, _, err = run(capsys, *command)
    assert code == 2
    assert err.endswith("do not name the classes; give --classes NAMES, or their number\n")
    assert run(capsys, *command, "--classes", "4")[0] == 0
    assert LogitStore(tmp_path / "s.zarr").classes == ("class_0", "class_1", "class_2", "class_3")
    for number in ("0", 0):
        with pytest.raises(InputError, match="classes: got 0; give at least one"):
            plan_folder(tmp_path / "source", tmp_path / "t.zarr", int(number))


def test_one_file_is_a_source(tmp_path):
    for name in ("v.npy", "v.npz"):
        save(tmp_path / name, CLIP)
        out = tmp_path / f"{name}.zarr"
        assert import_folder(tmp_path / name, out, 4) == (1, 0)
        assert np.array_equal(LogitStore(out).codes("v"), GapCodec().encode(CLIP))
    (tmp_path / "v.foo").write_text("x")
    with pytest.raises(InputError, match=r"v.foo: not a file that can be imported; give "):
        import_folder(tmp_path / "v.foo", tmp_path / "t.zarr", 4)


def test_single_images_in_one_folder(tmp_path):
    for n, frame in enumerate(CLIP):
        save(tmp_path / f"source/image{n}.npy", frame)
    assert import_folder(tmp_path / "source", tmp_path / "s.zarr", 4) == (3, 0)
    store = LogitStore(tmp_path / "s.zarr")
    assert store.videos == ("image0", "image1", "image2")
    assert all(store.frames(video) == (video,) for video in store.videos)


def test_hidden_files_are_none_of_ours(tmp_path):
    save(tmp_path / "source/v/f.npy", CLIP[0])
    for name in ("._v.npy", "v/._f.npy", ".cache/x.npy"):
        (tmp_path / "source" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "source" / name).write_bytes(b"no array")
    assert import_folder(tmp_path / "source", tmp_path / "s.zarr", 4) == (1, 0)


def test_an_unknown_kind_and_values(tmp_path):
    save(tmp_path / "v.npy", CLIP)
    with pytest.raises(InputError, match="kind: got 'array'; did you mean 'arrays'"):
        choose(tmp_path, "array")
    with pytest.raises(InputError, match="values: got 'logit'; did you mean 'logits'"):
        plan_folder(tmp_path, tmp_path / "s", 4, values="logit")
    assert choose(tmp_path, "arrays") == Arrays()


def test_an_npz_whose_headers_claim_too_much(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000, 1000, 100), }"
    member = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64)
    with zipfile.ZipFile(tmp_path / "v.npz", "w") as archive:
        archive.writestr("arr_0.npy", member)
    claim = r"arr_0.npy claims \[1000, 1000, 100\] in \d+ bytes"
    with pytest.raises(InputError, match=rf"v.npz: not a readable array \({claim}\)"):
        load_array(tmp_path / "v.npz", None)
