"""The verdict: every definition of the escape time and every closed form, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fpsolve.analyse.ensemble import ExitTimes
from fpsolve.analyse.escape import Escape, EscapeTime
from fpsolve.analyse.theory import ClosedForm
from fpsolve.model.noise import CONVENTION_WORDS

TIME_WORDS = {
    "mean_first_passage_time": "mean first-passage time",
    "flux_over_population": "flux over population",
    "valley_flux_over_population": "valley flux over population",
    "quasi_stationary": "quasi-stationary, 1/lambda",
    "running_flux": "running flux",
    "transition_path": "transition path",
}
THEORY_WORDS = {
    "kramers": "Kramers",
    "eyring_kramers": "Eyring-Kramers",
    "langer": "Langer",
    "irreversible_eyring_kramers": "Bouchet-Reygner",
    "low_noise": "low noise",
    "exact_integral": "exact integral",
}
XIE: dict[str, str] = dict(CONVENTION_WORDS.items())  # their theorem has a prefactor for each
LEFT = 52  # characters before the numbers
LARGEST_RATIO = 700.0  # of two times, as a natural logarithm: what a double holds


def escape_lines(escape: Escape, witness: tuple[str, ExitTimes] | None = None) -> list[str]:
    """The table of all escape times and closed forms beside the first of them; witness: walkers and their exits."""
    first = escape.times["mean_first_passage_time"].log_time
    title, head = _title(escape), f"{'log10 time':>12s}{'time':>13s}{'+- rel.':>11s}{'vs first':>11s}"
    lines = [f"{title:<{LEFT}s}{head}"] if len(title) <= LEFT else [title, " " * LEFT + head]
    for name, time in escape.times.items():
        versus = "" if name == "mean_first_passage_time" else f"{_versus(time.log_time, first):11.0e}"
        lines.append(_row(_words(name, escape), time.log10, time.value, _error(time), versus))
        if name == "mean_first_passage_time" and time.estimate is not None and time.estimate.error is not None:
            limit = time.estimate
            lines.append(_row("  in the limit of fine cells (+- is of this)", limit.log10, limit.extrapolated))
        if time.standard_deviation is not None:
            lines.append(_row("  its standard deviation", None, time.standard_deviation))
    lines += [_absent(TIME_WORDS[name], reason) for name, reason in escape.absent.items()]
    if len(escape.splitting) > 1:
        shares = ", ".join(f"{name} {share:.4g}" for name, share in escape.splitting.items())
        lines.append(f"  it ends in: {shares}")
    return lines + _theory_lines(escape, first) + ([] if witness is None else [_witness_line(*witness, first)])


def _title(escape: Escape) -> str:
    start = ", ".join(f"{value:g}" for value in escape.start)
    start = start if len(escape.start) == 1 else f"({start})"
    return f"Escape from {start} into {' or '.join(escape.splitting)}"


def _words(name: str, escape: Escape) -> str:
    if name == "valley_flux_over_population" and escape.valley is not None:
        return f"{TIME_WORDS[name]} ({escape.valley.name})"
    if name == "running_flux" and escape.running is not None:
        return f"{TIME_WORDS[name]}, plateau from t = {escape.running.onset:.3g}"
    return TIME_WORDS[name]


def _error(time: EscapeTime) -> str:
    """The error bar; a question mark where the grids could not tell."""
    if time.estimate is None:
        return f"{'':11s}"
    return f"{'?':>11s}" if time.estimate.error is None else f"{time.estimate.error:11.1e}"


def _row(words: str, log10: float | None, value: float | None, error: str = "", versus: str = "") -> str:
    logarithm = f"{'':12s}" if log10 is None else f"{log10:12.4f}"
    number = f"{'':13s}" if value is None else f"{value:13.4e}"
    return f"  {_fitted(words):<{LEFT - 2}s}{logarithm}{number}{error or ' ' * 11}{versus}".rstrip()


def _fitted(words: str) -> str:
    """Words that leave room for the numbers: long names of regions are cut."""
    return words if len(words) < LEFT - 2 else f"{words[: LEFT - 5]}..."


def _absent(words: str, reason: str | None) -> str:
    return f"  {_fitted(words):<{LEFT - 2}s}{'-':>12s}   {reason}"


def _theory_lines(escape: Escape, first: float) -> list[str]:
    """One line for all closed forms that say the same; what speaks against them follows once."""
    shared: dict[tuple[float | None, str | None], list[str]] = {}
    for name, form in escape.theory.items():
        shared.setdefault((form.log_time, form.reason), []).append(_formula(name, form))
    lines: list[str] = []
    doubt: str | None = None
    for (log_time, reason), names in shared.items():
        if doubt is not None and reason != doubt:
            lines.append(f"    but {doubt}")
        doubt = None if log_time is None else reason
        lines.append(_theory_line(_joined(names), log_time, reason, first))
    return lines if doubt is None else [*lines, f"    but {doubt}"]


def _formula(name: str, form: ClosedForm) -> str:
    if not name.startswith("xie_"):
        return THEORY_WORDS[name]
    if form.log_time is None:
        return "Xie et al. 2021"
    return f"Xie et al., s = {form.detail['s']:.2f} ({XIE[name.removeprefix('xie_')]} prefactor)"


def _joined(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _theory_line(words: str, log_time: float | None, reason: str | None, first: float) -> str:
    if log_time is None:
        return _absent(words, reason)
    time = ClosedForm(log_time, reason is None, reason)
    return _row(words, time.log10, time.value, versus=f"{_versus(log_time, first):11.0e}")


def _witness_line(words: str, exits: ExitTimes, first: float) -> str:
    """The mean over walkers, with its relative standard error."""
    if exits.value is None or exits.log10 is None or exits.standard_error is None:
        return _absent(words, f"{exits.reason}: above {exits.interval[0]:.4g} with 95 % confidence")
    error = f"{exits.standard_error / exits.value:11.1e}"
    return _row(words, exits.log10, exits.value, error, f"{_versus(math.log(exits.value), first):11.0e}")


def _versus(log_time: float, first: float) -> float:
    """Relative difference of a time to the first-passage time, both as natural logarithms."""
    return math.expm1(min(log_time - first, LARGEST_RATIO))


def escape_record(escape: Escape) -> dict[str, Any]:
    """The `escape` entry of --json."""
    first = escape.times["mean_first_passage_time"].log_time
    record: dict[str, Any] = {name: _time_record(time) for name, time in escape.times.items()}
    if escape.running is not None:
        record["running_flux"]["onset"] = escape.running.onset
    record |= {name: {"value": None, "log10": None, "reason": reason} for name, reason in escape.absent.items()}
    if len(escape.splitting) > 1:
        record["splitting"] = escape.splitting
    record["theory"] = _theory_records(escape, first)
    return record


def _time_record(time: EscapeTime) -> dict[str, Any]:
    estimate = time.estimate
    record = {
        "value": time.value,
        "extrapolated": None if estimate is None else estimate.extrapolated,
        "log10": time.log10,
        "error": None if estimate is None else estimate.error,
        "order": None if estimate is None else estimate.order,
    }
    return record if time.standard_deviation is None else record | {"standard_deviation": time.standard_deviation}


def _theory_records(escape: Escape, first: float) -> dict[str, Any]:
    forms = dict(escape.theory)
    xie = {convention: forms.pop(f"xie_{convention}") for convention in XIE}
    records: dict[str, Any] = {name: _theory_record(form, first) for name, form in forms.items()}
    records["xie"] = {convention: _theory_record(form, first) for convention, form in xie.items()}
    records["xie"]["s"] = xie["ito"].detail.get("s")
    return records


def _theory_record(form: ClosedForm, first: float) -> dict[str, Any]:
    return {
        "value": form.value,
        "log10": form.log10,
        "relative_difference": None if form.log_time is None else _versus(form.log_time, first),
        "applies": form.applies,
        "reason": form.reason,
    }
