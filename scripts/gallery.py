"""The picture page: every case with what it shows, its key numbers, and the figure that shows it at a glance.

    scripts/gallery [--jobs 2] [--only NAME ...]

Runs the cases, writes cases/README.md, and into cases/gallery/ one small picture for each, the films among them, and
pictures of laws that take more than one run. A case that nobody has put into a section yet comes at the end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageSequence

import fpsolve
from fpsolve.present.pictures.style import LINE_COLOURS, styled

TOP = Path(__file__).resolve().parents[1]
CASES = TOP / "cases"
PICTURES = CASES / "gallery"
RUNS = TOP / "results" / "gallery"

WIDTH = 800  # dots of a picture
FILM_WIDTH = 400
COLOURS = 256
ENDINGS = ("density", "time", "escape", "transition", "noise", "spectrum")  # the first there is, unless one is named


@dataclass(frozen=True)
class Section:
    """A claim: what holds, the cases that show it with the ending of the figure, and laws that take more runs."""

    title: str
    text: str
    cases: dict[str, str]
    laws: tuple[str, ...] = ()


SECTIONS = (
    Section(
        "Noise that grows with y, without any drift",
        "D = y I is pushed by its noise alone, with the flux drift (0, −1), towards the quiet side.",
        {"linear-noise": "density"},
    ),
    Section(
        "Noise that grows with the distance from the origin",
        "With D = |r| I and no drift the density at rest is proportional to 1/D, and no current flows; a drift that "
        "holds it together makes tails that fall as a power.",
        {"annulus": "density", "disc": "density", "infinite-axis": "density"},
    ),
    Section(
        "Boltzmann, Arrhenius, and the effective temperature of SGD",
        "Under isotropic noise the density at rest is exp(−L/T), and the logarithm of an escape time is linear in 1/T.",
        {
            "kramers": "transition",
            "effective-temperature": "density",
            "ornstein-uhlenbeck": "time",
            "first-passage": "time",
            "deep-barrier": "transition",
        },
        ("arrhenius",),
    ),
    Section(
        "Sharp and flat minima of equal depth",
        "Which one SGD prefers is decided by the shape of its noise. Noise in proportion to the Hessian makes the "
        "sharp minimum the loud one, and drives SGD out of it; noise that is louder in the flat one does the opposite.",
        {
            "equal-wells-isotropic": "density",
            "equal-wells-hessian": "density",
            "equal-wells-minibatch": "density",
            "sharp-to-flat": "density",
            "tiny-floor": "noise",
        },
        ("preference",),
    ),
    Section(
        "The escape law of Xie, Sato and Sugiyama",
        "On the model that the theorem assumes, noise frozen in two pieces, its exponent holds.",
        {"xie-law": "transition"},
        ("xie",),
    ),
    Section(
        "A time measured on the move, and what theory assumes",
        "Population over flux finds its plateau when quasi-equilibrium sets in.",
        {"quasi-equilibrium": "transition"},
    ),
    Section(
        "Ways from valley to valley",
        "The most probable path, and what several saddles do.",
        {
            "two-saddles": "transition",
            "three-wells": "transition",
            "rotated-double-well": "transition",
            "turned-well": "transition",
            "well-3d": "escape",
        },
    ),
    Section(
        "The gradient noise of real data, with SGD itself beside the equation",
        "The covariance of the gradients of single examples is computed at every cell; thousands of runs of SGD on the "
        "same data tell how far the equation holds.",
        {
            "iris": "ensemble",
            "two-valleys": "ensemble",
            "one-example-steps": "ensemble",
            "digits": "noise",
        },
    ),
    Section(
        "Schedules",
        "Stages, a/(k + k0), annealed noise, and what stays the same when learning rate and batch size grow together.",
        {"three-stages": "time", "one-over-k": "time", "linear-scaling": "time", "annealed-noise": "time"},
    ),
    Section(
        "Drifts that are no gradient",
        "Currents that never stop, the entropy that they produce, and the quasi-potential in place of the loss.",
        {
            "spiral": "quasi-potential",
            "limit-cycle": "density",
            "maier-stein": "quasi-potential",
            "driven-ring": "density",
            "rotated-tensor": "time",
            "kramers-turnover": "escape",
        },
    ),
    Section(
        "The escape as a film",
        "`fpsolve film RESULT` shows the density in time.",
        {"kramers-film": "film"},
    ),
)


# --- runs


def run(name: str) -> dict[str, Any]:
    """Run a case into RUNS; its record, which stays there."""
    command = [sys.executable, "-m", "fpsolve", "run", str(CASES / f"{name}.toml"), "--output", str(RUNS), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=TOP)
    record: dict[str, Any] = json.loads(done.stdout)
    if record["outcome"] != "done":
        print(f"{name}: {record['outcome']}\n{done.stderr}", file=sys.stderr)
    (RUNS / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")
    print(f"{name}: {record['outcome']} in {record['seconds']:.1f} s", flush=True)
    return record


def record_of(name: str, wanted: set[str] | None) -> dict[str, Any]:
    """The record of a case: of a new run, or of the last one where only others are wanted."""
    kept = RUNS / f"{name}.json"
    if wanted is not None and name not in wanted and kept.exists():
        return json.loads(kept.read_text(encoding="utf-8"))
    return run(name)


# --- pictures


def shrink(picture: Image.Image, path: Path, width: int = WIDTH) -> None:
    """Save a picture small: fewer dots, and a palette."""
    height = round(picture.height * width / picture.width)
    small = picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    small.quantize(COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path, optimize=True)


def shrink_film(source: Path, path: Path) -> None:
    """Save a film small."""
    with Image.open(source) as film:
        size = (FILM_WIDTH, round(film.height * FILM_WIDTH / film.width))
        frames, durations = [], []
        for frame in ImageSequence.Iterator(film):
            durations.append(frame.info["duration"])
            frames.append(frame.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    palette = frames[len(frames) // 4].quantize(64, method=Image.Quantize.MEDIANCUT)
    indexed = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    indexed[0].save(path, save_all=True, append_images=indexed[1:], duration=durations, loop=0)


def picture_of(name: str, ending: str, record: dict[str, Any]) -> str | None:
    """Make the small picture of a case; its file name, or None where the run has drawn nothing."""
    if ending == "film":
        film = RUNS / f"{name}.gif"
        command = [sys.executable, "-m", "fpsolve", "film", str(RUNS / f"{name}.nc"), "--output", str(film)]
        subprocess.run(command, check=True, capture_output=True, cwd=TOP)
        shrink_film(film, PICTURES / f"{name}.gif")
        return f"{name}.gif"
    drawn = {Path(path).stem.removeprefix(f"{name}-"): Path(path) for path in record["files"]["figures"]}
    chosen = next((drawn[one] for one in (ending, *ENDINGS, *drawn) if one in drawn), None)
    if chosen is None:
        return None
    with Image.open(chosen) as picture:
        shrink(picture, PICTURES / f"{name}.png")
    return f"{name}.png"


# --- laws that take more than one run


def logarithm(name: str, *overrides: str) -> tuple[float, dict[str, Any]]:
    """log10 of the first-passage time of a case with changes, and its record."""
    loaded = fpsolve.load_case(CASES / f"{name}.toml", overrides)
    record = fpsolve.run(loaded, figures=False).as_record()
    return record["escape"]["mean_first_passage_time"]["log10"], record


def law_figure(title: str, across: str, up: str) -> tuple[Figure, Any]:
    """A figure with one named panel."""
    figure = Figure(figsize=(7.6, 3.9), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.012, ha="left")
    axes = figure.add_subplot()
    axes.set(xlabel=across, ylabel=up)
    return figure, axes


def arrhenius() -> tuple[Figure, str]:
    """log(time) over 1/T for the quartic well, beside Kramers."""
    inverse = np.array([4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0])
    times = np.log(10.0) * np.array([logarithm("kramers", f"noise.temperature={1.0 / one}")[0] for one in inverse])
    kramers = np.log(2.0 * np.pi / np.sqrt(32.0)) + inverse
    figure, axes = law_figure("Arrhenius: the barrier is the slope", "1/T [1/loss]", "ln of the time to escape")
    axes.plot(inverse, kramers, color=LINE_COLOURS[1], label="Kramers: ln(2π/√32) + 1/T")
    axes.plot(inverse, times, "o", color=LINE_COLOURS[0], label="fpsolve")
    axes.legend(loc="upper left")
    slope = (times[-1] - times[-2]) / (inverse[-1] - inverse[-2])
    prefactor = float(np.exp(times[-1] - inverse[-1]))
    words = (
        f"From 1/T = {inverse[-2]:g} to {inverse[-1]:g} the slope of ln τ is {slope:.4f}, the barrier 1; at the last "
        f"point the prefactor is {prefactor:.4f}, Kramers' 2π/√32 = {2.0 * np.pi / np.sqrt(32.0):.4f}."
    )
    return figure, words


def xie() -> tuple[Figure, str]:
    """log(time) over the batch size, beside the theorem at its own s."""
    sizes, measured, theorem = [4, 8, 16, 32, 64], [], []
    for size in sizes:
        found, record = logarithm("xie-law", f"landscape.parameters.batch_size={size}")
        measured.append(found)
        theorem.append(record["escape"]["theory"]["xie"]["isothermal"]["log10"])
    figure, axes = law_figure("Xie's law: the exponent grows with the batch size", "batch size", "log10 of the time")
    axes.plot(sizes, theorem, color=LINE_COLOURS[1], label="theorem 3.2, s = 4/9")
    axes.plot(sizes, measured, "o", color=LINE_COLOURS[0], label="fpsolve")
    axes.legend(loc="upper left")
    gaps = np.abs(np.array(measured) - np.array(theorem))
    return figure, f"The largest gap is {gaps.max():.3f} in log10, at batch size {sizes[int(gaps.argmax())]}."


def preference() -> tuple[Figure, str]:
    """Odds of the flat minimum over the sharp one, as the batch grows, for three shapes of the noise."""
    factors = np.array([0.5, 1.0, 1.5, 2.0, 3.0])
    shapes = {
        "isotropic": ("equal-wells-isotropic", lambda f: f"noise.temperature={0.1 / f}"),
        "Hessian": ("equal-wells-hessian", lambda f: f"noise.learning_rate={0.1 / f}"),
        "minibatch, louder in the flat one": ("equal-wells-minibatch", lambda f: f"noise.learning_rate={0.01 / f}"),
    }
    figure, axes = law_figure(
        "The preference flips with the shape of the noise",
        "batch size / learning rate, as a multiple of the case's",
        "log10 of P(flat) / P(sharp)",
    )
    words = []
    for (label, (name, change)), colour in zip(shapes.items(), LINE_COLOURS, strict=False):
        odds = []
        for factor in factors:
            shares = logarithm(name, change(factor))[1]["stationary"]["regions"]
            odds.append(np.log10(shares["flat"] / shares["sharp"]))
        axes.plot(factors, odds, "o-", color=colour, label=label)
        words.append(f"{label}: 10^{odds[1]:.1f}")
    axes.axhline(0.0, color="#8c8c8c", linewidth=0.8)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.02), borderaxespad=0.3)
    return figure, f"P(flat)/P(sharp) of the cases as they are: {'; '.join(words)}."


LAWS = {"arrhenius": arrhenius, "xie": xie, "preference": preference}


def draw_law(name: str) -> tuple[str, str]:
    """Draw a law; its file name, and what it says."""
    with styled():
        figure, words = LAWS[name]()
        canvas = figure.canvas
        canvas.draw()
    shrink(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()), PICTURES / f"law-{name}.png")
    print(f"law {name}: {words}", flush=True)
    return f"law-{name}.png", words


# --- the page


def comment_of(text: str) -> str:
    """The first paragraph of the comment that a case opens with."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#") or line.strip() == "#":
            break
        lines.append(line.removeprefix("#").strip())
    return " ".join(lines)


def wish_of(entry: dict[str, Any]) -> str:
    """What an entry of [expect] wishes for."""
    if "expression" in entry:
        return f"the expression in the case, to {entry['l1']:g} in L1"
    parts = []
    if "value" in entry:
        room = f"{100.0 * entry['relative']:g} %" if "relative" in entry else f"{entry.get('absolute', 0.0):g}"
        parts.append(f"{entry['value']:.7g} ± {room}")
    parts += [f"{words} {entry[key]:g}" for key, words in (("at_least", "≥"), ("at_most", "≤")) if key in entry]
    return ", ".join(parts)


def numbers(record: dict[str, Any], expect: dict[str, Any]) -> list[str]:
    """A table of what was found beside what was expected."""
    lines = ["| | found | expected | source |", "|---|---|---|---|"]
    for check in record["expect"]:
        entry = expect[check["what"]]
        found = "—" if check["found"] is None else f"{check['found']:.6g}"
        at = f" at {entry['at']}" if "at" in entry else ""
        at += f", t = {entry['time']:g}" if "time" in entry else ""
        mark = "" if check["passed"] else " **missed**"
        lines.append(f"| `{check['what']}`{at} | {found}{mark} | {wish_of(entry)} | {entry.get('source', '')} |")
    return lines


def escaped(text: str) -> str:
    """Text in which Markdown sees no mark-up: formulas are full of asterisks and bars."""
    return text.replace("*", r"\*").replace("|", r"\|").replace("_", r"\_").replace("<", r"\<")


def case_lines(name: str, picture: str | None, record: dict[str, Any]) -> list[str]:
    """The part of the page about one case."""
    text = (CASES / f"{name}.toml").read_text(encoding="utf-8")
    case = tomllib.loads(text)
    lines = [f"### [{name}]({name}.toml)", "", f"**{escaped(case['title'])}.** {escaped(comment_of(text))}", ""]
    if picture is not None:
        lines += [f"![{case['title']}](gallery/{picture})", ""]
    table = [line.replace("|x|", r"\|x\|") for line in numbers(record, case.get("expect", {}))]
    return [*lines, *table, ""]


def page(
    sections: list[Section], records: dict[str, Any], pictures: dict[str, str | None], laws: dict[str, Any]
) -> str:
    """The whole page."""
    lines = [
        "# The gallery",
        "",
        "Every case here checks itself against values with a source: `fpsolve run cases/NAME.toml`. This page and its",
        "pictures are made by `scripts/gallery`.",
        "",
    ]
    lines += [f"{number}. [{one.title}](#{number}-{anchor(one.title)})" for number, one in enumerate(sections, 1)]
    for number, section in enumerate(sections, 1):
        lines += ["", f"## {number} {section.title}", "", section.text, ""]
        for law in section.laws:
            picture, words = laws[law]
            lines += [f"![{words}](gallery/{picture})", "", words, ""]
        for name in section.cases:
            lines += case_lines(name, pictures[name], records[name])
    return "\n".join(lines).rstrip() + "\n"


def anchor(title: str) -> str:
    """What GitHub makes of a heading."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -")
    return kept.replace(" ", "-")


def complete(names: list[str]) -> list[Section]:
    """The sections with the cases that there are; what is in none of them comes last."""
    sections = [
        Section(one.title, one.text, {name: ending for name, ending in one.cases.items() if name in names}, one.laws)
        for one in SECTIONS
    ]
    known = {name for one in sections for name in one.cases}
    rest = {name: "" for name in names if name not in known}
    if rest:
        sections.append(Section("Further cases", "What is in none of the sections above.", rest))
    return [one for one in sections if one.cases]


def main() -> None:
    """Run, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time [2]")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="run only these; the last records serve for others")
    options = parser.parse_args()
    names = sorted(path.stem for path in CASES.glob("*.toml"))
    wanted = None if options.only is None else set(options.only)
    for folder in (RUNS, PICTURES):
        folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        records = dict(zip(names, pool.map(lambda name: record_of(name, wanted), names), strict=True))
    sections = complete(names)
    endings = {name: ending for one in sections for name, ending in one.cases.items()}
    laws = {law: draw_law(law) for one in sections for law in one.laws}
    pictures = {name: picture_of(name, ending, records[name]) for name, ending in endings.items()}
    made = {f"{PICTURES / name}" for name in (*pictures.values(), *(picture for picture, _ in laws.values())) if name}
    for path in PICTURES.iterdir():
        if str(path) not in made:
            path.unlink()
    (CASES / "README.md").write_text(page(sections, records, pictures, laws), encoding="utf-8")
    size = sum(path.stat().st_size for path in PICTURES.iterdir())
    print(f"{len(names)} cases, {size / 1e6:.1f} MB of pictures")


if __name__ == "__main__":
    main()
