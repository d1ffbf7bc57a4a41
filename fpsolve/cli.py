"""The command line: the verbs. The only place that prints or exits."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from fpsolve.errors import FpsolveError, RunError
from fpsolve.version import __version__

Progress = Callable[[str, float], None]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="fpsolve")
def main() -> None:
    """Fokker-Planck equations by finite volumes: densities, currents and escape times."""


_set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key, e.g. noise.batch_size=32."
)


_threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Threads for elimination and products; two at most are of use. [default: 1]",
)


@main.command()
@click.argument("case", type=click.Path(path_type=Path))
@_set_option
@click.option("--output", type=click.Path(path_type=Path), default=Path(), help="Directory for the files. [default: .]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output, nothing else there.")
@click.option("--no-figures", is_flag=True, help="Write the result file only.")
@_threads_option
@click.option("--resume", is_flag=True, help="Go on from the result file of a run that was interrupted.")
def run(
    case: Path,
    overrides: tuple[str, ...],
    output: Path,
    as_json: bool,
    no_figures: bool,
    threads: int | None,
    resume: bool,
) -> None:
    """Run a case file: print what it finds, write a result file and figures.

    Exit codes: 0 done, 1 the run or an expectation failed, 2 bad input.
    """
    _allow(threads)
    from fpsolve import pipeline

    progress = _Progress()
    try:
        report = pipeline.run(
            case, overrides=overrides, output=output, figures=not no_figures, progress=progress, resume=resume
        )
    except FpsolveError as error:
        progress.close()
        _fail(error, case, as_json)
    except MemoryError:
        progress.close()
        _fail(RunError("run", "the memory of the machine ran out", "", "Use fewer cells or saved times"), case, as_json)
    except KeyboardInterrupt:
        progress.close()
        _fail(RunError("run", "interrupted", "", ""), case, as_json)
    progress.close()
    click.echo(_json(report.as_record()) if as_json else report.as_text())
    sys.exit(0 if report.outcome == "done" else 1)


@main.command()
@click.argument("cases", type=click.Path(path_type=Path), nargs=-1, required=True)
@_set_option
def check(cases: tuple[Path, ...], overrides: tuple[str, ...]) -> None:
    """Validate case files without running them: diffusion, resolution, memory, time.

    Exit codes: 0 all are fine, 2 one is not.
    """
    from fpsolve import preview

    worst = 0
    for case in cases:
        try:
            click.echo(preview.check(case, overrides).as_text())
        except FpsolveError as error:
            click.echo(f"Error: {error}", err=True)
            worst = max(worst, error.exit_code)
    sys.exit(worst)


@main.command()
@click.argument("case", type=click.Path(path_type=Path))
@_set_option
@_threads_option
def converge(case: Path, overrides: tuple[str, ...], threads: int | None) -> None:
    """Ask a case on n/8, n/4, n/2 and n cells: values, changes, observed orders, limits.

    Exit codes: 0 done, 1 the run failed, 2 bad input.
    """
    _allow(threads)
    from fpsolve import pipeline

    try:
        found = pipeline.converge(case, overrides=overrides)
    except FpsolveError as error:
        _fail(error, case, as_json=False)
    tables: dict[str, list[str]] = {}  # numbers that agree to every digit shown share one
    for number in found.values():
        name, _, table = number.as_text().partition("\n")
        tables.setdefault(table, []).append(name)
    click.echo("\n\n".join(f"{', '.join(names)}\n{table}" for table, names in tables.items()))


@main.command()
@click.argument("result", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), help="The film, .gif or .mp4. [default: RESULT with .gif]")
@click.option("--fps", type=click.FloatRange(min=0.5, max=50.0), default=12.0, help="Frames per second. [default: 12]")
def film(result: Path, output: Path | None, fps: float) -> None:
    """Show the density in time of a result file as a film: a GIF, or an MP4 where ffmpeg is installed.

    Exit codes: 0 done, 2 bad input.
    """
    from fpsolve.present.film import film as make_film

    progress = _Progress()
    try:
        path = make_film(result, output, fps, lambda share: progress("film", share))
    except FpsolveError as error:
        progress.close()
        _fail(error, result, as_json=False)
    progress.close()
    click.echo(f"Film  {path}")


def _allow(threads: int | None) -> None:
    """Let the elimination use so many threads; to be called before NumPy is loaded, whose BLAS looks only then.

    BLAS itself is kept to one unless the environment says otherwise: its threads wait for each other in busy loops,
    and on a machine with other work they cost far more than they gain.
    """
    if threads is not None:
        os.environ["FPSOLVE_THREADS"] = str(threads)
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def _fail(error: FpsolveError, case: Path, as_json: bool) -> NoReturn:
    if as_json:
        from fpsolve.present.report import Report

        click.echo(_json(Report(case.stem, "", None, error=error).as_record()))
    click.echo(f"Error: {error}", err=True)
    sys.exit(error.exit_code)


def _json(record: dict[str, Any]) -> str:
    """One JSON object; numbers that JSON cannot hold become null."""
    return json.dumps(_finite(record), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class _Progress:
    """Progress on standard error: the stage, or a bar with the time left, on a terminal; plain lines elsewhere."""

    def __init__(self) -> None:
        self.stage = ""
        self.tenth = 0
        self.bar: Any = None

    def __call__(self, stage: str, share: float) -> None:
        begins = stage != self.stage
        if begins:
            self.close()
            self.stage, self.tenth = stage, 0
        if sys.stderr.isatty():
            self._draw(min(share, 1.0))
        else:
            self._tell(min(share, 1.0), begins)

    def _draw(self, share: float) -> None:
        if self.bar is None:
            from tqdm import tqdm

            self.bar = tqdm(total=100, desc=self.stage, unit="%", leave=False, file=sys.stderr, bar_format="{desc} ...")
        if share > 0.0:
            self.bar.bar_format = None
            self.bar.update(round(100 * share) - self.bar.n)

    def _tell(self, share: float, begins: bool) -> None:
        if begins:
            click.echo(f"fpsolve: {self.stage}", err=True)
        if int(10 * share) > self.tenth:
            self.tenth = int(10 * share)
            click.echo(f"fpsolve: {self.stage} {10 * self.tenth} %", err=True)

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
