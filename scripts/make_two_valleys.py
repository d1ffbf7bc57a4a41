#!/usr/bin/env python
"""Makes the data of cases/two-valleys.toml and cases/one-example-steps.toml.

360 rows of v = 1.1 second + error; first and second are the first two harmonics of an angle that runs evenly round the
circle, of variance 1. A model v = x first + x**2 second + y has two valleys: a weight of either sign explains the
second harmonic, and the first one does not tell which. The errors are even between -sqrt(3) and sqrt(3) times their
standard deviation and uncorrelated with what the model knows, so that the valleys are alike; light tails keep the noise
of a batch close to Gaussian. Standard deviation 4.5 in the first file, 0.6 in the second.
"""

from pathlib import Path

import numpy as np

ROWS, SIGNAL, SEED = 360, 1.1, 3
FILES = {"two-valleys.csv": 4.5, "one-example-steps.csv": 0.6}


def table(deviation: float) -> np.ndarray:
    """The columns first, second, v."""
    angle = 2.0 * np.pi * (np.arange(ROWS) + 0.5) / ROWS
    first, second = (np.sqrt(2.0) * np.cos(order * angle) for order in (1, 2))
    error = np.random.default_rng(SEED).permutation(np.linspace(-1.0, 1.0, ROWS))
    known = np.stack([first, second, np.ones(ROWS)], axis=1)
    error -= known @ np.linalg.lstsq(known, error, rcond=None)[0]
    return np.stack([first, second, SIGNAL * second + deviation * error / error.std()], axis=1)


if __name__ == "__main__":
    folder = Path(__file__).parent.parent / "cases"
    for name, deviation in FILES.items():
        np.savetxt(folder / name, table(deviation), "%.6f", ",", header="first,second,v", comments="")
        print(f"wrote {folder / name}")
