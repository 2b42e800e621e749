"""Results print as tables, in a terminal and in a notebook; those that hold named things are indexed by name."""

import dataclasses
import inspect
import re
import time
from html.parser import HTMLParser

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from values import AWKWARD, PARAMS, X, f, results

import ntkbias as nb
from ntkbias import complexity, report
from ntkbias.errors import InputError, InputTypeError
from ntkbias.scaling import Interval
from ntkbias.tables import Described, Printed, Table, interval, number, spaced


@pytest.fixture(scope="module")
def values():
    """One value of each type that prints as a table."""
    return results()


class Page(HTMLParser):
    """The tags and the text of a piece of HTML; fails on a tag that is closed out of order."""

    def __init__(self, source):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + " "


def test_every_public_result_prints_as_a_table(values):
    """The excluded types print in one line, or hold users' functions."""
    shown = {type(value) for value in values.values()}
    others = {"Domain", "Contrast", "Quadratic", "ImageSobolev", "Covariance"}
    for namespace in (nb, *(getattr(nb, name) for name in nb.__all__ if inspect.ismodule(getattr(nb, name)))):
        for name in namespace.__all__:
            kind = getattr(namespace, name)
            if isinstance(kind, type) and issubclass(kind, eqx.Module) and not issubclass(kind, Described):
                bases = {base.__name__ for base in kind.__mro__}
                assert kind in shown or others & bases, f"{name} prints as a tree: give it a _table"


def test_values_print_as_text_and_as_html(values):
    for name, value in values.items():
        table = value.table()
        assert repr(value) == str(value) == table.text(), name
        assert max(map(len, table.text().splitlines())) <= 100, name
        assert "f32[" not in table.text(), name
        assert all(char.isprintable() or char == "\n" for char in table.text()), name
        page = Page(value._repr_html_())
        assert set(page.tags) <= {"div", "strong", "table", "thead", "tbody", "tr", "th", "td"}, name
        assert page.tags.count("tr") == (len(table.rows) + any(head.strip() for head in table.columns)) * bool(
            table.rows
        )


def test_values_of_files_print_alike(values, tmp_path):
    for name, value in values.items():
        if isinstance(value, complexity.FeatureResponses | complexity.ShuffledAUC):
            continue
        nb.save(tmp_path / "value", value)
        assert repr(nb.load(tmp_path / "value")) == repr(value), name


def test_traced_values_print_as_trees(values):
    for name, value in values.items():
        seen = []

        def look(value, seen=seen):
            seen.append((repr(value), value._repr_html_()))
            return 0

        arrays, rest = eqx.partition(value, eqx.is_array)
        if jax.tree.leaves(arrays):
            jax.jit(lambda arrays, rest=rest, look=look: look(eqx.combine(arrays, rest)))(arrays)
            (text, page), *_ = seen
            assert type(value).__name__ in text or text == repr(value), name
            assert page.startswith(("<pre>", "<div>")), name
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), float), value)
        assert repr(shapes), name
        assert repr(jax.tree.map(lambda leaf: None, value)), name


def test_stacked_values_print_the_first(values):
    for name, value in values.items():
        arrays, rest = eqx.partition(value, eqx.is_array)
        if isinstance(value, nb.eigen.DecayExponent):  # numbers and one array
            arrays, rest = eqx.partition(value, eqx.is_array_like)
        if not jax.tree.leaves(arrays) or isinstance(value, nb.Comparison) or "Estimate" in name:
            continue
        stacked = eqx.combine(jax.tree.map(lambda leaf: np.stack([leaf, leaf, leaf]), arrays), rest)
        lines = repr(stacked).splitlines()
        assert lines[-1] == "The first of 3 stacked values.", name
        assert lines[:-1] == repr(value).splitlines(), name


@pytest.mark.usefixtures("unchecked")
def test_results_of_vmap_print():
    several = jax.vmap(lambda value: Interval(value, value - 1, value + 1))(jnp.arange(2.0))
    assert repr(several) == "0.00 (-1.00 to 1.00)\nThe first of 2 stacked values."


@pytest.mark.filterwarnings("ignore")
def test_nan_and_nothing_print(values):
    for name, value in values.items():
        blank = jax.tree.map(lambda leaf: leaf * np.nan if np.result_type(leaf).kind == "f" else leaf, value)
        assert "f32[" not in repr(blank), name
    few = values["0 Spectrum"]
    parts = ("eigenvalues", "eigenfunctions", "eigenspace", "residuals")
    for count, title in ((0, "0 modes on 24 inputs\ntrace"), (1, "1 mode on 24 inputs\nmode")):
        first = dataclasses.replace(few, **{name: getattr(few, name)[..., :count] for name in parts})
        assert repr(first).startswith(f"Spectrum: {title}")
    assert Table("nothing", {"a": []}).text() == "nothing"


def test_printing_compiles_nothing(values):
    fresh = {name: jax.tree.map(lambda leaf: leaf, value) for name, value in values.items()}
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.append(event))
    start = time.process_time()
    for value in fresh.values():
        repr(value)
    assert not [event for event in compiled if "compile" in event]
    assert time.process_time() - start < 5


def test_long_tables_say_what_is_left_out(values):
    spectrum = values["0 Spectrum"]
    assert len(spectrum.table().rows) == 12
    assert "\n... and 12 more\n" in repr(spectrum)
    assert len(spectrum.table(100).rows) == 24
    assert spaced(5, 3) == [0, 2, 4]
    assert spaced(0, 3) == []


def test_columns_are_aligned():
    table = Table("title", {"name": ["a", "名前"], "value": ["1.00", "~20.0"]}, ["note"])
    assert table.text().splitlines() == ["title", "name  value", "a      1.00", "名前  ~20.0", "note"]
    wide = Table("", {f"column {k}": ["x" * 40] for k in range(4)})
    assert max(map(len, wide.text().splitlines())) <= 100
    assert wide.text().count("column 0") == 3  # the first column comes again
    assert Table("", {"name": ["x" * 500]}).text().splitlines()[1] == "x" * 57 + "..."
    assert "x" * 500 in Table("", {"name": ["x" * 500]}).html()


def test_names_are_text():
    table = Table(AWKWARD, {AWKWARD: [AWKWARD]}, [AWKWARD])
    assert "\x1b" not in table.text()
    assert r"\x1b[31m\u202e" in table.text()
    assert "b" not in Page(table.html()).tags
    assert Page(table.html()).text.count("<b>名前</b> &") == 4


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0.75, "0.750"), (12.0, "12.0"), (999.6, "1,000"), (12345.6, "12,346"), (3e-9, "3.00e-09")),
        *((1e9, "1.00e+09"), (0, "0.00"), (float("nan"), "nan"), (-np.inf, "-inf"), (123, "123")),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ((1.234, 1.2, 1.261), "1.23 (1.20 to 1.26)"),
        ((-0.4990, -0.5031, -0.4952), "-0.499 (-0.503 to -0.495)"),
        ((-0.998, -1.0, -0.996), "-0.998 (-1.000 to -0.996)"),
        ((2e-7, 1e-7, 3e-7), "2.00e-07 (1.00e-07 to 3.00e-07)"),
        ((0.0, 0.0, 0.0), "0.00"),
        ((1.0, 0.5, np.inf), "1.00 (0.500 to inf)"),
        ((2.0, 2.0 - 1e-15, 2.0), "2.00"),
        ((7.74, 5.8, 10.31), "7.74 (5.80 to 10.31)"),
    ],
)
def test_the_ends_of_an_interval_have_as_many_decimals(ends, text):
    assert interval(*ends) == text
    assert repr(Interval(*ends)) == text


def test_one_fact_has_one_text(values):
    """A fact has the same text for a spectrum alone, in a comparison, in a terminal and in JSON."""
    comparison = values["7 Comparison"]
    facts = {fact.label: fact.text for fact in comparison["mlp"].facts()}
    for fact in [*comparison.spectra[0].facts(), *comparison.rankings[0].facts()]:
        assert facts.pop(fact.label) == fact.text
        assert f"{fact.label} {fact.text}" in " ".join(repr(comparison["mlp"]).split())
    assert not facts
    _, shown = report.table(comparison, 12).split("\n\nmlp\n")
    modes, *_, notes = shown.split("\n\n")
    alone = repr(comparison["mlp"]).partition("\n")[2]
    assert alone.startswith(modes)
    for text in (alone.removeprefix(modes), repr(comparison.rankings[0])):
        assert " ".join(text.split()).endswith(" ".join(notes.split()))


@pytest.mark.usefixtures("unchecked")
def test_a_comparison_is_a_dictionary_by_name(values):
    comparison = values["7 Comparison"]
    spectrum, ranking = comparison["mlp"]
    assert spectrum is comparison.spectra[0]
    assert ranking is comparison["mlp"].ranking is comparison.rankings[0]
    assert len(comparison) == len(list(comparison)) == len(dict(comparison)) == 2
    assert comparison.keys() == comparison.names
    assert [name for name, _ in comparison.items()] == list(comparison)
    assert "mlp" in comparison
    assert "cnn" not in comparison
    with pytest.raises(InputError, match="name of a kernel that was compared; got 'MLp'. Perhaps you meant 'mlp'"):
        comparison["MLp"]
    with pytest.raises(InputError, match=r"Expected the name of .*; got 0\. There are 'mlp', "):
        comparison[0]


def test_a_history_is_read_by_name(values):
    history = values["8 History"]
    assert list(dict(history)) == list(history.keys()) == [name for name, _ in history.items()] == list(history)
    with pytest.raises(InputError, match="a measure that was taken; got 'los'. Perhaps you meant 'loss'"):
        history["los"]


def test_learnability_is_a_dictionary_by_pairs(values):
    found = values["9 Learnability"]
    assert found["mlp", "y"].learning_time.value == pytest.approx(float(found.learning_time[0, 0]))
    assert found["mlp", "y"].samples_needed.high == pytest.approx(float(found.samples_needed_interval[0, 0, 1]))
    assert len(found) == len(list(found)) == len(found.items()) == len(dict(found)) == 4
    assert ("mlp", "y") in found
    assert "y" not in found  # a target's name alone is ambiguous with two kernels
    with pytest.raises(InputError, match=r"the names of a kernel and a target, as \['mlp', 'y'\], since there are 2"):
        found["y"]
    with pytest.raises(InputError, match="Expected the name of a kernel; got 'mpl'. Perhaps you meant 'mlp'"):
        found["mpl", "y"]
    alone = nb.learnability(jnp.eye(3), {"one": jnp.array([1.0, 2.0, 4.0])}, centered=False)
    assert repr(alone["one"]) == repr(alone["kernel", "one"])
    assert "one" in alone
    with pytest.raises(InputError, match="Expected the name of a target; got 'two'"):
        alone["two"]


def test_kernels_print_in_a_line():
    kernel = nb.empirical_ntk(f, PARAMS)
    line = 'empirical NTK of f, 15 parameters, outputs "mean"'
    assert repr(kernel) == line
    assert " ".join(repr(2 * kernel + kernel.centered(X)).split()) == f"2 * ({line}) + {line}, centered on 24 inputs"
    head = nb.empirical_ntk(f, PARAMS, wrt="['out']", outputs="all")
    assert repr(head) == 'empirical NTK of f, 5 of 15 parameters, outputs "all"'
    assert repr(nb.empirical_nngp(f, PARAMS)) == 'empirical NNGP of f, 15 parameters, outputs "mean"'
    assert repr(nb.ntk_velocity(f, PARAMS, PARAMS)) == f"derivative of the {line}"
    assert repr(nb.loss_weighted_ntk(f, PARAMS, "mse")).startswith("empirical NTK of Weighted(f), 15 parameters")
    limit = nb.infinite_nngp(nb.nets.mlp(8, 1))
    assert repr(limit) == 'infinite NNGP of Sequential(Flatten(), Dense(8), Relu(), Dense(1)), outputs "mean"'
    assert repr(nb.cross_ntk(f, f, PARAMS)) == f"NTK between f and {line.partition('of ')[2].replace('mean', 'each')}"
    assert repr(nb.block_ntk({AWKWARD: f}, PARAMS)).splitlines()[0] == "BlockNTK: 1 function"
    assert repr(nb.kernels.sketch(kernel, X, 8, key=jax.random.key(0))) == "Sketch: 24 examples, 8 numbers each"
    assert repr(nb.learning.linearize(f, PARAMS)) == "linearization of f"
    seen = []
    jax.jit(lambda params: seen.append(repr(nb.empirical_ntk(f, params))) or 0)(PARAMS)
    assert seen == [line]  # traced parameters have known sizes


def test_networks_print_layer_by_layer():
    lines = repr(nb.nets.mlp(8, 2, activation=nb.layers.LeakyRelu(0.2), parameterization="standard")).splitlines()
    assert lines[0] == "Sequential: 6 layers"
    assert [line.split(maxsplit=1)[0] for line in lines[2:]] == list("012345")
    assert lines[3].split(maxsplit=1)[1] == "Dense(8, parameterization='standard')"
    assert lines[4].split(maxsplit=1)[1] == "LeakyRelu(alpha=0.2)"
    nested = repr(nb.nets.resnet()).splitlines()
    assert max(map(len, nested)) <= 100
    assert re.search(r"^ *\d+\.0\.\d+ ", "\n".join(nested), re.MULTILINE)
    deep = repr(nb.nets.mlp(8, 50))
    assert "... and" in deep
    learned = eqx.tree_at(lambda layer: layer.w_std, nb.layers.Dense(3), jnp.ones(()))
    assert repr(learned) == "Dense(3, w_std=float32[])"


def test_a_type_may_be_printed_before_it_has_a_table():
    class Bare(Printed):
        x: int = 3

    assert repr(Bare(4)).endswith("Bare(x=4)")
    assert Bare(4)._repr_html_().endswith("Bare(x=4)</pre>")


@pytest.mark.usefixtures("unchecked")
def test_paths_come_first(tmp_path, values):
    figure, comparison = Figure(), values["7 Comparison"]
    with pytest.raises(InputTypeError, match="Expected the path of a file first, then what to write; got Figure"):
        nb.plots.save(figure, tmp_path / "figure")
    with pytest.raises(InputTypeError, match="Expected a figure of matplotlib to save; got Axes. Save its .figure"):
        nb.plots.save(tmp_path / "figure", figure.subplots())
    for call in (report.write_facts, lambda *args: report.write_report(*args, title="", settings={})):
        with pytest.raises(InputTypeError, match="Expected the path of a file first, then what to write; got Comp"):
            call(comparison, tmp_path / "file")
    with pytest.raises(InputError, match="Paths come first"):
        nb.save(comparison, tmp_path / "file")
    nb.plots.save(tmp_path / "plot.png", figure)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plot.png", "plot.svg"]
