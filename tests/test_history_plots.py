"""Figures and reports of a history: they show the measured numbers."""

import dataclasses

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

import ntkbias as nb
from ntkbias import plots, report
from ntkbias.errors import InputError
from ntkbias.tracking import Probe, measures

CIRCLE = nb.domains.Circle()


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def options():
    x, _ = CIRCLE.quadrature(16)
    net = nb.nets.mlp(width=16, depth=1, b_std=0.1)
    taken = measures.DEFAULT | measures.chosen("eigenfunctions")
    settings = {
        "optimizer": optax.sgd(0.5),
        "num_steps": 8,
        "at": (0, 1, 3, 8),
        "probe": Probe(domain=CIRCLE),
        "measures": taken,
    }
    return net, (x, jnp.sign(x[:, 0] + 0.1)), settings


@pytest.fixture(scope="module")
def one():
    net, data, settings = options()
    return nb.track(net.apply, net.init(jax.random.key(0), (2,)), data, **settings)


@pytest.fixture(scope="module")
def three():
    net, data, settings = options()
    params = jax.vmap(lambda key: net.init(key, (2,)))(jax.random.split(jax.random.key(0), 3))
    return nb.track_many(net.apply, params, data, **settings)


def test_evolution_draws_each_measure_along_steps(one):
    axes = plots.evolution(one)
    loss = next(ax for ax in axes.flat if ax.get_title() == "loss")
    assert_allclose(loss.lines[0].get_xdata(), one.steps)
    assert_allclose(loss.lines[0].get_ydata(), one["loss"])
    assert plots.num_panels(one) == sum(ax.axison for ax in axes.flat)


def test_several_runs_are_a_median_in_a_band(three):
    loss = next(ax for ax in plots.evolution(three).flat if ax.get_title() == "loss")
    assert_allclose(loss.lines[0].get_ydata(), np.median(three["loss"], 0))
    band = loss.collections[0].get_paths()[0].vertices[:, 1]
    assert_allclose([band.min(), band.max()], [three["loss"].min(), three["loss"].max()])


def test_trajectories_follow_modes_by_their_match(one):
    lines = plots.eigenvalue_trajectories(one, num_modes=4).lines
    matched = one["matched_modes"]
    followed = np.full(one["eigenvalues"].shape, np.nan)
    for row, (names, values) in enumerate(zip(matched, one["eigenvalues"], strict=True)):
        followed[row, names] = values
    for mode in range(4):
        assert_allclose(lines[mode].get_ydata(), followed[:, mode])
    assert_allclose(lines[-1].get_ydata(), 2 / 0.5)  # 2 / learning rate


def test_alignments_and_spectrogram(one, three):
    lines = plots.alignments(one).lines
    assert any(np.allclose(line.get_ydata(), one["alignment"]) for line in lines)
    for history in (one, three):
        mesh = plots.frequency_spectrogram(history).collections[0]
        assert mesh.get_array().shape == (len(history), len(np.unique(history.level_frequencies)))
        assert mesh.colorbar.ax.get_ylabel() == "power of the residual at this frequency"
    shown = plots.frequency_spectrogram(one).collections[0].get_array()
    assert_allclose(np.asarray(shown)[0].max(), one["residual_spectrum"][0].max(), rtol=1e-5)


def test_empty_columns_of_a_spectrogram_are_cropped(one):
    power = one["residual_spectrum"].copy()
    power[:, 4:] = 1e-9 * power.max()
    silent = dataclasses.replace(one, values={**one.values, "residual_spectrum": power})
    ax = plots.frequency_spectrogram(silent)
    assert ax.collections[0].get_array().shape == (len(one), 4)
    assert ax.get_xlim()[1] == 3.5


def test_the_page_says_where_eigenvalues_are_above_the_limit(one):
    text = report.history._text(one, "eigenvalues")
    above = one["eigenvalues"][:, 0] > 2 / 0.5
    assert not above.any()
    assert f"at most {one['eigenvalues'][:, 0].max() / 4:.3g}" in text
    fast = dataclasses.replace(one, learning_rates=np.array([0.5, 0.5, 1e3, 1e3]))
    assert "above the dotted line at 2 of 4 snapshots, first at step 3." in report.history._text(fast, "eigenvalues")
    assert "makes the error in that mode larger" in text


def test_frames_have_one_row_per_mode_and_one_column_per_step(one):
    grid = plots.eigenfunction_frames(one, CIRCLE, num_modes=2, num_frames=3)
    assert grid.shape == (2, 3)
    assert [ax.get_title() for ax in grid[0]] == ["step 0", "step 3", "step 8"] or grid[0, 0].get_title() == "step 0"
    order = np.argsort(np.asarray(CIRCLE.angle(jnp.asarray(one.probe))))
    assert_allclose(grid[0, 0].lines[-1].get_ydata(), one["eigenfunctions"][0][order, 0], rtol=1e-5)


def test_the_page_of_a_history_has_its_figures_and_snapshots(one, three, tmp_path):
    for index, history in enumerate((one, three)):
        figures = report.figures(history)
        assert list(figures) == ["evolution", "eigenvalues", "alignments", "residual_spectrum", "output_spectrum"]
        path = report.write_report(tmp_path / f"{index}.html", history, title="T", settings={"rate": 0.5})
        page = path.read_text()
        assert page.count("<figcaption>") == len(figures)
        assert "<script" not in page
        assert "From step 0 to step 8, the loss went from " in page
        assert "How does the kernel change while the network trains, and which frequencies" in page
        assert f"Between the {len(history)} snapshots, nothing was measured." in page
        assert ("This is one run" in page) == (index == 0)
        units = ("Time is steps times learning rate.", "Frequencies are in radians per unit of length.")
        assert all(unit in page for unit in (*units, "The kernel drift is the change of the kernel since the start,"))
        table, _, notes = report.table(history, 3).partition("Time is ")
        assert all(unit in " ".join(f"Time is {notes}".split()) for unit in units)
        text = table.splitlines()
        assert text[-1].split()[0] == "8"
        assert ("medians of 3 runs" in text[0]) == (index == 1)
    assert plt.get_fignums() == []


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda one, three: plots.evolution(3), "Expected a History; got int. Use track"),
        (
            lambda one, three: plots.eigenfunction_frames(three, CIRCLE),
            "Expected one run; got several. Use history.run",
        ),
        (lambda one, three: plots.eigenfunction_frames(one, 3), "Expected a domain, e.g. Circle.*; got int"),
        (lambda one, three: plots.frequency_spectrogram(one, measure="x"), "Expected a history with the measure 'x'"),
        (lambda one, three: report.table(3), "Expected a Comparison or a History; got int. Use compare or track."),
    ],
)
def test_bad_input(one, three, draw, message):
    with pytest.raises(InputError, match=message):
        draw(one, three)
