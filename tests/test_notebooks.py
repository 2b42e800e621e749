"""The notebooks are complete as they are stored, and what has gone stale in them is found."""

import importlib.machinery
import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LARGEST = 300_000  # bytes of a notebook
LARGEST_FIGURE = 80_000  # characters of a figure in base64: 60 kB
LOCAL = r"/(home|root|Users|tmp|work|var|private)/|[A-Z]:\\\\|site-packages|localhost|\b\d+\.\d+\.\d+\.\d+\b"

loader = importlib.machinery.SourceFileLoader("notebooks", str(ROOT / ".ci/notebooks"))
checker = importlib.util.module_from_spec(importlib.util.spec_from_loader("notebooks", loader))
loader.exec_module(checker)


def source(cell):
    return "".join(cell["source"])


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def notebook(request):
    return json.loads(request.param.read_text())


def test_there_are_ten():
    assert [path.name[:2] for path in PATHS] == [f"{number:02d}" for number in range(1, 11)]


def test_a_notebook_asks_first_and_answers_last(notebook):
    cells = notebook["cells"]
    assert 8 <= len(cells) <= 16  # a question, some steps, an answer
    title = source(cells[0]).splitlines()[0]
    assert cells[0]["cell_type"] == "markdown"
    assert re.match(r"# .+\?$", title), f"Expected a title with a question; got {title!r}."
    assert source(cells[-2]).startswith("## Answer")
    assert any("text/markdown" in output.get("data", {}) for output in cells[-1]["outputs"])


def test_outputs_are_stored_and_small(notebook):
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert sum(bool(cell["outputs"]) for cell in code) >= len(code) // 2
    assert len(json.dumps(notebook)) < LARGEST
    for output in (output for cell in code for output in cell["outputs"]):
        assert output["output_type"] != "error"
        assert output.get("name") != "stderr"
        assert len("".join(output.get("data", {}).get("image/png", ""))) < LARGEST_FIGURE


def test_each_figure_has_an_alternative_text(notebook):
    for cell in notebook["cells"]:
        figures = [output for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
        assert len(figures) <= 1, "one figure in a cell, so that its text is of that figure"
        for output in figures:
            assert len(checker.alternative(cell).split()) >= 8, source(cell)
            assert output["metadata"]["image/png"]["alt"] == checker.alternative(cell)


def test_a_notebook_names_nothing_of_this_machine(notebook):
    stored = "\n".join(
        part
        for cell in notebook["cells"]
        for part in (source(cell), json.dumps(checker.texts(cell)), str(cell["metadata"]))
    )
    assert not re.search(LOCAL, stored), re.search(LOCAL, stored)
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert "version" not in notebook["metadata"]["language_info"]


@pytest.mark.parametrize(
    ("stored", "fresh"),
    [
        ("rho -0.950 (3 modes)", "rho -0.950 (3 modes)"),
        ("rho -0.950", "rho -0.951"),
        ("rho -0.950", "rho  -0.95"),
        ("9.99", "10.0"),
        ("6.175e-01 +- 2e-16", "6.176e-01 +- 3e-16"),
        ("time 647 of 12,106", "time 648 of 12,107"),
        ("0.0822884", "0.0822889"),
        ("[0.5 0.25]", "[0.5  0.25]"),
    ],
)
def test_rounding_passes(stored, fresh):
    assert checker.difference(stored, fresh) is None
    assert checker.difference(fresh, stored) is None


@pytest.mark.parametrize(
    ("stored", "fresh"),
    [
        ("rho -0.950", "rho -0.988"),
        ("rho -0.950", "rho 0.950"),
        ("0.20914", "0.20814"),
        ("0.2091", "0.2071"),
        ("1.23e-04", "1.23e-05"),
        ("frequencies [0. 1. 1. 2.]", "frequencies [0. 1. 2. 2.]"),
        ("12 modes", "13 modes"),
        ("time 647", "time 657"),
        ("learned first", "learned last"),
        ("2.0 and 3.0", "2.0"),
        ("value 1.0", "value nan"),
    ],
)
def test_a_change_is_found(stored, fresh):
    assert checker.difference(stored, fresh).startswith("Expected the ")
    assert checker.difference(fresh, stored).startswith("Expected the ")


def test_stale_cells_are_named():
    def printed(text):
        return {"cells": [{"outputs": [{"output_type": "stream", "text": text}]}]}

    assert checker.stale(printed("rho -0.950"), printed("rho -0.951")) == []
    assert checker.stale(printed("rho -0.950"), printed("rho -0.988")) == [
        "cell 1: Expected the number -0.950; got -0.988."
    ]
    drawn = {"cells": [{"outputs": [{"output_type": "display_data", "data": {"image/png": "", "text/plain": "<F>"}}]}]}
    assert checker.stale(drawn, {"cells": [{"outputs": []}]}) == ["cell 1: Expected 1 figures; got 0."]
