"""Case files: TOML text -> Case, checked once, at the door; a Case knows its Problem.

Every key that the contract names is either read, refused as "not available yet", or an error with the nearest
known key. Messages carry the file, the key and its line.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar, final

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fpsolve.errors import CaseError, did_you_mean
from fpsolve.model.fields import SymbolicField
from fpsolve.model.fields import field as read_field
from fpsolve.model.grid import Axis, Grid, Wall
from fpsolve.model.initial import AbstractInitial, Density, Gaussian, Point, Uniform
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import (
    AbstractNoise,
    AmplitudeNoise,
    ConstantNoise,
    Convention,
    FloorKind,
    HessianNoise,
    Projection,
    TensorNoise,
)
from fpsolve.model.problem import Problem
from fpsolve.model.region import Region

Formula = str | float
Matrix = list[list[float]]
FormulaMatrix = list[list[Formula]]


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
    parameters: dict[str, float] = {}

    def landscape(self) -> Landscape:
        """The landscape that the table describes."""
        return Landscape(
            self.loss,
            variables=self.variables,
            parameters=self.parameters,
            mobility=self.mobility,
            extra_drift=self.extra_drift,
            drift=self.drift,
        )


class ConstantTable(Table):
    """[noise] of kind "constant"."""

    kind: Literal["constant"]
    temperature: float | None = None
    diffusion: Matrix | None = None

    def noise(self) -> AbstractNoise:
        """The noise model."""
        return ConstantNoise(temperature=self.temperature, diffusion=self.diffusion)


class TensorTable(Table):
    """[noise] of kind "tensor"."""

    kind: Literal["tensor"]
    diffusion: FormulaMatrix
    convention: Convention = "ito"

    def noise(self) -> AbstractNoise:
        """The noise model."""
        return TensorNoise(diffusion=self.diffusion, convention=self.convention)


class AmplitudeTable(Table):
    """[noise] of kind "amplitude"."""

    kind: Literal["amplitude"]
    noise_amplitude: FormulaMatrix
    convention: Convention = "ito"

    def noise(self) -> AbstractNoise:
        """The noise model."""
        return AmplitudeNoise(noise_amplitude=self.noise_amplitude, convention=self.convention)


class HessianTable(Table):
    """[noise] of kind "hessian"."""

    kind: Literal["hessian"]
    learning_rate: float
    batch_size: float
    projection: Projection | None = None
    floor: float = 0.0
    floor_kind: FloorKind = "smooth"
    convention: Convention = "ito"
    injected: float = 0.0

    def noise(self) -> AbstractNoise:
        """The noise model."""
        return HessianNoise(**{key: getattr(self, key) for key in type(self).model_fields if key != "kind"})


NOISES: dict[str, type[ConstantTable | TensorTable | AmplitudeTable | HessianTable]] = {
    "constant": ConstantTable,
    "tensor": TensorTable,
    "amplitude": AmplitudeTable,
    "hessian": HessianTable,
}


class AxisTable(Table):
    """One axis of [grid]."""

    min: float
    max: float
    cells: int


class GaussianTable(Table):
    """[initial] gaussian."""

    mean: list[float]
    covariance: Matrix | None = None
    width: float | None = None


class InitialTable(Table):
    """[initial]: exactly one key."""

    gaussian: GaussianTable | None = None
    point: list[float] | None = None
    density: Formula | None = None
    stationary: Literal[True] | None = None
    uniform: Literal[True] | None = None

    def initial(self) -> AbstractInitial | None:
        """The starting density; None stands for the density at rest."""
        given = [key for key in type(self).model_fields if getattr(self, key) is not None]
        if len(given) != 1:
            found = f"{len(given)} ways to start ({', '.join(given) or 'none'})"
            raise CaseError("initial", found, f"Give exactly one of {', '.join(type(self).model_fields)}", "")
        if self.gaussian is not None:
            return Gaussian(self.gaussian.mean, self.gaussian.covariance, self.gaussian.width)
        if self.point is not None:
            return Point(self.point)
        if self.density is not None:
            return Density(self.density)
        return Uniform() if self.uniform else None


class EvolveTable(Table):
    """[evolve]."""

    until: float | None = None
    save: int = 50
    times: list[float] | None = None
    stepper: Literal["auto", "implicit"] = "auto"
    tolerance: float = 1e-6
    watch: list[str] = []


class StationaryTable(Table):
    """[stationary]: an empty table asks for the density at rest."""


class EscapeTable(Table):
    """[escape]."""

    start: list[float]
    target: str
    valley: str | None = None
    grids: Literal[1] = 1


class Expectation(Table):
    """One entry of [expect]: what a result must be, and where that is known from."""

    value: float | None = None
    expression: str | None = None
    relative: float | None = None
    absolute: float | None = None
    l1: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    at: list[float] | None = None
    time: float | None = None
    source: str | None = None


WALL_WORDS: tuple[Wall, ...] = ("reflecting", "absorbing", "periodic")
TABLES = ("title", "landscape", "noise", "grid", "walls", "regions", "initial", "observables", "evolve",
          "stationary", "escape", "expect")  # fmt: skip
# What the contract names and this version cannot do yet. A path ends at the key; "*" is any axis.
LATER = {
    ("momentum",), ("spectrum",), ("ensemble",), ("gradient_noise",), ("landscape", "data"), ("landscape", "table"),
    ("landscape", "per_example_loss"), ("noise", "injected"), ("grid", "domain"), ("grid", "axes"),
    ("grid", "*", "scale"), ("grid", "*", "refine"), ("walls", "domain"), ("initial", "file"),
    ("stationary", "grids"), ("escape", "targets"), ("escape", "core"), ("escape", "at_time"),
}  # fmt: skip
LATER_CHOICES = {
    ("noise", "kind"): ("minibatch",),
    ("evolve", "stepper"): ("stabilised", "exponential"),
    ("escape", "grids"): "any",
}
SCHEDULED = ("learning_rate", "batch_size", "injected", "temperature")
RESERVED_VARIABLES = ("t", "k", "pi", "time", "density", "loss", "axes", "domain")

AnyTable = TypeVar("AnyTable", bound=Table)


@final
@dataclass(frozen=True)
class Case:
    """A case file, read and checked. The tables hold every key with its default filled in."""

    name: str
    title: str
    landscape: LandscapeTable
    noise: ConstantTable | TensorTable | AmplitudeTable | HessianTable
    axes: dict[str, AxisTable]
    walls: dict[str, tuple[Wall, Wall]]
    region_texts: dict[str, str]
    observable_texts: dict[str, Formula]
    initial: InitialTable | None
    evolve: EvolveTable | None
    stationary: StationaryTable | None
    escape: EscapeTable | None
    expect: dict[str, Expectation]

    @cached_property
    def problem(self) -> Problem:
        """The problem: landscape, noise and grid. Raises CaseError where they are wrong."""
        return Problem(self.landscape.landscape(), self.noise.noise(), self.grid)

    @cached_property
    def grid(self) -> Grid:
        """The grid, walls included. Raises CaseError for bounds out of order."""
        return Grid(
            **{
                name: Axis(name, table.min, table.max, table.cells, self.walls[name])
                for name, table in self.axes.items()
            }
        )

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

    def _parsed(self, name: str, text: str, where: str) -> Region:
        return Region.parse(name, text, self.landscape.variables, self.landscape.parameters, where)

    @cached_property
    def observables(self) -> dict[str, Any]:
        """Fields of [observables], and the loss where there is one, by name."""
        variables, parameters = self.landscape.variables, self.landscape.parameters
        loss = {} if self.problem.landscape.loss is None else {"loss": self.problem.landscape.loss}
        own = {
            name: read_field(text, (), variables, parameters, f"observables.{name}")
            for name, text in self.observable_texts.items()
        }
        return {**loss, **own}

    def expression(self, text: str, where: str) -> SymbolicField:
        """A formula in the case's variables and parameters."""
        found = read_field(text, (), self.landscape.variables, self.landscape.parameters, where)
        assert isinstance(found, SymbolicField)
        return found

    def resolved(self) -> str:
        """The case as TOML text, defaults filled in."""
        tables: dict[str, object] = {
            "title": self.title,
            "landscape": _plain(self.landscape),
            "noise": _plain(self.noise),
            "grid": {name: _plain(table) for name, table in self.axes.items()},
            "walls": {name: list(walls) for name, walls in self.walls.items()},
            "regions": self.region_texts,
            "observables": self.observable_texts,
        }
        for name in ("initial", "evolve", "stationary", "escape"):
            if (table := getattr(self, name)) is not None:
                tables[name] = _plain(table)
        tables["expect"] = {path: _plain(entry) for path, entry in self.expect.items()}
        return tomli_w.dumps({key: value for key, value in tables.items() if value != {} or key == "stationary"})


def load_case(path: str | Path, overrides: Sequence[str] = ()) -> Case:
    """Read a case file and apply overrides such as "noise.batch_size=32".

    Raises CaseError: unreadable file, broken TOML, unknown or misplaced keys, values of the wrong kind.
    """
    file = Path(path)
    text = _text_of(file)
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CaseError(str(file), f"it is not valid TOML: {error}", "", "Mend the line that it names") from None
    for override in overrides:
        _override(content, override)
    try:
        return parse_case(content, file.stem)
    except CaseError as error:
        raise located(error, file, text, overrides) from None


def located(error: CaseError, file: Path, text: str, overrides: Sequence[str] = ()) -> CaseError:
    """The same error with the file and the line of its key in front."""
    path = split_path(error.where) if error.where else []
    if path and any(split_path(override.split("=")[0].strip()) == path for override in overrides):
        return CaseError(f"--set {error.where}", error.found, error.required, error.remedy)
    line = _line_of(text, path)
    place = f"{file}{f' line {line}' if line else ''}{f', {error.where}' if error.where else ''}"
    return CaseError(place, error.found, error.required, error.remedy)


def parse_case(content: Mapping[str, Any], name: str) -> Case:
    """A case from parsed TOML. Raises CaseError."""
    _refuse_unknown((), content, TABLES)
    for table in ("landscape", "noise", "grid"):
        if not isinstance(content.get(table), dict):
            raise CaseError("", f"the table [{table}] is missing", "Every case needs landscape, noise and grid", "")
    landscape = _read(LandscapeTable, content["landscape"], ("landscape",))
    _check_names(landscape)
    axes = _axes(content["grid"], landscape.variables)
    return Case(
        name=name,
        title=str(content.get("title", name)),
        landscape=landscape,
        noise=_noise(content["noise"]),
        axes=axes,
        walls=_walls(content.get("walls", {}), axes),
        region_texts=_texts(content, "regions", str),
        observable_texts=_texts(content, "observables", (str, int, float)),
        initial=_optional(InitialTable, content, "initial"),
        evolve=_optional(EvolveTable, content, "evolve"),
        stationary=_optional(StationaryTable, content, "stationary"),
        escape=_optional(EscapeTable, content, "escape"),
        expect={
            path: _read(Expectation, entry, ("expect", path))
            for path, entry in _mapping(content.get("expect", {}), ("expect",)).items()
        },
    )


def split_path(path: str) -> list[str]:
    """Parts of a dotted key; quoted parts may hold dots: 'expect."a.b".value' -> expect, a.b, value."""
    return [quoted or bare for quoted, bare in re.findall(r'"([^"]*)"|([^."]+)', path)]


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = did_you_mean(file.name, [other.name for other in file.parent.glob("*.toml")])
        raise CaseError(str(file), "there is no such file", "", f"Check the path.{near}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CaseError(str(file), f"it cannot be read ({error})", "A case is a UTF-8 text file", "") from None


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
        last = depth == len(path) - 1
        if isinstance(place, list):
            if not part.isdigit() or int(part) >= len(place):
                raise CaseError("--set", f"{key} has no entry {part}", f"It has {len(place)} entries, from 0", "")
            index: Any = int(part)
        elif isinstance(place, dict):
            index = part
            if not last:
                place.setdefault(part, {})
        else:
            raise CaseError("--set", f"{key} leads into a single value", "Only tables and lists have entries", "")
        if last:
            place[index] = value
        else:
            place = place[index]


def _mapping(value: object, path: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CaseError(".".join(path), f"{value!r} stands where a table belongs", f"Write [{'.'.join(path)}]", "")
    return value


def _optional(kind: type[AnyTable], content: Mapping[str, Any], name: str) -> AnyTable | None:
    return _read(kind, content[name], (name,)) if name in content else None


def _read(kind: type[AnyTable], table: object, path: tuple[str, ...]) -> AnyTable:
    """Check a table against its kind; the first thing that is wrong becomes a CaseError."""
    mapping = _mapping(table, path)
    _refuse_unknown(path, mapping, kind.model_fields)
    try:
        return kind.model_validate(mapping)
    except ValidationError as error:
        raise _explained(error.errors()[0], path) from None


def _explained(error: Any, path: tuple[str, ...]) -> CaseError:
    """A pydantic error in our words."""
    place = [str(part) for part in error["loc"] if not str(part).startswith(("list[", "constrained", "float", "str"))]
    where = _joined((*path, *place))
    key = place[-1] if place else ""
    given = error.get("input")
    if error["type"] == "missing":
        return CaseError(".".join(path), f'the key "{key}" is missing', "It has no default", f"Add {key} = ...")
    if key in SCHEDULED and isinstance(given, str | list):
        return CaseError(where, "schedules are not available yet", "It must be a number", "Give one number")
    if (later := LATER_CHOICES.get((path[0], key))) and (later == "any" or given in later):
        return CaseError(where, f"{_shown(given)} is not available yet", _requirement(error), "")
    if error["type"] == "literal_error":
        near = did_you_mean(given, re.findall(r"'(\w+)'", error["ctx"]["expected"])) if isinstance(given, str) else ""
        return CaseError(where, f"{_shown(given)} is not a known choice", f"Choose {error['ctx']['expected']}", near)
    if error["type"] == "extra_forbidden":
        return CaseError(where, "unknown key", "", "Remove it")
    return CaseError(where, f"it is {_shown(given)}", _requirement(error), "")


def _requirement(error: Any) -> str:
    message = error["msg"].replace("Input should be", "It must be").replace("a finite number", "a finite number")
    return str(message).replace("input should be", "it must be").replace(" or None", "")


def _shown(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _refuse_unknown(path: tuple[str, ...], table: Mapping[str, Any], known: Iterable[str]) -> None:
    names = list(known)
    for key in table:
        if key in names:
            continue
        here = (*path, key)
        general = (path[0], "*", key) if len(path) == 2 else here
        if here in LATER or general in LATER:
            raise CaseError(_joined(here), "it is not available yet", "This version does not read it", "Remove it")
        kinds = [kind for kind, model in NOISES.items() if path == ("noise",) and key in model.model_fields]
        if kinds:
            found = f'it has no effect for noise.kind = "{table.get("kind")}"'
            raise CaseError(_joined(here), found, f"It belongs to {', '.join(kinds)}", "Remove it or change the kind")
        what = "unknown key" if path else "unknown table"
        raise CaseError(_joined(here), f'{what} "{key}"', f"Known: {', '.join(names)}", did_you_mean(key, names))


def _joined(path: Iterable[str]) -> str:
    return ".".join(f'"{part}"' if "." in part else part for part in path)


def _check_names(landscape: LandscapeTable) -> None:
    where = "landscape.variables"
    for name in landscape.variables:
        if not name.isidentifier() or name in RESERVED_VARIABLES:
            required = f"A variable is a name, and none of {', '.join(RESERVED_VARIABLES)}"
            raise CaseError(where, f'"{name}" cannot name a variable', required, "Rename it")
        if name in landscape.parameters:
            raise CaseError(where, f'"{name}" is also a parameter', "Each name may be used once", "Rename one")
    if len(set(landscape.variables)) < len(landscape.variables):
        raise CaseError(where, f"a name occurs twice in {landscape.variables}", "Each name may be used once", "")


def _noise(table: object) -> ConstantTable | TensorTable | AmplitudeTable | HessianTable:
    mapping = _mapping(table, ("noise",))
    kind = mapping.get("kind")
    if kind not in NOISES:
        if kind is None:
            raise CaseError("noise", 'the key "kind" is missing', f"Choose one of {', '.join(NOISES)}", "")
        if kind in LATER_CHOICES["noise", "kind"]:
            raise CaseError("noise.kind", f'"{kind}" is not available yet', f"Choose one of {', '.join(NOISES)}", "")
        near = did_you_mean(str(kind), NOISES)
        raise CaseError("noise.kind", f'"{kind}" is not a known choice', f"Choose one of {', '.join(NOISES)}", near)
    return _read(NOISES[kind], mapping, ("noise",))


def _axes(table: dict[str, Any], variables: list[str]) -> dict[str, AxisTable]:
    _refuse_unknown(("grid",), table, variables)
    axes = {}
    for name in variables:
        if name not in table:
            remedy = f"Add {name} = {{ min = ..., max = ..., cells = ... }}"
            raise CaseError("grid", f'the variable "{name}" has no axis', "Every variable needs one", remedy)
        entry = _mapping(table[name], ("grid", name))
        for bound in ("min", "max"):
            if isinstance(entry.get(bound), float) and abs(entry[bound]) == float("inf"):
                found = f"{entry[bound]:+g} is not available yet"
                raise CaseError(f"grid.{name}.{bound}", found, "Bounds must be finite numbers", "Choose a wide box")
        axes[name] = _read(AxisTable, entry, ("grid", name))
    return axes


def _walls(table: object, axes: Mapping[str, AxisTable]) -> dict[str, tuple[Wall, Wall]]:
    mapping = _mapping(table, ("walls",))
    _refuse_unknown(("walls",), mapping, axes)
    walls: dict[str, tuple[Wall, Wall]] = dict.fromkeys(axes, ("reflecting", "reflecting"))
    for name, given in mapping.items():
        both = given if isinstance(given, list) else [given, given]
        if len(both) != 2:
            found = f"{len(both)} walls"
            raise CaseError(f"walls.{name}", found, "An axis has two: [lower, upper], or one word for both", "")
        for word in both:
            if word not in WALL_WORDS:
                near = did_you_mean(str(word), WALL_WORDS)
                required = f"Choose one of: {', '.join(WALL_WORDS)}"
                raise CaseError(f"walls.{name}", f'"{word}" is not a known choice', required, near)
        walls[name] = (both[0], both[1])
    return walls


def _texts(content: Mapping[str, Any], name: str, kinds: type | tuple[type, ...]) -> dict[str, Any]:
    table = _mapping(content.get(name, {}), (name,))
    for key, text in table.items():
        if not isinstance(text, kinds):
            raise CaseError(_joined((name, key)), f"it is {_shown(text)}", "It must be an expression in quotes", "")
    return dict(table)


def _plain(table: Table) -> dict[str, Any]:
    return table.model_dump(exclude_none=True)


def _line_of(text: str, path: list[str]) -> int | None:
    """The line of a key: within its table when there is one, else of the table's header, else none."""
    if not path:
        return None
    lines = text.splitlines()
    header = re.compile(rf"\s*\[\s*{re.escape(path[0])}\s*[\].]")
    start = next((number for number, line in enumerate(lines) if header.match(line)), None)
    if start is None:
        key = re.compile(rf'\s*"?{re.escape(path[0])}"?\s*[.=]')
        return next((number + 1 for number, line in enumerate(lines) if key.match(line)), None)
    best = start + 1
    for part in path[1:]:
        key = re.compile(rf'(^|[\s{{,."]){re.escape(part)}"?\s*[.=]')
        for number in range(best - 1, len(lines)):
            if (
                number > start
                and re.match(r"\s*\[", lines[number])
                and not re.match(r"\s*\[\s*[\[\"\d-]", lines[number])
            ):
                break
            if key.search(lines[number].split("#")[0]):
                best = number + 1
                break
    return best
