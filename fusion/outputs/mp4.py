"""MP4 videos (H.264), which browsers, slides and phones play; encoded by ffmpeg."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from typing import IO, ClassVar

import numpy as np

from fusion.errors import InputError, StoreError
from fusion.outputs.content import Content
from fusion.outputs.drawing import Pixels
from fusion.outputs.strip import Strip
from fusion.outputs.unit import Unit

LAST_WORDS = 10.0  # seconds that ffmpeg may take to end
SMALLEST = 240  # pixels of the shorter side; smaller frames are enlarged
# BT.709 is what players take for granted of high definition, and read from the file of others
COLOURS = ["-vf", "scale=out_color_matrix=bt709:out_range=tv"]
COLOURS += ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]
CODEC = ["-c:v", "libx264", "-preset", "medium", "-crf", "16", "-pix_fmt", "yuv420p"]
FILE = ["-movflags", "+faststart", "-f", "mp4"]


@dataclass(frozen=True)
class Mp4(Strip):
    """<out>/<unit>.mp4. Small frames are enlarged by whole numbers; sides of odd length, which the
    codec does not have, repeat their last row or column.
    """

    name: ClassVar = "mp4"
    about: ClassVar = "<out>/<unit>.mp4, the same as a video (pip install 'segfusion[video]')"
    packed: ClassVar = ("*.mp4",)
    ending: ClassVar = ".mp4"
    fastest: ClassVar = 240.0

    def check(self, content: Content, units: Sequence[Unit]) -> None:
        super().check(content, units)
        _ffmpeg()

    def encode(self, path: Path, shown: Iterator[Pixels]) -> None:
        with tempfile.TemporaryFile() as log:
            encoder = None
            try:
                for pixels in map(_fit, shown):
                    if encoder is None:
                        encoder = self._started(path, pixels.shape[:2], log)
                    _pipe(encoder).write(pixels.data)
                assert encoder is not None, "units have frames"
                _pipe(encoder).close()
                failed = encoder.wait() != 0
            except BrokenPipeError:  # it has left; the log says why
                failed = True
            finally:
                _stop(encoder)
            if failed:
                log.seek(0)
                raise StoreError(f"{path.parent}: {_reason(log.read())}")

    def _started(self, path: Path, size: tuple[int, ...], log: IO[bytes]) -> Popen[bytes]:
        height, width = size
        raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
        raw += ["-r", f"{self.rate:g}", "-i", "-"]
        command = [_ffmpeg(), "-loglevel", "error", "-y", *raw, *COLOURS, *CODEC, *FILE, str(path)]
        return Popen(command, stdin=PIPE, stdout=DEVNULL, stderr=log)


def _pipe(encoder: Popen[bytes]) -> IO[bytes]:
    assert encoder.stdin is not None
    return encoder.stdin


def _stop(encoder: Popen[bytes] | None) -> None:
    """No process stays behind, whatever happened."""
    if encoder is None:
        return
    with contextlib.suppress(OSError):
        _pipe(encoder).close()
    try:
        encoder.wait(timeout=LAST_WORDS)
    except TimeoutExpired:
        encoder.kill()
        encoder.wait()


def _ffmpeg() -> str:
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        do = "pip install 'segfusion[video]', or choose the format gif"
        raise InputError(f"mp4: needs the package imageio-ffmpeg ({error}); {do}") from error


def _fit(pixels: Pixels) -> Pixels:
    """Large enough, and of even sides."""
    factor = -(-SMALLEST // min(pixels.shape[:2]))
    if factor > 1:
        pixels = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    odd = [(0, side % 2) for side in pixels.shape[:2]]
    return np.ascontiguousarray(np.pad(pixels, (*odd, (0, 0)), mode="edge"))


def _reason(said: bytes) -> str:
    """What ffmpeg said last, in one sentence."""
    lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
    reason = lines[-1] if lines else "it ended early"
    return f"ffmpeg cannot write here ({reason}); check the folder's rights and space"
