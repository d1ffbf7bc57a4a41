"""Checkpoints: a long run's result file while it is under way, from which it can go on.

The file is written anew, through a temporary one beside it, so that it is whole at every moment, whatever kills the
run. It is written as soon as that takes no more than a small share of the time since the last writing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import h5netcdf
import numpy as np

from fpsolve.analyse.motion import NOTHING, Earlier, Motion
from fpsolve.errors import CaseError
from fpsolve.model.grid import Grid
from fpsolve.model.initial import absorbed_name
from fpsolve.present.report import Report
from fpsolve.present.storage import write_result
from fpsolve.solve.choice import Choice
from fpsolve.solve.evolve import Moment, Pace
from fpsolve.solve.steps import Counts

SHORTEST_WAIT = 1.0  # seconds between two checkpoints
WORTH = 10.0  # they are so many times as far apart as it takes to write one


@final
@dataclass(slots=True)
class Checkpoints:
    """Writes the result file of a run that is under way. report: what is known before the march."""

    path: Path
    report: Report
    case_text: str
    written_at: float = field(default_factory=time.monotonic)
    seconds: float = 0.0  # that the last writing took
    latest: Callable[[], Motion] | None = None

    def keep(self, motion: Callable[[], Motion]) -> None:
        """Write the motion so far, if it is time to."""
        self.latest = motion
        if time.monotonic() - self.written_at >= max(SHORTEST_WAIT, WORTH * self.seconds):
            self.write()

    def write(self) -> int:
        """Write the latest motion; returns how many saved times the file holds, 0 where there is none yet."""
        if self.latest is None:
            return 0
        began, motion = time.monotonic(), self.latest()
        write_result(self.report.with_motion(motion), self.path, self.case_text, under_way=True)
        self.written_at = time.monotonic()
        self.seconds = self.written_at - began
        return int(motion.times.size)


def read_earlier(path: Path, case_text: str, grid: Grid, gates: tuple[str, ...]) -> Earlier:
    """The moments in a result file of the same case; none where there is no file, or it has no density in time.

    Raises CaseError when the file is that of another case, or cannot be read.
    """
    if not path.exists():
        return NOTHING
    try:
        with h5netcdf.File(path, "r") as file:
            if file.attrs.get("case") != case_text:
                required, remedy = (
                    "--resume goes on with the very same case",
                    "Remove the file, or run without --resume",
                )
                raise CaseError(f"--resume {path}", "it is the result of another case", required, remedy)
            if "march" not in file.attrs:
                return NOTHING
            return _read(file, grid, gates)
    except (OSError, KeyError) as error:
        found = f"it cannot be read ({getattr(error, 'strerror', None) or error})"
        raise CaseError(f"--resume {path}", found, "It must be a result file", "Remove it") from None


def _read(file: h5netcdf.File, grid: Grid, gates: tuple[str, ...]) -> Earlier:
    march = json.loads(file.attrs["march"])
    paces = [None if pace is None else Pace(**{**pace, "memory": tuple(pace["memory"])}) for pace in march["paces"]]
    last = max((number for number, pace in enumerate(paces) if pace is not None), default=-1)
    times, density = file.variables["time"], file.variables["density"]
    moments = []
    for number in range(last + 1):
        left = np.array([float(file.variables[absorbed_name(gate)][number]) for gate in gates])
        held = np.asarray(density[number], dtype=np.float64).reshape(-1) * grid.volumes
        probability = held if grid.parts is None else np.where(grid.parts.inside, held, 0.0)
        moments.append(Moment(float(times[number]), probability, left, paces[number]))
    return Earlier(tuple(moments), Choice(**march["choice"]), Counts(**march["counts"]))
