"""Mass and friction of a landscape in phase space; how they come about is said in `momentum`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from fpsolve.model.grid import FloatArray


@final
@dataclass(frozen=True, slots=True)
class Inertia:
    """mass dV = -(friction V + L') dt + noise; mass [time], friction [1]."""

    mass: float
    friction: float

    def temperature(self, diffusion: FloatArray) -> FloatArray:
        """T of a diffusion of the velocity [length**2/time**3]: exp(-E/T) is at rest."""
        return np.asarray(self.mass**2 * diffusion / self.friction)
