"""Properties that all measures in the table of measures share."""

import inspect
import pkgutil

import numpy as np
import optax
import pytest
from cases import SEVERAL_OUTPUTS, TRAINING_MEASURES

from ntkbias import frequency, losses, plots, report, tracking
from ntkbias.errors import InputError
from ntkbias.tracking import Measure, Probe, measures, track

each_measure = pytest.mark.parametrize("name", TRAINING_MEASURES)
OPTIONS = {"optimizer": optax.sgd(0.1), "num_steps": 40, "at": [0, 1, 5, 20, 40]}


@pytest.fixture(scope="module")
def renamed(network, data, run_options):
    """The same run with each measure under another key, in reverse order."""
    taken = {f"my {name}": measures.ALL[name] for name in reversed(TRAINING_MEASURES)}
    return track(*network, data, **run_options | {"measures": taken})


def test_the_table_has_all_measures():
    assert set(measures.ALL) == {*TRAINING_MEASURES, *SEVERAL_OUTPUTS}
    for name, measure in measures.ALL.items():
        assert measure.name == name
        assert getattr(measures, name) is measure
        assert inspect.getdoc(measure)


@each_measure
def test_a_measure_returns_numbers_of_one_shape_with_named_axes(history, name):
    shape, axes = TRAINING_MEASURES[name], measures.ALL[name].axes
    assert history[name].shape == (5, *shape)
    assert history.axes_of(name) == ("snapshot", *axes)
    assert len(axes) == len(shape)
    if axes and axes[-1] in dict(history.labels):
        assert len(dict(history.labels)[axes[-1]]) == shape[-1]
    start = 1 if name in ("kernel_velocity", "feature_change_correlation") else 0  # the first has none before it
    values = history[name][start:]
    # The gradient by the last bias is the same at all inputs, so its centered kernel is zero.
    assert np.isfinite(values).all() or name == "alignment_by_layer"


@each_measure
def test_a_measure_is_the_same_under_any_key(history, renamed, name):
    np.testing.assert_array_equal(renamed[f"my {name}"], history[name])
    assert renamed.axes_of(f"my {name}") == history.axes_of(name)


@each_measure
def test_the_needs_of_a_measure_are_added(name):
    found = list(measures.checked({"mine": measures.ALL[name]}))
    assert found == [*(needed.name for needed in measures.ALL[name].needs), "mine"]


@each_measure
def test_a_measure_decides_its_panel_and_its_column(history, name):
    measure, panels, columns = measures.ALL[name], dict(history.panels), dict(history.columns)
    assert panels.get(name) == (None if measure.title is None else (measure.title, measure.line or name, measure.scale))
    assert columns.get(name) == measure.column


def test_path_eigenvalues_alone(network, data, history):
    """If "path_eigenvalues" is the only measure, the path kernel that it needs is added."""
    alone = track(*network, data, **OPTIONS, probe=Probe(num_modes=6), measures=measures.chosen("path_eigenvalues"))
    assert list(alone) == ["path_kernel", "path_eigenvalues"]
    np.testing.assert_allclose(alone["path_eigenvalues"], history["path_eigenvalues"], rtol=1e-5, atol=1e-6)
    taken = {"K": measures.path_kernel, "e": measures.path_eigenvalues}
    assert list(measures.checked(dict(reversed(taken.items())))) == ["K", "e"]
    with pytest.raises(InputError, match="Expected 'path_kernel' to be the measure with that name, which others need"):
        measures.checked({"path_kernel": lambda at: 1.0, "e": measures.path_eigenvalues})


def test_a_run_resumes_with_measures_under_other_keys(network, data, tmp_path):
    end = {}

    def ends(at):
        if at.step > end.get("step", at.step):
            raise SystemExit
        return at.trace

    taken = {f"my {name}": measures.ALL[name] for name in ("path_eigenvalues", "matched_modes", "path_error")}
    taken["last"] = ends
    whole = track(*network, data, **OPTIONS, measures=taken)
    end["step"] = 5
    with pytest.raises(SystemExit):
        track(*network, data, **OPTIONS, measures=taken, checkpoint=tmp_path)
    end.clear()
    with pytest.warns(UserWarning, match="measure last reads different values from lists, dictionaries"):
        resumed = track(*network, data, **OPTIONS, measures=taken, checkpoint=tmp_path)
    for name in whole:
        np.testing.assert_array_equal(resumed[name], whole[name])


def test_a_measure_of_the_user_is_plotted_and_tabulated(network, data):
    def gap(at):
        return at.spectrum.eigenvalues[0] - at.spectrum.eigenvalues[1]

    def row(at):
        return at.outputs[:3, 0]

    taken = {
        "gap": Measure("gap", gap, title="gap of eigenvalues", line="first two", scale="log", column="gap"),
        "row": Measure("row", row, axes=("example",), labels=lambda at: ["a", "b", "c"]),
        "mine": measures.loss,
        "plain": lambda at: at.trace,
    }
    history = track(*network, data, **OPTIONS, measures=taken)
    titles = [ax.get_title() for ax in plots.evolution(history).flat if ax.axison]
    assert titles == ["gap of eigenvalues", "loss"]
    assert report.table(history).splitlines()[0].split() == ["step", "time", "gap", "mine"]
    assert history.axes_of("row") == ("snapshot", "example")
    assert dict(history.labels) == {"example": ("a", "b", "c")}
    with pytest.raises(InputError, match="measures that have a panel, such as 'loss'; got \\['plain'\\]"):
        plots.evolution(track(*network, data, **OPTIONS, measures={"plain": lambda at: at.trace}))


@pytest.mark.parametrize("package", [tracking, measures, losses, frequency.measures, report])
def test_no_file_has_the_name_of_an_exported_object(package):
    files = {found.name for found in pkgutil.iter_modules(package.__path__)}
    exported = {name for name in package.__all__ if not inspect.ismodule(getattr(package, name))}
    assert not files & (exported | set(getattr(package, "ALL", ())))
