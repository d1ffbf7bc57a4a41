"""Time to reach a given error: fpsolve against the tools that people use today, each in its own best setting.

    pip install -e '.[benchmark]'
    python scripts/compare_tools.py                              # everything; results kept, only missing ones are run
    python scripts/compare_tools.py --task well --tool fpsolve --again
    python scripts/compare_tools.py --table                      # only the table and the figure, from kept results

Five problems whose answers are known (compare_problems.py), each with a target for the L1 error of the density at one
time. A tool (compare_peers.py) climbs its ladder with every method that it offers: grids from coarse to fine, and on
each from loose to tight settings in time. A method stays on a grid while its error still falls by a tenth, goes to the
grid that second order would need next, and is done when it reaches the target or a finer grid no longer helps. The
quickest setting that reaches the target is the tool's entry, or else the one of the smallest error.

Every method runs in an interpreter of its own on one thread. It solves a small copy of the problem first (imports,
compilation: "first run"), then the whole problem from its description to the density, assembly included; the median
of up to five runs counts. py-pde compiles anew for every grid: there the compiled stepper is called on the same grid
first, and only its second run is timed. Seconds are of the processor, which other work on the machine does not
lengthen. Memory is what the timed run adds to the process at most.

All start from the same values at the cell centres, normalised. The error is the L1 distance to the exact density,
either to its averages over the cells or to its values at the centres, normalised: whichever is nearer, since some
schemes mean the one and some the other.
"""

from __future__ import annotations

import argparse
import cProfile
import ctypes
import gc
import importlib.metadata
import inspect
import itertools
import json
import math
import os
import platform
import pstats
import resource
import signal
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from compare_peers import TOOLS, Tool, prepare_fpsolve, problem_of
from compare_problems import TIME_LIMIT, Array, Axes, Task, tasks
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

import fpsolve
from fpsolve.discretise.stencil import Stencil
from fpsolve.solve.elimination import Resolvent
from fpsolve.solve.krylov import Basis

HERE = Path(__file__).resolve().parent
KEPT = HERE.parent / "results" / "compare_tools"
PROFILE = KEPT / "profile.md"
PATIENCE = 1200.0  # seconds of wall time of one process, compilation included
MEMORY_LIMIT = 14 * 2**30  # bytes of address space of one process
RUNS, ENOUGH = 5, 3.0  # timed runs at most; no further one after this many seconds
STAGNANT = 0.95  # a tighter setting or finer grid that leaves more of the error than this share does not help
SMALL = (32, 32, 10)  # cells per axis of the copy that compiles, by the number of axes


# --- One measurement, in a process of its own --------------------------------------------------------------------


def resident(which: str) -> float:
    """Memory of this process [MiB]: now (VmRSS) or at most so far (VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(which)) / 2**10


def compared(task: Task, centres: Axes, density: Array) -> dict[str, float]:
    """L1 error to the nearer of averages and values, and the smallest value relative to the largest."""
    halves = [0.5 * (axis[1] - axis[0]) for axis in centres]
    faces = tuple(np.append(axis - half, axis[-1] + half) for axis, half in zip(centres, halves, strict=True))
    found = density / density.sum()
    references = (task.averages(faces), task.values(centres))
    errors = [float(np.abs(found - exact / exact.sum()).sum()) for exact in references]
    return {"error": min(errors), "smallest": float(found.min() / found.max())}


def serve(task: Task, tool: Tool, method: str) -> None:
    """Measure every "cells setting" that comes in, a line of JSON each; the first compiles."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    warnings.simplefilter("ignore")
    answers, sys.stdout = sys.stdout, sys.stderr  # tools may print
    warm = tool.own
    for line in sys.stdin:
        cells, setting = line.split()
        try:
            found = measure(task, tool, int(cells), method, float(setting), warm)
        except MemoryError:
            found = {"failed": f"not within {MEMORY_LIMIT >> 30} GiB"}
        except Exception as error:
            found = {"failed": f"{type(error).__name__}: {error}"[:160]}
        warm = True
        print(json.dumps(found), file=answers, flush=True)


def measure(task: Task, tool: Tool, cells: int, method: str, setting: float, warm: bool) -> dict[str, Any]:
    """Seconds, memory and error of one setting."""
    began = time.perf_counter()
    if not warm:
        tool.prepare(task, SMALL[len(task.names) - 1], method, setting)()
    solve = tool.prepare(task, cells, method, setting)
    first = time.perf_counter() - began
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what an earlier run freed must not serve this one unseen
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
    times: list[float] = []
    walls: list[float] = []
    signal.setitimer(signal.ITIMER_PROF, task.limit)  # ends this process when a run takes too long
    while len(times) < RUNS and sum(times) < ENOUGH:
        began, clock = time.process_time(), time.perf_counter()
        centres, density = solve()
        times.append(time.process_time() - began)
        walls.append(time.perf_counter() - clock)
        if len(times) == 1:
            signal.setitimer(signal.ITIMER_PROF, 0.0)
            memory = resident("VmHWM") - before
    found = compared(task, centres, density)
    if not math.isfinite(found["error"]):
        return {"failed": "unstable"}
    seconds = {"seconds": statistics.median(times), "wall": statistics.median(walls), "first": first}
    return {**seconds, "memory": memory, **found}


class Bench:
    """A process that measures one method of a tool on one task; it starts anew when a run takes too long."""

    def __init__(self, task: str, tool: str, method: str) -> None:
        self.limit, self.process = tasks()[task].limit, None
        self.command = [sys.executable, __file__, "--serve", task, tool, method]

    def __call__(self, cells: int, setting: float) -> dict[str, Any]:
        """One measurement, or why there is none."""
        if self.process is None:
            one = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
            environment = {**os.environ, **one, "PYTHONPATH": str(HERE.parent)}
            pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self.process = subprocess.Popen(self.command, env=environment, text=True, **pipes)
        print(cells, repr(setting), file=self.process.stdin, flush=True)
        timer = threading.Timer(PATIENCE, self.process.kill)
        timer.start()
        answer = self.process.stdout.readline()
        timer.cancel()
        if answer:
            return json.loads(answer)
        code, self.process = self.process.wait(), None
        known = {-signal.SIGPROF: f"not within {self.limit:g} s", -signal.SIGKILL: f"not within {PATIENCE:g} s in all"}
        return {"failed": known.get(code, f"ended with {code}")}

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()


# --- The search --------------------------------------------------------------------------------------------------


def installed(tool: Tool) -> bool:
    """Whether the package is there."""
    try:
        importlib.metadata.version(tool.package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def climb(name: str, task: Task, tool: str, kept: dict[str, Any], chosen: argparse.Namespace) -> Iterator[str]:
    """Run a tool up its ladder, as far as chosen; one line per setting, results into `kept`."""
    for method, settings in TOOLS[tool].ladder(task).items():
        if chosen.method and method not in chosen.method:
            continue
        cells, best = max(task.grids[0], chosen.first), math.inf  # smallest error on the grids so far
        bench = Bench(name, tool, method)
        while cells:
            found: dict[str, Any] = {}
            here = math.inf  # smallest error on this grid
            for setting in settings:
                key = "|".join((name, tool, method, str(cells), f"{setting:.6g}"))
                if chosen.again or key not in kept:
                    kept[key] = bench(cells, setting)
                    save(tool, kept)
                found = kept[key]
                yield f"{key:70s} {short(found)}"
                error = found.get("error", math.inf)
                stuck = not error <= STAGNANT * here and not math.isclose(error, here)  # the same steps: no news
                here = min(here, error)
                if error <= task.target or stuck:
                    break
            if here <= task.target or not here <= STAGNANT * best:
                break
            best = here
            cells = next_grid(task, cells, here)
        bench.close()


def next_grid(task: Task, cells: int, error: float) -> int:
    """The grid on which an error of second order would be the target's; the finest if none is; 0 after that."""
    finer = [grid for grid in task.grids if grid > cells]
    if not math.isfinite(error):  # failed: too coarse, perhaps
        return next((grid for grid in finer if grid >= 1.4 * cells), 0)
    enough = (grid for grid in finer if error * (cells / grid) ** 2 <= task.target)
    return next(enough, finer[-1] if finer else 0)


def short(found: dict[str, Any]) -> str:
    """A result in a line."""
    if "error" not in found:
        return str(found["failed"])
    text = f"error {found['error']:.2e}  {found['seconds']:8.3f} s (first {found['first']:.1f} s)  "
    return text + f"{found['memory']:6.0f} MiB  smallest {found['smallest']:.1e}"


def load(tools: Iterable[str]) -> dict[str, Any]:
    """What was kept of some tools."""
    files = [file for file in (KEPT / f"{tool}.json" for tool in tools) if file.exists()]
    return {key: row for file in files for key, row in json.loads(file.read_text(encoding="utf-8")).items()}


def save(tool: str, kept: dict[str, Any]) -> None:
    """Keep the results of a tool, in a file of its own: several may be run at a time."""
    KEPT.mkdir(parents=True, exist_ok=True)
    mine = {key: row for key, row in kept.items() if key.split("|")[1] == tool}
    (KEPT / f"{tool}.json").write_text(json.dumps(mine, indent=1), encoding="utf-8")


# --- Where fpsolve's time goes -----------------------------------------------------------------------------------

# What a stage consists of: functions none of which calls another one of the list.
STAGES: dict[str, tuple[Callable[..., Any], ...]] = {
    "problem": (problem_of,),
    "generator": (fpsolve.Generator.of,),
    "plan and factors": (Resolvent.of,),
    "solves": (Resolvent.solve,),
    "small matrices": (Basis.change, Basis.approximation),
    "stencil": (Stencil.of,),
    "products": (Stencil.advance, fpsolve.Generator.apply),
}


def profile(task: Task, cells: int, method: str, setting: float) -> dict[str, float]:
    """Milliseconds of processor time of every stage of a solve, by cProfile; the rest, and all."""
    solve = prepare_fpsolve(task, cells, method, setting)
    solve()
    watch = cProfile.Profile(time.process_time)
    watch.runcall(solve)
    rows: Any = pstats.Stats(watch).stats  # type: ignore[attr-defined]
    spent = {where: row[3] for where, row in rows.items()}  # cumulative
    found = {stage: 1e3 * sum(spent.get(place(part), 0.0) for part in parts) for stage, parts in STAGES.items()}
    total = 1e3 * sum(row[2] for row in rows.values())
    return found | {"rest": total - sum(found.values()), "all": total}


def place(function: Callable[..., Any]) -> tuple[str, int, str]:
    """The name of a function in a profile."""
    code = inspect.unwrap(getattr(function, "__func__", function)).__code__
    return code.co_filename, code.co_firstlineno, code.co_name


def profiles(every: dict[str, Task], kept: dict[str, Any]) -> str:
    """The stages of fpsolve's best setting for every task, in Markdown."""
    lines = ["| [ms] | " + " | ".join((*STAGES, "rest", "all")) + " |", "|---|" + "---:|" * (len(STAGES) + 2)]
    for name, task in every.items():
        key = best(name, task, "fpsolve", kept)
        if key:
            _, _, method, cells, setting = key.split("|")
            spent = profile(task, int(cells), method, float(setting))
            row = " | ".join(f"{value:.3g}" for value in spent.values())
            lines.append(f"| {name}: {described(key, len(task.names))} | {row} |")
    return "\n".join(lines)


# --- The table and the figure ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """What a tool can do for a task: its best setting, or the reason for none."""

    tool: str
    setting: str
    found: dict[str, Any]
    reached: bool


def best(name: str, task: Task, tool: str, kept: dict[str, Any]) -> str:
    """A tool's entry: the quickest setting that reaches the target, or else the nearest to it; empty where none ran."""
    done = {key: row for key, row in kept.items() if key.startswith(f"{name}|{tool}|") and "failed" not in row}
    good = {key: row for key, row in done.items() if row["error"] <= task.target}
    if good:
        return min(good, key=lambda key: good[key]["seconds"])
    return min(done, key=lambda key: done[key]["error"], default="")


def entries(name: str, task: Task, kept: dict[str, Any]) -> list[Entry]:
    """The entries of all tools."""
    result = []
    for tool, entry in TOOLS.items():
        key = best(name, task, tool, kept)
        rows = [row for key, row in kept.items() if key.startswith(f"{name}|{tool}|")]
        if key:
            result.append(Entry(tool, described(key, len(task.names)), kept[key], kept[key]["error"] <= task.target))
        elif not entry.ladder(task):
            result.append(Entry(tool, "", {"failed": entry.note}, False))
        else:
            reason = rows[0]["failed"] if rows else "not run" if installed(entry) else "not installed"
            result.append(Entry(tool, "", {"failed": reason}, False))
    return result


def seconds_of_ours(rows: list[Entry]) -> float | None:
    """What fpsolve takes, where it reaches the target."""
    return next((row.found["seconds"] for row in rows if row.tool == "fpsolve" and row.reached), None)


def two_digits(value: float) -> str:
    """A number to two digits, without an exponent."""
    return f"{float(f'{value:.2g}'):g}"


def described(key: str, axes: int) -> str:
    """A setting in words."""
    _, _, method, cells, setting = key.split("|")
    size = cells + ("", "²", "³")[axes - 1]
    value = float(setting)
    if value == 0.0 or method == "Euler":
        return f"{size}, {method}"
    time_setting = f", {value:g} steps" if value >= 2.0 else f", tolerance {value:.0e}"
    return f"{size}, {method}{time_setting}"


# What a reader should know of the rows, by task.
NOTES = {
    "line": (
        "On a line every implicit tool solves tridiagonal systems in linear time: py-pde's LSODA with a banded",
        "Jacobian and a Crank-Nicolson loop of a few lines are excellent, and fpsolve is no 20 or 3 times faster.",
        "Its milliseconds go into checks of the problem, the generator and the small matrices of its error estimate,",
        "which a loop does without: the search for the target told it how many steps to take.",
    ),
    "well": (
        "The Crank-Nicolson loop takes fpsolve's generator, one factorisation and the number of steps that happens",
        "to suit: on 192² its errors in space and time cancel in part (224² exact in time leaves 3.7e-4, so that 192²",
        "would leave 5e-4). fpsolve is quickest by products here, at a tolerance of 1e-3; by one factorisation and ten",
        "solves it takes about twice as long. Central differences (py-pde, FiPy) need a finer grid; fplanck's rates",
        "grow as the exponential of the potential's steps, so that coarse grids take longest.",
    ),
    "space": (
        "Half of fpsolve's time is the generator, from which the SciPy rows start as well. BDF was not run: one LU by",
        "SciPy takes 7.7 s and 33 million numbers on 32³, six times as long and four times as many as on 24³, so that",
        "96³ is out of reach. py-pde compiles the coordinates of all cells as constants, it seems: Euler's rule",
        "had not compiled on 160³ (about what second order would need) after 200 s of processor time, nor the",
        "Runge-Kutta rule on 24³ after 140 s; only the coarse grid was measured.",
    ),
    "oblique": (
        "FiPy's own term for a tensor takes mixed derivatives by harmonic means of gradients, at the last value: it",
        "does not converge at useful steps (0.57 on 64², 0.59 on 128² in 32 steps). The row takes them as fluxes by",
        "faceGrad at half steps, with three sweeps a step: 0.45, 0.24, 0.11 on 64², 128², 256² in 32 steps (27 s).",
    ),
    "lognormal": (
        "As on the first line: py-pde's LSODA, BDF and Crank-Nicolson are excellent here. FiPy and PyDDM take many",
        "short steps, fplanck and expm_multiply a product for every unit of the largest rate.",
    ),
}

HEADER = ("tool", "setting", "L1 error", "processor [s]", "wall [s]", "times fpsolve", "MiB", "smallest p / largest")


def cells_of(entry: Entry, ours: float | None) -> tuple[str, ...]:
    """One row of the table."""
    found = entry.found
    if "error" not in found:
        return (entry.tool, str(found["failed"]), *[""] * (len(HEADER) - 2))
    slower = "misses" if not entry.reached else two_digits(found["seconds"] / ours) if ours else "-"
    smallest = "0" if found["smallest"] == 0.0 else f"{found['smallest']:.0e}"
    spent = (f"{found[key]:.3g}" if key in found else "" for key in ("seconds", "wall"))
    return (entry.tool, entry.setting, f"{found['error']:.1e}", *spent, slower, f"{found['memory']:.0f}", smallest)


def machine() -> str:
    """Processor and versions, in a sentence."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    packages = sorted({"numpy", "numba"} | {tool.package for tool in TOOLS.values() if installed(tool)})
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    return f"{next(names, platform.machine())}, one thread; Python {platform.python_version()}, {versions}."


def table(every: dict[str, Task], kept: dict[str, Any]) -> str:
    """All tasks in Markdown."""
    lines = [
        "# Time to reach a given error",
        "",
        "Written by `scripts/compare_tools.py`, whose head says how: whole solve of one density at one time, quickest",
        'setting of a short ladder that reaches the target, else ("misses") the one of the smallest error within',
        f"{TIME_LIMIT[0]:g} s ({TIME_LIMIT[2]:g} s in space) and {MEMORY_LIMIT >> 30} GiB. Compilation and imports are",
        "not counted. The wall's seconds are those of a busy machine: compare the processor's.",
        "The SciPy rows use fpsolve's own generator as their matrix.",
        "",
        machine(),
    ]
    for name, task in every.items():
        rows = entries(name, task, kept)
        ours = seconds_of_ours(rows)
        lines += ["", f"## {task.title}: L1 error {task.target:g} at t = {task.time:g}", ""]
        lines += ["| " + " | ".join(HEADER) + " |", "|---|---|" + "---:|" * (len(HEADER) - 2)]
        lines += ["| " + " | ".join(cells_of(entry, ours)) + " |" for entry in rows]
        lines += ["", *NOTES[name]]
    if PROFILE.exists():
        lines += [
            "",
            "## Where fpsolve's time goes",
            "",
            "By cProfile, which lengthens short calls.",
            "",
        ]
        lines.append(PROFILE.read_text(encoding="utf-8"))
    return "\n".join(lines).rstrip("\n") + "\n"


SHORTEST = 1e-3  # seconds, the left end of the axis
GOOD, BAD, OURS = "#4c78a8", "#d9d9d9", "#e45756"


def draw(every: dict[str, Task], kept: dict[str, Any]) -> None:
    """One panel per task: seconds of every tool, on a logarithmic axis."""
    size = (9.0, 2.05 * len(every) + 0.8)
    figure, panels = plt.subplots(len(every), 1, figsize=size, layout="constrained", sharex=True)
    for panel, (name, task) in zip(panels, every.items(), strict=True):
        rows = entries(name, task, kept)
        ours = seconds_of_ours(rows)
        for row, entry in enumerate(rows):
            _bar(panel, row, entry, ours)
        panel.set_yticks(range(len(rows)), [entry.tool for entry in rows], fontsize=9)
        panel.set_ylim(len(rows) - 0.4, -0.6)
        panel.set_title(f"{task.title}; target: L1 error {task.target:g}", fontsize=10, loc="left")
        panel.set_xscale("log")
        panel.set_xlim(SHORTEST, 2000.0 * TIME_LIMIT[0])  # room for the words
        panel.set_xticks([10.0**k for k in range(-3, 3)])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.grid(axis="x", alpha=0.3)
        panel.axvline(task.limit, color="#888888", linewidth=0.8, linestyle=":")
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("processor time of the whole solve, compilation excluded [s] (dotted: the limit)")
    handles = [
        Patch(color=OURS, label="fpsolve"),
        Patch(color=GOOD, label="reaches the target"),
        Patch(facecolor=BAD, edgecolor="#888888", hatch="///", label="misses it: the smallest error within the limits"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    figure.savefig(HERE / "compare_tools.png", dpi=130)


def _bar(panel: Any, row: int, entry: Entry, ours: float | None) -> None:
    found = entry.found
    if "error" not in found:
        panel.text(1.2 * SHORTEST, row, str(found["failed"]), va="center", fontsize=8, color="#777777", style="italic")
        return
    colour = OURS if entry.tool == "fpsolve" else GOOD
    style = {"color": colour} if entry.reached else {"facecolor": BAD, "edgecolor": "#888888", "hatch": "///"}
    panel.barh(row, found["seconds"], height=0.7, **style)
    words = f"{two_digits(found['seconds'])} s"
    if not entry.reached:
        words += f", misses: error {found['error']:.1e}"
    elif ours and entry.tool != "fpsolve":
        words += f" = {two_digits(found['seconds'] / ours)} × fpsolve"
    if found["smallest"] < -1e-6:
        words += f", p down to {found['smallest']:.0e} of the peak"
    blank = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    panel.text(found["seconds"] * 1.15, row, words, va="center", fontsize=8, bbox=blank)


def main() -> None:
    """Run what is missing, then write the table and the figure."""
    every = tasks()
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--task", choices=every, action="append", help="only this problem (may be repeated)")
    parser.add_argument("--tool", choices=TOOLS, action="append", help="only this tool (may be repeated)")
    parser.add_argument("--again", action="store_true", help="run again what is kept")
    parser.add_argument("--first", type=int, default=0, metavar="CELLS", help="begin with this many cells per axis")
    parser.add_argument("--method", action="append", help="only this method (may be repeated)")
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--profile", action="store_true", help="only find where fpsolve's time goes")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        name, tool, method = chosen.serve
        serve(every[name], TOOLS[tool], method)
        return
    if chosen.profile:
        PROFILE.write_text(profiles(every, load(["fpsolve"])), encoding="utf-8")
        print(PROFILE.read_text(encoding="utf-8"))
        return
    for name, tool in itertools.product(chosen.task or every, () if chosen.table else chosen.tool or TOOLS):
        if not installed(TOOLS[tool]):
            print(f"{tool} is not installed: skipped")
            continue
        for line in climb(name, every[name], tool, load([tool]), chosen):
            print(line, flush=True)
    kept = load(TOOLS)
    text = table(every, kept)
    print("\n" + text)
    (HERE / "compare_tools.md").write_text(text, encoding="utf-8")
    draw(every, kept)


if __name__ == "__main__":
    main()
