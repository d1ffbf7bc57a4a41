"""A film: the density in time of a result file, as an animated picture."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.animation import FFMpegWriter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from fpsolve.errors import CaseError
from fpsolve.present.pictures.frames import Frames, frames
from fpsolve.present.pictures.style import styled
from fpsolve.present.reel import read_reel

COLOURS = 255  # of all frames of a GIF together
SAMPLED = 6  # frames that the colours are chosen from
HOLD = 1.5  # seconds that the last frame stays
NEARLY_WHITE = 248  # of 255
BITRATE = 1500  # of a video [kilobits per second]


def film(
    result: Path, output: Path | None = None, fps: float = 12.0, progress: Callable[[float], None] | None = None
) -> Path:
    """Show the density in time of a result file as a film, one frame for each saved instant (240 at most).

    One variable: the density over the loss; two: a map with lines of the loss; three: integrated over the last. The
    title tells the time, SGD steps where there are any, and how much has left.

    Parameters
    ----------
    result : a result file of a case with [evolve].
    output : a GIF, or an MP4 where ffmpeg is installed; the GIF beside the result if left out. It appears whole.
    fps : frames per second.

    Raises CaseError for a result without a density in time, or a file that cannot be written.
    """
    path = result.with_suffix(".gif") if output is None else output
    if path.suffix.lower() not in {".gif", ".mp4"}:
        required = "A film is a .gif, or an .mp4 where ffmpeg is installed"
        raise CaseError("--output", f'"{path.suffix}" is no kind of film', required, f"Use {path.with_suffix('.gif')}")
    video = path.suffix.lower() == ".mp4"
    if video and not FFMpegWriter.isAvailable():
        remedy = f"Use {path.with_suffix('.gif').name}, or install ffmpeg"
        raise CaseError("--output", "there is no ffmpeg on this machine", "An .mp4 needs it", remedy)
    reel = read_reel(result)
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        with styled():
            shown, count = frames(reel), reel.times.size
            (_record if video else _paint)(shown, count, partial, fps, progress or _silent)
        os.replace(partial, path)
    except OSError as error:
        found = f"the film cannot be written ({error.strerror or error})"
        raise CaseError(f"--output {path}", found, "", "Choose another place") from None
    finally:
        partial.unlink(missing_ok=True)
    return path


def _silent(share: float) -> None:
    """Progress that nobody watches."""


def _paint(shown: Frames, count: int, path: Path, fps: float, progress: Callable[[float], None]) -> None:
    """Write a GIF: every frame in the same colours, so that only what changes takes room."""
    pictures = []
    for instant in range(count):
        shown.show(instant)
        pictures.append(_picture(shown))
        progress((instant + 1) / count)
    palette = _palette(pictures)
    indexed = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    durations = [round(1000.0 / fps)] * (count - 1) + [round(1000.0 * HOLD)]
    indexed[0].save(path, "GIF", save_all=True, append_images=indexed[1:], duration=durations, loop=0, optimize=False)


def _picture(shown: Frames) -> Image.Image:
    canvas = shown.figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()  # type: ignore[no-untyped-call]
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())  # type: ignore[no-untyped-call]


def _palette(pictures: Sequence[Image.Image]) -> Image.Image:
    """The colours of some frames, as a picture."""
    chosen = np.unique(np.linspace(0, len(pictures) - 1, SAMPLED).round().astype(int))
    rows = [np.asarray(pictures[number]) for number in chosen]
    palette = Image.fromarray(np.concatenate(rows)).quantize(COLOURS, method=Image.Quantize.MEDIANCUT)
    colours = np.array(palette.getpalette()).reshape(-1, 3)
    colours[colours.min(axis=1) >= NEARLY_WHITE] = 255  # the paper is white
    palette.putpalette(colours.ravel().tolist())
    return palette


def _record(shown: Frames, count: int, path: Path, fps: float, progress: Callable[[float], None]) -> None:
    """Write a video with ffmpeg; it takes any number of frames per second, whatever its type says."""
    writer = FFMpegWriter(fps=fps, bitrate=BITRATE)  # type: ignore[arg-type]
    with writer.saving(shown.figure, path, shown.figure.dpi):
        for instant in range(count):
            shown.show(instant)
            writer.grab_frame()
            progress((instant + 1) / count)
