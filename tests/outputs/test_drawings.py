"""Overlays, GIFs and videos: the contract, read back by Pillow and ffmpeg, colours to labels."""

from __future__ import annotations

import itertools
import subprocess
import tracemalloc
from pathlib import Path
from typing import ClassVar

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image, ImageSequence

from fusion import cli, predict
from fusion.errors import InputError, StoreError
from fusion.images import Images
from fusion.outputs import write
from fusion.outputs.content import Content
from fusion.outputs.drawing import borders, coloured, overlaid
from fusion.outputs.gif import Gif
from tests.outputs.contract import OutputContract, tree
from tests.outputs.simulated import FRAMES, SIZES, FakeEnsemble
from tests.samples import FRAMES as SAMPLE_FRAMES
from tests.samples import SIZE as SAMPLE_SIZE
from tests.samples import VIDEOS as SAMPLE_VIDEOS

# far from each other, so that a codec's noise changes none into another
FEW = [(255, 255, 0), (0, 0, 255), (255, 0, 0), (0, 255, 0)]
STEPS = [63, 127, 191, 255, 95, 159, 223]
MANY = sorted(itertools.product(range(7), repeat=3), key=max)
MANY = [tuple(STEPS[k] for k in place) for place in MANY][:300]


def save_pictures(root: Path, sizes, frames, value=None, ending=".png"):
    """A picture of each frame: random, or all of one value."""
    draw = np.random.default_rng(1)
    for video, size in sizes.items():
        for frame in frames[video]:
            path = root / video / f"{frame}{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            made = (
                draw.integers(0, 256, (*size, 3)) if value is None else np.full((*size, 3), value)
            )
            Image.fromarray(made.astype(np.uint8)).save(path)
    return root


def played(file, size, fps):
    """Frames [H, W, 3] of a video, as ffmpeg plays them."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(file), "-f", "rawvideo"]
    done = subprocess.run(
        [*command, "-pix_fmt", "rgb24", "-"],
        capture_output=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    facts = done.stderr.decode()
    assert f"{size[1]}x{size[0]}" in facts
    assert "h264" in facts
    assert f"{fps} fps" in facts
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, *size, 3)


class DrawingContract(OutputContract):
    """Drawn in full over black, and looked up again in the palette."""

    what = "label maps drawn"
    pictures: ClassVar[bool] = False

    @pytest.fixture(autouse=True)
    def black(self, tmp_path_factory):
        root = tmp_path_factory.mktemp("black")
        sizes = {**SIZES, **dict.fromkeys(SAMPLE_VIDEOS, SAMPLE_SIZE)}
        frames = {**FRAMES, **dict.fromkeys(SAMPLE_VIDEOS, SAMPLE_FRAMES)}
        self.root = save_pictures(root, sizes, frames, 0) if self.pictures else None

    def write(self, ensemble, out, **options):
        self.colours, self.ids, self.masks = MANY if ensemble.number > 4 else FEW, None, 0
        self.kind_of_ids = np.uint8 if ensemble.number <= 255 else np.uint16
        how = {"palette": tuple(self.colours)}
        if self.root:
            how |= {"overlay": self.root, "opacity": 1.0}
        if ensemble.independent:
            self.masks = 0 if options.get("compose") or ensemble.number == 1 else ensemble.number
            if options.get("compose"):
                self.ids = [options["compose"].get(name) for name in ensemble.channels]
        return super().write(ensemble, out, **{**how, **options})

    def arguments(self, folder):
        (folder / "palette.json").write_text(str([list(colour) for colour in FEW]))
        self.colours, self.ids, self.masks, self.kind_of_ids = FEW, None, 0, np.uint8
        more = ["--overlay", str(self.root), "--opacity", "1"] if self.root else []
        return ["--palette", str(folder / "palette.json"), *more]

    def read(self, out, video, *, probabilities=False):
        return np.stack([self.labels(pixels) for pixels in self.drawn(out, video)])

    def labels(self, pixels):
        """What the colours of [H, W, 3] stand for."""
        if self.masks:
            sets = [*itertools.product((0, 1), repeat=self.masks)]
            means = [np.array(FEW)[: self.masks][np.array(s) > 0] for s in sets]
            known = np.array([m.sum(axis=0) // max(1, len(m)) for m in means])
            found = self.nearest(pixels, known)
            return np.moveaxis(np.array(sets, np.uint8)[found], -1, 0)
        if self.ids:
            known, values = [(0, 0, 0), *self.colours[: len(self.ids)]], [0, *self.ids]
            return np.array(values, np.uint8)[self.nearest(pixels, np.array(known))]
        known = np.array(self.colours)
        if (pixels == 0).all(axis=-1).any():  # a single channel
            known = np.array([(0, 0, 0), self.colours[1]])
        return self.nearest(pixels, known).astype(self.kind_of_ids)

    def nearest(self, pixels, known):
        far = np.abs(pixels[..., None, :].astype(int) - known).sum(axis=-1)
        assert far.min(axis=-1).max() <= self.noise
        return far.argmin(axis=-1)

    noise: ClassVar[int] = 0  # the most that a reader may see otherwise, of the three channels

    def drawn(self, out, video):
        """Frames [H, W, 3] as a reader of others sees them."""
        raise NotImplementedError

    def test_stored_values_are_not_drawn(self, tmp_path):
        with pytest.raises(InputError, match=f"{self.kind}: draws classes, in the colours of pal"):
            self.write(self.ensemble(), tmp_path, stored=lambda labels: labels)

    @pytest.mark.parametrize("opacity", [-0.1, 1.01, float("nan")])
    def test_opacities_that_are_none(self, tmp_path, opacity):
        with pytest.raises(InputError, match=r"opacity: got .*; give 0 to 1"):
            write(self.ensemble(), tmp_path, self.kind, opacity=opacity)

    def test_a_picture_that_is_missing_or_of_another_size(self, tmp_path):
        root = save_pictures(tmp_path / "images", SIZES, FRAMES)
        ensemble = self.ensemble()
        (root / "long" / "003.png").rename(root / "long" / "x3.png")
        with pytest.raises(StoreError, match=r"no picture of unit 'long', frame '003'"):
            write(ensemble, tmp_path / "out", self.kind, overlay=root)
        assert write(ensemble, tmp_path / "few", self.kind, overlay=root, videos=["case"]).frames
        Image.new("RGB", (9, 9)).save(root / "long" / "003.png")
        with pytest.raises(InputError, match=r"003\.png: got 9x9, its labels are 3x8; give pictur"):
            write(ensemble, tmp_path / "out", self.kind, overlay=root)
        assert not (tmp_path / "out").exists()
        with pytest.raises(StoreError, match=r"images: .*nowhere is no folder"):
            write(ensemble, tmp_path / "out", self.kind, overlay=tmp_path / "nowhere")

    def test_pictures_that_the_ensemble_knows(self, tmp_path):
        root = save_pictures(tmp_path / "images", SIZES, FRAMES)
        ensemble = self.ensemble()
        ensemble.images = Images(root)
        write(ensemble, tmp_path / "own", self.kind)
        write(self.ensemble(), tmp_path / "given", self.kind, overlay=str(root))
        own, given = tree(tmp_path / "own"), tree(tmp_path / "given")
        assert {n: own[n] for n in own if "json" not in n} == {
            n: given[n] for n in given if "json" not in n
        }


class TestOverlay(DrawingContract):
    kind = "overlay"
    pictures = True

    def main_files(self, out, video):
        frames = FRAMES.get(video, SAMPLE_FRAMES)
        return (
            [out / f"{video}.png"]
            if video == "image"
            else [out / video / f"{f}.png" for f in frames]
        )

    def drawn(self, out, video):
        for file in self.main_files(out, video):
            with Image.open(file) as image:
                assert image.mode == "RGB"
                yield np.asarray(image)

    def test_there_must_be_pictures(self, tmp_path):
        with pytest.raises(InputError, match="no pictures to draw over; give overlay=IMAGES"):
            write(self.ensemble(), tmp_path / "out", "overlay")
        assert not (tmp_path / "out").exists()

    def test_jpeg(self, tmp_path):
        self.write(self.ensemble(), tmp_path, jpeg=True)
        with Image.open(tmp_path / "case" / "f10.jpg") as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (6, 5))


class TestGif(DrawingContract):
    kind = "gif"

    def main_files(self, out, video):
        return [out / f"{video}.gif"]

    def drawn(self, out, video):
        with Image.open(out / f"{video}.gif") as image:
            assert (image.info["loop"], image.info["duration"]) == (0, 100)
            for frame in ImageSequence.Iterator(image):
                yield np.asarray(frame.convert("RGB"))


class TestMp4(DrawingContract):
    kind = "mp4"
    noise = 60

    def main_files(self, out, video):
        return [out / f"{video}.mp4"]

    def drawn(self, out, video):
        size = SIZES.get(video, SAMPLE_SIZE)
        factor = -(-240 // min(size))
        shape = [side * factor + side * factor % 2 for side in size]
        for pixels in played(out / f"{video}.mp4", shape, fps=10):
            yield pixels[factor // 2 :: factor, factor // 2 :: factor]

    def labels(self, pixels):
        dark = pixels.max(axis=-1, keepdims=True) < 30
        return super().labels(np.where(dark, 0, pixels))

    @pytest.mark.parametrize("number", [4, 30])
    def test_what_was_predicted_is_read(self, tmp_path, number):
        super().test_what_was_predicted_is_read(tmp_path, number)


class Unsized(FakeEnsemble):
    """Of any size and length."""

    def __init__(self, size, frames, **facts):
        self.shape = size
        named = {"clip": tuple(f"{t:05d}" for t in range(frames))}
        super().__init__(videos=("clip",), frames_of=named, **facts)

    def size(self, video):
        return self.shape


@pytest.mark.parametrize("format", ["gif", "mp4"])
def test_picture_and_overlay_side_by_side(tmp_path, format):
    size, frames = (242, 251), 3
    ensemble = Unsized(size, frames, number=3)
    root = save_pictures(tmp_path / "images", {"clip": size}, ensemble.frames_of, 200)
    colours = ((200, 200, 200), (100, 50, 0), (0, 50, 100))
    write(ensemble, tmp_path / "out", format, overlay=root, palette=colours, opacity=0.5, fps=25)
    file = tmp_path / "out" / f"clip.{format}"
    if format == "gif":
        with Image.open(file) as image:
            assert image.info["duration"] == 40
            shown = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
    else:
        shown = list(played(file, (242, 502), fps=25))
    assert len(shown) == frames
    for found, frame in zip(shown, ensemble.frames("clip"), strict=True):
        picture, drawn = found[:, :251], found[:, 251:]
        assert np.abs(picture.astype(int) - 200)[:, :240].max() <= (0 if format == "gif" else 12)
        expected = by_hand(np.full((*size, 3), 200), ensemble.labels("clip", frame), colours, 0.5)
        if format == "gif":
            assert np.array_equal(drawn, expected)
        else:  # the codec halves the resolution of colours; light it keeps
            light = np.array([0.2126, 0.7152, 0.0722])
            assert np.abs((drawn @ light) - (expected @ light)).mean() < 8


def by_hand(picture, labels, colours, opacity):
    """An overlay pixel by pixel."""
    made = np.zeros(picture.shape, np.uint8)
    for y, x in np.ndindex(*labels.shape):
        near = ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
        inside = [(i, j) for i, j in near if 0 <= i < labels.shape[0] and 0 <= j < labels.shape[1]]
        edge = any(labels[place] != labels[y, x] for place in inside)
        part = 1.0 if edge else opacity
        colour = np.array(colours[labels[y, x]])
        made[y, x] = np.floor(picture[y, x] * (1 - part) + colour * part + 0.5)
    return made


@pytest.mark.parametrize("opacity", [0.0, 0.25, 0.5, 1.0])
def test_an_overlay_by_hand(tmp_path, opacity):
    draw = np.random.default_rng(0)
    labels = np.kron(draw.integers(0, 3, (4, 5)), np.ones((4, 3))).astype(np.uint8)
    picture = draw.integers(0, 256, (*labels.shape, 3)).astype(np.uint8)
    colours, covered = coloured(labels, np.array(FEW[:3], np.uint8), Content(FakeEnsemble(3)))
    assert covered.all()
    found = overlaid(picture, colours, covered, opacity)
    assert np.array_equal(found, by_hand(picture, labels, FEW, opacity))


def test_what_is_nothing_keeps_the_picture():
    labels = np.array([[0, 0, 1, 255]], np.uint8)
    picture = np.full((1, 4, 3), 9, np.uint8)
    ensemble = FakeEnsemble(2)
    ensemble.classes = ("Background", "polyp")
    for found in (ensemble, FakeEnsemble(1, independent=True)):
        colours, covered = coloured(labels, np.array(FEW[:2], np.uint8), Content(found))
        assert covered.tolist() == [[False, False, True, False]]
        drawn = overlaid(picture, colours, covered, 1.0)
        assert drawn[0].tolist() == [[9] * 3, [9] * 3, list(FEW[1]), [9] * 3]
    colours, covered = coloured(labels, np.array(FEW[:2], np.uint8), Content(FakeEnsemble(2)))
    assert covered.tolist() == [[True, True, True, False]]


def test_borders_are_of_both_sides():
    colours = np.zeros((3, 4, 3), np.uint8)
    colours[:, 2:, 1] = 1
    assert borders(colours).tolist() == [[False, True, True, False]] * 3


@pytest.mark.parametrize("frames", [1, 40])
def test_a_gif_of_any_length_in_the_memory_of_a_frame(tmp_path, frames):
    draw = np.random.default_rng(0)
    one = draw.integers(0, 256, (256, 256, 3)).astype(np.uint8)  # more than 256 colours
    tracemalloc.start()
    try:
        Gif().encode(tmp_path / "a.gif", (np.roll(one, t, axis=0) for t in range(frames)))
        assert tracemalloc.get_traced_memory()[1] < 12 * one.nbytes
    finally:
        tracemalloc.stop()
    with Image.open(tmp_path / "a.gif") as image:
        assert getattr(image, "n_frames", 1) == frames


def test_frames_alike_are_all_there(tmp_path):
    """Pillow's own animations drop them, and their time with them."""
    still = np.full((3, 4, 3), 7, np.uint8)
    Gif(fps=50).encode(tmp_path / "a.gif", iter([still] * 5))
    with Image.open(tmp_path / "a.gif") as image:
        assert (image.n_frames, image.info["duration"]) == (5, 20)


@pytest.mark.parametrize(
    ("format", "fps", "said"),
    [
        ("gif", 60, "gif has 0.1 to 50"),
        ("mp4", 0, "mp4 has 0.1 to 240"),
        ("gif", -1, "fps: got -1"),
    ],
)
def test_speeds_that_are_none(tmp_path, format, fps, said):
    with pytest.raises(InputError, match=said):
        write(FakeEnsemble(), tmp_path, format, fps=fps)


def test_a_video_that_ffmpeg_refuses(tmp_path, monkeypatch):
    script = tmp_path / "ffmpeg"
    script.write_text("#!/bin/sh\necho 'out.mp4: No space left on device' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(script))
    with pytest.raises(StoreError, match=r"ffmpeg cannot write here \(out.mp4: No space left on"):
        write(FakeEnsemble(), tmp_path / "out", "mp4")
    assert not [name for name in tree(tmp_path / "out") if "json" not in name]


def test_without_ffmpeg(tmp_path, monkeypatch):
    def none():
        raise RuntimeError("No ffmpeg exe could be found")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", none)
    ensemble = FakeEnsemble()
    with pytest.raises(InputError, match=r"pip install 'segfusion\[video\]', or choose the fo"):
        write(ensemble, tmp_path / "out", "mp4")
    assert not ensemble.worked
    assert not (tmp_path / "out").exists()


def test_overlays_by_the_command(tmp_path, capsys):
    from tests.samples import write_sample

    toml = write_sample(tmp_path / "data")
    frames = dict.fromkeys(SAMPLE_VIDEOS, SAMPLE_FRAMES)
    root = save_pictures(tmp_path / "i", dict.fromkeys(SAMPLE_VIDEOS, SAMPLE_SIZE), frames)
    base = ["--ensemble", str(toml), "--out", str(tmp_path / "out")]
    assert cli.run(predict.main, [*base, "--overlay", str(root), "--palette", "vspw"]) == 0
    assert "6 label maps drawn" in capsys.readouterr().out
    with Image.open(tmp_path / "out" / "a" / "0.png") as image:
        assert image.mode == "RGB"
    assert cli.run(predict.main, [*base, "--overlay", str(root), "--format", "png"]) == 2
    said = "png: takes no --overlay, it is overlay's, gif's, mp4's; leave it out"
    assert said in capsys.readouterr().err
    assert cli.run(predict.main, [*base, "--format", "overlay", "--overwrite"]) == 2
    assert "no pictures to draw over; give --overlay" in capsys.readouterr().err
    other = ["--overlay", str(root), "--label-map", "voc", "--overwrite"]
    assert cli.run(predict.main, [*base, *other]) == 2
    assert "got 21 classes, the ensemble has 4" in capsys.readouterr().err
