"""What is asked where a case leaves out start, valley or target."""

import numpy as np
import pytest

from fpsolve.analyse.question import complete_question, default_question
from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError
from fpsolve.model.grid import Axis, Grid
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import ConstantNoise
from fpsolve.model.problem import Problem

# Newton's method ends within a few roundings of the root.
ROUNDING = 1e-12


def problem_of(loss, **axes):
    return Problem(Landscape(loss, variables=tuple(axes)), ConstantNoise(temperature=0.1), Grid(**axes))


@pytest.fixture(scope="module")
def even():
    return problem_of("(x**2 - 1)**2 + y**2", x=(-2, 2, 40), y=(-1.5, 1.5, 30))


@pytest.fixture(scope="module")
def tilted():
    """The right well is shallower."""
    return problem_of("(x**2 - 1)**2 + 0.2*x", x=(-2, 2, 60))


def test_the_shallower_basin_is_left(tilted):
    question = default_question(tilted)
    roots = np.sort(np.roots([4.0, 0.0, -4.0, 0.2]))
    assert question.start == pytest.approx((roots[2],), abs=ROUNDING)
    assert question.target.level(np.array([[roots[0]], [roots[1]], [roots[2]]]).T).tolist()[0] == 1.0
    assert question.target.name == "core of x = -1.02"
    inside = question.valley.level(np.array([[-1.0, -0.1, 0.2, 1.0]])) > 0.0
    assert inside.tolist() == [False, False, True, True]
    assert question.chosen == (
        "start: the minimum x = 0.973994 of the shallower basin; target: the core of x = -1.02; "
        "valley: the basin of x = 0.974"
    )


def test_of_equally_deep_basins_the_first_is_left(even):
    question = default_question(even)
    assert question.start == pytest.approx((-1.0, 0.0), abs=ROUNDING)
    assert "the first of two equally deep basins" in question.chosen
    assert (Generator.of(even).killed(question.target).active[even.grid.positions()[0] < 0.5]).all()
    assert question.valley.weights(even.grid).mean() == pytest.approx(0.5, abs=1e-9)  # by symmetry


def test_with_a_start_the_other_basin_is_the_target(tilted):
    question = complete_question(tilted, [-0.4], None, None)
    assert question.start == (-0.4,)
    assert question.target.name == "core of x = 0.974"
    assert question.valley.name == "basin of x = -1.02"


def test_with_a_target_the_other_basin_is_left(tilted):
    right = tilted.region("x > 0.8")
    question = complete_question(tilted, None, None, right)
    assert question.start == pytest.approx((-1.02411,), abs=1e-4)
    assert question.target is right
    assert question.chosen.startswith("start: the minimum x = -1.02412 of the basin without the target; valley: ")


def test_with_a_valley_its_basin_is_left(tilted):
    left = tilted.region("x < -0.1")
    question = complete_question(tilted, None, left, None)
    assert question.start == pytest.approx((-1.02411,), abs=1e-4)
    assert question.valley is left
    assert question.target.name == "core of x = 0.974"


def test_what_is_given_is_kept(tilted):
    left, right = tilted.region("x < 0"), tilted.region("x > 0.8")
    question = complete_question(tilted, (-1.0,), left, right)
    assert (question.start, question.valley, question.target, question.chosen) == ((-1.0,), left, right, None)


def test_no_valley_where_the_target_reaches_into_the_basin(tilted):
    assert complete_question(tilted, [-1.0], None, tilted.region("x > -0.5")).valley is None


def test_start_and_target_need_no_basins():
    problem = problem_of("x**2", x=(-1, 1, 20))
    question = complete_question(problem, [0.0], None, problem.region("x > 0.5"))
    assert (question.valley, question.chosen) == (None, None)
    landscape = Landscape(drift=["-x"], variables=("x",))
    drifting = Problem(landscape, ConstantNoise(diffusion=[[0.1]]), Grid(x=(-1, 1, 20)))
    assert complete_question(drifting, [0.0], None, drifting.region("x > 0.5")).valley is None


@pytest.mark.parametrize(
    ("loss", "found"),
    [
        ("x**2", "the loss has one minimum on this grid, x = 0"),
        ("0*x", "the loss is flat: it has one value on all of the grid"),
        ("cos(3*x)", "the loss has 4 minima on this grid: x = -3.14, x = -1.05, x = 1.05, x = 3.14"),
        ("cos(12*x)", "the loss has 14 minima on this grid: x = -3.4, x = -2.88, x = -2.36, x = -1.83, "
         "x = -1.31, x = -0.785, ..."),
    ],
)  # fmt: skip
def test_one_basin_or_more_than_two_leave_the_question_open(loss, found):
    problem = problem_of(loss, x=(-3.6, 3.6, 200))
    with pytest.raises(CaseError) as error:
        default_question(problem)
    assert error.value.found == found
    assert error.value.where == "escape.start"
    assert error.value.remedy == "Give escape.start and escape.target"
    with pytest.raises(CaseError) as error:
        complete_question(problem, [0.1], None, None)
    assert (error.value.where, error.value.remedy) == ("escape.target", "Give escape.target")


def test_a_drift_leaves_the_question_open():
    landscape = Landscape(drift=["x - x**3"], variables=("x",))
    problem = Problem(landscape, ConstantNoise(diffusion=[[0.1]]), Grid(x=(-2, 2, 20)))
    with pytest.raises(CaseError, match="the landscape gives a drift and no loss"):
        default_question(problem)


def test_a_target_in_both_basins_tells_nothing(even):
    with pytest.raises(CaseError, match="lies in both basins alike"):
        complete_question(even, None, None, even.region("y > 0.5"))


def test_a_start_that_falls_out_of_the_box():
    wall = Axis("x", -2.0, 3.0, 100, ("reflecting", "absorbing"))
    problem = problem_of("(x**2 - 1)**2*(3 - x)", x=wall)  # falls again from x = 2.48 on
    with pytest.raises(CaseError) as error:
        complete_question(problem, [2.7], None, None)
    assert error.value.found == "from x = 2.7 the loss falls to an absorbing wall"


def test_a_start_that_falls_out_of_the_box_into_a_target():
    wall = Axis("x", -2.0, 3.0, 100, ("reflecting", "absorbing"))
    problem = problem_of("(x**2 - 1)**2*(3 - x)", x=wall)
    assert complete_question(problem, [2.7], None, problem.region("x < 0")).valley is None


@pytest.mark.parametrize(("start", "place"), [((0.0, 0.0), "x = 0, y = 0"), ((0.0, 0.7), "x = 0, y = 0.7")])
def test_a_start_on_the_border(even, start, place):
    with pytest.raises(CaseError) as error:
        complete_question(even, start, None, None)
    assert error.value.where == "escape.start"
    assert error.value.found == f"the start {place} lies on the border between the basins"
    assert error.value.remedy == "Move it or give escape.valley"


def test_a_start_on_the_border_with_a_valley_or_a_target(even):
    """A valley that holds it tells which basin is left; with a target the question is whole without a valley."""
    question = complete_question(even, [0.0, 0.0], even.region("x < 0.2"), None)
    assert question.target.name == "core of (1, 0)"
    question = complete_question(even, [0.0, 0.0], even.region("x > -0.2"), None)
    assert question.target.name == "core of (-1, 0)"
    right = even.region("x > 0.8")
    assert complete_question(even, [0.0, 0.0], None, right).valley is None


def test_the_basin_of_the_start_is_the_valley_among_many():
    problem = problem_of("cos(3*x)", x=(-3.6, 3.6, 200))  # borders at multiples of 2 pi / 3
    question = complete_question(problem, [0.9], None, problem.region("x > 2.8"))
    assert question.valley.name == "basin of x = 1.05"
    assert question.chosen == "valley: the basin of x = 1.05"
    assert complete_question(problem, [0.9], None, problem.region("x > 2.0")).valley is None


@pytest.mark.parametrize(
    ("walls", "target"),
    [
        (("absorbing", "absorbing"), "x < -0.94 or x > 0.94"),
        (("reflecting", "absorbing"), "x > 0.94"),
        (("absorbing", "reflecting"), "x < -0.94"),
    ],
)
def test_absorbing_walls_alone_are_not_a_target(walls, target):
    """The target that the message names holds cells on the coarsest grid of the error bars, too."""
    problem = problem_of("0.5*x**2", x=Axis("x", -1.0, 1.0, 100, walls))
    with pytest.raises(CaseError) as error:
        complete_question(problem, [0.0], None, None)
    assert error.value.where == "escape.target"
    assert (
        error.value.found == "the loss has one minimum on this grid, x = 0; absorbing walls alone are not a target yet"
    )
    assert error.value.remedy == f'Give escape.target, for instance target = "{target}"'
    for cells in (100, 50, 25):
        Generator.of(problem.on(Grid(x=Axis("x", -1.0, 1.0, cells, walls)))).killed(problem.region(target))


def test_a_basin_too_flat_for_a_core():
    problem = problem_of("(x**2 - 1)**4 + y**2", x=(-2, 2, 40), y=(-1, 1, 20))
    with pytest.raises(CaseError) as error:
        default_question(problem)
    assert (error.value.where, error.value.remedy) == ("escape.target", "Give escape.target")
