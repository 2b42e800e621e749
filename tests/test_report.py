"""The page, the figures' names and the table in a terminal."""

import dataclasses
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

import ntkbias as nb
from ntkbias import report
from ntkbias.errors import InputError

CIRCLE = nb.domains.Circle()
VOID = {"meta", "br", "img", "hr", "link", "input"}


@pytest.fixture(scope="module")
def circle():
    x, weights = CIRCLE.quadrature(32)
    kernels = {f"depth {d}": nb.infinite_ntk(nb.nets.mlp(depth=d, b_std=0.1)) for d in (1, 2)}
    return nb.compare(kernels, x, CIRCLE, weights=weights)


@pytest.fixture(scope="module")
def cloud():
    """One kernel on a domain without harmonics, with two targets."""
    x = jax.random.normal(jax.random.key(0), (32, 2))
    return nb.compare(
        {"mlp": nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1))}, x, nb.domains.PointCloud(), targets=x[:, :2]
    )


def renamed(comparison, *names):
    return dataclasses.replace(comparison, names=names)


class Page(HTMLParser):
    """Collect the texts and links of a page; fail on a tag that is closed out of order."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text()
        self.open, self.tags, self.ids, self.links, self.rows = [], [], [], [], []
        self.text = ""
        self.feed(self.source)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.read(tag, attrs)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.read(tag, attrs)

    def read(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [value for name, value in attrs if name in ("href", "xlink:href", "src")]
        self.links += [url for _, value in attrs for url in re.findall(r"url\(([^)]*)\)", value or "")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "svg"} & set(self.open):
            self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def page(circle, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "new folder" / "report.html"
    settings = {"options": {"data": "circle", "nets": ("mlp", "cnn")}, "versions": {"jax": "0.10.2"}, "seed": 3}
    assert report.write_report(path, circle, title="Two depths", settings=settings) == path
    return Page(path)


def test_page_is_self_contained(page):
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    anchors = [link.lstrip("#") for link in page.links if link.startswith("#")]
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert set(anchors) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    urls = set(re.findall(r"https?://[^\"' )]*", page.source))
    assert urls <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert len(page.source) < 1e6


def test_page_has_every_figure_with_words(page, circle):
    assert page.tags.count("svg") == page.tags.count("figcaption") == len(report.figures(circle)) == 6
    for svg in re.findall(r"<svg.*?</svg>", page.source, re.DOTALL):
        root = ET.fromstring(svg)
        assert root.get("role") == "img"
        assert root.get("aria-label")


def test_page_has_the_tables(page, circle):
    heads = next(row for row in page.rows if row[0] == "kernel")
    kernels = [dict(zip(heads, row, strict=True)) for row in page.rows if row[0] in circle.names]
    for row, spectrum, ranking in zip(kernels, circle.spectra, circle.rankings, strict=True):
        assert float(row["trace"]) == pytest.approx(float(spectrum.trace), rel=0.005)
        assert float(row["effective rank"]) == pytest.approx(float(spectrum.effective_rank()), rel=0.005)
        assert row["modes above the noise floor"] == f"{spectrum.num_above_noise} of 32"
        assert float(row["Spearman's rho"].partition(" ")[0]) == pytest.approx(ranking.spearman, abs=0.0005)
        assert row["decay exponent"] == ranking.decay.text
        assert np.allclose([float(row[f"mode {mode}"]) for mode in (1, 2, 3)], ranking.eigenvalues[:3], rtol=0.005)
    modes = [row for row in page.rows if len(row) == 8 and row[0].isdigit()]
    assert len(modes) == 40
    ranking = circle.rankings[0]
    number, eigenvalue, _, frequency, interval, purity, time, eigenspace = modes[2]
    assert (number, frequency, interval, purity, eigenspace) == ("3", "1.00", "1.00 to 1.00", "100.0%", "2")
    assert float(eigenvalue) == pytest.approx(1 / float(time), rel=0.01)
    assert float(eigenvalue) == pytest.approx(float(ranking.eigenvalues[2]), rel=0.005)
    assert ["options.nets", "mlp, cnn"] in page.rows
    assert ["versions.jax", "0.10.2"] in page.rows
    assert ["seed", "3"] in page.rows


def test_summary_names_the_strongest_preference(circle):
    decays = [
        dataclasses.replace(circle.rankings[0].decay, exponent=a, low=a - 0.1, high=a + 0.1) for a in (-2.0, -3.0)
    ]
    rankings = tuple(dataclasses.replace(r, decay=d) for r, d in zip(circle.rankings, decays, strict=True))
    summary = report.comparison._summary(dataclasses.replace(circle, rankings=rankings))
    assert "2 kernels on 32 inputs (Circle)" in summary
    assert "The steepest decay: depth 2, with an exponent of -3.00 (-3.10 to -2.90) against frequency." in summary
    first, second = (float(s.effective_rank()) for s in circle.spectra)
    assert f"from {first:.2f} (depth 1) to {second:.2f} (depth 2)" in summary
    assert f"by rank: depth 2, with a Spearman's ρ of {circle.rankings[1].spearman:.3f}" in summary


def test_summary_of_one_kernel_compares_nothing(circle):
    one = nb.Comparison(("depth 1",), circle.spectra[:1], circle.rankings[:1], CIRCLE)
    summary = report.comparison._summary(one)
    assert summary.startswith("One kernel on 32 inputs (Circle).")
    ranking = circle.rankings[0]
    assert f"prefers low frequencies by rank, with a Spearman's ρ of {ranking.spearman:.3f} between" in summary
    rank = float(one.spectra[0].effective_rank())
    assert summary.endswith(f"decay with an exponent of {ranking.decay.text}. Its effective rank is {rank:.2f}.")
    assert not re.search("strongest|steepest|goes from", summary)


def test_summary_says_when_intervals_overlap_and_when_nothing_prefers_low_frequencies(circle):
    decay = circle.rankings[0].decay
    reverse = tuple(dataclasses.replace(r, decay=decay, frequencies=r.frequencies[::-1]) for r in circle.rankings)
    summary = report.comparison._summary(dataclasses.replace(circle, rankings=reverse))
    assert "whose interval overlaps with that of depth 2." in summary
    assert "No preference for low frequencies" in summary


def test_page_of_one_kernel_without_harmonics(cloud, tmp_path):
    page = Page(report.write_report(tmp_path / "report.html", cloud, title="One", settings={}))
    assert list(report.figures(cloud)) == ["spectra", "frequency", "cumulative_power", "eigenfunctions_mlp"]
    assert "purity" not in {cell for row in page.rows for cell in row}
    assert "One kernel on 32 inputs (PointCloud)" in page.text
    assert "Energy per degree" not in page.text


def test_names_are_text(circle, tmp_path):
    names = ("<b>mlp & $x_1$</b>", 'a "quoted" -->name')
    page = Page(
        report.write_report(
            tmp_path / "report.html",
            renamed(circle, *names),
            title="<script>alert(1)</script>",
            settings={"<i>": {"&": "</table><img src=x>"}},
        )
    )
    assert not {"b", "i", "img", "script"} & set(page.tags)
    for text in (*names, "<script>alert(1)</script>"):
        assert text in page.text
    assert ["<i>.&", "</table><img src=x>"] in page.rows


def test_file_names_are_plain_and_differ(circle):
    four = nb.Comparison(("A b/c", "a b\\c", "é", "../"), circle.spectra * 2, circle.rankings * 2, CIRCLE)
    names = [name for name in report.figures(four) if name.startswith("energy")]
    assert names == ["energy_a_b_c", "energy_a_b_c_2", "energy_kernel", "energy_kernel_2"]
    assert report.page.slug_names(["a 2", "a", "a", "x" * 300]) == ["a_2", "a", "a_3", "x" * 60]


def test_figures_belong_to_no_window_and_skip_targets_of_zeros(cloud):
    zeros = eqx.tree_at(lambda c: c.targets, cloud, 0 * cloud.targets)
    assert "cumulative_power" not in report.figures(zeros)
    assert plt.get_fignums() == []


@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_kernel_of_one_mode(tmp_path):
    """With one mode, the rank correlation and the decay exponent are not defined."""
    x, _ = CIRCLE.quadrature(32)
    spectrum = dataclasses.replace(nb.eigen.eigh(jnp.ones((32, 32))), x=x)
    comparison = nb.Comparison(("constant",), (spectrum,), (nb.rank_by_frequency(spectrum, CIRCLE),), CIRCLE)
    assert "modes above the noise floor 1 of 32" in report.table(comparison)
    page = Page(report.write_report(tmp_path / "report.html", comparison, title="", settings={}))
    heads, row = page.rows[:2]
    assert row[0] == "constant"
    shown = dict(zip(heads, row, strict=True))
    assert shown["Spearman's rho"] == shown["decay exponent"] == "not defined"
    assert (shown["mode 1"], shown["mode 2"], shown["mode 3"]) == ("1.00", "-", "-")


def test_table_for_a_terminal(circle):
    text = report.table(circle, 4)
    kernels, first, rest = re.split(r"\n\n(?=depth [12]\n)", text)
    assert kernels == str(circle)
    second, notes = rest.removeprefix("depth 2\n").split("\n\n")
    lines = first.splitlines()
    assert lines[0] == "depth 1"
    heads = ["mode", "eigenvalue", "of", "trace", "frequency", "95", "%", "interval", "purity", "learning", "time"]
    assert lines[1].split() == heads
    assert [line[0] for line in lines[2:6]] == [" ", "/", "\\", "/"]
    assert len({len(line) for line in lines[1:6]}) == 1
    assert lines[2].split()[1:4] == ["0.166", "31.93%", "0.00"]
    assert lines[6] == f"... and {len(circle.rankings[0].frequencies) - 4} more"
    assert lines[7].startswith("trace 0.520, effective rank ")
    assert second.splitlines()[0].split() == heads
    for sentence in (
        "joined by /, | and \\",
        "radians per unit of length.",
        "Purity is the",
        "steps times learning rate.",
    ):
        assert " ".join(notes.split()).count(sentence) == 1
    assert max(map(len, text.splitlines())) <= 100
    assert text.isascii()


def test_table_with_awkward_names_and_few_modes(cloud):
    text = report.table(renamed(cloud, "name\nof two lines " + "x" * 200), 1_000)
    assert max(map(len, text.splitlines())) <= 100
    assert text.startswith("name of two lines xxx")
    assert "purity" not in text
    assert re.search(rf"^. *{len(cloud.rankings[0].frequencies)} ", text, re.MULTILINE)
    assert " more" not in text


def test_errors(circle, tmp_path):
    with pytest.raises(InputError, match="Expected num_modes to be at least 1; got 0"):
        report.table(circle, 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Choose a folder that can be written"):
        report.write_report(tmp_path / "file" / "report.html", circle, title="", settings={})


def test_terminal_page_and_file_say_the_same(circle, page, tmp_path):
    """Every fact of every kernel is in the table, on the page and in the JSON file."""
    written = json.loads(report.write_facts(tmp_path / "facts.json", circle).read_text())
    table = " ".join(report.table(circle).split())
    heads = next(row for row in page.rows if row[0] == "kernel")
    for name, kernel in circle.items():
        facts = kernel.facts()
        row = next(row for row in page.rows if row[0] == name)
        assert written[name] == {fact.label: fact.value for fact in facts}
        for fact in facts:
            assert f"{fact.label} {fact.text}" in table
            assert row[heads.index(fact.label)] == fact.text
            assert fact.text.isascii()
