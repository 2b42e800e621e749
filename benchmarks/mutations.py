"""Does `make test` notice a deliberate fault in each room of the package?

Each mutation changes one line in a copy of the project, and runs the tests of that room except the slow and the wide
ones. The mutation is caught if a test fails. Prints a Markdown table, and exits with 1 if a mutation was not caught.

    python benchmarks/mutations.py [--only TEXT]
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Mutation(NamedTuple):
    """A fault: `old` becomes `new` in a file of the package. The tests in `tests` should fail."""

    fault: str
    file: str
    old: str
    new: str
    tests: str


MUTATIONS = [
    Mutation(
        "layers: wrong sign in the dual of ReLU",
        "layers/activations/piecewise.py",
        "return arc_cosine(1, *moments), arc_cosine(0, *moments)",
        "return arc_cosine(1, *moments), -arc_cosine(0, *moments)",
        "tests/layers/test_activations.py",
    ),
    Mutation(
        "layers: a dense layer forgets its scale at infinite width",
        "layers/dense.py",
        "affine(  # the covariance is already a mean over the input's features\n            w_std=self.w_std,",
        "affine(  # the covariance is already a mean over the input's features\n            w_std=1.0,",
        "tests/layers/test_layers.py",
    ),
    Mutation(
        "kernels: the scale of a gradient is not squared",
        "kernels/factors/full_jacobian.py",
        "return [self.scale**2 * block for block in blocks_of_products(left, right, parts, outputs)]",
        "return [self.scale * block for block in blocks_of_products(left, right, parts, outputs)]",
        "tests/kernels/test_empirical.py",
    ),
    Mutation(
        "kernels: outputs swapped in the mirrored blocks",
        "kernels/outputs.py",
        "(0, 2), (2, 3, 0, 1)",
        "(0, 2), (2, 1, 0, 3)",
        "tests/kernels/test_empirical.py",
    ),
    Mutation(
        "operators: centering keeps a part of the mean",
        "kernels/operators/operator.py",
        "self.constants = operator.pack(constants / self.num_examples**0.5)",
        "self.constants = operator.pack(constants / self.num_examples**0.6)",
        "tests/kernels/test_operator.py",
    ),
    Mutation(
        "spectrum: the extension forgets the weights",
        "spectra.py",
        'return jnp.einsum(rule, gram, self.weights, scaled, precision="highest")',
        'return jnp.einsum(rule, gram, 0 * self.weights + 1, scaled, precision="highest")',
        "tests/test_spectrum.py tests/test_eigen.py",
    ),
    Mutation(
        "eigen: a noise floor a thousand times too high",
        "eigen/dense.py",
        "noise_floor = rounding * norm",
        "noise_floor = 1e3 * rounding * norm",
        "tests/test_eigen.py tests/eigen",
    ),
    Mutation(
        "domains: harmonics of the circle without sqrt 2",
        "domains/circle.py",
        "waves = jnp.sqrt(2.0) * jnp.stack(",
        "waves = jnp.stack(",
        "tests/domains",
    ),
    Mutation(
        "exact: values of the kernel on the sphere 1 % too large",
        "exact/sphere.py",
        "values, turned = kernel_values(kernel, pole, points)[0]",
        "values, turned = 1.01 * kernel_values(kernel, pole, points)[0]",
        "tests/test_exact.py",
    ),
    Mutation(
        "frequency: the Dirichlet ratio of a mode is inverted",
        "frequency/measures/differences.py",
        "return shared(differences.T, eigenspace).T / shared(squares.T, eigenspace).T",
        "return shared(squares.T, eigenspace).T / shared(differences.T, eigenspace).T",
        "tests/frequency",
    ),
    Mutation(
        "learning: the critical rate without momentum",
        "learning/rates.py",
        "return float(2 * (1 + momentum) / np.asarray",
        "return float(2 / np.asarray",
        "tests/learning",
    ),
    Mutation(
        "losses: the mean squared error without its half",
        "losses/pointwise.py",
        "** 2) / (2 * len(outputs))",
        "** 2) / len(outputs)",
        "tests/test_losses.py",
    ),
    Mutation(
        "tracking: the drift is relative to the present kernel",
        "tracking/measures/drift.py",
        "return math.sqrt(frobenius(difference, difference) / frobenius(start, start))",
        "return math.sqrt(frobenius(difference, difference) / frobenius(at.matrix, at.matrix))",
        "tests/tracking/test_snapshot_measures.py tests/tracking/test_track.py",
    ),
    Mutation(
        "complexity: the norm of the gradient is not squared",
        "complexity/gradients.py",
        "loss=loss, batch_size=batch_size) ** 2",
        "loss=loss, batch_size=batch_size)",
        "tests/complexity/test_gradients.py",
    ),
    Mutation(
        "mixing: a reversed batch keeps its rows",
        "mixing/rules.py",
        'unless_touched(states, set(equation.params["dimensions"]))',
        "unless_touched(states, set())",
        "tests/kernels/test_mixing.py",
    ),
    Mutation(
        "packing: whole numbers come back as they are not",
        "packing.py",
        "start = stop",
        "start = stop - 1",
        "tests/kernels/test_inputs.py",
    ),
    Mutation(
        "results: a list loads as a tuple",
        "results/building.py",
        '\n    return items if kind == "list" else tuple(items)',
        "\n    return tuple(items)",
        "tests/test_results.py",
    ),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="only mutations whose description contains this text")
    chosen = [mutation for mutation in MUTATIONS if parser.parse_args().only in mutation.fault]
    print("| fault | caught by |\n|---|---|")
    missed = 0
    for mutation in chosen:
        caught = first_failure(mutation)
        missed += caught is None
        print(f"| {mutation.fault} | {f'`{caught}`' if caught else '**not caught**'} |", flush=True)
    return min(missed, 1)


def first_failure(mutation: Mutation) -> str | None:
    """The first test that fails on the mutated package, or None."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("ntkbias", "tests", "README.md", "pyproject.toml"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
            copy(ROOT / name, Path(folder) / name)
        path = Path(folder) / "ntkbias" / mutation.file
        text = path.read_text()
        if text.count(mutation.old) != 1:
            raise SystemExit(
                f"Expected one place in {mutation.file} for: {mutation.old!r}; got {text.count(mutation.old)}."
            )
        path.write_text(text.replace(mutation.old, mutation.new))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "2", *mutation.tests.split()]
        environment = {**os.environ, "PYTHONPATH": folder, "MPLBACKEND": "Agg"}
        output = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True).stdout
        found = re.search(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
        return found.group(1) if found else None


if __name__ == "__main__":
    sys.exit(main())
