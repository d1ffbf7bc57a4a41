"""The report: everything that a run found, as one record for machines and one page for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from fpsolve.analyse.convergence import Limit
from fpsolve.analyse.currents import NOTICEABLE_CURRENT
from fpsolve.analyse.ensemble import ExitTimes
from fpsolve.analyse.escape import Escape
from fpsolve.analyse.first_passage import FirstPassage
from fpsolve.analyse.floor import FloorSensitivity
from fpsolve.analyse.gradient_noise import GradientNoise
from fpsolve.analyse.motion import Motion
from fpsolve.analyse.noise_structure import NoiseStructure
from fpsolve.analyse.rest import AtRest
from fpsolve.analyse.spectrum import Spectrum
from fpsolve.analyse.terrain import Terrain
from fpsolve.analyse.witness import Witness
from fpsolve.discretise.edges import Edges
from fpsolve.discretise.generator import Generator
from fpsolve.errors import FpsolveError, Notice
from fpsolve.model.domain import Domain
from fpsolve.model.grid import FloatArray, Grid
from fpsolve.present.noise_words import noise_lines, noise_record
from fpsolve.present.structure_words import structure_lines, structure_record
from fpsolve.present.surroundings import floor_line, floor_record, terrain_lines, terrain_record
from fpsolve.present.verdict import escape_lines, escape_record
from fpsolve.present.witness_words import exits_record, witness_lines, witness_name, witness_record

# Probability at rest beside reflecting walls above which the box is said to shape the answer.
NOTICEABLE_TAIL = 1e-2


@final
@dataclass(frozen=True)
class Check:
    """One entry of [expect] compared with what was found. value: the number wanted, where it is one."""

    what: str
    found: float | None
    wanted: str
    passed: bool
    source: str | None = None
    value: float | None = None

    def as_record(self) -> dict[str, Any]:
        """The entry of --json; `wanted` is the number where there is one, else the wish in words."""
        wanted = self.wanted if self.value is None else self.value
        return {"what": self.what, "found": self.found, "wanted": wanted, "passed": self.passed}


@final
@dataclass(frozen=True)
class Report:
    """What a run found.

    rest, motion, escape, spectrum: the analyses that the case asked for, else None; terrain: what lies around the
    escape; floor: how its time depends on the floor of the noise; structure: what the noise is like in the landscape;
    gradient_noise: its law at a point; witness: walkers beside the densities; limits: numbers at rest with error bars,
    by path; notices: what all of these had to say. outcome: "done" or "failed".
    """

    case: str
    title: str
    generator: Generator | None
    rest: AtRest | None = None
    motion: Motion | None = None
    escape: Escape | None = None
    spectrum: Spectrum | None = None
    terrain: Terrain | None = None
    floor: FloorSensitivity | None = None
    structure: NoiseStructure | None = None
    gradient_noise: GradientNoise | None = None
    witness: Witness | None = None
    limits: dict[str, Limit] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()
    cells_across: dict[str, float] = field(default_factory=dict)  # of the narrowest well or saddle, by axis
    checks: list[Check] = field(default_factory=list)
    seconds: float = 0.0
    result_file: Path | None = None
    figures: list[Path] = field(default_factory=list)
    error: FpsolveError | None = None

    def with_motion(self, motion: Motion) -> Report:
        """The report with a density in time."""
        return replace(self, motion=motion)

    @property
    def outcome(self) -> str:
        """'done', or 'failed' when the run or an expectation failed."""
        return "done" if self.error is None and all(check.passed for check in self.checks) else "failed"

    @property
    def warnings(self) -> list[Notice]:
        """What a user should know."""
        found = []
        if self.generator is not None and (count := self.generator.edges.unresolved + self.generator.exits.unresolved):
            message = (
                f"the drift over the diffusion changes so fast along {count} edges that their integral is not resolved"
            )
            found.append(Notice("unresolved_edges", f"{message}; use more cells or a larger floor"))
        if self.rest is not None and self.rest.tail_mass > NOTICEABLE_TAIL and not self._periodic:
            share = f"{100 * self.rest.tail_mass:.2g} % of the probability at rest sits in the cells beside the walls"
            found.append(Notice("walls_matter", f"{share}; widen the box unless the walls are meant"))
        return found + self._under_resolved() + list(self.notices)

    def _under_resolved(self) -> list[Notice]:
        """Wells narrower than a cell, and noise so anisotropic that an offset is longer than the box."""
        found = []
        named = {"short_resolution", "under_resolved"} & {notice.code for notice in self.notices}
        if not named and self.cells_across and (least := min(self.cells_across.values())) < 1.0:
            axis = min(self.cells_across, key=lambda name: self.cells_across[name])
            message = f"the narrowest well or saddle is {least:.2g} cells wide along {axis}: it is not resolved"
            found.append(Notice("under_resolved", f"{message}; fpsolve check says how many cells would do"))
        if self.generator is not None:
            longest = np.abs(_near(self.generator).displacement).max(axis=0, initial=0)
            shape = np.array(self.generator.grid.shape)
            if ((longest >= shape) & (shape > 1)).any():
                message = f"the noise is so anisotropic that its lattice needs offsets of {longest.max()} cells"
                found.append(Notice("long_offsets", f"{message}, longer than the box; use many more cells"))
        return found

    @property
    def _periodic(self) -> bool:
        return self.generator is not None and all(axis.periodic for axis in self.generator.grid.axes)

    def as_record(self) -> dict[str, Any]:
        """The report as plain numbers, strings, lists and tables: the object that --json prints."""
        record: dict[str, Any] = {
            "case": self.case,
            "outcome": self.outcome,
            "seconds": round(self.seconds, 3),
            "warnings": [{"code": warning.code, "message": warning.message} for warning in self.warnings],
            "error": None if self.error is None else self.error.as_record(),
            "invariants": self._invariants(),
        }
        parts = {
            "stationary": _rest_record(self.rest, self.limits),
            "spectrum": _spectrum_record(self.spectrum),
            "evolve": _motion_record(self.motion),
        }
        record |= {name: part for name, part in parts.items() if part is not None}
        if self.escape is not None:
            record["escape"] = escape_record(self.escape)
            record["escape"] |= terrain_record(self.terrain) if self.terrain is not None else {}
            record["escape"] |= {} if self.floor is None else {"floor": floor_record(self.floor)}
            if self.witness is not None and self.witness.escape is not None:
                record["escape"]["ensemble"] = exits_record(self.witness.escape)
        record |= self._noise_records()
        record["expect"] = [check.as_record() for check in self.checks]
        result = None if self.result_file is None else str(self.result_file)
        record["files"] = {"result": result, "figures": [str(path) for path in self.figures]}
        return record

    def _noise_records(self) -> dict[str, Any]:
        """The noise in the landscape and at a point, and the walkers."""
        record = {}
        if self.structure is not None and self.generator is not None:
            record["noise"] = structure_record(self.structure, self.generator.grid)
        if self.gradient_noise is not None:
            record["gradient_noise"] = noise_record(self.gradient_noise)
        if self.witness is not None:
            record["ensemble"] = witness_record(self.witness)
        return record

    def _invariants(self) -> dict[str, float | None]:
        rest, motion, escape = self.rest, self.motion, self.escape
        mass = [abs(float(rest.probability.sum()) - 1.0)] if rest else []
        mass += [motion.mass_error] if motion else []
        smallest = [float(rest.density.min())] if rest else []
        smallest += [motion.smallest_density] if motion else []
        smallest += [float(escape.density.min())] if escape else []
        balance = [rest.imbalance] if rest else []
        balance += [escape.flux_balance] if escape else []
        tail = [part.tail_mass for part in (rest, motion) if part]
        return {
            "mass_error": max(mass, default=None),
            "smallest_density": min(smallest, default=None),
            "flux_balance": max(balance, default=None),
            "tail_mass": max(tail, default=None),
            "detailed_balance": rest.detailed_balance if rest else None,
        }

    def as_text(self) -> str:
        """The page that a run prints."""
        parts = [self._head(), *self._lines()]
        if self.escape is not None:
            parts += ["", *escape_lines(self.escape, self._witness_of_escape())]
        if self.terrain is not None:
            parts += ["", *terrain_lines(self.terrain)]
        if self.floor is not None:
            parts.append(floor_line(self.floor))
        for block in self._noise_blocks():
            parts += ["", *block]
        if self.checks:
            parts += ["", *(_check_line(check) for check in self.checks)]
        parts += ["", self._check_summary()]
        parts += [f"Warning  {warning.message}" for warning in self.warnings]
        files = [path for path in (self.result_file, *self.figures) if path is not None]
        if files:
            parts.append(f"Files    {' · '.join(path.name for path in files)}  in {files[0].parent}")
        parts.append(f"{'Done' if self.outcome == 'done' else 'Failed'} in {self.seconds:.1f} s")
        return "\n".join(parts)

    def _witness_of_escape(self) -> tuple[str, ExitTimes] | None:
        if self.witness is None or self.witness.escape is None:
            return None
        return witness_name(self.witness), self.witness.escape.exits

    def _noise_blocks(self) -> list[list[str]]:
        """The noise in the landscape, its law at a point, and the walkers."""
        assert self.generator is not None
        grid, blocks = self.generator.grid, []
        if self.structure is not None:
            blocks.append(structure_lines(self.structure, grid))
        if self.gradient_noise is not None:
            blocks.append(noise_lines(self.gradient_noise, grid.variables))
        if self.witness is not None:
            rest = None if self.rest is None else self.rest.probability
            motion = None if self.motion is None else self.motion.probability[-1]
            blocks.append(witness_lines(self.witness, grid, rest, motion))
        return [block for block in blocks if block]

    def _head(self) -> str:
        assert self.generator is not None
        grid, problem = self.generator.grid, self.generator.problem
        cells = " x ".join(str(axis.cells) for axis in grid.axes)
        origin = f", {words}" if (words := problem.landscape.origin) else ""
        if grid.parts is not None:
            cells = f"{int(grid.parts.inside.sum())} of {cells}"
        return f"{self.case}   {grid.dimensions}-D, {cells} cells, {problem.diffusion.description}{origin}"

    def _lines(self) -> list[str]:
        assert self.generator is not None
        lines = [f"  {'generator':11s} {lattice_words(self.generator)}"]
        lines += [f"  {'':11s} {words}" for words in axes_words(self.generator.grid)]
        if isinstance(domain := self.generator.grid.domain, Domain):
            lines.append(f"  {'domain':11s} {domain.words}")
        if words := self.generator.problem.course.words:
            lines.append(f"  {'schedule':11s} {words}")
        if self.rest is not None:
            lines.append(f"  {'at rest':11s} {_rest_words(self.rest, self.limits)}")
        if self.spectrum is not None:
            lines.append(f"  {'spectrum':11s} {_spectrum_words(self.spectrum)}")
        if self.motion is not None:
            lines.append(f"  {'in time':11s} {_motion_words(self.motion)}")
            lines += [f"  {'':11s} {words}" for words in _passage_words(self.motion)]
        return lines

    def _check_summary(self) -> str:
        values = self._invariants()
        words = {
            "mass_error": "mass",
            "smallest_density": "smallest p",
            "flux_balance": "flux balance",
            "detailed_balance": "detailed balance",
            "tail_mass": "beside the walls",
        }
        shown = [f"{text} {values[key]:.1g}" for key, text in words.items() if values[key] is not None]
        first = None if self.escape is None else self.escape.times["mean_first_passage_time"].estimate
        if first is not None and first.order is not None:
            shown.append(f"order {first.order:.1f}")
        if self.cells_across and (least := min(self.cells_across.values())) < math.inf:
            shown.append(f"cells across the narrowest well or saddle {least:.2g}")
        asked = self.rest or self.motion or self.escape or self.spectrum
        nothing = "nothing was asked for: add [stationary], [spectrum], [evolve] or [escape]"
        return f"Checks   {' · '.join(shown) if asked else nothing}"


def lattice_words(generator: Generator) -> str:
    """The generator's edges in words: neighbours per cell, longest offset, cell Peclet numbers."""
    edges, grid = _near(generator), generator.grid
    edges = edges.select(np.isfinite(edges.exponent))  # the others lead one way only
    peclet = np.abs(edges.exponent)
    worst = int(np.argmax(peclet)) if peclet.size else 0
    center = grid.positions()[:, edges.origin[worst]] if peclet.size else np.zeros(grid.dimensions)
    place = ", ".join(f"{name} = {value:.2f}" for name, value in zip(grid.variables, center, strict=True))
    edges = _near(generator)
    longest = int(np.abs(edges.displacement).max(initial=0))
    neighbours = np.bincount(edges.origin, minlength=grid.size) + np.bincount(edges.end, minlength=grid.size)
    points = 1 + int(np.median(neighbours))
    return (
        f"{points}-point lattice, longest offset {longest}, "
        f"cell Peclet {peclet.mean() if peclet.size else 0.0:.2g} (worst {peclet.max(initial=0.0):.2g} at {place})"
    )


def axes_words(grid: Grid) -> list[str]:
    """What the axes of a turned grid are."""
    return [] if grid.frame is None else [grid.frame.words(number, name) for number, name in enumerate(grid.names)]


def _near(generator: Generator) -> Edges:
    """The edges that begin where the scheme promises something: not far out on an infinite axis."""
    return generator.edges.select(~generator.grid.far[generator.edges.origin])


def _rest_words(rest: AtRest, limits: Mapping[str, Limit]) -> str:
    def shown(path: str, value: float) -> str:
        limit = limits.get(path)
        return f"{value:.4g}" if limit is None or limit.error is None else f"{value:.6g} (+- {limit.error:.1g})"

    parts = [f"P({name}) = {shown(f'regions.{name}', value)}" for name, value in rest.regions.items()]
    parts += [f"mean {name} {shown(f'observables.{name}', value)}" for name, value in rest.observables.items()]
    if not parts:
        parts.append(f"mean ({', '.join(shown(f'mean.{axis}', value) for axis, value in enumerate(rest.mean))})")
    if rest.detailed_balance > NOTICEABLE_CURRENT and math.isfinite(rest.entropy_production):
        parts.append(f"entropy production {rest.entropy_production:.4g}")
    return "   ".join(parts)


def _spectrum_words(spectrum: Spectrum) -> str:
    times = [time for time in spectrum.relaxation_times if time is not None]
    return f"relaxation times {', '.join(f'{time:.4g}' for time in times)}"


def _motion_words(motion: Motion) -> str:
    steps = "" if motion.steps is None else f" ({motion.steps[-1]:g} SGD steps)"
    reason = f" ({motion.choice.reason})" if motion.choice.reason else ""
    absorbed = "".join(f", {values[-1]:.4g} left through {gate}" for gate, values in motion.absorbed.items())
    span = f"t = {motion.times[0]:g} … {motion.times[-1]:g}{steps}"
    return f"{span}, {motion.choice.stepper}{reason}, {_counted(motion)}{absorbed}"


def _counted(motion: Motion) -> str:
    """How the stepping went: '212 steps, 3 factorisations'."""
    counts = motion.counts
    words = {
        "step": counts.steps,
        "factorisation": counts.factorisations,
        "solve": counts.solves,
        "product": counts.products,
        "rejected": counts.rejected,
        "limited": counts.limited,
    }
    counted = {"step", "factorisation", "solve", "product"}
    shown = [(name, number) for name, number in words.items() if number]
    return ", ".join(f"{number} {name}{'s' if name in counted and number != 1 else ''}" for name, number in shown)


def _passage_words(motion: Motion) -> list[str]:
    """The quantiles of the first-passage time, where probability leaves."""
    if (passage := motion.first_passage) is None:
        return []
    known = [(share, time) for share, time in passage.quantiles.items() if time is not None]
    words = ", ".join(f"{100 * share:g} % by t = {time:.6g}" for share, time in known)
    return [f"gone: {words}" if words else f"gone: less than {100 * min(passage.quantiles):g} %"]


def _check_line(check: Check) -> str:
    mark = "ok  " if check.passed else "MISS"
    found = "nothing" if check.found is None else f"{check.found:.10g}"
    source = f"   ({check.source})" if check.source else ""
    return f"Expect   {mark} {check.what} = {found}, wanted {check.wanted}{source}"


def _rest_record(rest: AtRest | None, limits: Mapping[str, Limit]) -> dict[str, Any] | None:
    if rest is None:
        return None
    record = {
        "mean": rest.mean.tolist(),
        "covariance": rest.covariance.tolist(),
        "regions": rest.regions,
        "observables": rest.observables,
        "current": rest.mean_current.tolist(),
        "entropy_production": rest.entropy_production if math.isfinite(rest.entropy_production) else None,
    }
    bars = {
        path: {"extrapolated": limit.extrapolated, "error": limit.error, "order": limit.order}
        for path, limit in limits.items()
    }
    return record | {"error_bars": bars} if bars else record


def _spectrum_record(spectrum: Spectrum | None) -> dict[str, Any] | None:
    if spectrum is None:
        return None
    return {
        "eigenvalues": np.real(spectrum.eigenvalues).tolist(),
        "frequencies": np.imag(spectrum.eigenvalues).tolist(),
        "relaxation_times": spectrum.relaxation_times,
    }


def _motion_record(motion: Motion | None) -> dict[str, Any] | None:
    if motion is None:
        return None
    return {
        "times": motion.times.tolist(),
        "steps": None if motion.steps is None else motion.steps.tolist(),
        "mass": motion.mass.tolist(),
        "mean": motion.mean.tolist(),
        "covariance": motion.covariance.tolist(),
        "observables": _lists(motion.observables),
        "absorbed": _lists(motion.absorbed),
        "regions": {
            name: {"occupation": values.tolist(), "flux": motion.flux[name].tolist()}
            for name, values in motion.occupation.items()
        },
        "relative_entropy": None if motion.relative_entropy is None else motion.relative_entropy.tolist(),
        "first_passage": _passage_record(motion.first_passage),
        "stepper": {"name": motion.choice.stepper, "reason": motion.choice.reason, **asdict(motion.counts)},
    }


def _passage_record(passage: FirstPassage | None) -> dict[str, Any] | None:
    if passage is None:
        return None
    quantiles = {f"{share:g}": time for share, time in passage.quantiles.items()}
    return {"survival": passage.survival.tolist(), "density": passage.density.tolist(), "quantiles": quantiles}


def _lists(arrays: dict[str, FloatArray]) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in arrays.items()}
