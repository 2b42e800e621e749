"""The top eigenpairs of a kernel whose matrix does not fit in memory: how much time and memory do they take?

Claim: the first eigenpairs of a network's NTK on MNIST, with outputs="all", come from a few block products with the
kernel, in memory that does not grow with n. This is faster than the dense matrix, and faster than solvers that take one
vector at a time. A product with one vector costs as much as one backward and one forward derivative.

- `--peers`: sizes at which the dense matrix fits, each method in its own process: `top_modes`; the matrix with
  `numpy.linalg.eigh`; SciPy's `eigsh` on the same operator; and, on the same derivatives compiled as one program,
  matfree's Lanczos with full reorthogonalization (one vector, so it misses multiplicities) and JAX's
  `lobpcg_standard`. All are asked for residuals within `--tolerance` of each eigenvalue; the dense matrix shows what
  they reach.
- `--products`: the time of a product with one vector and with a block, over the time of one VJP and one JVP in the same
  batches.
- `--growth`: the time and peak memory of `top_modes` as n grows.
- `--resume`: `top_modes` at the largest n, killed (SIGKILL) on the way and called again.
- `--resnet`, only on request and for an accelerator: `top_modes` of one output of a network with ResNet-18's shape (11
  million parameters) on CIFAR-10, and the time of one product beside one VJP and one JVP. If n exceeds the number of
  images in the files, their mirror images and shifts are added.

Peak memory is that of the process above its use once the package is imported and the data are loaded.

    python benchmarks/large_spectra.py [--peers] [--products] [--growth] [--resume] [--resnet] [--sizes N ...]
                                       [--outputs O]
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from peers.cases import Case, weights
from peers.process import machine

ALL = ("products", "peers", "growth", "resume")
METHODS = ("ours", "dense", "eigsh", "matfree", "lobpcg")
WIDTHS = (10, 10, 8, 10, 12, 8, 11)
BATCH = 128  # inputs per batch, for the derivatives taken by hand


def main() -> None:
    """Run the parts that the options name, by default all but `--resnet`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in (*ALL, "resnet"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--precision", default="highest", choices=("highest", "high", "default"), help="for --resnet")
    parser.add_argument("--cifar10", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "cifar10")
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of images; defaults differ")
    parser.add_argument("--outputs", type=int, default=10)
    parser.add_argument("--num-modes", type=int, default=100)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--limit", type=float, default=600.0, help="time limit of a method, in seconds")
    parser.add_argument("--kill-after", type=float, default=90.0, help="seconds")
    parser.add_argument("--mnist", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "mnist")
    parser.add_argument("--method", choices=METHODS, help=argparse.SUPPRESS)  # in a process of its own
    parser.add_argument("--checkpoint", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=Path("runs/large_spectra"))
    options = parser.parse_args()
    if options.method:
        print(json.dumps(measured(options)))
        return
    if options.resnet:
        report_resnet(options)
        return
    asked = [name for name in ALL if getattr(options, name)] or list(ALL)
    data = "digits of MNIST" if options.mnist.is_dir() else "random images (no files of MNIST are there)"
    print(f"{machine()}\nCNN of 16, 32, 32 channels, strides 1, 2, 2, on {data}; {options.outputs} outputs\n")
    if "products" in asked:
        report_products(options)
    if "peers" in asked:
        report_peers(options)
    if "growth" in asked:
        report_growth(options)
    if "resume" in asked:
        report_resume(options)


def report_peers(options: argparse.Namespace) -> None:
    """Print the results of each method at sizes at which the dense matrix fits."""
    print(
        f"top {options.num_modes}, residuals within {options.tolerance:g} of the eigenvalue, {options.limit:g} s each"
    )
    columns = ("method", "seconds", "MB", "residual", "eigenvalue", "missed", "over ours")
    print(f"{'rows':>8}" + "".join(f"{name:>{width}}" for name, width in zip(columns, WIDTHS, strict=True)))
    for n in options.sizes or (200, 500, 1000):
        found = {method: run(options, n, method) for method in METHODS}
        exact = found["dense"].get("eigenvalues")
        for method, answer in found.items():
            rows = n * options.outputs
            if "error" in answer:
                print(f"{rows:8}{method:>10}  {answer['error']}")
                continue
            error, missed = against(answer["eigenvalues"], exact)
            ratio = answer["seconds"] / found["ours"].get("seconds", np.nan)
            print(
                f"{rows:8}{method:>10}{answer['seconds']:10.1f}{answer['megabytes']:8.0f}{answer['residual']:10.1e}"
                f"{error:12.1e}{missed:8}{ratio:10.1f}x"
            )
    print()


def against(values: list[float], exact: list[float] | None) -> tuple[float, int]:
    """The largest relative error of eigenvalues, and the number of exact ones without a match within 0.1 %."""
    if exact is None:
        return np.nan, 0
    found, true = np.array(values), np.array(exact)[: len(values)]
    missed = int(np.sum(np.min(np.abs(true[:, None] / found - 1), 1) > 1e-3))
    return float(np.max(np.abs(found / true - 1))), missed


def report_growth(options: argparse.Namespace) -> None:
    """Print time and memory as n grows."""
    print(f"top {options.num_modes} by top_modes")
    print(f"{'rows':>8}{'seconds':>10}{'s / 1000 images':>17}{'MB':>8}{'residual':>10}")
    for n in options.sizes or (2_000, 5_000, 10_000, 20_000):
        answer = run(options, n, "ours")
        if "error" in answer:
            print(f"{n * options.outputs:8}  {answer['error']}")
            continue
        print(
            f"{n * options.outputs:8}{answer['seconds']:10.1f}{1000 * answer['seconds'] / n:17.2f}"
            f"{answer['megabytes']:8.0f}{answer['residual']:10.1e}"
        )
    print()


def report_resume(options: argparse.Namespace) -> None:
    """Kill a search, and let it resume."""
    n = max(options.sizes or (10_000,))
    checkpoint = options.folder / f"resume-{n}-{options.outputs}-{options.num_modes}.npz"
    checkpoint.unlink(missing_ok=True)
    start = time.monotonic()
    process = subprocess.Popen(command(options, n, "ours", checkpoint))
    try:
        process.wait(options.kill_after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
    first = time.monotonic() - start
    there = f"{checkpoint.stat().st_size / 2**20:.0f} MB on disk" if checkpoint.exists() else "nothing on disk yet"
    answer = run(options, n, "ours", checkpoint)
    total = time.monotonic() - start
    print(f"top {options.num_modes}, {n * options.outputs:,} rows: killed after {first:.0f} s, {there}; called again")
    print(
        answer.get("error")
        or f"{total:.0f} s in all, {answer['megabytes']:.0f} MB, residuals within {answer['residual']:.1e} of the "
        f"eigenvalue, {answer['converged']} of {options.num_modes} converged"
    )
    print()


def report_products(options: argparse.Namespace) -> None:
    """Print the time of a product beside that of the derivatives that it needs."""
    print("a product over one VJP and one JVP in batches of the same size, medians of 5 in turn")
    print(f"{'outputs':>8}{'images':>8}{'forward':>9}{'VJP':>8}{'JVP':>8}{'product':>9}{'ratio':>7}", end="")
    print(f"{'a vector of 64':>16}{'ratio':>7}")
    for outputs in sorted({1, options.outputs}):
        for n in options.sizes or (1_000, 4_000):
            median = product_times(options, n, outputs)
            derivatives, block = median["VJP"] + median["JVP"], median["block"] / 64
            print(f"{outputs:8}{n:8}{median['forward']:9.2f}{median['VJP']:8.2f}{median['JVP']:8.2f}", end="")
            print(f"{median['product']:9.2f}{median['product'] / derivatives:6.2f}x", end="")
            print(f"{block:16.3f}{block / derivatives:6.2f}x")
    print()


def product_times(options: argparse.Namespace, n: int, outputs: int) -> dict[str, float]:
    """The seconds of a product with one vector, of one with 64, and of the derivatives on all images."""
    import jax
    import jax.numpy as jnp

    x, net, params = problem(options, n, outputs)
    forward = jax.jit(net.apply)
    vjp = jax.jit(lambda p, x, v: jax.vjp(lambda p: net.apply(p, x), p)[1](v)[0])
    jvp = jax.jit(lambda p, x, u: jax.jvp(lambda p: net.apply(p, x), (p,), (u,))[1])
    operator = kernel_of(net, params, budget=2**26).operator(x)  # too small a budget to keep gradients
    v = np.random.default_rng(0).normal(size=(n * outputs, 64)).astype(np.float32)
    batches = [jnp.asarray(x[i : i + BATCH]) for i in range(0, n - n % BATCH, BATCH)]
    cotangent, scale = jnp.ones((BATCH, outputs)), n / (n - n % BATCH)
    tangent = vjp(params, batches[0], cotangent)
    steps = {
        "forward": lambda: [forward(params, batch) for batch in batches],
        "VJP": lambda: [vjp(params, batch, cotangent) for batch in batches],
        "JVP": lambda: [jvp(params, batch, tangent) for batch in batches],
        "product": lambda: operator @ v[:, 0],
        "block": lambda: operator @ v,
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(6):
        for name, step in steps.items():
            if name == "block" and turn > 1:
                continue
            begin = time.perf_counter()
            jax.block_until_ready(step())
            if turn:
                times[name].append(time.perf_counter() - begin)
    counted = {"forward": scale, "VJP": scale, "JVP": scale}
    return {name: counted.get(name, 1.0) * float(np.median(taken)) for name, taken in times.items()}


def report_resnet(options: argparse.Namespace) -> None:
    """Print the first modes of a large network on many photographs. Runs in this process."""
    import jax
    import jax.numpy as jnp
    from peers import networks

    import ntkbias as nb

    print(f"{machine()}, jax {jax.__version__}, {options.precision} precision", flush=True)
    params = {name: jnp.asarray(value) for name, value in weights(Case("resnet18", 1, "all", 0)).items()}
    for n in options.sizes or (2_000, 50_000):
        x = photographs(options.cifar10, n)
        kernel = nb.empirical_ntk(networks.resnet18, params, outputs="all", precision=options.precision)
        operator = kernel.operator(x)
        v = np.random.default_rng(0).normal(size=(n, options.num_modes)).astype(np.float32)
        batch, tangent = jnp.asarray(x[:500]), jax.tree.map(jnp.ones_like, params)
        with jax.default_matmul_precision({"highest": "float32"}.get(options.precision, options.precision)):
            vjp = jax.jit(lambda p, x, v: jax.vjp(lambda p: networks.resnet18(p, x), p)[1](v)[0])
            jvp = jax.jit(lambda p, x, u: jax.jvp(lambda p: networks.resnet18(p, x), (p,), (u,))[1])
            derivatives = timed(vjp, params, batch, jnp.ones((500, 1))) + timed(jvp, params, batch, tangent)
        passes, block = n / 500 * derivatives, timed(operator.__matmul__, v)
        print(f"{n} photographs: one VJP and one JVP {passes:.2f} s, a product of {v.shape[1]} vectors {block:.2f} s")
        start = time.perf_counter()
        modes = nb.top_modes(operator, options.num_modes, key=jax.random.key(0), tolerance=options.tolerance)
        seconds, stats = time.perf_counter() - start, jax.local_devices()[0].memory_stats() or {}
        residual = float(jnp.max(modes.residuals / modes.eigenvalues))
        print(
            f"    top {options.num_modes}: {seconds:.1f} s, residuals within {residual:.1e} of the eigenvalue, "
            f"{int(jnp.sum(modes.converged))} converged, {stats.get('peak_bytes_in_use', 0) / 2**30:.1f} GiB at most; "
            f"shares of the trace {', '.join(f'{float(value / modes.trace):.3f}' for value in modes.eigenvalues[:5])}",
            flush=True,
        )


def timed(step: Callable, *arguments: object) -> float:
    """The seconds of the second call."""
    import jax

    jax.block_until_ready(step(*arguments))
    start = time.perf_counter()
    jax.block_until_ready(step(*arguments))
    return time.perf_counter() - start


def photographs(folder: Path, n: int) -> np.ndarray:
    """n images of CIFAR-10. If there are too few, their mirror images follow, then all again, shifted by two pixels."""
    import ntkbias as nb

    if not folder.is_dir():
        print("no files of CIFAR-10 are there: random images")
        return np.random.default_rng(0).normal(size=(n, 32, 32, 3)).astype(np.float32)
    x = nb.datasets.cifar10(folder).x
    x = np.concatenate([x, x[:, :, ::-1]]) if n > len(x) else x
    x = np.concatenate([x, np.roll(x, 2, axis=1)]) if n > len(x) else x
    return x[:n]


def command(options: argparse.Namespace, n: int, method: str, checkpoint: Path | None) -> list[str]:
    """The command of one measurement."""
    words = [sys.executable, __file__, "--method", method, "--sizes", n, "--outputs", options.outputs]
    words += ["--num-modes", options.num_modes, "--tolerance", options.tolerance, "--mnist", options.mnist]
    words += ["--folder", options.folder] + ([] if checkpoint is None else ["--checkpoint", checkpoint])
    return [str(word) for word in words]


def run(options: argparse.Namespace, n: int, method: str, checkpoint: Path | None = None) -> dict:
    """The measurements of a method in its own process."""
    try:
        done = subprocess.run(
            command(options, n, method, checkpoint), capture_output=True, text=True, timeout=options.limit
        )
    except subprocess.TimeoutExpired:
        return {"error": f"more than {options.limit:g} s"}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1][:100]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def problem(options: argparse.Namespace, n: int, outputs: int) -> tuple:
    """The images, the network and its parameters."""
    import jax

    import ntkbias as nb
    from ntkbias.layers import Conv, Dense, GlobalAvgPool, Relu, Sequential

    if options.mnist.is_dir():
        x = nb.datasets.mnist(options.mnist, num_examples=n).x
    else:
        x = np.random.default_rng(0).normal(size=(n, 28, 28, 1)).astype(np.float32)
    hidden = [
        layer
        for channels, stride, std in ((16, 1, 1.0), (32, 2, 2**0.5), (32, 2, 2**0.5))
        for layer in (Conv(channels, (3, 3), strides=(stride, stride), w_std=std), Relu())
    ]
    net = Sequential((*hidden, GlobalAvgPool(), Dense(outputs, w_std=2**0.5)))
    return x, net, net.init(jax.random.key(0), x.shape[1:])


def kernel_of(net: object, params: object, budget: int | None = None) -> object:
    """The kernel of all outputs."""
    import ntkbias as nb

    return nb.empirical_ntk(net.apply, params, outputs="all", memory_budget=budget)


def measured(options: argparse.Namespace) -> dict:
    """Measure one method at one size, in this process."""
    import jax

    n, k = options.sizes[0], options.num_modes
    x, net, params = problem(options, n, options.outputs)
    kernel = kernel_of(net, params)
    jax.block_until_ready(jax.numpy.ones(3) @ jax.numpy.ones(3))
    before = peak()
    start = time.perf_counter()
    values, vectors, known = SOLVERS[options.method](kernel, x, net, params, k, options)
    seconds, megabytes = time.perf_counter() - start, (peak() - before) / 2**20
    values, vectors = np.asarray(values, np.float64)[:k], np.asarray(vectors, np.float64)[:, :k]
    if "residual" not in known:
        matrix = np.asarray(kernel(x)).reshape(len(vectors), -1)
        strips = [matrix[i : i + 500].astype(np.float64) @ vectors for i in range(0, len(matrix), 500)]
        residuals = np.linalg.norm(np.concatenate(strips) - vectors * values, axis=0)
        known["residual"] = float(np.max(residuals / values))
    return {"seconds": seconds, "megabytes": megabytes, "eigenvalues": values.tolist(), "converged": k} | known


def ours(kernel, x, net, params, k, options) -> tuple:
    """`top_modes`. Tests check its residuals."""
    import jax

    import ntkbias as nb

    operator = kernel.operator(x)
    modes = nb.top_modes(operator, k, key=jax.random.key(0), tolerance=options.tolerance, checkpoint=options.checkpoint)
    vectors = np.asarray(modes.eigenfunctions).reshape(operator.shape[0], -1)
    known = {"converged": int(np.sum(modes.converged))}
    if operator.shape[0] > 10_000:
        known["residual"] = float(np.max(modes.residuals / modes.eigenvalues))
    return np.asarray(modes.eigenvalues) * len(x), vectors / np.linalg.norm(vectors, axis=0), known


def dense(kernel, x, net, params, k, options) -> tuple:
    """The matrix, and all of its eigenpairs."""
    matrix = np.asarray(kernel(x)).reshape(len(x) * options.outputs, -1)
    values, vectors = np.linalg.eigh(matrix)
    return values[::-1][:k], vectors[:, ::-1][:, :k], {}


def eigsh(kernel, x, net, params, k, options) -> tuple:
    """ARPACK on our operator, one vector at a time."""
    import scipy.sparse.linalg

    operator = kernel.operator(x)
    values, vectors = scipy.sparse.linalg.eigsh(operator.to_scipy(), k, tol=options.tolerance)
    return values[::-1], vectors[:, ::-1], {}


def matfree(kernel, x, net, params, k, options) -> tuple:
    """matfree's Lanczos, three times as many steps as modes."""
    import jax
    import jax.numpy as jnp
    from matfree import decomp, eig

    product, rows = compiled_product(net, params, x, options.outputs)
    solve = eig.eigh_partial(decomp.tridiag_sym(min(3 * k, rows - 1)))
    start = jax.random.normal(jax.random.key(0), (rows,))
    values, vectors = jax.block_until_ready(jax.jit(lambda v: solve(product, v))(start / jnp.linalg.norm(start)))
    order = np.argsort(-np.asarray(values))[:k]
    vectors = np.asarray(vectors)
    vectors = vectors if vectors.shape[0] == rows else vectors.T
    return np.asarray(values)[order], vectors[:, order], {}


def lobpcg(kernel, x, net, params, k, options) -> tuple:
    """JAX's LOBPCG. It uses its default tolerance, which stops it at the precision of float32."""
    import jax
    from jax.experimental.sparse.linalg import lobpcg_standard

    product, rows = compiled_product(net, params, x, options.outputs)
    block = jax.random.normal(jax.random.key(0), (rows, k))
    values, vectors, _ = jax.block_until_ready(lobpcg_standard(jax.vmap(product, -1, -1), block, m=100))
    return np.asarray(values), np.asarray(vectors), {}


def compiled_product(net, params, x, outputs) -> tuple:
    """J J^T v as one program, for solvers that trace it. The batches are unrolled: scanned convolutions are slow."""
    import jax
    import jax.numpy as jnp

    pieces = [jnp.asarray(x[i : i + BATCH]) for i in range(0, len(x), BATCH)]

    def product(v: jax.Array) -> jax.Array:
        parts = jnp.split(v, np.cumsum([len(piece) * outputs for piece in pieces])[:-1])
        tangent = jax.tree.map(jnp.zeros_like, params)
        for piece, part in zip(pieces, parts, strict=True):
            pullback = jax.vjp(lambda p, piece=piece: net.apply(p, piece), params)[1]
            tangent = jax.tree.map(jnp.add, tangent, pullback(part.reshape(-1, outputs))[0])
        rows = [jax.jvp(lambda p, piece=piece: net.apply(p, piece), (params,), (tangent,))[1] for piece in pieces]
        return jnp.concatenate([row.reshape(-1) for row in rows])

    return product, len(x) * outputs


SOLVERS = {"ours": ours, "dense": dense, "eigsh": eigsh, "matfree": matfree, "lobpcg": lobpcg}


def peak() -> int:
    """The peak memory of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("Expected a system with /proc; found none.")


if __name__ == "__main__":
    main()
