"""Studies: each is whole and runs, and claims are judged by their bounds."""

import ast
import dataclasses
import html
import importlib.machinery
import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import ntkbias as nb
from ntkbias.cli import main
from ntkbias.errors import InputError
from ntkbias.studies import NAMES, Bound, Claim, Study, run_study, study_of
from ntkbias.studies.page import figures, page
from ntkbias.studies.running import measured

ROOT = Path(__file__).parent.parent
QUICK = ("hypercube", "gradient_starvation")


@pytest.mark.parametrize("name", NAMES)
def test_every_study_is_whole(name):
    study = study_of(name)
    assert study.name == name
    assert list(study.scales) == ["smoke", "small", "paper"]
    assert len(re.findall(r"[.!?](?= [A-Z]|$)", study.idea)) >= 3  # the idea in three sentences
    for paper in study.papers:
        assert re.fullmatch(r"\d{4}\.\d{4,5}", paper.arxiv)
        assert 2000 < paper.year < 2100
    for claim in study.claims:
        assert claim.sentence[-1] in ".,"
        assert claim.bound.low <= claim.bound.high
        assert claim.of == "mean" or study.num_seeds > 1 or "num_networks" in _settings(study)


def _settings(study):
    return {field.name for field in dataclasses.fields(study.scales["small"])}


@pytest.mark.parametrize("name", NAMES)
def test_every_study_has_its_architecture_in_one_place_and_computes_nothing_by_hand(name):
    """A user changes a module-level function `network...`, and the toolkit computes kernels, fits and frequencies."""
    source = (ROOT / "ntkbias" / "studies" / f"{name}.py").read_text()
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    assert any(function.name.startswith("network") for function in functions)
    builders = {"pytorch_mlp", "two_layers", *nb.nets.__all__, *nb.layers.__all__} - EDITING
    for function in functions:
        called = {ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)}
        built = {name for name in called if name.rpartition(".")[2] in builders and name.startswith(("nb.", *builders))}
        assert function.name.startswith("network") or not built, (function.name, built)
    by_hand = re.findall(
        r"linalg|np\.fft|polyfit|corrcoef|lstsq|eigh\(|jac\w+\(|jax\.grad|jvp|vjp|LogisticReg|DotProd", source
    )
    assert by_hand == (["DotProd"] if name == "sphere_decay" else [])  # its Laplace kernel belongs to no network


EDITING = {"Sequential", "Identity", "activation"}  # these make one network of another


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in NAMES]
)
def test_every_study_runs(name):
    """At smoke scale: all quantities are measured, and the figures are drawn on the page."""
    study, result = study_of(name), run_study(name, "smoke", num_seeds=1)
    assert [np.isfinite(claim.value) for claim in result.claims] == [True] * len(study.claims)
    drawn = figures(study, result)
    assert all(figure.axes[0].get_ylabel() for figure in drawn.values())
    pictures = {figure: nb.plots.svg(each) for figure, each in drawn.items()}
    text = page(study, result, pictures, {})
    assert all(html.escape(paper.title) in text for paper in study.papers)
    assert text.count("<svg") == len(pictures)
    assert str(result).startswith(f"{name}, smoke scale, one run")
    if name in QUICK:
        assert result.holds == "yes"


def test_claims_are_judged_by_the_interval_of_the_mean():
    runs = [{"slope": value} for value in (0.9, 1.0, 1.1, 1.0)]  # 1.00 (0.87 to 1.13)
    for bound, holds in ((Bound(0.8, 1.2), "yes"), (Bound(low=1.2), "no"), (Bound(low=0.95), "unclear")):
        assert measured(Claim("It is so.", "slope", bound), runs).holds == holds
    each = measured(Claim("It is so.", "slope", Bound(low=0.95), of="each"), runs)
    assert (each.holds, each.text) == ("no", "0.900 to 1.10, 3 of 4 within")
    for of, others, holds in (("mean", (), "unclear"), ("each", (1.0,), "unclear"), ("each", (-1.0,), "no")):
        never = measured(Claim("It is so.", "slope", Bound(low=0.0), of=of), [{"slope": v} for v in (np.nan, *others)])
        assert (never.holds, never.text) == (holds, f"not reached in 1 of {1 + len(others)}")
    for tie, holds in ((0.2, "tie"), (0.1, "unclear")):  # 1.00 (0.87 to 1.13): within 0.2 of the bound, not within 0.1
        assert measured(Claim("It wins.", "slope", Bound(low=1.0), tie=tie), runs).holds == holds
    one = measured(Claim("It is so.", "slope", Bound.about(1, 0.1)), [{"slope": 1.05}])
    assert (one.holds, one.text, one.expected) == ("yes", "1.05", "0.900 to 1.10")


def test_settings_are_changed_by_name():
    def run(settings, key):
        return {"double": 2 * settings.number, "rate": settings.rates[settings.number % 7]}

    study = Study("own", (), "", {"small": _Own()}, run, (Claim("It doubles.", "double", Bound.about(8, 0)),))
    assert run_study(study).holds == "no"
    assert run_study(study, number=4, rates=[1, 2, 3, 4, 5]).holds == "yes"
    assert run_study(study, rates=[1, np.float64(2)]).settings == {"number": 1, "rates": (1.0, 2.0), "name": None}
    for wrong, message in (
        (lambda: run_study(study, size=3), "Expected settings of own, number, rates, name; got 'size'."),
        (
            lambda: run_study(study, number=5),
            "Expected settings of own that fit together; with number=5 it failed: IndexError: tuple index out of range",
        ),
        (lambda: run_study(study, numbr=3), "got 'numbr'. Perhaps you meant number."),
        (lambda: run_study(study, number=0), "Expected the setting number of own to be at least 1; got 0."),
        (lambda: run_study(study, number=2.5), "Expected the setting number of own to be a whole number; got 2.5."),
        (lambda: run_study(study, number=True), "Expected the setting number of own to be a whole number; got True."),
        (
            lambda: run_study(study, rates=0.5),
            "Expected the setting rates of own to be a list, each a number; got 0.5.",
        ),
        (lambda: run_study(study, rates=(0.5,)), "Expected the setting rates of own to have 2 values or more; got 1"),
        (lambda: run_study(study, rates=(0.5, 0.1)), "Expected the setting rates of own in ascending order"),
        (lambda: run_study(study, rates=(0.0, 0.1)), "Expected the setting rates of own to be above zero; got 0.0."),
        (lambda: run_study(study, rates=(0.1, np.inf)), "Expected the setting rates of own to be finite; got inf."),
        (lambda: run_study(study, name=3), "Expected the setting name of own to be text; got 3."),
        (lambda: run_study(study, seed=-1), "Expected seed to be zero or more"),
        (lambda: run_study(study, "huge"), "Expected scale to be one of small; got 'huge'."),
        (lambda: run_study("hypercub"), "got 'hypercub'. Perhaps you meant hypercube."),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            wrong()


@dataclasses.dataclass(frozen=True)
class _Own:
    number: int = 1
    rates: tuple[float, ...] = (0.1, 0.2)
    name: str | None = None


def test_the_command(tmp_path, capsys):
    assert main(["study", "--list"]) == 0
    assert set(NAMES) <= set(capsys.readouterr().out.split())
    out = tmp_path / "run"
    assert main(["study", "gradient-starvation", "--scale", "smoke", "--out", str(out)]) == 0
    assert "Report:" in capsys.readouterr().out
    assert {"report.html", "result.json", "responses.svg", "settings.json"} <= {path.name for path in out.iterdir()}
    text = (out / "report.html").read_text()
    assert "Pezeshki" in text
    assert "ntkbias study gradient-starvation --scale smoke --seed 0" in text
    assert main(["study", "gradient-starvation", "--scale", "smoke", "--out", str(out)]) == 0
    assert "Nothing was computed" in capsys.readouterr().out
    other = ["study", "gradient-starvation", "--scale", "smoke", "--out", str(out), "--set", "strengths=1.2,2"]
    assert main([*other, "--set", "num-steps=100"]) == 0  # another run: the same folder is filled again
    assert "Nothing was computed" not in capsys.readouterr().out
    options = json.loads((out / "settings.json").read_text())["options"]
    assert options["set"] == ["num_steps=100", "strengths=1.2,2.0"]
    assert json.loads((out / "result.json").read_text())["changed"] == {"num_steps": 100, "strengths": [1.2, 2.0]}
    text = (out / "report.html").read_text()
    assert re.search(r"num[_ ]steps</td><td>100<", text)
    assert "gradient-starvation --scale smoke --set strengths=1.2,2 --set num-steps=100 --seed 0" in text
    assert main(["--config", str(out / "settings.json")]) == 0
    assert "Nothing was computed" in capsys.readouterr().out
    for words, message in (
        ([], "Expected the name of a study; got none."),
        (["all", "--set", "width=3"], "Expected --set with the name of one study"),
        (["hypercube", "--set", "dimension"], "Expected --set name=value, such as --set dimension=1; got 'dimension'."),
        (["hypercube", "--set", "dimensio=4"], "got 'dimensio'. Perhaps you meant dimension."),
        (["hypercube", "--set", "dimension=four"], "Expected --set dimension= to be a whole number; got 'four'."),
        (["hypercube", "--set", "depths=4;5,6"], "Expected --set depths= to be a whole number; got '4;5'."),
        (["hypercube", "--set", "dimension=4", "--set", "dimension=5"], "Expected each setting once; got dimension"),
        (["hypercube", "--set", "depths=0,1"], "Expected the setting depths of hypercube to be at least 1; got 0."),
    ):
        assert main(["study", *words]) == 2
        assert message in capsys.readouterr().err


def test_all_studies(tmp_path, capsys, monkeypatch):
    """What is finished is not computed again, and what fails stops nothing else."""
    names, out = ("gradient_starvation", "hypercube"), tmp_path / "all"
    for module in ("ntkbias.cli.all_studies", "ntkbias.studies.page"):
        monkeypatch.setattr(f"{module}.NAMES", names)
    options = ["--scale", "smoke", "--out"]
    assert main(["study", names[0], *options, str(out / names[0])]) == 0
    with monkeypatch.context() as failing:
        command = [sys.executable, "-c", "raise ValueError('no luck')"]
        failing.setattr("ntkbias.cli.all_studies._command", lambda options: command)
        assert main(["study", "all", *options, str(out)]) == 4
    shown = capsys.readouterr()
    assert "hypercube failed: ValueError: no luck" in shown.out
    assert "Expected all studies to run; 1 failed: hypercube." in shown.err
    assert "Traceback" in (out / "failures.txt").read_text()
    assert main(["study", "all", *options, str(out), "--jobs", "2"]) == 0  # one process, for the one that failed
    results = json.loads((out / "result.json").read_text())
    assert [found["study"] for found in results["studies"]] == list(names)
    assert not (out / "failures.txt").exists()
    text = (out / "report.html").read_text()
    assert all(f"<a href='{name}/report.html'>" in text and (out / name / "report.html").exists() for name in names)
    assert text.count("<td>yes</td>") == sum(len(study_of(name).claims) for name in names)
    assert main(["study", "all", *options, str(out)]) == 0
    assert "Nothing was computed" in capsys.readouterr().out
    assert main(["study", "all", *options, str(out), "--jobs", "0"]) == 2


def page_of_studies():
    """The script that writes docs/studies.md, as a module."""
    path = str(ROOT / ".ci" / "studies")
    spec = importlib.util.spec_from_loader("ci_studies", importlib.machinery.SourceFileLoader("ci_studies", path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_studies_is_about_the_studies_of_today():
    """`.ci/studies` adds a new study, and removes the numbers of claims that have changed."""
    script = page_of_studies()
    found = script.sections((ROOT / "docs" / "studies.md").read_text())
    assert list(found) == list(NAMES)
    for name, (rows, below) in found.items():
        study = study_of(name)
        assert script.belongs(rows, study), name
        assert [row[0] for row in rows] == [script.cell(claim) for claim in study.claims]
        assert below == script.ABSENT or re.search(r" on \d{4}-\d\d-\d\d\.$", below)


def test_the_page_keeps_numbers_of_the_same_claims(monkeypatch):
    script = page_of_studies()
    monkeypatch.setattr(script, "NAMES", ("own",))
    claims = (Claim("A | B holds.", "double", Bound.about(8, 0)),)
    study = Study("own", study_of("hypercube").papers, "", {}, lambda settings, key: {}, claims)
    monkeypatch.setattr(script, "study_of", lambda name: study)
    result = {"study": "own", "scale": "small", "seeds": 3, "seconds": 7.0, "date": "2026-01-02"}
    claim = {"claim": "A | B holds.", "expected": "8.00 to 8.00", "measured": "8.01", "holds": "no"}
    empty, full = script.page({}, ""), script.page({"own": {**result, "claims": [claim]}}, "")
    assert "| A \\| B holds. | 8.00 to 8.00 | 8.01 | no |" in full
    assert "3 runs at small scale, on 2026-01-02." in full
    assert script.page({}, full) == full
    assert script.ABSENT in empty
    study = dataclasses.replace(study, claims=(dataclasses.replace(study.claims[0], bound=Bound.about(9, 0)),))
    assert script.ABSENT in script.page({}, full)


def test_weights_are_a_setting_of_the_language_model_alone(tmp_path, capsys):
    out = ["--scale", "smoke", "--out", str(tmp_path / "run")]
    assert main(["study", "hypercube", "--weights", str(tmp_path), *out]) == 2
    assert "Expected settings of hypercube" in capsys.readouterr().err
    assert main(["study", "language-model", "--weights", str(tmp_path / "none"), *out]) == 2
    assert "Expected a GGUF file, or a folder with one; got" in capsys.readouterr().err
    assert main(["study", "language-model", "--out", str(tmp_path / "run")]) == 2
    assert "Expected the setting weights (--weights on the command line) for language_model" in capsys.readouterr().err
