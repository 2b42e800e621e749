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
from ntkbias import plots, report
from ntkbias.errors import InputError
from ntkbias.report.making import command_line
from ntkbias.report.papers import papers_of
from ntkbias.report.style import SCRIPT
from ntkbias.report.themes import dark_variant

CIRCLE = nb.domains.Circle()
OVERVIEW = ("frequency", "spectra")
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
        self.text = self.script = ""
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
        if "script" in self.open:
            self.script += data
        elif not {"style", "svg"} & set(self.open):
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
    assert not {"link", "iframe", "object"} & set(page.tags)
    assert page.tags.count("script") == 1
    assert page.script == SCRIPT
    anchors = [link.lstrip("#") for link in page.links if link.startswith("#")]
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert set(anchors) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    urls = set(re.findall(r"https?://[^\"' )]*", page.source))
    assert urls <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert len(page.source) < 1e6


def test_page_begins_with_question_answer_and_what_is_uncertain(page, circle):
    parts = [
        "Which functions does each of depth 1 and depth 2 learn first on 32 inputs (Circle)?",
        circle.answer(),
        "What is uncertain",
        circle.uncertainty(),
        "Spectra and frequencies",
        "Eigenfunctions",
        "The first modes",
        "How this page was made",
    ]
    place = 0
    for part in parts:
        place = page.text.index(part, place) + len(part)


def test_page_says_how_it_was_made(page, circle):
    """When, by which command, from which commit, and by whose methods; BibTeX entries for all of them."""
    facts = {row[0]: row[1] for row in page.rows if len(row) == 2}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", facts["date"])
    for paper in ("Jacot et al. 2018", "Basri et al. 2019", "Roy and Vetterli 2007", "Rubin 1981"):
        assert paper in page.text
    assert page.text.count("archivePrefix") == 4
    assert "Canatar" not in page.text  # there are no targets
    entries = re.findall(r"@\w+\{(\w+),", page.text)
    assert entries == papers_of(circle)
    assert command_line({"command": "x", "options": {"a_b": True, "c": False, "d": ("e", "f g"), "h": None}}) == (
        "ntkbias x --a-b --no-c --d e 'f g'"
    )
    assert command_line({"command_line": ["ntkbias", "a b"]}) == "ntkbias 'a b'"
    assert command_line({"data": "circle"}) == ""


def test_figures_take_the_colors_of_the_page(page):
    """Each color of a figure is a variable, with a value of its own in dark mode that can be told from the paper."""
    styles = re.findall(r'style="([^"]*)"', "".join(re.findall(r"<svg.*?</svg>", page.source, re.DOTALL)))
    assert not re.search(r"(?<![-,(])#[0-9a-f]{6}", " ".join(styles))
    used = set(re.findall(r"var\(--s([0-9a-f]{6}),#\1\)", page.source))
    dark = page.source.partition("prefers-color-scheme: dark")[2]
    assert used == set(re.findall(r"--s([0-9a-f]{6}):#[0-9a-f]{6}", dark))
    assert {"ffffff", plots.color(0)[1:].lower(), plots.color(1)[1:].lower()} <= used
    assert dark_variant("440154") not in ("#440154", "#1b1b1b")


def test_marks_are_in_the_order_of_the_numbers_under_the_pointer(page, circle):
    """The script reads the n-th mark of a group as the n-th mode that the kernel's switch lists."""
    switches = [dict(re.findall(r'data-(\w+)="([^"]*)"', tag)) for tag in re.findall(r"<input[^>]*>", page.source)]
    assert [switch["name"] for switch in switches] == list(circle.names)
    svg = {name: re.search(rf'aria-label="{name}".*?</svg>', page.source, re.DOTALL)[0] for name in OVERVIEW[:2]}
    for index, (switch, ranking) in enumerate(zip(switches, circle.rankings, strict=True)):
        assert len(switch["values"].split()) == len(switch["frequencies"].split()) == len(ranking.eigenvalues)
        modes = [int(mode) for mode in switch["modes"].split()]
        assert modes == (np.flatnonzero(ranking.resolved) + 1).tolist()
        group = re.search(rf'<g data-kernel="{index}" data-part="modes".*?</g>', svg["frequency"], re.DOTALL)[0]
        heights = [float(y) for y in re.findall(r'<use [^>]*y="([^"]*)"', group)]
        assert len(heights) == len(modes)
        values = np.log(np.asarray(ranking.eigenvalues)[np.asarray(modes) - 1])
        assert np.corrcoef(heights, values)[0, 1] < -0.9999  # y points down
        curve = re.search(rf'<g data-kernel="{index}" data-part="curve".*?<path d="([^"]*)"', svg["spectra"], re.DOTALL)
        assert len(re.findall("[ML]", curve[1])) == len(switch["curve"].split()) == len(ranking.eigenvalues)


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


def test_page_of_one_kernel_without_harmonics(cloud, tmp_path):
    page = Page(report.write_report(tmp_path / "report.html", cloud, title="One", settings={}))
    assert list(report.figures(cloud)) == ["spectra", "frequency", "cumulative_power", "eigenfunctions_mlp"]
    assert "purity" not in {cell for row in page.rows for cell in row}
    assert "Which functions does mlp learn first on 32 inputs (PointCloud)?" in page.text
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
    assert not {"b", "i", "img"} & set(page.tags)
    assert page.script == SCRIPT  # and no other
    assert "answer" in page.source
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
