"""Probabilities and labels as PNGs, written by Pillow; labels as NIfTI."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from fusion.errors import InputError
from fusion.stores import LogitStore, LogitWriter
from fusion.stores.codec import AngleCodec
from fusion.stores.importers import choose, import_folder
from fusion.stores.importers.images import Images
from fusion.stores.importers.label_maps import LabelMaps
from fusion.stores.importers.pictures import read_picture
from tests.stores.common import run
from tests.stores.contract import ImporterContract
from tests.test_geometry import AFFINE, save_nifti

RNG = np.random.default_rng(12)


def save_png(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


class TestImages(ImporterContract):
    """<video>/<frame>/<class>.png, 16-bit."""

    importer = Images
    values = "probabilities"
    most = 65535

    def numbers(self, logits):
        codes = np.rint(super().numbers(logits) * self.most)
        return (codes / self.most).astype(np.float32)

    def save(self, folder, clips):
        for video, clip in clips.items():
            for frame, array in clip.items():
                for c, channel in enumerate(array):
                    codes = np.rint(channel * self.most)
                    codes = codes.astype(np.uint16 if self.most > 255 else np.uint8)
                    save_png(self.path(folder, video, frame, c), codes)
        return folder

    def path(self, folder, video, frame, c):
        return folder / video / frame / f"{self.classes[c]}.png"

    def kept(self, clip):
        with np.errstate(divide="ignore"):
            return super().kept(clip)

    def damage(self, folder, video):
        path = self.path(folder, video, self.order("")[1], 2)
        data = bytearray(path.read_bytes())
        data[-20] ^= 0xFF  # of the picture's own bytes
        path.write_bytes(data)


class TestNumbered(TestImages):
    """<video>/<frame>_<number>.png, 8-bit: their sums are off by rounding."""

    most = 255
    options: ClassVar = {"kind": "images"}
    classes = ("race_car", "car", "road", "sky")

    def path(self, folder, video, frame, c):
        return folder / video / f"{frame}_{c:03d}.png"


class TestNamed(TestNumbered):
    """<video>/<frame>_<class>.png; of "race_car" and "car" the longer."""

    most = 65535

    def path(self, folder, video, frame, c):
        return folder / video / f"{frame}_{self.classes[c]}.png"


class TestOneImage(TestNumbered):
    """<image>/<class>.png."""

    frames: ClassVar = ("00000",)

    def path(self, folder, video, frame, c):
        return folder / video / f"{self.classes[c]}.png"

    def damage(self, folder, video):
        self.path(folder, video, "00000", 1).write_bytes(b"hello")


class TestOneClass(TestNumbered):
    """<video>/<frame>.png of one class: how much is it there."""

    classes = ("lesion",)

    def numbers(self, logits):
        codes = np.rint(255 / (1 + np.exp(-logits))).clip(1, 254)
        return (codes / 255).astype(np.float32)

    def kept(self, clip):
        return AngleCodec().encode(np.log(clip / (1 - clip)))

    def writer(self, path):
        return LogitWriter(path, self.classes, values="sigmoid-probabilities")

    def path(self, folder, video, frame, c):
        return folder / video / f"{frame}.png"

    def damage(self, folder, video):
        self.path(folder, video, "f9", 0).write_bytes(b"hello")

    def test_the_call_does_it_all(self, folder, tmp_path):
        assert import_folder(folder, tmp_path / "s.zarr", self.classes, **self.options) == (3, 0)
        assert LogitStore(tmp_path / "s.zarr").values == "sigmoid-probabilities"


def test_flat_pictures_of_one_class(tmp_path):
    codes = RNG.integers(1, 255, (5, 6)).astype(np.uint8)
    save_png(tmp_path / "source/a.png", codes)
    import_folder(tmp_path / "source", tmp_path / "s.zarr", 1, kind="images", profile="exact")
    p = codes.astype(np.float64) / 255
    found = LogitStore(tmp_path / "s.zarr").codes("a")[0, 0]
    assert np.allclose(found, np.log(p / (1 - p)), atol=1e-2)
    with pytest.raises(InputError, match=r"a.png: one image; give a file for each of 4 classes"):
        import_folder(tmp_path / "source", tmp_path / "t.zarr", 4, kind="images")


def test_files_that_are_no_class_or_lack_one(tmp_path):
    for c in range(3):
        save_png(tmp_path / f"v/f_{c}.png", np.full((5, 6), 85, np.uint8))
    how = {"kind": "images"}
    with pytest.raises(InputError, match=r"frame 'f' has no file of 1 classes \(class_3\)"):
        import_folder(tmp_path, tmp_path / "s.zarr", 4, **how)
    with pytest.raises(InputError, match=r"f_2.png: is of no class; name files"):
        import_folder(tmp_path, tmp_path / "s.zarr", 2, **how)
    save_png(tmp_path / "v/f_00.png", np.full((5, 6), 85, np.uint8))
    with pytest.raises(InputError, match=r"f_.*0.png: is of a class that is there already"):
        import_folder(tmp_path, tmp_path / "s.zarr", 3, **how)
    (tmp_path / "v/f_00.png").unlink()
    save_png(tmp_path / "v/f_1.png", np.full((5, 7), 85, np.uint8))
    with pytest.raises(InputError, match=r"f_1.png: is \[5, 7\], f_0.png \[5, 6\]"):
        import_folder(tmp_path, tmp_path / "s.zarr", 3, **how)


def test_a_grey_png_says_not_what_it_is(tmp_path, capsys):
    save_png(tmp_path / "source/v/f.png", np.zeros((5, 6), np.uint8))
    code, _, err = run(capsys, "import", tmp_path / "source", tmp_path / "s", "--classes", 2)
    expected = "give --kind images for probabilities, --kind label_maps for class ids\n"
    assert (code, err.endswith(expected)) == (2, True)


def test_pictures_that_are_not_numbers(tmp_path):
    grey = RNG.integers(0, 9, (40, 50)).astype(np.uint8)
    path = tmp_path / "a.png"
    for mode in ("RGB", "RGBA", "LA", "1", "P"):
        Image.fromarray(grey).convert(mode).save(path)
        with pytest.raises(InputError, match=r"a.png: \d-bit .*; give 8- or 16-bit grey"):
            read_picture(path, palette=False)
    save_png(path, grey)
    data = bytearray(path.read_bytes())
    assert np.array_equal(read_picture(path, palette=False), grey)
    refused = 0
    for position in range(len(data)):
        data[position] ^= 0xFF
        path.write_bytes(data)
        try:
            assert np.array_equal(read_picture(path, palette=False), grey)
        except InputError as error:
            refused += str(error).startswith(f"{path}: ")
        data[position] ^= 0xFF
    assert refused > len(data) - 12  # what follows the picture is not looked at
    for end in range(0, len(data) - 12, 7):
        path.write_bytes(data[:end])
        with pytest.raises(InputError, match=r"a.png: "):
            read_picture(path, palette=False)
    with pytest.raises(InputError, match=r"missing.png: cannot be read"):
        read_picture(tmp_path / "missing.png", palette=False)
    data[16:24] = (20000).to_bytes(4, "big") * 2
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a.png: claims 20000 x 20000 pixels"):
        read_picture(path, palette=False)


class TestLabelMaps(ImporterContract):
    """<video>/<frame>.png with a palette."""

    importer = LabelMaps
    values = "probabilities"

    def numbers(self, logits):
        top = logits.argmax(axis=0)[None] == np.arange(len(logits))[:, None, None]
        return np.where(top, 0.999, 0.001 / 3).astype(np.float32)

    def save(self, folder, clips):
        for video, clip in clips.items():
            for frame, array in clip.items():
                labels = Image.fromarray(array.argmax(axis=0).astype(np.uint8))
                labels.putpalette([*range(256)] * 3)
                (folder / video).mkdir(exist_ok=True)
                labels.save(folder / video / f"{frame}.png")
        return folder

    def damage(self, folder, video):
        (folder / video / "f9.png").write_bytes(b"hello")

    def test_another_number_of_classes_is_refused(self, folder, tmp_path):
        """Fewer are: more may simply not occur."""
        with pytest.raises(InputError, match=r"pixels of 2, 3, outside 0..1; predictions have a"):
            import_folder(folder, tmp_path / "s.zarr", 2, **self.options)


class TestLabelVolumes(TestLabelMaps):
    frames: ClassVar = ("00000", "00001", "00002")
    dtype = np.uint8

    def save(self, folder, clips):
        for video, clip in clips.items():
            labels = np.stack(list(clip.values())).argmax(axis=1)
            save_nifti(folder / f"{video}.nii.gz", labels.T.astype(self.dtype))
        return folder

    def damage(self, folder, video):
        (folder / f"{video}.nii.gz").write_bytes(b"hello")

    def place(self, video):
        spacing = pytest.approx([2.5, 0.8, 0.7], abs=1e-5)
        return {"kind": "nifti", "affine": pytest.approx(AFFINE, abs=1e-4), "spacing": spacing}


class TestLabelVolumesOfFloats(TestLabelVolumes):
    """As MONAI saves them."""

    options: ClassVar = {"kind": "label_maps"}
    dtype = np.float32


def test_votes_are_counted(tmp_path, capsys):
    """Two of three models agree, and of two a tie goes to the lowest class; by hand."""
    maps = ([[0, 1, 2, 2]], [[1, 1, 2, 0]], [[1, 0, 1, 0]])
    for n, labels in enumerate(maps):
        save_png(tmp_path / f"{n}/v/f.png", np.array(labels, np.uint8))
        code, _, err = run(
            capsys, "import", tmp_path / str(n), tmp_path / f"{n}.zarr", "--classes", 3,
            "--kind", "label_maps", "--smoothing", "0.03",
        )  # fmt: skip
        assert (code, "warning: label maps have no confidence" in err) == (0, True)
    stores = [LogitStore(tmp_path / f"{n}.zarr") for n in range(3)]
    read = np.stack([np.exp(store.read("v")[0]) for store in stores])
    p = read / read.sum(axis=1, keepdims=True)
    assert p.max() == pytest.approx(0.97, abs=1e-3)
    assert p.min() == pytest.approx(0.015, abs=1e-3)
    assert p.mean(axis=0).argmax(axis=0).tolist() == [[1, 1, 2, 0]]
    assert p[:2].mean(axis=0).argmax(axis=0).tolist() == [[0, 1, 2, 0]]
    with pytest.raises(InputError, match=r"smoothing: got 0.7; give a number within 0 and 0.5"):
        LabelMaps(smoothing=0.7)


def test_labels_that_are_no_class(tmp_path):
    save_png(tmp_path / "source/v/f.png", np.array([[0, 1, 255, 255]], np.uint8))
    how = {"kind": "label_maps"}
    with pytest.raises(InputError, match=r"f.png: 2 pixels of 255, outside 0..2; predictions have"):
        import_folder(tmp_path / "source", tmp_path / "s.zarr", 3, **how)
    with pytest.raises(InputError, match=r"f.png: label maps of 1 class; give a class for the"):
        import_folder(tmp_path / "source", tmp_path / "s.zarr", 1, **how)
    (tmp_path / "n").mkdir()
    save_nifti(tmp_path / "n/a.nii", np.float32([[[0.5]]]))
    with pytest.raises(InputError, match=r"a.nii: 1 pixels of 0.5, outside 0..2"):
        import_folder(tmp_path / "n", tmp_path / "s.zarr", 3, **how)
    assert choose(tmp_path / "n", **how) == LabelMaps()
