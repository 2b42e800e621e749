"""Figures show the data of their values, and label them."""

import dataclasses
import xml.etree.ElementTree as ET

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

import ntkbias as nb
from ntkbias import plots
from ntkbias.eigen.density import spectral_density
from ntkbias.errors import InputError

CIRCLE = nb.domains.Circle()


def mlp_kernels(count):
    return {f"depth {d}": nb.infinite_ntk(nb.nets.mlp(depth=d, b_std=0.1)) for d in range(1, count + 1)}


@pytest.fixture(scope="module")
def circle():
    """Two kernels on the circle, and two targets with unequal power."""
    x, weights = CIRCLE.quadrature(32)
    targets = CIRCLE.harmonics(x, 2)[:, [1, 3]] * jnp.array([2.0, 1.0])
    return nb.compare(mlp_kernels(2), x, CIRCLE, weights=weights, targets=targets)


@pytest.fixture(scope="module")
def cloud():
    x = jax.random.normal(jax.random.key(0), (32, 2))
    return nb.compare(mlp_kernels(1), x, nb.domains.PointCloud())


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def names_in_legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def outside(figure):
    """The labels, titles and legends that extend beyond the figure's edges."""
    figure.draw_without_rendering()
    drawn = [artist for ax in figure.axes for artist in (ax.title, ax.xaxis.label, ax.yaxis.label)]
    drawn += [ax.get_legend() for ax in figure.axes if ax.get_legend()]
    boxes = [(artist, artist.get_window_extent()) for artist in drawn]
    boxes = [(artist, box) for artist, box in boxes if box.width * box.height > 0]
    low, high = figure.bbox.min - 1, figure.bbox.max + 1  # a pixel of rounding
    return [artist for artist, box in boxes if np.any(box.min < low) or np.any(box.max > high)]


def test_spectra_show_resolved_eigenvalues_and_the_floor(circle):
    ax = plots.spectra(circle)
    curves, floors = ax.lines[::2], ax.lines[1::2]
    for curve, floor, spectrum in zip(curves, floors, circle.spectra, strict=True):
        k = spectrum.num_above_noise
        assert_allclose(curve.get_xdata(), np.arange(1, k + 1))
        assert_allclose(curve.get_ydata(), spectrum.eigenvalues[:k])
        assert_allclose(floor.get_ydata(), spectrum.noise_floor)
        assert floor.get_linestyle() == ":"
        assert curve.get_color() == floor.get_color()
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("mode index", "eigenvalue of K / n")
    assert names_in_legend(ax) == ["depth 1", "depth 2", "noise floor"]


def test_modes_below_the_floor_are_left_out():
    spectrum = nb.eigen.eigh(jnp.diag(jnp.array([4.0, 1.0, 0.0, 0.0])))
    assert_allclose(plots.spectra(spectrum).lines[0].get_ydata(), [1, 0.25])


def panels_of(ax):
    """The panels of the kernels in a picture of frequencies, without the strips for modes that are not resolved."""
    return [panel for panel in ax.child_axes if panel.collections] or [ax]


def full_marks(ax):
    """The scatter plots of modes with a resolved frequency."""
    return [panel.collections[0] for panel in panels_of(ax)]


def law_lines(ax):
    """The power law of each kernel, in its panel."""
    return [next(line for line in panel.lines if line.get_linewidth() > 1) for panel in panels_of(ax)]


def test_a_kernel_has_one_color_in_all_pictures(circle):
    spectra, power = plots.spectra(circle), plots.cumulative_power(circle)
    frequency = plots.eigenvalue_against_frequency(circle)
    for index in range(2):
        expected = plots.color(index)
        assert spectra.lines[2 * index].get_color() == power.lines[index].get_color() == expected
        assert plt.matplotlib.colors.to_hex(full_marks(frequency)[index].get_facecolor()[0]).upper() == expected
        assert law_lines(frequency)[index].get_color() == expected
    assert len({plots.color(index) for index in range(8)}) == 8


def test_frequency_scatter_holds_every_mode_and_the_law(circle):
    ax = plots.eigenvalue_against_frequency(circle)
    for points, line, ranking in zip(full_marks(ax), law_lines(ax), circle.rankings, strict=True):
        known = np.asarray(ranking.resolved)
        assert_allclose(points.get_offsets(), np.stack([ranking.frequencies, ranking.eigenvalues], 1)[known])
        (x0, x1), (y0, y1) = line.get_xdata(), line.get_ydata()
        assert_allclose(np.log(y1 / y0) / np.log(x1 / x0), ranking.decay.exponent)
    assert "radians per unit of length" in ax.get_xlabel()
    for panel, name, ranking in zip(panels_of(ax), circle.names, circle.rankings, strict=True):
        law = f"exponent {ranking.decay.text.removesuffix(' against frequency')}, "
        rho = ranking.spearman_text.partition(" ")[0]
        assert float(rho) == pytest.approx(ranking.spearman, abs=0.0005)
        assert panel.get_title(loc="left") == f"{name}\n" + (law + f"ρ {rho}").replace("-", "−")
    scales = {(panel.get_xlim(), panel.get_ylim(), panel.get_xscale()) for panel in panels_of(ax)}
    assert len(scales) == 1  # so that panels can be compared


def test_modes_that_inputs_do_not_resolve_are_hollow():
    sphere = nb.domains.Sphere(5)
    x = sphere.sample(60, key=jax.random.key(0))
    ranking = nb.rank_by_frequency(nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2)), x), sphere)
    known = np.asarray(ranking.resolved)
    ax = plots.eigenvalue_against_frequency(ranking)
    (full,), (strip,) = ax.collections, ax.child_axes
    (hollow,) = strip.lines
    assert 0 < known.sum() < len(known)
    assert_allclose(full.get_offsets()[:, 1], np.asarray(ranking.eigenvalues)[known])
    assert_allclose(hollow.get_ydata(), np.asarray(ranking.eigenvalues)[~known])
    assert hollow.get_markerfacecolor() == "none"
    assert strip.get_ylim() == ax.get_ylim()
    assert "not resolved: only a lower bound of the frequency is known" in names_in_legend(ax)
    assert not outside(ax.figure)


def test_the_law_is_the_least_squares_line(circle):
    ranking = circle.rankings[1]
    fitted = slice(ranking.decay.first, ranking.decay.last)
    x, y = (np.log(np.asarray(v)[fitted]) for v in (ranking.frequencies, ranking.eigenvalues))
    slope, intercept = np.polyfit(x, y, 1)
    line = plots.eigenvalue_against_frequency(ranking).lines[0]
    assert_allclose(np.log(line.get_ydata()), intercept + slope * np.log(line.get_xdata()), rtol=1e-4)
    assert_allclose(line.get_xdata(), np.exp([x.min(), x.max()]))


def test_frequency_zero_is_on_the_axis(circle, cloud):
    ax = plots.eigenvalue_against_frequency(circle)
    assert panels_of(ax)[0].get_xscale() == "symlog"
    assert panels_of(ax)[0].get_xlim()[0] < 0
    assert "linear below 1" in ax.get_xlabel()
    ax = plots.eigenvalue_against_frequency(cloud)
    assert ax.get_xscale() == "log"
    assert "linear" not in ax.get_xlabel()


def test_frequencies_next_to_zero_do_not_stretch_the_axis(circle):
    ranking = eqx.tree_at(lambda r: r.frequencies, circle.rankings[0], circle.rankings[0].frequencies.at[0].set(1e-6))
    assert plots.eigenvalue_against_frequency(ranking).get_xscale() == "symlog"


def test_one_mode_has_its_axis_and_no_correlation(circle):
    ranking = circle.rankings[0]
    modes = {"eigenvalues", "frequencies", "resolved", "eigenspace", "learning_times"}
    first = {name: getattr(ranking, name)[:1] for name in modes}
    one = dataclasses.replace(ranking, **first, resamples=ranking.resamples[:, :1], energy=None, decay=None)
    ax = plots.eigenvalue_against_frequency(one)
    assert ax.get_xlim()[1] == 1
    assert names_in_legend(ax)[0] == "too few frequencies for a power law, ρ not defined"
    assert not ax.get_legend().get_title().get_text().startswith("kernel")  # a single ranking has no name


def test_no_law_where_none_was_fitted(circle):
    ranking = eqx.tree_at(lambda r: r.decay, circle.rankings[0], None)
    ax = plots.eigenvalue_against_frequency(ranking)
    assert len(ax.lines) == 0
    assert "too few frequencies" in names_in_legend(ax)[0]


def test_energy_map_is_the_energy(circle):
    ranking = circle.rankings[0]
    ax = plots.energy_per_degree(ranking, num_modes=7)
    mesh = ax.collections[0]
    degrees = mesh.get_array().shape[0]
    assert_allclose(mesh.get_array(), ranking.energy[:7, :degrees].T)
    assert degrees == 5  # depth 1 has degree 4 before degree 3
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("mode index", "degree of the harmonics")
    assert ax.figure.axes[1].get_ylabel() == "share of the mode's power"


def test_energy_map_of_modes_without_a_degree(circle):
    even = jnp.full_like(circle.rankings[0].energy, 1 / circle.rankings[0].energy.shape[1])
    ax = plots.energy_per_degree(eqx.tree_at(lambda r: r.energy, circle.rankings[0], even))
    assert ax.collections[0].get_array().shape == even.T.shape


def test_cumulative_power_averages_over_targets(circle):
    ax = plots.cumulative_power(circle)
    for line, spectrum in zip(ax.lines, circle.spectra, strict=True):
        shares = spectrum.cumulative_power(circle.targets)
        expected = (0.8 * shares[:, 0] + 0.2 * shares[:, 1])[: spectrum.num_above_noise]
        assert_allclose(line.get_ydata(), expected, rtol=1e-5)
    assert ax.get_xscale() == "log"


def test_cumulative_power_of_one_target_and_of_one_that_is_zero(circle):
    first = eqx.tree_at(lambda c: c.targets, circle, circle.targets[:, 0])
    line = plots.cumulative_power(first).lines[0]
    assert_allclose(line.get_ydata(), circle.spectra[0].cumulative_power(first.targets), atol=1e-6)
    padded = eqx.tree_at(lambda c: c.targets, circle, circle.targets.at[:, 1].set(0))
    assert_allclose(plots.cumulative_power(padded).lines[0].get_ydata(), line.get_ydata(), atol=1e-6)


def test_eigenfunctions_on_the_circle_are_curves_against_the_angle(circle):
    spectrum, ranking = circle.spectra[0], circle.rankings[0]
    axes = plots.eigenfunctions(spectrum, ranking, CIRCLE, 3)
    assert axes.shape == (1, 3)
    for index, ax in enumerate(axes.flat):
        curve = ax.lines[-1]
        assert_allclose(curve.get_xdata(), 2 * np.pi * np.arange(32) / 32, atol=1e-6)
        assert_allclose(curve.get_ydata(), spectrum.eigenfunctions[:, index], rtol=1e-6)
        assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "π/2", "π", "3π/2", "2π"]
    value = f"eigenvalue {float(ranking.eigenvalues[2]):.2g}"
    assert axes[0, 2].get_title() == f"mode 3 (of 2–3): {value},\nfrequency 1"


def test_eigenfunctions_of_a_cloud_are_colored_points(cloud):
    spectrum, ranking = cloud.spectra[0], cloud.rankings[0]
    axes = plots.eigenfunctions(spectrum, ranking, cloud.domain, 5)
    assert axes.shape == (2, 4)
    assert [ax.axison for ax in axes.flat] == [True] * 5 + [False] * 3
    chart = cloud.domain.chart(spectrum.x)
    for index in range(5):
        points = axes.flat[index].collections[0]
        assert_allclose(points.get_offsets(), chart)
        assert_allclose(points.get_array(), spectrum.eigenfunctions[:, index], rtol=1e-6)
        assert points.norm.vmin == -points.norm.vmax
    assert axes[0, 0].figure.axes[-1].get_ylabel() == "eigenfunction"


def test_vector_valued_modes_show_their_first_output():
    net = nb.nets.mlp(8, 1, 2)
    x = jax.random.normal(jax.random.key(0), (20, 3))
    kernel = nb.empirical_ntk(net.apply, net.init(jax.random.key(1), (3,)), outputs="all")
    domain = nb.domains.PointCloud()
    spectrum = nb.spectrum(kernel, x)
    axes = plots.eigenfunctions(spectrum, nb.rank_by_frequency(spectrum, domain), domain, 2)
    assert_allclose(axes[0, 1].collections[0].get_array(), spectrum.eigenfunctions[:, 0, 1], rtol=1e-6)
    assert "first output" in axes[0, 0].figure.axes[-1].get_ylabel()


@pytest.fixture(scope="module")
def density():
    """The density of a kernel of rank 10 on 40 inputs, with 2 known modes."""
    values = jnp.concatenate([10.0 ** -jnp.linspace(0, 2, 10), jnp.zeros(30)])
    K = jnp.diag(40 * values)
    return spectral_density(K, key=jax.random.key(0), num_steps=16, modes=nb.eigen.eigh(K, num_modes=2))


def test_spectral_density_shows_the_numbers_per_decade_with_their_errors(density):
    ax = plots.spectral_density(density, width=0.2)
    curve, error = ax.lines[:2]
    found = density.density(curve.get_xdata(), 0.2)
    assert_allclose(curve.get_ydata(), found.value)
    assert_allclose(error.get_ydata(), found.numerical_error)
    band = ax.collections[0].get_paths()[0].vertices
    assert_allclose(band[:, 1].max(), np.max(found.value + 2 * found.standard_error), rtol=1e-6)
    assert_allclose(ax.lines[2].get_xdata(), density.eigenvalues)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("eigenvalue of K / n", "number of eigenvalues per decade")
    assert curve.get_ydata()[[0, -1]].max() < 0.05  # the axis covers the whole density
    assert not outside(ax.figure)


def test_spectral_density_counts_what_a_logarithmic_axis_cannot_show(density):
    names = names_in_legend(plots.spectral_density(density))
    assert names[0] == "eigenvalues, smoothed over 0.1 decades"
    assert "the 2 known exactly" in names
    count, _, spread = names[-1].removeprefix("smaller than shown: ").split()[:3]
    assert names[-1].endswith("of 40 eigenvalues")
    assert abs(int(count) - 30) <= int(spread) < 10
    full = spectral_density(jnp.eye(20), key=jax.random.key(0), num_probes=2)
    assert not any("smaller" in name for name in names_in_legend(plots.spectral_density(full)))


def test_functions_draw_on_the_given_axes(circle):
    figure = Figure()
    ax = figure.subplots()
    assert plots.spectra(circle, ax) is ax
    row = Figure().subplots(1, 2)
    assert plots.eigenfunctions(circle.spectra[0], circle.rankings[0], CIRCLE, 2, row)[0, 1] is row[1]
    assert plots.panels(3, figure)[0, 0].figure is figure
    assert not plt.get_fignums()


@pytest.mark.parametrize("name", ["a", "$x", "_hidden", "50 % & <b> $\\frac$", "a very long name " * 20])
def test_any_name_stands_in_the_legend(circle, name):
    comparison = dataclasses.replace(circle, names=("first", name))
    for draw in (plots.spectra, plots.eigenvalue_against_frequency, plots.cumulative_power):
        ax = draw(comparison)
        titles = [title for panel in panels_of(ax) if (title := panel.get_title(loc="left"))]
        assert name[:6] in (titles or names_in_legend(ax))[1].replace("\\$", "$")
        assert not outside(ax.figure)


def test_several_runs_are_a_median_in_a_band(circle):
    (first,), values = circle.spectra[:1], np.asarray(circle.spectra[0].eigenvalues)
    runs = [dataclasses.replace(first, eigenvalues=factor * first.eigenvalues) for factor in (1.0, 0.5, 2.0)]
    several = nb.Comparison(("net",), (first,), circle.rankings[:1], CIRCLE, other_spectra=(tuple(runs[1:]),))
    ax = plots.spectra(several)
    shown = min(run.num_above_noise for run in runs)
    assert_allclose(ax.lines[0].get_ydata(), values[:shown])
    band = ax.collections[0].get_paths()[0].vertices
    for mode in (1, shown):  # both ends of the band
        ends = np.unique(band[band[:, 0] == mode, 1])
        assert_allclose(ends[[0, -1]], values[mode - 1] * np.array([0.5, 2.0]), rtol=1e-6)
    assert "from the lowest to the highest of 3 runs" in names_in_legend(ax)


@pytest.fixture(scope="module")
def pictures():
    """Images of 3 x 3 pixels in three classes; in the second mode, each pixel of the first column is the mode."""
    rng = np.random.default_rng(0)
    classes = np.arange(30) % 3
    x = rng.normal(size=(30, 3, 3, 1))
    x[:, :, 0, 0] = classes[:, None] + 0.01 * rng.normal(size=(30, 3))
    spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1)), x)
    mode = (classes - 1) * np.sqrt(1.5)
    functions = spectrum.eigenfunctions.at[:, 1].set(mode)
    spectrum = dataclasses.replace(spectrum, eigenfunctions=functions)
    ranking = nb.rank_by_frequency(nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1)), x), nb.domains.Images())
    return spectrum, ranking, np.eye(3)[classes] - 1 / 3


def test_modes_of_images_show_what_lowers_and_raises_them(pictures):
    spectrum, ranking, targets = pictures
    axes = plots.image_modes(spectrum, ranking, targets=targets, num_modes=2, num_images=3)
    assert axes.shape == (2, 4)
    low, high, pixels, classes = axes[1]
    values = np.asarray(spectrum.eigenfunctions)[:, 1]
    for ax, ends in ((low, np.sort(values)[:3]), (high, np.sort(values)[::-1][:3])):
        assert [text.get_text() for text in ax.texts[-3:]] == [f"{value:.2g}".replace("-", "−") for value in ends]
    gray = low.images[0].get_array()
    assert gray.shape == (3, 3 * 3 + 2, 4)
    assert_allclose(gray[:, [3, 7], 3], 0)  # transparent between the images
    seen = np.clip((spectrum.x[..., 0] - np.quantile(spectrum.x, 0.001)), 0, None)
    assert_allclose(
        gray[:, :3, 0],
        np.clip(seen[values.argmin()] / (np.quantile(spectrum.x, 0.999) - np.quantile(spectrum.x, 0.001)), 0, 1),
        atol=1e-5,
    )
    maps = np.asarray(pixels.images[0].get_array())
    expected = [[np.corrcoef(spectrum.x[:, i, j, 0], values)[0, 1] for j in range(3)] for i in range(3)]
    assert_allclose(maps, expected, atol=1e-5)
    assert (maps[:, 0] > 0.99).all()
    assert_allclose([bar.get_height() for bar in classes.patches], np.array([-1, 0, 1]) * np.sqrt(1.5), atol=1e-6)
    bars = [ax.get_ylabel() for ax in axes[0, 0].figure.axes]
    assert "correlation of the\npixel with the mode" in bars
    assert plots.image_modes(spectrum, ranking, num_modes=1).shape == (1, 3)


def test_classes_are_read_from_one_hot_columns_alone():
    labels = np.array([0, 2, 1, 1, 2])
    hot = np.eye(3)[labels]
    for columns in (hot, hot - hot.mean(0), 2 * hot - 1):
        assert_allclose(plots.classes_of(columns), labels)
    for other in (labels, hot[:, :1], hot[:, [0, 0, 1]], hot @ np.array([[1, 0.3], [0, 1], [1, 1]]), np.ones((5, 3))):
        assert plots.classes_of(other) is None


def test_nothing_is_clipped_with_many_kernels(circle):
    names = tuple(f"residual network, depth {d}, width 1,024" for d in range(10))
    many = nb.Comparison(names, circle.spectra * 5, circle.rankings * 5, CIRCLE, circle.targets)
    for draw in (plots.spectra, plots.eigenvalue_against_frequency, plots.cumulative_power):
        figure = draw(many).figure
        assert not outside(figure)
        assert figure.axes[0].get_position().height > 0.3
    assert not outside(plots.eigenfunctions(circle.spectra[0], circle.rankings[0], CIRCLE)[0, 0].figure)


def test_errors_say_what_to_do(circle, cloud, unchecked):
    spectrum, ranking = circle.spectra[0], circle.rankings[0]
    cases = [
        (lambda: plots.spectra(3), "Expected a Comparison or a Spectrum; got int."),
        (lambda: plots.eigenvalue_against_frequency(spectrum), "Expected a Comparison or a FrequencyRanking; got"),
        (lambda: plots.energy_per_degree(spectrum), "Use comparison.rankings"),
        (lambda: plots.energy_per_degree(cloud.rankings[0]), "got one by the graph measure. Rank with measure"),
        (lambda: plots.energy_per_degree(ranking, num_modes=0), "Expected num_modes to be at least 1; got 0"),
        (lambda: plots.spectral_density(spectrum), "Expected a SpectralDensity; got Spectrum. Use spectral_density(op"),
        (
            lambda: plots.spectral_density(spectral_density(jnp.zeros((3, 3)), key=jax.random.key(0), num_probes=2)),
            "Expected eigenvalues above the noise floor; got none",
        ),
        (lambda: plots.cumulative_power(spectrum), "Use compare"),
        (lambda: plots.cumulative_power(cloud), "got none. Use compare(kernels, x, domain, targets=y)"),
        (
            lambda: plots.cumulative_power(eqx.tree_at(lambda c: c.targets, circle, 0 * circle.targets)),
            "Expected targets that are not zero everywhere",
        ),
        (
            lambda: plots.image_modes(spectrum, ranking),
            "Expected a spectrum on images (n, height, width, channels); got",
        ),
        (lambda: plots.image_modes(ranking, spectrum), "Expected a Spectrum and its FrequencyRanking; got"),
        (lambda: plots.eigenfunctions(spectrum, CIRCLE, ranking), "got Spectrum, Circle, FrequencyRanking"),
        (lambda: plots.eigenfunctions(nb.eigen.eigh(jnp.eye(3)), ranking, CIRCLE), "got one of a bare matrix"),
        (lambda: plots.eigenfunctions(spectrum, ranking, CIRCLE, 0), "Expected num_modes to be at least 1"),
        (
            lambda: plots.eigenfunctions(spectrum, ranking, CIRCLE, 3, Figure().subplots(1, 2)),
            "Expected axes for 3 modes; got 2",
        ),
    ]
    for call, message in cases:
        with pytest.raises(InputError) as error:
            call()
        assert message in str(error.value)
    assert not plt.get_fignums()  # bad input leaves no empty figure behind


def test_saved_files_load_and_are_the_same_again(circle, tmp_path):
    for name in ("a", "b"):
        figure = Figure(layout="constrained")
        plots.eigenvalue_against_frequency(circle, figure.subplots())
        plots.save(tmp_path / "new folder" / f"{name}.1", figure)
    files = sorted(path.name for path in (tmp_path / "new folder").iterdir())
    assert files == ["a.1.png", "a.1.svg", "b.1.png", "b.1.svg"]
    for kind in ("png", "svg"):
        first, second = ((tmp_path / "new folder" / f"{name}.1.{kind}").read_bytes() for name in "ab")
        assert first == second
    assert ET.fromstring(second).tag == "{http://www.w3.org/2000/svg}svg"
    assert b"<dc:date>" not in second
    assert (tmp_path / "new folder" / "a.1.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_a_folder_that_cannot_be_written_is_named(circle, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Choose a folder that can be written"):
        plots.save(tmp_path / "file" / "figure", plots.spectra(circle).figure)


SIZES = np.array([32, 64, 128, 256, 512, 1024])


def test_scaling_laws_are_drawn_as_they_are_fitted():
    errors = 3 * SIZES**-0.5 * np.random.default_rng(0).uniform(0.9, 1.1, (5, 6))
    law = nb.scaling_law(SIZES, errors, num_resamples=50)
    ax = plots.scaling_laws({"net": law})
    points, within, beyond = ax.lines
    assert_allclose(points.get_ydata(), errors.mean(0), rtol=1e-6)
    assert_allclose(within.get_ydata(), law.curve(within.get_xdata()), rtol=1e-5)
    assert within.get_xdata().max() <= 1024 < beyond.get_xdata().min()
    assert_allclose(beyond.get_xdata().max(), 4 * 1024, rtol=1e-5)
    assert names_in_legend(ax)[0] == f"net: {law.formula}, exponent {law.exponent}"


def test_learning_curves_have_a_line_and_points_with_intervals():
    cube = nb.domains.Hypercube(4)
    x, _ = cube.quadrature(16)
    kernel = nb.infinite_ntk(nb.nets.mlp(depth=2))
    y = x[:, 0] * x[:, 1]
    predicted = nb.learning_curve(nb.spectrum(kernel, x), y, [2, 4, 8])
    measured = nb.measured_learning_curve(kernel, y, [2, 4, 8], x=x, num_draws=3, key=jax.random.key(0))
    ax = plots.learning_curve(predicted, measured)
    assert_allclose(ax.lines[0].get_ydata(), predicted.errors, rtol=1e-6)
    assert_allclose(ax.containers[0].lines[0].get_ydata(), measured.errors, rtol=1e-6)
    assert names_in_legend(ax) == ["predicted", "mean of 3 draws, 95 %"]
    assert ax.get_legend().legend_handles[1].get_color() == plots.color(0)
    two = nb.learning_curve(nb.spectrum(kernel, x), x[:, :2], [2, 4, 8])
    drawn = nb.measured_learning_curve(kernel, x[:, :2], [2, 4, 8], x=x, num_draws=3, key=jax.random.key(0))
    ax = plots.learning_curve(two, drawn)
    assert names_in_legend(ax) == ["target 1", "target 2", "mean of 3 draws, 95 %"]
    assert ax.get_legend().legend_handles[2].get_color() == "0.4"  # gray: it stands for both targets
    assert plots.learning_curve(predicted).get_xlabel() == "number of examples"


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.scaling_laws(3), "Expected a ScalingLaw, or a dict of them by name; got int"),
        (lambda: plots.scaling_laws({}), "Expected a ScalingLaw, or a dict of them by name; got an empty dict"),
        (lambda: plots.learning_curve(3), "Expected a LearningCurve, and a MeasuredLearningCurve or none; got int and"),
    ],
)
def test_laws_of_other_values(draw, message):
    with pytest.raises(InputError, match=message):
        draw()
