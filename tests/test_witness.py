"""The witness: walkers beside exact moments, densities and escape times; its words, records, datasets and pictures."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from test_figures import check_figure, title, words

from fpsolve.analyse.escape import escape
from fpsolve.analyse.motion import evolve
from fpsolve.analyse.rest import stationary
from fpsolve.analyse.witness import (
    SNAPSHOTS,
    STEPS_PER_RELAXATION,
    Ensemble,
    Witness,
    default_time_step,
    witness_escape,
    witness_motion,
    witness_rest,
)
from fpsolve.errors import CaseError
from fpsolve.model.grid import Grid
from fpsolve.model.initial import Gaussian, Point, Saved
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import ConstantNoise, MinibatchNoise
from fpsolve.model.problem import Problem
from fpsolve.present.figures import sketch
from fpsolve.present.pictures.beside import TYPICAL, Instant
from fpsolve.present.pictures.style import styled
from fpsolve.present.pictures.views import plain_view
from fpsolve.present.witness_words import exits_record, witness_lines, witness_record

ROWS = {"a": [1.0, 0.5, -1.5, 2.0, 0.8], "b": [1.0, -0.25, -1.0, 1.5, 1.4]}
# The stationary variance of x - learning_rate * a * (a*x - b) with a row drawn in every step.
EXACT_VARIANCE = 0.00457238690581349
EXACT_MEAN = 6.495 / 8.14  # sum of a*b over sum of a**2
WELL = "(x**2 - 1)**2"


def regression(cells=40, batch_size=1):
    """One slope from five rows, by SGD."""
    landscape = Landscape(variables=("x",), per_example_loss="0.5*(a*x - b)**2", data=ROWS)
    noise = MinibatchNoise(learning_rate=0.1, batch_size=batch_size)
    return Problem(landscape, noise, Grid(x=(0.0, 1.6, cells)))


def two_slopes(cells=(26, 24)):
    """A slope and an offset from five rows, by SGD."""
    landscape = Landscape(variables=("x", "y"), per_example_loss="0.5*(a*x + y - b)**2", data=ROWS)
    noise = MinibatchNoise(learning_rate=0.1, batch_size=2)
    return Problem(landscape, noise, Grid(x=(-0.2, 1.5, cells[0]), y=(-0.6, 0.9, cells[1])))


def well(temperature=0.25, cells=60):
    return Problem(
        Landscape(WELL, variables=("x",)), ConstantNoise(temperature=temperature), Grid(x=(-2.2, 2.2, cells))
    )


def relaxing(cells=160):
    """An Ornstein-Uhlenbeck process of variance 1/2."""
    noise = ConstantNoise(temperature=0.5)
    return Problem(Landscape("x**2/2", variables=("x",)), noise, Grid(x=(-4.0, 4.0, cells)))


def space():
    landscape = Landscape("x**2 + y**2/2 + z**2", variables=("x", "y", "z"))
    grid = Grid(x=(-1.8, 1.8, 12), y=(-2.4, 2.4, 10), z=(-1.8, 1.8, 11))
    return Problem(landscape, ConstantNoise(temperature=0.3), grid)


# --- who walks


def test_sgd_runs_where_there_are_data():
    assert Ensemble().process_in(regression()) == "sgd"
    assert Ensemble(process="sde").process_in(regression()) == "sde"
    assert Ensemble().process_in(well()) == "sde"


@pytest.mark.parametrize(
    ("ensemble", "key", "process"),
    [
        (Ensemble(time_step=0.1), "time_step", "sgd"),
        (Ensemble(tail_index=1.5), "tail_index", "sgd"),
        (Ensemble(process="sde", sampling="epochs"), "sampling", "sde"),
        (Ensemble(process="sde", momentum=0.5), "momentum", "sde"),
    ],
)
def test_keys_of_the_other_process_are_refused(ensemble, key, process):
    with pytest.raises(CaseError, match=f'ensemble.{key}: it has no effect where the process is "{process}"'):
        ensemble.process_in(regression())


@pytest.mark.parametrize(
    ("drift", "steepest"), [(["-3*x", "-y"], 3.0), (["-x + 4*y", "-4*x - y"], math.sqrt(17.0)), (["1", "2"], 1.0)]
)
def test_the_time_step_is_a_share_of_the_shortest_relaxation(drift, steepest):
    landscape = Landscape(drift=drift, variables=("x", "y"))
    problem = Problem(landscape, ConstantNoise(temperature=1.0), Grid(x=(-1.0, 1.0, 8), y=(-1.0, 1.0, 8)))
    found = default_time_step(problem, np.random.default_rng(0).uniform(-0.9, 0.9, (200, 2)))
    assert found == pytest.approx(1.0 / (STEPS_PER_RELAXATION * steepest), rel=1e-6)  # rounding of differences


# --- at rest


def resting(walkers, seed):
    """Moments of SGD at rest, and how far they are from the exact ones in standard errors."""
    problem = regression()
    probability, ensemble = stationary(problem).probability, Ensemble(walkers=walkers, seed=seed)
    found = witness_rest(problem, ensemble, Point([0.8]), probability, max_time=40.0)
    moments = found.moments
    mean = (moments.mean[0, 0] - EXACT_MEAN) / moments.mean_error[0, 0]
    variance = (moments.covariance[0, 0, 0] - EXACT_VARIANCE) / moments.covariance_error[0, 0, 0]
    return found, np.array([mean, variance])


def test_sgd_at_rest_has_its_exact_moments():
    found, apart = resting(2000, 1)
    assert found.runs.swarm.positions.shape == (SNAPSHOTS, 2000, 1)
    assert found.moments.mean.shape == (1, 1)
    assert (np.abs(apart) < 3.0).all()  # standard errors, of 2000 independent walkers
    assert found.moments.covariance_error[0, 0, 0] < 0.02 * EXACT_VARIANCE  # of so many looks at each


def test_errors_of_moments_at_rest_are_those_of_repetition():
    apart = np.array([resting(300, seed)[1] for seed in range(50)])
    # 50 normal numbers of variance 1: their mean is 0 +- 0.14, their mean square 1 +- 0.2; 4 deviations of both.
    assert (np.abs(apart.mean(axis=0)) < 4.0 * 0.14).all()
    assert (np.abs((apart**2).mean(axis=0) - 1.0) < 4.0 * 0.2).all()


def test_walkers_at_rest_stay_there():
    problem = well(cells=80)
    rest = stationary(problem)
    ensemble = Ensemble(walkers=4000, time_step=0.004)
    found = witness_rest(problem, ensemble, rest.probability, rest.probability, max_time=4.0)
    (distance,) = found.distances
    assert abs(distance.excess) < 4.0  # deviations of chance
    assert found.counts.shape == (1, 80)
    assert found.counts.sum() == 4000
    assert (
        abs(found.moments.covariance[0, 0, 0] - rest.covariance[0, 0]) < 4.0 * found.moments.covariance_error[0, 0, 0]
    )


# --- in time


@pytest.fixture(scope="module")
def moving():
    """A relaxing process with walkers."""
    problem, start = relaxing(), Gaussian([1.5], width=0.4)
    motion = evolve(problem, start, until=2.0, save=8)
    ensemble = Ensemble(walkers=5000, time_step=0.005)
    return problem, motion, witness_motion(problem, ensemble, start, motion.times, motion.probability)


def test_walkers_keep_to_the_density_in_time(moving):
    _, motion, found = moving
    assert found.distances[0] is None
    excess = np.array([distance.excess for distance in found.distances[1:]])
    assert (np.abs(excess) < 4.0).all()  # deviations of chance
    assert abs(excess.mean()) < 2.5  # of 8 that depend on each other
    assert (found.counts.sum(axis=1) == 5000).all()
    apart = (found.moments.mean - motion.mean) / found.moments.mean_error
    assert np.abs(apart).max() < 4.0  # standard errors
    spread = (found.moments.covariance - motion.covariance) / found.moments.covariance_error
    assert np.abs(spread).max() < 4.0  # standard errors


def test_walkers_start_from_a_probability_as_well(moving):
    problem, motion, _ = moving
    later = motion.probability[4:]
    found = witness_motion(problem, Ensemble(walkers=3000, time_step=0.005), later[0], motion.times[4:], later)
    assert found.runs.swarm.begin == motion.times[4]
    assert max(abs(distance.excess) for distance in found.distances[1:]) < 4.0  # deviations of chance


def test_walkers_that_have_left_are_counted_as_gone():
    problem = relaxing()
    gate, start = problem.region("x < 0.2"), Point([1.5])
    motion = evolve(problem, start, until=1.0, save=4, absorb=[gate])
    found = witness_motion(
        problem, Ensemble(walkers=4000, time_step=0.005), start, motion.times, motion.probability, absorb=[gate]
    )
    inside = found.counts.sum(axis=1)
    assert (inside == found.moments.inside).all()
    assert (np.diff(inside) < 0).any()
    share = motion.mass[-1]
    room = 4.0 * math.sqrt(share * (1.0 - share) / 4000)  # 4 standard errors
    assert abs(inside[-1] / 4000 - share) < room
    assert max(abs(distance.excess) for distance in found.distances[1:]) < 4.0  # deviations of chance


def test_sgd_does_not_go_on_from_an_earlier_result(tmp_path):
    times, probability = np.array([1.0, 2.0]), np.ones((2, 40)) / 40.0
    with pytest.raises(CaseError, match="SGD counts its steps from 0"):
        witness_motion(regression(), Ensemble(), Saved(tmp_path / "earlier.nc"), times, probability)


# --- the escape


@pytest.fixture(scope="module")
def leaving():
    """The escape from a well, and its walkers."""
    problem = well()
    out = escape(problem, start=[-1.0], target="x > 0.8")
    log_time = out.times["mean_first_passage_time"].log_time
    ensemble = Ensemble(walkers=1500, time_step=0.005)
    runs, notices = witness_escape(problem, ensemble, [-1.0], [problem.region("x > 0.8")], log_time)
    assert runs is not None
    assert not notices
    return problem, out, ensemble, runs


def test_walkers_leave_in_the_mean_first_passage_time(leaving):
    _, out, _, runs = leaving
    exits, expected = runs.exits, out.times["mean_first_passage_time"].value
    assert exits.censored < 5  # about 0.07 of 1500 are left after ten mean times
    assert abs(exits.value - expected) < 4.0 * exits.standard_error + 0.01 * expected  # and the error of the grid
    assert runs.swarm.times[-1] == pytest.approx(10.0 * expected, rel=1e-12)  # rounding


def test_later_exits_are_censored_and_counted(leaving):
    problem, out, ensemble, _ = leaving
    expected = out.times["quasi_stationary"].value
    target = problem.region("x > 0.8")
    runs, _ = witness_escape(problem, ensemble, [-1.0], [target], math.log(expected), max_time=0.7 * expected)
    exits = runs.exits
    assert exits.method == "exponential"
    assert exits.exits + exits.censored == 1500
    assert abs(exits.censored / 1500 - math.exp(-0.7)) < 0.05  # 4 standard errors
    assert abs(exits.value - expected) < 4.0 * exits.standard_error


def test_none_is_sent_where_it_would_take_too_long():
    problem = well(0.01)
    target = problem.region("x > 0.8")
    runs, notices = witness_escape(problem, Ensemble(walkers=100), [-1.0], [target], 100.0)
    assert runs is None
    (notice,) = notices
    assert notice.code == "no_ensemble"
    assert "100 walkers would need about 10^4" in notice.message
    short, notices = witness_escape(
        problem, Ensemble(walkers=100, time_step=0.01), [-1.0], [target], 100.0, max_time=1.0
    )
    assert not notices
    assert short.exits.method == "none"
    assert short.exits.value is None
    # Poisson: with 95 % confidence none of 100 leave in a time 1 only where the mean is above 100 / ln 20.
    assert short.exits.interval[0] == pytest.approx(100.0 / math.log(20.0), rel=1e-9)  # rounding


def test_a_driven_problem_is_held_at_its_time():
    grid, noise = Grid(x=(-2.2, 2.2, 40)), ConstantNoise(temperature=0.3)
    driven = Problem(Landscape(f"{WELL} + t*x", variables=("x",)), noise, grid)
    held = Problem(Landscape(f"{WELL} + 0.25*x", variables=("x",)), noise, grid)
    ensemble = Ensemble(walkers=64, time_step=0.01)
    found = []
    for problem in (driven.at(0.25), held):
        runs, _ = witness_escape(problem, ensemble, [-1.0], [held.region("x > 0.8")], 3.0, max_time=30.0)
        found.append(runs.exits)
    assert found[0].exits == found[1].exits > 10
    assert found[0].value == pytest.approx(found[1].value, rel=1e-6)  # rounding, along the way


def test_sgd_counts_the_steps_of_its_exits():
    problem = regression()
    target = problem.region("x > 0.88")
    runs, _ = witness_escape(problem, Ensemble(walkers=300), [0.75], [target], 1.0, max_time=200.0)
    assert runs.exits.censored == 0
    assert runs.exit_steps.mean() * 0.1 == pytest.approx(runs.exits.value, rel=1e-12)  # rounding
    assert runs.time_step is None


# --- words and records


def witnessed(problem, ensemble, **parts):
    return Witness(ensemble, ensemble.process_in(problem), **parts)


def test_words_and_records(moving, leaving):
    problem, motion, found = moving
    witness = witnessed(problem, Ensemble(walkers=5000, time_step=0.005), motion=found, escape=leaving[3])
    lines = witness_lines(witness, problem.grid, None, motion.probability[-1])
    assert "5000" in lines[0]
    assert "time step 0.005" in lines[0]
    assert "seed 1" in lines[0]
    assert any("left: " in line and "of 1500 by t = " in line for line in lines)
    assert any("L1 distance" in line and "by chance" in line for line in lines)
    assert any("variance" in line and "Fokker-Planck" in line for line in lines)
    record = json.loads(json.dumps(witness_record(witness), allow_nan=False))
    assert record["process"] == "sde"
    assert record["time_step"] == 0.005
    assert record["evolve"]["times"] == motion.times.tolist()
    assert record["evolve"]["l1_distance"][0] is None
    assert len(record["evolve"]["mean"]) == motion.times.size
    exits = json.loads(json.dumps(exits_record(leaving[3]), allow_nan=False))
    assert {"value", "standard_error", "censored"} <= set(exits)
    assert exits["splitting"] == {"x > 0.8": [1.0, 0.0]}


def test_records_hold_where_none_leaves_or_none_stays():
    problem = well(0.02)
    ensemble = Ensemble(walkers=50, time_step=0.01)
    runs, _ = witness_escape(problem, ensemble, [-1.0], [problem.region("x > 0.8")], 50.0, max_time=0.5)
    exits = json.loads(json.dumps(exits_record(runs), allow_nan=False))
    assert exits["value"] is None
    assert exits["interval"][1] is None
    assert exits["censored"] == 50
    witness = witnessed(problem, ensemble, escape=runs)
    assert "above" in "\n".join(witness_lines(witness, problem.grid, None, None))
    gate, start = problem.region("x > -1.5"), Point([-1.6])
    motion = evolve(problem, start, until=4.0, save=3, absorb=[gate])
    found = witness_motion(problem, ensemble, start, motion.times, motion.probability, absorb=[gate])
    assert found.moments.inside[-1] == 0
    record = witness_record(witnessed(problem, ensemble, motion=found))
    assert json.loads(json.dumps(record, allow_nan=False))["evolve"]["mean"][-1] == [None]
    assert witness_lines(witnessed(problem, ensemble, motion=found), problem.grid, None, motion.probability[-1])


# --- pictures


def sketched(problem, witness, **found):
    with styled():
        nothing = dict.fromkeys(("rest", "motion", "escape"))
        return sketch(problem, "A title", **(nothing | found), witness=witness, regions={})


def drawn(problem, witness, **found):
    """The picture of a witness, checked."""
    figure = sketched(problem, witness, **found)["ensemble"]
    with styled():
        check_figure(figure)
    return figure


def titles(figure):
    return [title(axes) for axes in figure.axes if title(axes)]


def test_picture_of_a_line_in_time_and_of_its_escape(leaving):
    problem, out, ensemble, runs = leaving
    start = Point([-1.0])
    motion = evolve(problem, start, until=2.0, save=6)
    found = witness_motion(problem, ensemble, start, motion.times, motion.probability)
    text = titles(drawn(problem, witnessed(problem, ensemble, motion=found, escape=runs), motion=motion, escape=out))
    assert sum("L1 " in line and "chance" in line for line in text) == 4
    assert {"Mean", "Variance", "Distance of walkers and density"} <= set(text)
    assert any(line.startswith("Mean exit time: walkers ") for line in text)
    assert any(line.startswith("Exit times") for line in text)


def test_picture_of_a_line_at_rest():
    problem = well(cells=50)
    rest, ensemble = stationary(problem), Ensemble(walkers=300, time_step=0.01)
    found = witness_rest(problem, ensemble, rest.probability, rest.probability, max_time=1.0)
    text = words(drawn(problem, witnessed(problem, ensemble, rest=found), rest=rest))
    assert "at rest" in text
    assert "walkers − Fokker-Planck" in text
    assert "var x" in text


@pytest.mark.slow
def test_picture_of_a_plane():
    problem, ensemble, start = two_slopes(), Ensemble(walkers=400), Gaussian([0.6, 0.1], width=0.1)
    motion, rest = evolve(problem, start, until=4.0, save=6), stationary(problem)
    moved = witness_motion(problem, ensemble, start, motion.times, motion.probability)
    figure = drawn(problem, witnessed(problem, ensemble, motion=moved), motion=motion)
    assert "SGD, 400 runs, batches with replacement" in words(figure)
    assert sum("steps)" in line for line in titles(figure)) == 4
    rested = witness_rest(problem, ensemble, rest.probability, rest.probability, max_time=4.0)
    text = words(drawn(problem, witnessed(problem, replace(ensemble, momentum=0.5), rest=rested), rest=rest))
    assert "momentum 0.5" in text
    assert "cov x, y" in text


@pytest.mark.slow
def test_picture_of_space():
    problem, ensemble, start = space(), Ensemble(walkers=400, time_step=0.02), Gaussian([0.5, 0.5, 0.5], width=0.4)
    motion, rest = evolve(problem, start, until=1.0, save=3), stationary(problem)
    moved = witness_motion(problem, ensemble, start, motion.times, motion.probability)
    text = titles(drawn(problem, witnessed(problem, ensemble, motion=moved), motion=motion))
    assert sum("Integrated over" in line for line in text) == 3
    rested = witness_rest(problem, ensemble, rest.probability, rest.probability, max_time=1.0)
    assert "cov y, z" in words(drawn(problem, witnessed(problem, ensemble, rest=rested), rest=rest))


def test_picture_where_none_left_and_where_few_did(leaving):
    problem, out, *_ = leaving
    ensemble, target = Ensemble(walkers=60, time_step=0.01), problem.region("x > 0.8")
    for max_time, words_of_title in ((0.01, "None left: mean of walkers above "), (8.0, "Mean exit time: walkers ")):
        runs, _ = witness_escape(problem, ensemble, [-1.0], [target], 3.0, max_time=max_time)
        (line,) = titles(drawn(problem, witnessed(problem, ensemble, escape=runs), escape=out))
        assert line.startswith(words_of_title)


def test_no_picture_where_no_walker_was_sent():
    problem = well()
    assert "ensemble" not in sketched(problem, witnessed(problem, Ensemble()))


@pytest.mark.parametrize("walkers", [1000, 4000, 10**7])
def test_blocks_of_a_picture_hold_enough_walkers(walkers):
    problem = relaxing(300)
    density = stationary(problem).density
    instant = Instant(density, np.zeros(300), walkers, None, "")
    view = instant.coarse(plain_view(problem.grid))

    def typical(block):
        joined = replace(view, block=block)
        probability = joined.section(density) * np.diff(joined.edges(0))
        return walkers * (probability**2).sum() / probability.sum()

    assert typical(view.block) >= TYPICAL[1]
    assert view.block == 1 or typical(view.block - 1) < TYPICAL[1]
    assert (view.block == 1) == (walkers == 10**7)
    # What is joined keeps its sum.
    assert view.section(density) @ np.diff(view.edges(0)) == pytest.approx(1.0, rel=1e-12)  # rounding
