"""Pictures of a run: the density at rest and in time, the escape and its transition paths, and the spectrum."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fpsolve.analyse.basins import Basins
from fpsolve.analyse.escape import Escape
from fpsolve.analyse.gradient_noise import GradientNoise
from fpsolve.analyse.motion import Motion
from fpsolve.analyse.noise_structure import NoiseStructure
from fpsolve.analyse.path import Path as ProbablePath
from fpsolve.analyse.rest import AtRest
from fpsolve.analyse.spectrum import Spectrum
from fpsolve.analyse.witness import Witness
from fpsolve.model.grid import FloatArray
from fpsolve.model.problem import Problem
from fpsolve.model.region import Region
from fpsolve.present.pictures.at_rest import draw_rest, flows
from fpsolve.present.pictures.escaping import draw_escape
from fpsolve.present.pictures.gradient_noise import draw_gradient_noise
from fpsolve.present.pictures.in_time import draw_motion
from fpsolve.present.pictures.noise import draw_noise, has_noise
from fpsolve.present.pictures.quasi_potential import draw_quasi_potential, rises
from fpsolve.present.pictures.sheet import Sheet
from fpsolve.present.pictures.spectrum import draw_spectrum, shape_of
from fpsolve.present.pictures.style import styled
from fpsolve.present.pictures.transition import draw_transition, has_transition
from fpsolve.present.pictures.views import drawn_axes, window_of
from fpsolve.present.pictures.witness import draw_witness


def draw_figures(
    problem: Problem,
    title: str,
    stem: Path,
    *,
    rest: AtRest | None,
    motion: Motion | None,
    escape: Escape | None,
    spectrum: Spectrum | None = None,
    basins: Basins | None = None,
    paths: Sequence[ProbablePath] = (),
    structure: NoiseStructure | None = None,
    gradient_noise: GradientNoise | None = None,
    witness: Witness | None = None,
    regions: Mapping[str, Region],
) -> list[Path]:
    """Draw what there is of a run, as PNG files beside each other; a file appears complete or not at all.

    Parameters
    ----------
    stem : where, without the ending: `<stem>-density.png` (at rest), `<stem>-quasi-potential.png`, `<stem>-time.png`,
        `<stem>-escape.png`, `<stem>-transition.png` (committor, paths, running flux), `<stem>-spectrum.png`,
        `<stem>-noise.png` (in the landscape), `<stem>-gradient-noise.png` (its law at a point),
        `<stem>-ensemble.png` (walkers beside densities).
    rest, motion, escape, spectrum : results on the grid of the problem; None leaves their picture out, and so does a
        motion of a single instant, or a spectrum of nothing that decays.
    basins, paths : are drawn into the pictures of the density at rest and of the transition.
    regions : by name; their surfaces are drawn.

    Returns
    -------
    Paths of the files, in that order.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    with styled():
        figures = sketch(
            problem,
            title,
            rest=rest,
            motion=motion,
            escape=escape,
            spectrum=spectrum,
            basins=basins,
            paths=paths,
            structure=structure,
            gradient_noise=gradient_noise,
            witness=witness,
            regions=regions,
        )
        return [_save(figure, stem.with_name(f"{stem.name}-{ending}.png")) for ending, figure in figures.items()]


def sketch(
    problem: Problem,
    title: str,
    *,
    rest: AtRest | None,
    motion: Motion | None,
    escape: Escape | None,
    spectrum: Spectrum | None = None,
    basins: Basins | None = None,
    paths: Sequence[ProbablePath] = (),
    structure: NoiseStructure | None = None,
    gradient_noise: GradientNoise | None = None,
    witness: Witness | None = None,
    regions: Mapping[str, Region],
) -> dict[str, Figure]:
    """The figures of `draw_figures` by the ending of their file name; to be made, and rendered, while `styled`."""

    def sheet(density: FloatArray, current: FloatArray | None = None) -> Sheet:
        return Sheet.on(problem, title, regions, window_of(problem, density, current))

    figures: dict[str, Figure] = {} if rest is None else _at_rest(sheet, rest, basins)
    if motion is not None and motion.times.size > 1:
        figures["time"] = draw_motion(sheet(motion.density), motion)
    if escape is not None:
        figures["escape"] = draw_escape(sheet(escape.density, escape.current), escape)
        if has_transition(escape, paths):
            figures["transition"] = draw_transition(sheet(escape.density, escape.current), escape, basins, paths)
    if spectrum is not None and any(time is not None for time in spectrum.relaxation_times):
        figures["spectrum"] = draw_spectrum(sheet(np.abs(shape_of(spectrum))), spectrum)
    if structure is not None and has_noise(structure):
        density = next(_densities(rest, motion, escape), np.ones(problem.grid.size))
        figures["noise"] = draw_noise(sheet(density), structure, basins, density)
    if gradient_noise is not None:
        figures["gradient-noise"] = draw_gradient_noise(gradient_noise, problem.grid.variables, title)
    if witness is not None and witness.saw_anything:
        density = next(_densities(None if witness.rest is None else rest, motion, escape))
        figures["ensemble"] = draw_witness(sheet(density), witness, rest=rest, motion=motion, escape=escape)
    return figures


def _at_rest(sheet: Callable[..., Sheet], rest: AtRest, basins: Basins | None) -> dict[str, Figure]:
    """The density, and the quasi-potential where there is one in a plane; sheet: for a density and a current."""
    current = rest.current if flows(rest) else None
    page = sheet(rest.density, current)
    figures = {"density": draw_rest(page, rest, basins)}
    if (found := rest.quasi_potential) is not None and rises(found) and len(drawn_axes(page.grid)) == 2:
        figures["quasi-potential"] = draw_quasi_potential(sheet(rest.density, current), rest, found)
    return figures


def _densities(rest: AtRest | None, motion: Motion | None, escape: Escape | None) -> Iterator[FloatArray]:
    """Densities that show where to look, (cells,)."""
    if rest is not None:
        yield rest.density
    if motion is not None:
        yield motion.density.max(axis=0)
    if escape is not None:
        yield escape.density


def _save(figure: Figure, path: Path) -> Path:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        # Figure.savefig would draw twice to lay out once.
        FigureCanvasAgg(figure).print_png(partial, pil_kwargs={"compress_level": 3})  # type: ignore[no-untyped-call]
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path
