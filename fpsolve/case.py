"""Case files: TOML text -> Case, checked once, at the door; a Case knows its Problem.

Every key is either read, or an error with the nearest known key. Messages carry the file, the key and its line.
"""

from __future__ import annotations

import json
import keyword
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, cast, final

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from fpsolve.analyse.gradient_noise import DRAWS as DEFAULT_DRAWS
from fpsolve.analyse.motion import DEFAULT_SAVED, DEFAULT_TOLERANCE, StepperChoice, saved_times
from fpsolve.analyse.question import Question, complete_question
from fpsolve.analyse.witness import DEFAULT_WALKERS, Ensemble
from fpsolve.errors import CaseError, did_you_mean
from fpsolve.model.domain import Domain
from fpsolve.model.expressions import RESERVED_NAMES
from fpsolve.model.fields import field as read_field
from fpsolve.model.grid import Axis, FloatArray, Grid, Wall, turned_names
from fpsolve.model.initial import AbstractInitial, Density, Gaussian, Point, Saved, Uniform
from fpsolve.model.landscape import Landscape
from fpsolve.model.maps import Refinement
from fpsolve.model.momentum import PREFIX, Momentum, in_phase_space, velocity_axis
from fpsolve.model.noise import (
    AbstractNoise,
    AmplitudeNoise,
    ConstantNoise,
    Convention,
    FloorKind,
    HessianNoise,
    MinibatchNoise,
    Projection,
    Sampling,
    TensorNoise,
)
from fpsolve.model.problem import Problem
from fpsolve.model.region import Region
from fpsolve.model.schedule import Stage
from fpsolve.model.splines import DEFAULT_DEGREE
from fpsolve.model.table import Table as FieldTable
from fpsolve.solve.passage import union

Formula = str | float
Matrix = list[list[float]]
FormulaMatrix = list[list[Formula]]
BatchSampling = Literal["replacement", "without", "epochs"]
Degree = Literal[3, 5]

# Of cells along an axis and of saved times; the memory of the machine ends long before.
MOST_CELLS = MOST_SAVED = 10**12
MOST_WALKERS = 10**9


class Table(BaseModel):
    """A table of a case file: known keys only, finite numbers, nothing changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class LandscapeTable(Table):
    """[landscape]."""

    variables: list[str] = Field(min_length=1, max_length=3)
    loss: Formula | None = None
    drift: list[Formula] | None = None
    extra_drift: list[Formula] | None = None
    mobility: Matrix | None = None
    per_example_loss: str | None = None
    data: str | None = None
    table: str | None = None
    degree: Degree | None = None  # of the splines of a table
    parameters: dict[str, float] = {}

    def landscape(self, folder: Path = Path(), periods: Mapping[str, float] | None = None) -> Landscape:
        """The landscape that the table describes.

        folder: that of the case, where files are; periods: of the variables that are periodic, by name.
        """
        return Landscape(
            self.loss,
            variables=self.variables,
            parameters=self.parameters,
            mobility=self.mobility,
            extra_drift=self.extra_drift,
            drift=self.drift,
            per_example_loss=self.per_example_loss,
            data=None if self.data is None else beside(folder, self.data),
            table=self._table(folder, periods),
        )

    def _table(self, folder: Path, periods: Mapping[str, float] | None) -> FieldTable | None:
        if self.table is None:
            return None
        degree = self.degree or DEFAULT_DEGREE
        return FieldTable.read(beside(folder, self.table), self.variables, degree=degree, periods=periods)


def beside(folder: Path, file: str) -> Path:
    """A file that a case names: beside the case, or else where the work is done."""
    return folder / file if (folder / file).exists() else Path(file)


class StageTable(Table):
    """One stage of a schedule: a value that holds for so many SGD steps, or for so long."""

    value: float
    steps: float | None = Field(None, gt=0.0)
    time: float | None = Field(None, gt=0.0)


Number = float | str | list[StageTable]  # that may change in time


class NoiseTable(Table):
    """What [noise] may hold of every kind."""

    MODEL: ClassVar[type[AbstractNoise]]

    kind: str
    learning_rate: Number | None = None
    injected: Number = 0.0

    def noise(self) -> AbstractNoise:
        """The noise model."""
        given = {key: _scheduled(getattr(self, key)) for key in type(self).model_fields if key != "kind"}
        return self.MODEL(**given)


def _scheduled(value: Any) -> Any:
    """Stages in place of their tables."""
    if isinstance(value, list) and value and isinstance(value[0], StageTable):
        return tuple(Stage(stage.value, stage.steps, stage.time) for stage in value)
    return value


class ConstantTable(NoiseTable):
    """[noise] of kind "constant"."""

    MODEL = ConstantNoise

    kind: Literal["constant"]
    temperature: Number | None = None
    diffusion: Matrix | None = None


class TensorTable(NoiseTable):
    """[noise] of kind "tensor"."""

    MODEL = TensorNoise

    kind: Literal["tensor"]
    diffusion: FormulaMatrix | Literal["table"]
    convention: Convention = "ito"


class AmplitudeTable(NoiseTable):
    """[noise] of kind "amplitude"."""

    MODEL = AmplitudeNoise

    kind: Literal["amplitude"]
    noise_amplitude: FormulaMatrix
    convention: Convention = "ito"


class HessianTable(NoiseTable):
    """[noise] of kind "hessian"."""

    MODEL = HessianNoise

    kind: Literal["hessian"]
    learning_rate: Number
    batch_size: Number
    projection: Projection | None = None
    floor: float = 0.0
    floor_kind: FloorKind = "smooth"
    convention: Convention = "ito"


class MinibatchTable(NoiseTable):
    """[noise] of kind "minibatch"."""

    MODEL = MinibatchNoise

    kind: Literal["minibatch"]
    learning_rate: Number
    batch_size: Number
    sampling: Sampling = "replacement"
    floor: float = 0.0
    floor_kind: FloorKind = "smooth"
    convention: Convention = "ito"


AnyNoiseTable = ConstantTable | TensorTable | AmplitudeTable | HessianTable | MinibatchTable
NOISES: dict[str, type[AnyNoiseTable]] = {
    "constant": ConstantTable,
    "tensor": TensorTable,
    "amplitude": AmplitudeTable,
    "hessian": HessianTable,
    "minibatch": MinibatchTable,
}


class MomentumTable(Table):
    """[momentum]: mass and friction, or beta."""

    beta: float | None = None
    friction: float | None = None
    mass: float | None = None

    def momentum(self) -> Momentum:
        """Mass and friction of a one-parameter loss. Raises CaseError for what does not go together."""
        return Momentum(beta=self.beta, friction=self.friction, mass=self.mass)


class RefinementTable(Table):
    """One place where an axis of [grid] has finer cells."""

    at: float
    by: float
    width: float | None = None


class AxisTable(Table):
    """One axis of [grid]; bounds may be infinite, and then there is a scale."""

    min: float = Field(allow_inf_nan=True)
    max: float = Field(allow_inf_nan=True)
    cells: int = Field(le=MOST_CELLS)
    scale: float | None = None
    centre: float | None = None
    refine: list[RefinementTable] | None = None

    def axis(self, name: str, walls: tuple[Wall, Wall]) -> Axis:
        """The axis. Raises CaseError for values out of range or without effect."""
        refine = tuple(Refinement(entry.at, entry.by, entry.width) for entry in self.refine or [])
        return Axis(name, self.min, self.max, self.cells, walls, self.scale, self.centre, refine)


class FrameTable(Table):
    """[grid] axes: where the axes of a turned grid begin, and along which directions they run."""

    at: list[float]
    directions: Matrix | str


class GaussianTable(Table):
    """[initial] gaussian."""

    mean: list[float]
    covariance: Matrix | None = None
    width: float | None = Field(None, gt=0.0)


class InitialTable(Table):
    """[initial]: exactly one key."""

    gaussian: GaussianTable | None = None
    point: list[float] | None = None
    density: Formula | None = None
    stationary: bool | None = None
    uniform: bool | None = None
    file: str | None = None

    def initial(self, folder: Path = Path()) -> AbstractInitial | None:
        """The starting density; None stands for the density at rest. folder: that of the case, where files are."""
        given = [key for key in type(self).model_fields if getattr(self, key) not in (None, False)]
        if len(given) != 1:
            found = f"{len(given)} ways to start ({', '.join(given) or 'none'})"
            raise CaseError("initial", found, f"Give exactly one of {', '.join(type(self).model_fields)}", "")
        if self.gaussian is not None:
            return Gaussian(self.gaussian.mean, self.gaussian.covariance, self.gaussian.width)
        if self.point is not None:
            return Point(self.point)
        if self.density is not None:
            return Density(self.density)
        if self.file is not None:
            return Saved(beside(folder, self.file))
        return Uniform() if self.uniform else None


class EvolveTable(Table):
    """[evolve]."""

    until: float | None = Field(None, gt=0.0)
    save: int | None = Field(None, ge=1, le=MOST_SAVED)
    times: list[float] | None = Field(None, min_length=1)
    stepper: StepperChoice = "auto"
    tolerance: float = Field(DEFAULT_TOLERANCE, gt=0.0)
    absorb: list[str] = []
    watch: list[str] = []
    relative_entropy: bool = True

    @property
    def saved(self) -> int:
        """Number of saved instants after the start."""
        return len(self.times or []) or self.save or DEFAULT_SAVED


def _whole(value: object) -> object:
    """The value, unless Python takes it for a whole number and TOML does not: true, 3.0."""
    return str(value).lower() if isinstance(value, bool | float) else value


Grids = Annotated[Literal[1, 3], BeforeValidator(_whole)]


class StationaryTable(Table):
    """[stationary]: an empty table asks for the density at rest."""

    grids: Grids = 1
    at_time: float | None = Field(None, ge=0.0)


class SpectrumTable(Table):
    """[spectrum]."""

    count: int = Field(6, ge=1)
    at_time: float | None = Field(None, ge=0.0)


class EscapeTable(Table):
    """[escape]: what is left out of start, valley and target follows from the basins of the loss."""

    start: list[float] | None = None
    valley: str | None = None
    target: str | None = None
    targets: list[str] | None = Field(None, min_length=1)
    core: str | None = None
    grids: Grids = 3
    at_time: float | None = Field(None, ge=0.0)


class EnsembleTable(Table):
    """[ensemble]: walkers beside the density, by SGD itself where there are data, else by the SDE."""

    walkers: int = Field(DEFAULT_WALKERS, ge=2, le=MOST_WALKERS)
    process: Literal["sgd", "sde"] | None = None
    time_step: float | None = Field(None, gt=0.0)
    max_time: float | None = Field(None, gt=0.0)
    sampling: BatchSampling | None = None
    momentum: float = Field(0.0, ge=0.0, lt=1.0)
    tail_index: float | None = Field(None, gt=0.0, le=2.0)
    seed: int = Field(1, ge=0)


class GradientNoiseTable(Table):
    """[gradient_noise]: how Gaussian the noise of batches is at a point."""

    at: list[float]
    batch_sizes: list[int] = Field([1, 8, 64, 512], min_length=1)
    sampling: Sampling | None = None
    draws: int = Field(DEFAULT_DRAWS, ge=100, le=MOST_WALKERS)
    seed: int = Field(1, ge=0)


class Expectation(Table):
    """One entry of [expect]: what a result must be, and where that is known from."""

    value: float | None = None
    expression: str | None = None
    relative: float | None = Field(None, ge=0.0)
    absolute: float | None = Field(None, ge=0.0)
    l1: float | None = Field(None, ge=0.0)
    at_least: float | None = None
    at_most: float | None = None
    at: list[float] | None = None
    time: float | None = None
    source: str | None = None


WALL_WORDS: tuple[Wall, ...] = ("reflecting", "absorbing", "periodic")
DOMAIN_WALLS: tuple[Wall, ...] = ("reflecting", "absorbing")
TABLES = ("title", "landscape", "noise", "momentum", "grid", "walls", "regions", "initial", "observables", "evolve",
          "stationary", "spectrum", "escape", "ensemble", "gradient_noise", "expect")  # fmt: skip
DOMAIN = "domain"  # a key beside the axes in [grid] and [walls]
MATRICES = ("mobility", "diffusion", "noise_amplitude", "covariance")
SCHEDULED = ("learning_rate", "batch_size", "injected", "temperature")
# Names with a meaning in formulas, in the tables, or in the result file.
RESERVED_VARIABLES = (*RESERVED_NAMES, "time", "density", "loss", "axes", "domain", "bound", "mass", "steps",
                      "mode", "minimum", "path_point", "running_flux_time", "basin", "committor", "eigenvalue",
                      "eigenfunction", "eigendensity", "relaxation_time")  # fmt: skip
# What pydantic's kinds of error ask for, in our words.
REQUIRED = {
    "float_type": "a number",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "string_type": "a text in quotes",
    "list_type": "a list in brackets",
    "dict_type": "a table",
    "model_type": "a table",
    "finite_number": "a finite number",
}
BOUNDS = {
    "gt": "be above {:g}",
    "ge": "be at least {:g}",
    "le": "be at most {:g}",
    "min_length": "have at least {} entry",
    "max_length": "have at most {} entries",
}

PATH_PART = re.compile(r"""\"([^"]*)\"|'([^']*)'|([^."']+)""")
LONGEST_SHOWN = 60  # characters of a value in a message

AnyTable = TypeVar("AnyTable", bound=Table)
Answer = TypeVar("Answer")


@final
@dataclass(frozen=True)
class Case:
    """A case file, read and checked. The tables hold every key with its default filled in."""

    name: str
    title: str
    landscape: LandscapeTable
    noise: AnyNoiseTable
    axes: dict[str, AxisTable]
    frame: FrameTable | None
    walls: dict[str, tuple[Wall, Wall]]
    region_texts: dict[str, str]
    observable_texts: dict[str, Formula]
    initial: InitialTable | None
    evolve: EvolveTable | None
    stationary: StationaryTable | None
    spectrum: SpectrumTable | None
    escape: EscapeTable | None
    ensemble: EnsembleTable | None
    gradient_noise: GradientNoiseTable | None
    expect: dict[str, Expectation]
    domain_text: str | None = None
    domain_wall: Wall | None = None  # None: left out
    momentum: MomentumTable | None = None
    folder: Path = field(default=Path(), compare=False)  # of the case file
    watch: Callable[[float], None] | None = field(default=None, compare=False)  # told how far the data are read
    roughly: bool = field(default=False, compare=False)  # big data are read for a first look only

    @cached_property
    def problem(self) -> Problem:
        """The problem: landscape, noise and grid. Raises CaseError where they are wrong."""
        if self.momentum is not None:
            return self.momentum.momentum().problem(self._position.landscape, self._position.noise, self.grid)
        return self._position

    @cached_property
    def _position(self) -> Problem:
        """The problem without momentum."""
        if self.momentum is None:
            grid = self.grid
        else:
            grid = Grid(None, domain=None, **{name: self._axis(name) for name in self.landscape.variables})
        landscape = self._landscape.tabulated(grid, self.watch, roughly=self.roughly)
        return Problem(landscape, self.noise.noise(), grid)

    def _axis(self, name: str) -> Axis:
        return self.axes[name].axis(name, self.walls[name])

    @property
    def variables(self) -> list[str]:
        """The names of the variables: those of the landscape, and with momentum that of the velocity."""
        return _variables(self.landscape, self.momentum)

    @cached_property
    def _landscape(self) -> Landscape:
        """The landscape; no variable is periodic where the axes of the grid are turned."""
        axes = {} if self.frame is not None else self.axes
        periods = {name: axis.max - axis.min for name, axis in axes.items() if "periodic" in self.walls[name]}
        return self.landscape.landscape(self.folder, periods)

    def problem_of(self, table: Literal["stationary", "spectrum", "escape"]) -> Problem:
        """The problem that a table asks about: where it changes in time, as it is at the table's at_time.

        Raises CaseError where that is missing, or has no effect.
        """
        asked = getattr(self, table)
        time = None if asked is None else asked.at_time
        if not self.problem.depends_on_time:
            if time is not None:
                found, required = "it has no effect", "Nothing changes in time here"
                raise CaseError(f"{table}.at_time", found, required, "Remove it")
            return self.problem
        if time is None:
            required = f"[{table}] is about one time, at which everything is held"
            raise CaseError(table, "the drift or the noise changes in time", required, "Add at_time = 0.0")
        return self.problem.at(time)

    @cached_property
    def start(self) -> AbstractInitial | None:
        """The starting density of [initial]; None stands for the density at rest."""
        assert self.initial is not None
        start = self.initial.initial(self.folder)
        return start if self.momentum is None else in_phase_space(start, self.problem)

    @cached_property
    def absorbing(self) -> tuple[Region, ...]:
        """The regions that absorb while the density evolves."""
        names = () if self.evolve is None else self.evolve.absorb
        return tuple(self.region(name, "evolve.absorb") for name in names)

    @cached_property
    def saved_times(self) -> FloatArray:
        """The times at which the density is saved, the start first. Raises CaseError where they are before it."""
        assert self.evolve is not None
        begin = self.start.time if isinstance(self.start, Saved) else 0.0
        return saved_times(self.evolve.until, self.evolve.saved, self.evolve.times, begin)

    @cached_property
    def grid(self) -> Grid:
        """The grid, walls included. Raises CaseError for bounds out of order."""
        axes = {name: self._axis(name) for name in self.axes}
        if self.momentum is not None and len(axes) == 1:
            noise, name = self._position.noise, self.variables[1]
            axes[name] = velocity_axis(self._position, self.momentum.momentum().with_noise(noise), name)
        frame = None if self.frame is None else self._landscape.frame(self.frame.at, self.frame.directions)
        return Grid(frame, domain=self.domain, **axes)

    @cached_property
    def domain(self) -> Domain | None:
        """What the grid is cut to."""
        if self.domain_text is None:
            return None
        parameters = self.landscape.parameters
        return Domain.parse(self.domain_text, self.variables, parameters, self.domain_wall or "reflecting")

    @cached_property
    def regions(self) -> dict[str, Region]:
        """The regions of [regions], by name."""
        return {name: self._parsed(name, text, f"regions.{name}") for name, text in self.region_texts.items()}

    def region(self, text: str, where: str) -> Region:
        """A region given by its name or by an expression."""
        if text in self.regions:
            return self.regions[text]
        if text.isidentifier():
            required = f"A region is a condition or one of [regions]: {', '.join(self.regions) or '(none)'}"
            raise CaseError(where, f'"{text}" is not a known region', required, did_you_mean(text, self.regions))
        return self._parsed(text, text, where)

    @cached_property
    def targets(self) -> tuple[Region, ...]:
        """The targets of [escape]; none where they are left out."""
        if self.escape is None:
            return ()
        if self.escape.target is not None:
            return (self.region(self.escape.target, "escape.target"),)
        texts = enumerate(self.escape.targets or [])
        return tuple(self.region(text, f"escape.targets.{number}") for number, text in texts)

    @cached_property
    def question(self) -> Question:
        """What [escape] asks; what it leaves out is filled in from the basins of the loss."""
        assert self.escape is not None
        valley = None if self.escape.valley is None else self.region(self.escape.valley, "escape.valley")
        target = union(self.targets, len(self.variables)) if self.targets else None
        return complete_question(self.problem_of("escape"), self.escape.start, valley, target)

    @cached_property
    def walkers(self) -> Ensemble | None:
        """What [ensemble] asks."""
        if (table := self.ensemble) is None:
            return None
        given = {name: getattr(table, name) for name in Ensemble.__dataclass_fields__}
        return Ensemble(**given)

    @property
    def gradient_sampling(self) -> Sampling:
        """How the batches of [gradient_noise] are drawn: as those of the noise, unless it says so itself."""
        own = None if self.gradient_noise is None else self.gradient_noise.sampling
        return own or (self.noise.sampling if isinstance(self.noise, MinibatchTable) else "replacement")

    @cached_property
    def core(self) -> Region | None:
        """The core of [escape], where it is given."""
        given = None if self.escape is None else self.escape.core
        return None if given is None else self.region(given, "escape.core")

    def _parsed(self, name: str, text: str, where: str) -> Region:
        return Region.parse(name, text, self.variables, self.landscape.parameters, where)

    @cached_property
    def observables(self) -> dict[str, Any]:
        """Fields of [observables], and the loss where there is one, by name."""
        variables, parameters = self.variables, self.landscape.parameters
        loss = {} if self.problem.landscape.loss is None else {"loss": self.problem.landscape.loss}
        own = {
            name: read_field(text, (), variables, parameters, f"observables.{name}")
            for name, text in self.observable_texts.items()
        }
        return {**loss, **own}

    def resolved(self) -> str:
        """The case as TOML text, defaults filled in."""
        tables: dict[str, object] = {
            "title": self.title,
            "landscape": _plain(self.landscape),
            "noise": _plain(self.noise),
            "momentum": {} if self.momentum is None else _plain(self.momentum),
            "grid": ({} if self.frame is None else {"axes": _plain(self.frame)})
            | {name: _plain(table) for name, table in self.axes.items()}
            | _given(self.domain_text),
            "walls": {name: list(walls) for name, walls in self.walls.items()} | _given(self.domain_wall),
            "regions": self.region_texts,
            "observables": self.observable_texts,
        }
        for name in ("initial", "evolve", "stationary", "spectrum", "escape", "ensemble", "gradient_noise"):
            if (table := getattr(self, name)) is not None:
                tables[name] = _plain(table)
        tables["expect"] = {path: _plain(entry) for path, entry in self.expect.items()}
        return tomli_w.dumps({key: value for key, value in tables.items() if value != {}})


def load_case(path: str | Path, overrides: Sequence[str] = ()) -> Case:
    """Read a case file and apply overrides such as "noise.batch_size=32".

    Raises CaseError: unreadable file, broken TOML, unknown or misplaced keys, values of the wrong kind.
    """
    file = Path(path)
    try:
        content = tomllib.loads(_text_of(file))
    except tomllib.TOMLDecodeError as error:
        remedy = "Mend that line: texts and formulas stand in quotes, numbers do not"
        raise CaseError(str(file), f"it is not valid TOML: {error}", "", remedy) from None
    for override in overrides:
        _override(content, override)
    try:
        return parse_case(content, file.stem, file.parent)
    except CaseError as error:
        raise located(error, file, overrides) from None


def with_case(case: Case | str | Path, overrides: Sequence[str], work: Callable[[Case], Answer]) -> Answer:
    """Do some work with a case, or with the case file at a path; its CaseErrors then name the file and the line."""
    if isinstance(case, Case):
        if overrides:
            found = f"{len(overrides)} given beside a Case, which is already read"
            raise CaseError("overrides", found, "They change the text of a case file", "Use load_case(path, overrides)")
        return work(case)
    loaded = load_case(case, overrides)
    try:
        return work(loaded)
    except CaseError as error:
        raise located(error, Path(case), overrides) from None


def located(error: CaseError, file: Path, overrides: Sequence[str] = ()) -> CaseError:
    """The same error with its place in front: the --set that gave the value, or the file and the line of the key."""
    if error.where.startswith("--"):
        return error
    path = split_path(error.where)
    keys = [override.partition("=")[0].strip() for override in overrides]
    changed = []  # parts of what the error names
    for key, parts in ((key, split_path(key)) for key in keys):
        if path and parts == path[: len(parts)]:
            return _at(f"--set {key}{f', {error.where}' if error.where != key else ''}", error)
        if path and path == parts[: len(path)]:
            changed.append(key)
    line = line_of(_text_of(file), path)
    place = f"{file}{f' line {line}' if line else ''}{f', {error.where}' if error.where else ''}"
    return _at(f"{place} with --set {', '.join(changed)}" if changed else place, error)


def _at(where: str, error: CaseError) -> CaseError:
    return CaseError(where, error.found, error.required, error.remedy)


def parse_case(content: Mapping[str, Any], name: str, folder: Path = Path()) -> Case:
    """A case from parsed TOML. folder: where files that it names are sought first. Raises CaseError."""
    _refuse_unknown((), content, TABLES)
    for table in ("landscape", "noise", "grid"):
        if table not in content:
            required = "Every case needs [landscape], [noise] and [grid]"
            raise CaseError("", f"the table [{table}] is missing", required, f"Add [{table}]")
    landscape = _landscape(content["landscape"])
    frame, momentum = _frame(content["grid"], landscape.variables), _momentum(content, landscape)
    names = _variables(landscape, momentum) if frame is None else list(turned_names(len(landscape.variables)))
    axes = _axes(content["grid"], names, optional=len(landscape.variables))
    return Case(
        name=name,
        title=_title(content.get("title", name)),
        landscape=landscape,
        noise=_noise(content["noise"]),
        axes=axes,
        frame=frame,
        walls=_walls(content.get("walls", {}), axes, frame is not None),
        region_texts=_texts(content, "regions", str),
        observable_texts=_texts(content, "observables", (str, int, float)),
        initial=_initial(content),
        evolve=_evolve(content),
        stationary=_optional(StationaryTable, content, "stationary"),
        spectrum=_optional(SpectrumTable, content, "spectrum"),
        escape=_escape(content, moving=momentum is not None),
        ensemble=_optional(EnsembleTable, content, "ensemble"),
        gradient_noise=_optional(GradientNoiseTable, content, "gradient_noise"),
        expect=_expect(content),
        domain_text=_domain(content),
        domain_wall=_domain_wall(content),
        momentum=momentum,
        folder=folder,
    )


def split_path(path: str) -> list[str]:
    """Parts of a dotted key; quoted parts may hold dots: 'expect."a.b".value' -> expect, a.b, value."""
    return [quoted or other or bare.strip() for quoted, other, bare in re.findall(PATH_PART, path)]


def join_path(parts: Iterable[str]) -> str:
    """The dotted key of parts, quoted where needed: the inverse of `split_path`."""
    return ".".join(part if re.fullmatch(r"[\w-]+", part) else _quoted(part) for part in parts)


def _quoted(part: str) -> str:
    return f"'{part}'" if '"' in part else f'"{part}"'


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")  # editors on Windows put a mark in front
    except FileNotFoundError:
        near = did_you_mean(file.name, [other.name for other in file.parent.glob("*.toml")])
        raise CaseError(str(file), "there is no such file", "", f"Check the path.{near}") from None
    except OSError as error:
        found = f"it cannot be read ({error.strerror})"
        raise CaseError(str(file), found, "A case is a text file", "Check the path and its permissions") from None
    except UnicodeDecodeError as error:
        line = 1 + error.object[: error.start].count(b"\n")
        found = f"it is not UTF-8 text (byte {error.object[error.start]:#x} in line {line})"
        raise CaseError(str(file), found, "A case is a UTF-8 text file", "Save it as UTF-8") from None


def _override(content: dict[str, Any], override: str) -> None:
    """Apply one --set: a dotted key, '=', a TOML value or else a string."""
    key, equals, text = override.partition("=")
    path = split_path(key.strip())
    if not equals or not path:
        raise CaseError("--set", f"{override!r} is not KEY=VALUE", "", "Write for instance --set noise.batch_size=32")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    place: Any = content
    for depth, part in enumerate(path):
        index = _entry(place, part, join_path(path[:depth]))
        if depth == len(path) - 1:
            place[index] = value
        else:
            place = place.setdefault(index, {}) if isinstance(place, dict) else place[index]


def _entry(place: object, part: str, name: str) -> str | int:
    """The index or key of one part of an override's path."""
    if isinstance(place, dict):
        return part
    if not isinstance(place, list):
        raise CaseError("--set", f"{name} is {_shown(place)}", f'It has no entry "{part}"', "Shorten the key")
    if not part.isdigit() or int(part) >= len(place):
        raise CaseError("--set", f'{name} has no entry "{part}"', f"Its entries are 0 to {len(place) - 1}", "")
    return int(part)


def _title(value: object) -> str:
    if not isinstance(value, str):
        raise CaseError("title", f"it is {_shown(value)}", "It must be a text in quotes", "")
    return value


def _mapping(value: object, path: tuple[str, ...], remedy: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        found = f"{_shown(value)} stands where a table belongs"
        raise CaseError(join_path(path), found, "", remedy or f"Write [{join_path(path)}]")
    return value


def _optional(kind: type[AnyTable], content: Mapping[str, Any], name: str) -> AnyTable | None:
    return _read(kind, content[name], (name,)) if name in content else None


def _read(kind: type[AnyTable], table: object, path: tuple[str, ...], remedy: str = "") -> AnyTable:
    """Check a table against its kind; the first thing that is wrong becomes a CaseError."""
    mapping = _mapping(table, path, remedy)
    _refuse_unknown(path, mapping, kind.model_fields)
    try:
        return kind.model_validate(mapping)
    except ValidationError as error:
        raise _explained(error.errors()[0], mapping, path) from None


def _explained(error: Any, table: dict[str, Any], path: tuple[str, ...]) -> CaseError:
    """A pydantic error in our words."""
    place = list(_existing(table, error["loc"]))
    where, given = join_path((*path, *map(str, place))), error["input"]
    if error["type"] == "missing":
        key = error["loc"][-1]
        return CaseError(where, f'the key "{key}" is missing', "It has no default", f"Add {key} = ...")
    found, required, remedy = f"it is {_shown(given)}", _required(error), ""
    if error["type"] == "literal_error":
        found = f"{_shown(given)} is not a known choice"
        remedy = did_you_mean(given, re.findall(r"'(\w+)'", error["ctx"]["expected"])) if isinstance(given, str) else ""
        required = f"Choose {error['ctx']['expected'].replace(chr(39), chr(34))}"
    elif _is_number(given) and error["type"] in ("float_type", "int_type"):
        remedy = f"Write {given} without quotes"
    elif error["type"] == "list_type" and place[-1] == "refine":
        remedy = "Write refine = [{ at = ..., by = ... }]"
    elif error["type"] == "list_type":
        remedy = f"Write [[{_shown(given)}]]" if place[-1] in MATRICES else f"Write [{_shown(given)}]"
    elif path == ("noise",) and place[0] in SCHEDULED and len(place) == 1 and not isinstance(given, float):
        required = "It must be a number, a formula in t or k in quotes, or stages"
        remedy = f"Write {place[0]} = [{{ steps = 100, value = 0.1 }}, {{ steps = 1000, value = 0.01 }}]"
    return CaseError(where, found, required, remedy)


def _existing(table: Any, place: Iterable[str | int]) -> Iterator[str | int]:
    """The parts of a pydantic location that lead somewhere; others name its own alternatives, or what is missing."""
    for part in place:
        try:
            table = table[part]
        except (KeyError, IndexError, TypeError):
            continue
        yield part


def _required(error: Any) -> str:
    """What a pydantic error asks for."""
    kind, bounds = error["type"], error.get("ctx", {})
    if error["loc"][-1] == "str":
        return "It must be a formula in quotes, or a number"
    if kind in REQUIRED:
        return f"It must be {REQUIRED[kind]}"
    for bound, words in BOUNDS.items():
        if bound in bounds:
            return f"It must {words.format(bounds[bound])}"
    return str(error["msg"]).replace("Input should", "It must")


def _is_number(text: object) -> bool:
    try:
        return isinstance(text, str) and float(text) is not None
    except ValueError:
        return False


def _shown(value: object) -> str:
    """A value as TOML writes it, shortened."""
    text = f"{value}" if isinstance(value, float) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _refuse_unknown(path: tuple[str, ...], table: Mapping[str, Any], known: Iterable[str], required: str = "") -> None:
    names = list(known)
    for key in table:
        if key in names:
            continue
        here = (*path, key)
        kinds = [kind for kind, model in NOISES.items() if path == ("noise",) and key in model.model_fields]
        if kinds:
            found = f'it has no effect for noise.kind = "{table.get("kind")}"'
            raise CaseError(join_path(here), found, f"It belongs to {', '.join(kinds)}", "Remove it or change the kind")
        found = f'unknown {"key" if path else "table"} "{key}"'
        raise CaseError(join_path(here), found, required or f"Known: {', '.join(names)}", did_you_mean(key, names))


def _landscape(table: object) -> LandscapeTable:
    landscape = _read(LandscapeTable, table, ("landscape",))
    _check_names(landscape)
    if landscape.table is not None:
        return landscape.model_copy(update={"degree": landscape.degree or DEFAULT_DEGREE})
    if landscape.degree is not None:
        raise CaseError("landscape.degree", "it has no effect without a table", "It belongs to table", "Remove it")
    return landscape


def _check_names(landscape: LandscapeTable) -> None:
    where, variables = "landscape.variables", landscape.variables
    for name in variables:
        _refuse_name(name, where, RESERVED_VARIABLES)
    if len(set(variables)) < len(variables):
        raise CaseError(where, f"a name occurs twice in {_shown(variables)}", "Each name may be used once", "")
    for name in landscape.parameters:
        place = join_path(("landscape", "parameters", name))
        _refuse_name(name, place, RESERVED_NAMES)
        if name in variables:
            raise CaseError(place, f'"{name}" is also a variable', "Each name may be used once", "Rename one")


def _refuse_name(name: str, where: str, taken: Iterable[str]) -> None:
    if not name.isidentifier() or keyword.iskeyword(name):
        required = "A name is one word of letters, digits and _, and no keyword of Python"
        raise CaseError(where, f'"{name}" cannot be a name', required, "Rename it")
    if name in taken:
        raise CaseError(where, f'"{name}" is taken', f"Taken are {', '.join(taken)}", "Rename it")


def _noise(table: object) -> AnyNoiseTable:
    mapping = _mapping(table, ("noise",))
    kind, required = mapping.get("kind"), f"Choose one of {', '.join(NOISES)}"
    if kind is None:
        raise CaseError("noise", 'the key "kind" is missing', required, "Add kind = ...")
    if not isinstance(kind, str) or kind not in NOISES:
        found = f"{_shown(kind)} is not a known choice"
        raise CaseError("noise.kind", found, required, did_you_mean(str(kind), NOISES))
    for key in SCHEDULED:
        for number, stage in enumerate(mapping.get(key, []) if isinstance(mapping.get(key), list) else []):
            _read(StageTable, stage, ("noise", key, str(number)), "Write { steps = 100, value = 0.1 }")
    return _read(NOISES[kind], mapping, ("noise",))


def _momentum(content: Mapping[str, Any], landscape: LandscapeTable) -> MomentumTable | None:
    table = _optional(MomentumTable, content, "momentum")
    if table is None:
        return None
    table.momentum()
    if len(landscape.variables) > 1:
        found = f"the landscape has the variables {', '.join(landscape.variables)}"
        raise CaseError("momentum", found, "Momentum is for one parameter", "Remove [momentum]")
    return table


def _variables(landscape: LandscapeTable, momentum: MomentumTable | None) -> list[str]:
    names = landscape.variables
    return names if momentum is None else [*names, PREFIX + names[0]]


def _frame(table: object, variables: list[str]) -> FrameTable | None:
    """[grid] axes, of a turned grid."""
    mapping, path = _mapping(table, ("grid",)), ("grid", "axes")
    if "axes" not in mapping:
        return None
    given = _mapping(mapping["axes"], path, 'Write axes = { at = [...], directions = "hessian" }')
    frame, names = _read(FrameTable, given, path), turned_names(len(variables))
    taken = [name for name in variables if name in names]
    if taken:
        raise CaseError("landscape.variables", f'"{taken[0]}" is taken', "So are the axes of a turned grid called", "")
    if isinstance(frame.directions, str) and frame.directions != "hessian":
        near = did_you_mean(frame.directions, ["hessian"])
        required = 'It must be "hessian" or a matrix, one row for every axis'
        raise CaseError("grid.axes.directions", f"it is {_shown(frame.directions)}", required, near)
    return frame


def _axes(table: object, names: Sequence[str], optional: int) -> dict[str, AxisTable]:
    """The axes of [grid], named after the variables, or of a turned grid; from number `optional` on they may lack."""
    mapping = {key: value for key, value in _mapping(table, ("grid",)).items() if key != "axes"}
    turned = "axes" in _mapping(table, ("grid",))
    words = f"The axes of a turned grid are {', '.join(names)}" if turned else _named_after_variables(names)
    _refuse_unknown(("grid",), mapping, [*names, DOMAIN], words)
    axes = {}
    for name in [*names[:optional], *(name for name in names[optional:] if name in mapping)]:
        remedy = f"{name} = {{ min = ..., max = ..., cells = ... }}"
        if name not in mapping:
            found = f"{name} is missing" if turned else f'the variable "{name}" has no axis'
            required = f"{words}, measured from axes.at" if turned else "Every variable needs one"
            raise CaseError("grid", found, required, f"Add {remedy}")
        entry = _mapping(mapping[name], ("grid", name), f"Write {remedy}")
        if isinstance(places := entry.get("refine"), list):
            for number, place in enumerate(places):
                path = ("grid", name, "refine", str(number))
                given = _mapping(place, path, "Write { at = ..., by = ... }")
                _refuse_unknown(path, given, RefinementTable.model_fields)
        axes[name] = _read(AxisTable, entry, ("grid", name))
        for bound in ("min", "max"):
            if math.isnan(getattr(axes[name], bound)):
                raise CaseError(f"grid.{name}.{bound}", "it is nan", "It must be a number, -inf or inf", "")
    return axes


def _named_after_variables(names: Sequence[str]) -> str:
    return f"Axes are named after the variables: {', '.join(names)}"


def _walls(table: object, axes: Mapping[str, AxisTable], turned: bool) -> dict[str, tuple[Wall, Wall]]:
    mapping = _mapping(table, ("walls",))
    words = "axes of the turned grid" if turned else "variables"
    required = f"Walls are named after the {words}: {', '.join(axes)}"
    _refuse_unknown(("walls",), mapping, [*axes, DOMAIN], required)
    walls: dict[str, tuple[Wall, Wall]] = dict.fromkeys(axes, ("reflecting", "reflecting"))
    for name, given in mapping.items():
        if name == DOMAIN:
            continue
        both = given if isinstance(given, list) else [given, given]
        if len(both) != 2:
            found = f"{len(both)} walls"
            raise CaseError(f"walls.{name}", found, "An axis has two: [lower, upper], or one word for both", "")
        for word in both:
            if word not in WALL_WORDS:
                near = did_you_mean(word, WALL_WORDS) if isinstance(word, str) else ""
                required = f"Choose one of {', '.join(WALL_WORDS)}"
                raise CaseError(f"walls.{name}", f"{_shown(word)} is not a known choice", required, near)
        walls[name] = (both[0], both[1])
    return walls


def _domain(content: Mapping[str, Any]) -> str | None:
    """The condition of grid.domain, if any."""
    text = content["grid"].get(DOMAIN)
    if text is not None and not isinstance(text, str):
        raise CaseError("grid.domain", f"it is {_shown(text)}", "It must be a condition in quotes", "")
    return text


def _domain_wall(content: Mapping[str, Any]) -> Wall | None:
    """The word of walls.domain, if any."""
    word: Any = content.get("walls", {}).get(DOMAIN)
    if word is None:
        return None
    if DOMAIN not in content["grid"]:
        required = "It says what the surface of grid.domain does"
        raise CaseError("walls.domain", "it has no effect without a domain", required, "Remove it, or add grid.domain")
    if word not in DOMAIN_WALLS:
        near = did_you_mean(word, DOMAIN_WALLS) if isinstance(word, str) else ""
        required = f"Choose one of {', '.join(DOMAIN_WALLS)}"
        raise CaseError("walls.domain", f"{_shown(word)} is not a known choice", required, near)
    return cast(Wall, word)


def _given(value: str | None) -> dict[str, object]:
    """What [grid] and [walls] say of the domain."""
    return {} if value is None else {DOMAIN: value}


def _texts(content: Mapping[str, Any], table: str, kinds: type | tuple[type, ...]) -> dict[str, Any]:
    """[regions] or [observables]: names and formulas."""
    texts = _mapping(content.get(table, {}), (table,))
    for name, text in texts.items():
        where = join_path((table, name))
        if not isinstance(text, kinds) or isinstance(text, bool):
            raise CaseError(where, f"it is {_shown(text)}", "It must be a formula in quotes", "")
        if not name.isidentifier():
            required = "A name is one word of letters, digits and _"
            raise CaseError(where, f'"{name}" cannot be a name', required, "Rename it")
        if table == "observables" and name == "loss":
            raise CaseError(where, '"loss" is taken', "The loss is always recorded", "Rename it")
    return dict(texts)


def _initial(content: Mapping[str, Any]) -> InitialTable | None:
    table = content.get("initial")
    if isinstance(table, dict) and "gaussian" in table:
        path = ("initial", "gaussian")
        gaussian = _mapping(table["gaussian"], path, "Write gaussian = { mean = [...], width = ... }")
        _refuse_unknown(path, gaussian, GaussianTable.model_fields)
    read = _optional(InitialTable, content, "initial")
    if read is not None:
        read.initial()
    return read


def _evolve(content: Mapping[str, Any]) -> EvolveTable | None:
    table = _optional(EvolveTable, content, "evolve")
    if table is None:
        return None
    if (table.until is None) == (table.times is None):
        found = "neither until nor times is given" if table.until is None else "both until and times are given"
        raise CaseError("evolve", found, "Exactly one of them is needed", "")
    if table.times is None:
        return table.model_copy(update={"save": table.saved})
    if table.save is not None:
        raise CaseError("evolve.save", "it has no effect beside times", "It belongs to until", "Remove it")
    if any(later <= earlier for earlier, later in zip([0.0, *table.times], table.times, strict=False)):
        found = f"the times {_shown(table.times)} do not increase from 0"
        raise CaseError("evolve.times", found, "Each must be later than the one before, the first after 0", "Sort them")
    return table


def _escape(content: Mapping[str, Any], moving: bool) -> EscapeTable | None:
    """[escape]; moving: whether there is momentum, and a start without a velocity has none."""
    table = _optional(EscapeTable, content, "escape")
    if table is not None and table.target is not None and table.targets is not None:
        required = "One region is the target, several are targets"
        raise CaseError("escape.targets", "both target and targets are given", required, "Remove one")
    if moving and table is not None and table.start is not None and len(table.start) == 1:
        return table.model_copy(update={"start": [*table.start, 0.0]})
    return table


def _expect(content: Mapping[str, Any]) -> dict[str, Expectation]:
    entries = {}
    for path, entry in _mapping(content.get("expect", {}), ("expect",)).items():
        if isinstance(entry, dict) and any(isinstance(value, dict) for value in entry.values()):
            found = "a path without quotes around it"
            raise CaseError(join_path(("expect", path)), found, "", 'Write "stationary.mean.0" = { ... }, in quotes')
        remedy = f"Write {{ value = {_shown(entry)}, relative = 1e-3 }}"
        entries[path] = _read(Expectation, entry, ("expect", path), remedy)
    return entries


def _plain(table: Table) -> dict[str, Any]:
    return table.model_dump(exclude_none=True)


def line_of(text: str, path: Sequence[str]) -> int | None:
    """The line where a key or list entry begins; where it is missing, that of the nearest thing around it.

    Statements are read one by one. An unfinished one is closed on trial, to see what it holds so far.
    """
    lines = text.splitlines()
    table: list[str] = []
    line, deepest, start = None, 0, 0
    for number in range(1, len(lines) + 1):
        closing, content = _closed("\n".join(lines[start:number]))
        if content is None:
            continue
        if lines[start].lstrip().startswith("["):
            table, depth = _header(content), _reach(content, path)
        else:
            depth = len(table) + _reach(content, path[len(table) :]) if path[: len(table)] == table else 0
        if depth > deepest:
            line, deepest = number, depth
        if not closing:
            start = number
    return line


def _closed(chunk: str) -> tuple[str, dict[str, Any] | None]:
    """What a piece of TOML holds, and the closing that it lacks; None where no closing helps."""
    for closing in ("", "]", "]]", "]}", "]]}", '"""', "'''"):
        try:
            return closing, tomllib.loads(f"{chunk}\n{closing}")
        except tomllib.TOMLDecodeError:
            continue
    return "", None


def _header(content: Any) -> list[str]:
    """The path of [a.b] from what it parses to, {a: {b: {}}}."""
    path = []
    while isinstance(content, dict) and content:
        (part, content), *_ = content.items()
        path.append(part)
    return path


def _reach(content: Any, path: Sequence[str]) -> int:
    """How many parts of a path lead somewhere."""
    for depth, part in enumerate(path):
        if isinstance(content, dict) and part in content:
            content = content[part]
        elif isinstance(content, list) and part.isdigit() and int(part) < len(content):
            content = content[int(part)]
        else:
            return depth
    return len(path)
