"""The plan of the house: modules are told from what packages export, imports go one way, and no file is too long."""

import ast
import importlib.util
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import ntkbias

ROOT = Path(ntkbias.__file__).parent
MODULES = {
    ".".join(("ntkbias", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
PACKAGES = [name for name, path in MODULES.items() if path.name == "__init__.py"]
LONGEST = 350  # lines of a file: beyond, it holds more than one subject
TABLES: dict[str, str] = {}  # files that may be longer, and what each is a table of


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_is_named_like_what_its_package_exports(package):
    """`import package.name as m` would give the function, and a patch of the module would miss it."""
    exported = importlib.import_module(package)
    names = {name.rpartition(".")[2] for name in MODULES if name.rpartition(".")[0] == package}
    both = names & set(getattr(exported, "__all__", ()))
    assert not [name for name in both if not isinstance(getattr(exported, name), types.ModuleType)]


NAMESPACES = [name for name in ntkbias.__all__ if isinstance(getattr(ntkbias, name), types.ModuleType)]


@pytest.mark.parametrize("namespace", [None, *NAMESPACES])
def test_dir_shows_public_names_alone(namespace):
    module = getattr(ntkbias, namespace) if namespace else ntkbias
    names = [name for name in dir(module) if not name.startswith("__")]
    assert names == sorted(name for name in module.__all__ if not name.startswith("__"))


BRITISH = r"(?i)behaviour|neighbour|colour|centre[sd]?\b|labell(ed|ing)|\bgrey|licence|isation\b|(?<=al)ised?\b"


@pytest.mark.parametrize("folder", ["ntkbias", "tests", "benchmarks", "docs"])
def test_spelling_is_american(folder):
    """As in the names of JAX and of this package: `centered`, `normalize_edges`, `color`."""
    root = ROOT.parent / folder
    for path in sorted(
        p for p in root.rglob("*") if p.suffix in (".py", ".pyi", ".md") and p.name != Path(__file__).name
    ):
        assert not re.search(BRITISH, path.read_text()), path


def imported(module):
    """The modules of this package that one imports, those for types alone included, and packages on the way to them."""
    found = set()
    stub = MODULES[module].with_suffix(".pyi")  # of a package that loads its modules when they are used
    for path in (MODULES[module], *[stub] * stub.exists()):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert not node.level or path == stub, f"{module} imports by a relative name, which is not followed"
                source = ".".join(filter(None, (module, node.module))) if node.level else node.module
                for alias in node.names:
                    name = f"{source}.{alias.name}"
                    found.add(name if name in MODULES else source)
    parts = [name.split(".") for name in found if name in MODULES]
    # Importing a.b.c imports a and a.b before: of these, those are known already that the module itself is in.
    found = {".".join(name[:length]) for name in parts for length in range(1, len(name) + 1)}
    return {name for name in found if name != module and not f"{module}.".startswith(f"{name}.")}


LOADED = """
import sys
{first}
before = set(sys.modules)
{code}
print(*sorted({{name.split(".")[0] for name in set(sys.modules) - before if not name.startswith("_")}}))
"""
# What importing may load beside the standard library: JAX takes a second, scikit-learn with pandas behind it three.
LIGHT = {"lazy_loader", "ntkbias", "packaging"}
PARSER = {"docstring_parser", "rich", "shtab", "typeguard", "tyro", "typing_extensions"}


@pytest.mark.parametrize(
    ("first", "code", "allowed"),
    [
        ("", "import ntkbias", LIGHT),
        ("", "import ntkbias.cli", LIGHT | PARSER),
        ("import jax.numpy, equinox, optax", "import ntkbias; ntkbias.empirical_ntk", LIGHT | {"jax", "scipy", "tqdm"}),
    ],
)
def test_importing_loads_what_is_needed_alone(first, code, allowed):
    run = [sys.executable, "-c", LOADED.format(first=first, code=code)]
    found = subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT.parent).stdout.split()
    assert not set(found) - allowed - set(sys.stdlib_module_names)


def circles(graph):
    """The sets of modules that import one another, directly or by way of others (Tarjan 1972)."""
    order, lowest, stack, found = {}, {}, [], []

    def visit(module):
        order[module] = lowest[module] = len(order)
        stack.append(module)
        for other in sorted(graph[module]):
            if other not in order:
                visit(other)
            if other in stack:
                lowest[module] = min(lowest[module], lowest[other])
        if lowest[module] == order[module]:
            start = stack.index(module)
            found.append(sorted(stack[start:]))
            del stack[start:]

    for module in graph:
        if module not in order:
            visit(module)
    return [circle for circle in found if len(circle) > 1]


def test_circles_are_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"a"}}
    assert circles(graph) == [["b", "c"]]
    assert "ntkbias.kernels.kernel" in imported("ntkbias.kernels.empirical.ntk")
    assert "ntkbias.kernels.operators" in imported("ntkbias.kernels.form")  # on the way to what is in it


def test_no_modules_import_one_another():
    assert circles({module: imported(module) for module in MODULES}) == []


@pytest.mark.parametrize("module", MODULES)
def test_no_file_is_too_long(module):
    lines = len(MODULES[module].read_text().splitlines())
    if module in TABLES:
        assert lines > LONGEST, f"{module} is short now: take it off the list"
    else:
        assert lines <= LONGEST, "split it by subject"


def test_mutations_find_their_lines():
    """A benchmark changes these lines, each of which stands once in its file, to see whether a test notices."""
    path = ROOT.parent / "benchmarks" / "mutations.py"
    if not path.exists():
        pytest.skip("the benchmarks are not part of this distribution")
    spec = importlib.util.spec_from_file_location("mutations", path)
    mutations = sys.modules["mutations"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mutations)
    for mutation in mutations.MUTATIONS:
        assert (ROOT / mutation.file).read_text().count(mutation.old) == 1, mutation.fault


def test_a_name_in_a_namespace_is_found_for_who_looks_in_the_package():
    with pytest.raises(AttributeError, match="got 'explain_ntk'. Use ntkbias.kernels.explain_ntk."):
        ntkbias.explain_ntk  # noqa: B018
    with pytest.raises(AttributeError, match="No ntkbias attribute nothing"):
        ntkbias.nothing  # noqa: B018
