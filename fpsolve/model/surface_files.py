"""The surface files of Li, Xu, Taylor, Studer & Goldstein (2018), Visualizing the loss landscape of neural nets.

Their tool (github.com/tomgoldstein/loss-landscape) writes the losses of a network over one or two directions to an HDF5
file: xcoordinates, ycoordinates, train_loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fpsolve.errors import CaseError
from fpsolve.model.splines import first_spot
from fpsolve.model.table_files import Contents, Stored, shape_words

SURFACE_AXES = ("xcoordinates", "ycoordinates")
SURFACE_LOSS = "train_loss"
SURFACE_NAMES = (*SURFACE_AXES, SURFACE_LOSS)
NOT_COMPUTED = -1.0


def is_surface(contents: Contents) -> bool:
    """Whether a file has the coordinates of a surface."""
    return SURFACE_AXES[0] in contents.arrays


def surface_as_table(contents: Contents, variables: Sequence[str], path: Path, where: str) -> Contents:
    """A surface file in the names of a table.

    Its writer (plot_surface.py: crunch, scheduler.py: get_unplotted_indices) makes an array of the shape (x, y), but
    fills its flat entry i for the point i of numpy.meshgrid(x, y), in which x runs fastest: whatever its shape says,
    the array is one of the shape (y, x). Entries are -1 until they are computed.
    """
    axes = [contents.arrays[name].values for name in SURFACE_AXES if name in contents.arrays]
    if len(axes) != len(variables):
        found = f"{path} is a surface over {len(axes)} direction{'s' * (len(axes) > 1)}"
        required = f"There are {len(variables)} variables: {', '.join(variables)}"
        raise CaseError(where, found, required, "A surface's first coordinate is the first variable, and so on")
    if SURFACE_LOSS not in contents.arrays:
        found = f"{path} holds {contents.words}"
        raise CaseError(where, found, f"A surface needs {SURFACE_LOSS}", "Run plot_surface.py to its end")
    loss, lengths = contents.arrays[SURFACE_LOSS].values, tuple(along.size for along in axes)
    if loss.shape not in (lengths, lengths[::-1]):
        found = f"{SURFACE_LOSS} in {path} has the shape {shape_words(loss)}"
        raise CaseError(where, found, f"It must be {' x '.join(str(n) for n in lengths)}", "")
    loss = loss.reshape(lengths[::-1]).T
    missing = loss == NOT_COMPUTED
    if missing.any():
        found = f"{missing.sum()} of {missing.size} points were not computed"
        found += f", the first at {first_spot(missing, axes, variables)}"
        remedy = "Run plot_surface.py once more on this file: it goes on with those"
        raise CaseError(where, found, f"A surface needs {SURFACE_LOSS} everywhere", remedy)
    arrays = {name: Stored(along) for name, along in zip(variables, axes, strict=True)}
    return Contents(contents.names, arrays | {"loss": Stored(loss)}, contents.attributes)
