"""Numbers and names as in print, and the labels of axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogFormatter, MaxNLocator, NullFormatter, ScalarFormatter

from fpsolve.present.pictures.scales import LARGEST_POWER
from fpsolve.present.pictures.views import View

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def shortened(text: str, length: int = 32) -> str:
    """Text as it is (a dollar sign starts no formula), what is too long cut out of its middle."""
    if len(text) > length:
        text = f"{text[: length - length // 3 - 1].rstrip()}…{text[-(length // 3) :].lstrip()}"
    return text.replace("$", r"\$")


def printed(value: float, digits: int = 3) -> str:
    """A number as in print, with so many digits or whole: 12346 for 12345.6, 1.23×10⁻⁵ for 1.2345e-5."""
    mantissa, _, exponent = f"{value:.{digits}g}".partition("e")
    if exponent and 0 <= int(exponent) < 5:
        mantissa, exponent = f"{value:.0f}", ""
    power = f"×{power_of_ten(int(exponent))}" if exponent else ""
    return mantissa.replace("-", "−") + power


def printed_from_logarithm(log10: float, digits: int = 3) -> str:
    """A number of any size, given by its decimal logarithm, as in print."""
    if abs(log10) < LARGEST_POWER:
        return printed(10.0**log10, digits)
    whole = math.floor(log10)
    mantissa = f"{10.0 ** (log10 - whole):.{digits}g}"
    return f"{mantissa}×{power_of_ten(whole)}" if float(mantissa) < 10.0 else power_of_ten(whole + 1)


def power_of_ten(exponent: int) -> str:
    """10¹² for 12."""
    return f"10{str(exponent).translate(SUPERSCRIPTS)}"


def _power_tick(value: float, _: int) -> str:
    """A tick label of a logarithmic axis: powers of ten only."""
    exponent = math.log10(value) if value > 0.0 else 0.5
    return power_of_ten(round(exponent)) if abs(exponent - round(exponent)) < 1e-6 else ""


def label_numbers(axis: Axis) -> None:
    """Label an axis without a factor apart from it, which would stand in the way of what is above."""
    if not isinstance(axis.get_major_formatter(), ScalarFormatter) or isinstance(
        axis.get_major_formatter(), LogFormatter
    ):
        return
    low, high = axis.get_view_interval()
    top = max(abs(low), abs(high))
    if 1e-3 <= top < 1e5:
        plain = ScalarFormatter(useOffset=False)
        plain.set_scientific(False)
        axis.set_major_formatter(plain)
    else:
        digits = 3 + max(0, math.ceil(math.log10(top / max(high - low, 1e-12 * top)))) if top > 0.0 else 3
        axis.set_major_formatter(FuncFormatter(lambda value, _: printed(value, digits)))


def label_powers(axis: Axis) -> None:
    """Label a logarithmic axis without formulas, which are slow to set."""
    axis.set_major_formatter(FuncFormatter(_power_tick))
    axis.set_minor_formatter(NullFormatter())


def label_logarithms(axis: Axis) -> None:
    """Label an axis of decimal logarithms with the numbers themselves, at powers of ten."""
    axis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(round(value))))


def density_words(names: Sequence[str]) -> str:
    """The name of a density over some variables."""
    return f"probability density p({shortened(', '.join(names), 24)})"


def brief_words(words: str) -> str:
    """Words for a small panel."""
    return words.replace("probability density", "density").replace("first-passage time", "time")


def cut_words(view: View) -> str:
    """'Cut at z = 0.5'."""
    (other,) = (number for number in range(view.grid.dimensions) if number not in view.axes)
    axis = view.grid.axes[other]
    return f"Cut at {shortened(axis.name, 16)} = {printed(float(axis.centres[view.held[other]]))}"
