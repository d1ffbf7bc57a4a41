"""What the steppers share: the chain over a span of time, a step through it, and how probability is kept complete."""

from __future__ import annotations

import abc
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from fpsolve.discretise.generator import Generator
from fpsolve.model.grid import FloatArray

# Share of a span, or of its end, from which the chain is not asked for: at the end itself it is already the next one.
INSIDE = 1e-12


@final
@dataclass(frozen=True, slots=True)
class Span:
    """A chain from one time to another, over which it does not jump.

    at: the chain at a time; constant: whether it is the same at all times of the span.
    """

    begin: float
    end: float
    at: Callable[[float], Generator]
    constant: bool

    def generator(self, time: float) -> Generator:
        """The chain at a time of the span, which does not reach the jump at its end."""
        if self.constant:
            return self.at(0.5 * (self.begin + self.end))
        margin = INSIDE * max(self.end - self.begin, abs(self.end))
        return self.at(min(max(time, self.begin + margin), self.end - margin))


@final
@dataclass(frozen=True)
class Timeline:
    """A chain at all times: it may jump, at the times `jumps`, and `changes` in between or not.

    make: the chain of a time; at a jump, that after it.
    """

    make: Callable[[float], Generator]
    jumps: tuple[float, ...] = ()
    changes: bool = False
    held: dict[float, Generator] = field(default_factory=dict, repr=False, compare=False)  # the latest one

    @classmethod
    def always(cls, generator: Generator) -> Timeline:
        """The same chain at all times."""
        return cls(lambda _: generator)

    def at(self, time: float) -> Generator:
        """The chain at a time; the latest one that was asked for is kept."""
        key = time if self.changes else float(np.searchsorted(self.jumps, time, side="right"))
        if key not in self.held:
            made = self.make(time)
            self.held.clear()
            self.held[key] = made
        return self.held[key]

    def spans(self, begin: float, end: float) -> Iterator[Span]:
        """The spans between the jumps, one after the other."""
        ends = [begin, *(jump for jump in self.jumps if begin < jump < end), end]
        for lower, upper in itertools.pairwise(ends):
            yield Span(lower, upper, self.at, constant=not self.changes)


@final
@dataclass(slots=True)
class Counts:
    """How the stepping went.

    steps: accepted; rejected: tried in vain; limited: where cells would have gone negative, and a positive method
    helped; factorisations, solves: of matrices; products: with the generator.
    """

    steps: int = 0
    rejected: int = 0
    limited: int = 0
    factorisations: int = 0
    solves: int = 0
    products: int = 0


@final
@dataclass(frozen=True, slots=True)
class Step:
    """The state after a step.

    probability: (cells,), >= 0; left: probability that went out through each gate, (gates,); error: estimate of the
    L1 error that the step made; limited: whether the positive method had to help.
    """

    probability: FloatArray
    left: FloatArray
    error: float
    limited: bool


@dataclass(slots=True)
class AbstractStepper(abc.ABC):
    """Single steps of any length through a span. order: of the method; error_order: of its estimate."""

    order: ClassVar[int]
    error_order: ClassVar[int]

    span: Span
    counts: Counts = field(default_factory=Counts)

    @abc.abstractmethod
    def step(self, probability: FloatArray, time: float, time_step: float, allowed: float) -> Step:
        """Advance from a time by a step. allowed: L1 error that it may make; more is reported, or infinity."""


def balanced(values: FloatArray, total: float) -> FloatArray:
    """Values clipped at zero and scaled to a known sum: takes back rounding errors, eps * rate * time_step of them."""
    clipped = np.maximum(values, 0.0)
    mass = clipped.sum()
    return clipped * (max(total, 0.0) / mass) if mass > 0.0 else clipped
