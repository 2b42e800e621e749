"""The documentation site: every public name has a place, every plot a picture, and no example is lost."""

import re
import sys
import types
from pathlib import Path

import pytest

import ntkbias

DOCS = Path(__file__).parent.parent / "docs"
sys.path.insert(0, str(DOCS / "_ext"))
import entries
import gallery
import offline
import outside

# Public callables without an example that runs. Write one when you add a name; then lower this number.
WITHOUT_EXAMPLE = 16
# Names that are made or read by others, so that an example would only repeat theirs.
FIGURELESS = {"PANEL", "SIZE", "color", "num_panels", "panels", "save", "svg"}
FIGURELESS |= {"are_images", "classes_of", "frequency_size", "panels_of_images"}


def listed():
    """The names on the pages of the reference, one entry per mention."""
    found = []
    for path in sorted((DOCS / "api").glob("*.md")):
        for part in path.read_text().split("```{public}")[1:]:
            found += part.partition("```")[0].split()
    return found


def test_every_public_name_is_on_one_page():
    names, first = listed(), {name: entries.homes(name)[0] for name in entries.public_names()}
    assert not set(names) - set(first), "names that are not public"
    filed = [first[name] for name in names]
    assert sorted(filed) == sorted(set(filed)), "names that stand on two pages"
    missing = set(first.values()) - set(filed)
    assert not missing, f"add these to a page of docs/api: {sorted(missing)}"


def test_every_page_is_reached():
    reached = "\n".join(path.read_text() for path in (DOCS / "index.md", DOCS / "api" / "index.md"))
    for path in DOCS.rglob("*.md"):
        name = path.relative_to(DOCS).with_suffix("").as_posix().removeprefix("api/")
        assert path == DOCS / "index.md" or name.startswith("generated/") or name in reached.split() or name == "index"


def test_examples_become_more_never_fewer():
    things = {entries.homes(name)[0]: thing for name, thing in entries.public_names().items() if callable(thing)}
    values = {name for name, thing in things.items() if isinstance(thing, types.FunctionType | type)}
    without = sorted(name for name in values if ">>>" not in (things[name].__doc__ or ""))
    assert len(without) <= WITHOUT_EXAMPLE, f"without an example: {without}"
    assert len(without) == WITHOUT_EXAMPLE, f"set WITHOUT_EXAMPLE to {len(without)}"


def test_every_plot_has_a_picture_with_a_text():
    assert set(gallery.FIGURES) == set(ntkbias.plots.__all__) - FIGURELESS
    assert all(figure.alt.endswith(".") and figure.shows.endswith(".") for figure in gallery.FIGURES.values())


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: path.name)
def test_links_lead_to_files(path):
    for match in outside.LINK.finditer(path.read_text()):
        target = path.parent / match[1]
        assert "generated/" in match[1] or target.exists(), match[0]


def test_tests_that_hold_a_paper_s_claims_exist():
    page, tests = (DOCS / "papers.md").read_text(), DOCS.parent / "tests"
    complexity = page.partition("test in `complexity/`")[2]
    named = re.findall(r"`((?:\w+/)?test_\w+\.py)`", page)
    assert len(named) > 30
    for name in named:
        assert (tests / name).exists() or (f"`{name}`" in complexity and (tests / "complexity" / name).exists()), name


def test_requests_of_a_page_are_found():
    assert offline.requests('<script src="https://cdn.example/x.js"></script>')
    assert offline.requests('<link rel="stylesheet" href="//fonts.example/css">')
    assert offline.requests("@font-face { src: url(https://fonts.example/a.woff2) }")
    assert not offline.requests('<a href="https://example.org">elsewhere</a> <script src="_static/x.js"></script>')


def test_docstrings_become_markdown():
    text = "The `spectrum` of K * K.\n\n    K = J J^T\n\n>>> 1 + 1\n2\n\nAfter it."
    lines = entries.markdown(text, own="top_modes")
    assert "{py:obj}`spectrum <ntkbias.spectrum>`" in lines[0]
    assert "K \\* K" in lines[0]
    assert lines[lines.index("```pycon") + 1 : lines.index("```pycon") + 4] == [">>> 1 + 1", "2", "```"]
    assert entries.signature(ntkbias.spectrum).startswith("(kernel: Kernel, x: Inputs | None")
