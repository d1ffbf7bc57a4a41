"""The lattice of nodes over a grid that walkers read fields from."""

import numpy as np
import pytest
from problems import box

from fpsolve.errors import CaseError
from fpsolve.model.grid import Axis, Grid
from fpsolve.solve.nodes import Nodes


def test_nodes_stand_at_faces_and_centres():
    nodes = Nodes.of(box((10,), (-1.0, 1.0)), most=25)
    assert nodes.shape == (21,)
    assert nodes.along(0) == pytest.approx(np.linspace(-1.0, 1.0, 21), abs=1e-15)
    assert nodes.pace == pytest.approx(10.0)


def test_a_grid_above_the_budget_keeps_its_faces():
    nodes = Nodes.of(box((10, 6)), most=5)
    assert nodes.shape == (11, 7)
    assert nodes.positions().shape == (2, 77)
    assert nodes.strides.tolist() == [7, 1]
    assert nodes.corners.tolist() == [0, 7, 1, 8]


def test_an_infinite_axis_ends_at_its_last_centres():
    axis = Axis("x", -np.inf, 3.0, 12, scale=1.0)
    nodes = Nodes.of(Grid(x=axis), most=100)
    assert nodes.along(0)[0] == axis.centres[0]
    assert nodes.along(0)[-1] == 3.0
    assert (np.diff(nodes.along(0)) > 0.0).all()
    assert nodes.pace == 0.0  # uneven
    assert np.isin(axis.centres, nodes.along(0)).all()


def test_boxes_around_places():
    nodes = Nodes.of(box((4, 2), [(0.0, 4.0), (0.0, 2.0)]), most=1)
    corner, middles = nodes.boxes(np.array([[0.2, 4.0, 9.0], [1.5, 0.0, -3.0]]))
    assert corner.tolist() == [1, 9, 9]
    assert middles.tolist() == [[0.5, 3.5, 3.5], [1.5, 0.5, 0.5]]


def test_walls_without_a_value_take_that_of_the_nearest_node():
    nodes = Nodes.of(box((4,), (0.0, 4.0)), most=1)
    with np.errstate(all="ignore"):
        values = np.array([1.0 / nodes.along(0), nodes.along(0)])
    assert nodes.filled(values, "drift")[:, 0].tolist() == [1.0, 1.0]
    assert nodes.filled(values, "drift")[:, 2].tolist() == [0.5, 2.0]
    values[0, 2] = np.nan
    with pytest.raises(CaseError, match="drift: it is not finite at x = 2"):
        nodes.filled(values, "drift")
