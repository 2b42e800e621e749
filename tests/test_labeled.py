"""Results as data frames and datasets: the numbers of the fields, under the names of their axes."""

import dataclasses
import re
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from values import AWKWARD, CIRCLE, X, results

import ntkbias as nb
from ntkbias.errors import InputError
from ntkbias.tables import Axes, Labeled, Printed, Table, joined, number, spread

pandas = pytest.importorskip("pandas", reason="the extra tables is not installed")
xarray = pytest.importorskip("xarray", reason="the extra tables is not installed")

# The axes of each type's rows, and how many rows its value in tests/values.py has.
ROWS = {
    "Spectrum": {"mode": 24},
    "NystromSpectrum": {"mode": 8},
    "ExactSpectrum": {"row": 16},
    "Decay": {},
    "FrequencyRanking": {"mode": 24},
    "Eigenspaces": {"eigenspace": 13},
    "DecayExponent": {},
    "Comparison": {"kernel": 2, "mode": 24},
    "History": {"snapshot": 3},
    "Learnability": {"kernel": 2, "target": 2},
    "LearningCurve": {"size": 2},
    "MeasuredLearningCurve": {"size": 2},
    "KernelRegression": {"example": 24},
    "Trajectory": {"time": 2},
    "ScalingLaw": {"parameter": 2},
    "Interval": {},
    "ErrorBand": {"size": 2},
    "SpectralDensity": {"probe": 2, "step": 4},
    "Estimate": {"number": 2},
    "ImageFrequencies": {"band": 2},
    "InterpolationSpectrum": {"frequency": 3},
    "FeatureResponses": {"feature": 2},
    "ShuffledAUC": {},
    "Agreement": {"example": 3},
    "LayerInformation": {"layer": 2},
    "DataScaling": {"learner": 2, "run": 3, "size": 2},
    "LossTrajectory": {"time": 2},
    "Ensemble": {"time": 2, "new_example": 3},
    "Posterior": {"new_example": 3},
    "PredictedSpectrum": {"mode": 2},
    "Ease": {"kernel": 1, "labeling": 2},
    "HeldOutAccuracy": {"kernel": 1, "labeling": 2},
    "FineTuning": {"step": 3},
    "ComparedKernel": {"mode": 24},
    "Verdicts": {"quantity": 3, "first": 1, "second": 1},
    "Verdict": {},
    "Similarity": {"first": 1, "second": 1},
    "Estimates": {"name": 2, "quantity": 1, "of": 8},
    "Measured": {},
    "StudyResult": {"claim": 1},
}


@pytest.fixture(scope="module")
def values():
    """The last value of each type: of two estimates, the one of several numbers."""
    return {type(each).__name__: each for each in results().values()}


def test_each_printed_type_has_its_rows(values):
    assert set(values) == set(ROWS)
    for name, value in values.items():
        frame = value.to_pandas()
        assert len(frame) == np.prod(list(ROWS[name].values()), dtype=int), name
        assert list(frame.index.names) == (list(ROWS[name]) or [None]), name
        assert len(frame.columns), name


def test_columns_are_numbers(values):
    for name, value in values.items():
        frame = value.to_pandas()
        assert {kind.kind for kind in frame.dtypes} <= set("biuf"), name
        assert all(isinstance(each, str | int | float | bool) for each in frame.attrs.values()), name


def test_datasets_hold_the_fields_unchanged(values):
    for name, value in values.items():
        dataset = value.to_xarray()
        assert isinstance(dataset, xarray.Dataset), name
        for field in dataclasses.fields(value):
            part = getattr(value, field.name)
            same = type(value)._labeled is Printed._labeled or name == "History"
            if same and field.name in dataset and isinstance(part, jax.Array | np.ndarray):
                np.testing.assert_array_equal(dataset[field.name], part, f"{name}.{field.name}")
        sizes = {axis: size for axis, size in ROWS[name].items() if axis in dataset.sizes}
        assert dict(dataset.sizes) | sizes == dict(dataset.sizes), name


def test_no_named_field_is_left_out(values):
    """A field whose annotation names axes is a variable or a coordinate; of the others, functions and inputs remain."""
    for name, value in values.items():
        if type(value)._labeled is not Printed._labeled:
            continue
        dataset = value.to_xarray()
        held = {id(part) for part in value.labeled().variables} | set(dataset.variables) | set(dataset.attrs)
        for field in dataclasses.fields(value):
            missing = field.name not in held | set(value.named_axes.index.values())
            nested = any(str(key).startswith(f"{field.name}_") for key in dataset)
            allowed = field.name in ("x", "kernel") or getattr(value, field.name) is None
            assert not missing or nested or allowed, f"{name}.{field.name}"


def test_a_frame_has_the_numbers_that_print(values):
    ranking, curve, flow = (values[name] for name in ("FrequencyRanking", "LearningCurve", "Trajectory"))
    frame = ranking.to_pandas()
    assert [number(each) for each in frame["eigenvalues"]] == ranking.table(24).columns["eigenvalue"]
    np.testing.assert_array_equal(frame[["interval_low", "interval_high"]], ranking.interval)
    assert frame["resolved"].dtype == bool
    ranking = dataclasses.replace(ranking, decay=values["DecayExponent"])
    assert ranking.to_pandas().attrs["decay_exponent"] == ranking.decay.exponent
    frame = curve.to_pandas()
    assert frame.index.tolist() == [2, 4]
    assert [f"{each:.1%}" for each in frame["learned"]] == curve.table().columns["learned"]
    frame = flow.to_pandas()
    assert [f"{each:.1%}" for each in frame["error_left"]] == flow.table().columns["error left"]
    assert [f"{each:,} of {len(flow.rates):,}" for each in frame["modes_left"]] == flow.table().columns["modes left"]


def test_rows_are_found_by_name(values):
    found = values["Learnability"]
    frame, dataset = found.to_pandas(), found.to_xarray()
    assert frame.loc[("mlp", "y"), "learning_time"] == found.learning_time[0, 0]
    assert frame.loc[(AWKWARD, "y"), "samples_needed_interval_high"] == found.samples_needed_interval[1, 0, 1]
    assert float(dataset["learning_time"].sel(kernel="mlp", target=AWKWARD)) == found.learning_time[0, 1]
    assert dataset["learning_time_interval"].dims == ("kernel", "target", "end")
    law = values["ScalingLaw"]
    assert law.to_pandas().loc["exponent", "low"] == law.exponent.low


def test_a_mode_on_a_torus_has_a_column_per_index():
    spectrum = nb.exact_spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1)), nb.domains.Torus(2), 2)
    frame = spectrum.to_pandas()
    names = [f"degrees_{label}" for label in spectrum.labels]
    assert len(names) == 2
    np.testing.assert_array_equal(frame[names], spectrum.degrees)
    assert spectrum.to_xarray()["degrees"].dims == ("row", "index")


def test_stacked_values_come_first_in_the_index(values):
    for name, value in values.items():
        numbers, rest = eqx.partition(value, eqx.is_array_like)
        own = type(value)._labeled is not Printed._labeled  # made of several values, or with axes of its own
        if not jax.tree.leaves(numbers) or own or name == "Estimate":
            continue
        stacked = eqx.combine(jax.tree.map(lambda leaf: np.stack([leaf, leaf, leaf]), numbers), rest)
        frame = stacked.to_pandas()
        assert frame.index.names[0] == "stacked", name
        assert len(frame) == 3 * len(value.to_pandas()), name
        dataset = stacked.to_xarray()
        assert dataset.sizes["stacked"] == 3, name


@pytest.mark.usefixtures("unchecked")
def test_kernels_of_different_ranks_share_a_comparison():
    """Modes that one kernel lacks are NaN in a dataset, or -1 for whole numbers, and no rows of a frame."""
    few = nb.empirical_ntk(lambda params, x: x @ params, jnp.ones((2, 1)))
    comparison = nb.compare({"linear": few, "mlp": nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1))}, X, CIRCLE)
    count = len(comparison["linear"].ranking.eigenvalues)
    assert count < 24
    frame = comparison.to_pandas()
    assert frame.groupby(level="kernel").size().to_dict() == {"linear": count, "mlp": 24}
    assert frame["eigenspace"].dtype.kind == "i"
    assert frame["eigenvalues"].notna().all()
    np.testing.assert_array_equal(frame.loc["linear", "frequencies"], comparison["linear"].ranking.frequencies)
    assert frame.loc["mlp", "trace"].unique().tolist() == [float(comparison["mlp"].spectrum.trace)]
    dataset = comparison.to_xarray()
    assert dataset["energy"].dims == ("kernel", "mode", "level")
    assert np.isnan(dataset["eigenvalues"].sel(kernel="linear")[count:]).all()
    assert set(dataset["eigenspace"].sel(kernel="linear").values[count:]) == {-1}


def test_a_history_of_several_runs_has_a_row_per_run_and_snapshot():
    import optax

    measures = nb.tracking.measures.chosen("loss", "eigenvalues", "residual_spectrum")
    probe = nb.tracking.Probe(domain=CIRCLE)
    history = nb.track_many(
        lambda params, x: jnp.tanh(x @ params),
        jnp.ones((2, 2, 1)),
        (X, X[:, :1]),
        optimizer=optax.sgd(0.1),
        num_steps=3,
        measures=measures,
        probe=probe,
    )
    frame = history.to_pandas()
    assert frame.index.names == ["run", "snapshot"]
    np.testing.assert_array_equal(frame["loss"].unstack(), history["loss"])
    np.testing.assert_array_equal(frame["step"].unstack()[:1], history.steps[None])
    assert "eigenvalues" not in frame
    levels = [name for name in frame if name.startswith("residual_spectrum_")]
    np.testing.assert_array_equal(frame[levels].to_numpy().reshape(2, len(history), -1), history["residual_spectrum"])


@pytest.mark.parametrize("library", ["pandas", "xarray"])
def test_a_missing_library_is_named(values, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    message = rf"Expected {library} to be installed; it is not. pip install 'ntkbias\[tables\]'"
    with pytest.raises(InputError, match=message):
        getattr(values["Spectrum"], f"to_{library}")()


def test_bfloat16_becomes_float32():
    interval = nb.scaling.ErrorBand(*(jnp.ones(2, jnp.bfloat16) for _ in range(4)))
    assert interval.to_pandas()["errors"].dtype == np.float32


def test_values_that_lack_a_variable_are_filled_up():
    one = Labeled(Axes("row"), {"a": (("row",), np.arange(2))})
    two = Labeled(Axes("row"), {"a": (("row",), np.arange(3)), "b": (("row",), np.array([True, False, True]))})
    found = joined("name", ["one", "two"], [one, two])
    assert found.variables["a"][1].tolist() == [[0, 1, -1], [0, 1, 2]]
    assert found.variables["b"][1].tolist() == [[False] * 3, [True, False, True]]
    assert found.to_pandas().index.tolist() == [*(("one", k) for k in range(2)), *(("two", k) for k in range(3))]


def test_a_long_table_has_its_rows_alone():
    labels = {"name": ["b", "a", "b"], "of": ["", "x", "x"]}
    found = spread(labels, {"count": np.arange(3), "angles": np.ones((3, 2))}, {"angles": "mode"})
    assert found.variables["count"][1].tolist() == [[0, 2], [-1, 1]]
    assert found.variables["angles"][0] == ("name", "of", "mode")
    frame = found.to_pandas()
    assert frame["count"].to_dict() == {("b", ""): 0, ("b", "x"): 2, ("a", "x"): 1}


def test_verdicts_are_found_by_their_names(values):
    verdicts, similarity = values["Verdicts"], values["Similarity"]
    row = verdicts.rows[0]
    assert verdicts.to_pandas().loc[(row.quantity, row.first, row.second), "low"] == row.difference.low
    angles = similarity.to_xarray()["angles"].sel(first="mlp", second=AWKWARD)
    np.testing.assert_array_equal(angles, similarity.angles[0])


# -- Markdown and LaTeX -----------------------------------------------------------------------------------------------


def cells_of_markdown(text):
    """The cells of the table in a piece of Markdown: split at bars that are not escaped, then unescaped."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    rows = [re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1] for line in lines]
    return [[re.sub(r"\\(.)", r"\1", cell).strip() for cell in row] for row in rows]


def test_markdown_holds_the_cells(values):
    for name, value in values.items():
        table = value.table()
        if not table.rows or any("\\" in cell for row in table.rows for cell in row):
            continue
        head, rule, *body = cells_of_markdown(table.markdown())
        assert len(head) == len(rule), name
        assert all(set(cell) <= set(":-") for cell in rule), name
        plain = [" ".join(cell.split()) for cells in table.columns.values() for cell in cells]
        printable = {each for each in plain if each.isprintable()}
        assert printable <= {cell for row in body for cell in row}, name


def test_markup_in_names_is_text():
    table = Table("a *b* _c_", {"name | of": ["<b>", "a\\|b", "`x`"], "n": ["1.00", "-2.00", "-"]}, ["- no list"], 3)
    lines = table.markdown().splitlines()
    assert lines[0] == r"**a \*b\* \_c\_**"
    assert lines[2:7] == [
        r"| name \| of | n |",
        "| :--- | ---: |",
        r"| \<b\> | 1.00 |",
        r"| a\\\|b | -2.00 |",
        r"| \`x\` | - |",
    ]
    assert lines[8:] == ["... and 3 more", "", r"\- no list"]
    assert Table("", notes=["alone"]).markdown() == "alone"


def test_latex_is_escaped():
    cells = ["50 % & #1", "a_b^c~{d}", "[3] *", "\\input", "<a|b>"]
    text = Table("T $1", {"x": cells, "y": ["-1.50", "1.23e-09", "-", "12,346", "-0.5 (-inf to 1.0)"]}).latex()
    assert text.splitlines() == [
        r"\begin{table}",
        r"\centering",
        r"\caption{T \$1}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"x & y \\",
        r"\midrule",
        r"50 \% \& \#1 & $-1.50$ \\",
        r"a\_b\textasciicircum{}c\textasciitilde{}\{d\} & $1.23 \times 10^{-9}$ \\",
        r"{[}3] {*} & - \\",
        r"\textbackslash{}input & 12,346 \\",
        r"\textless{}a\textbar{}b\textgreater{} & $-0.5$ ($-\infty$ to 1.0) \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def test_latex_groups_and_mathematics_are_closed(values):
    for name, value in values.items():
        text = re.sub(r"\\[\\{}%&#_$]", "", value.table().latex())
        depth = 0
        for char in text:
            depth += {"{": 1, "}": -1}.get(char, 0)
            assert depth >= 0, name
        assert depth == 0, name
        assert text.count("$") % 2 == 0, name
        bare = re.sub(r"\\begin{tabular}.*?\\end{tabular}|\$.*?\$", "", text, flags=re.DOTALL)
        assert not set(bare) & set("&#%_^~"), name
