"""Does a Gram matrix on disk survive being killed, within a memory budget, and hold the right numbers?

Claim: a process computes the NTK of a convolutional network on MNIST block by block on disk, and never uses more memory
than the budget. Killed twice on the way, it computes no finished block again, and the numbers read back are right.

One child process fills the store and is killed with SIGKILL when a third of the blocks are there; a second child is
killed at two thirds; a third child finishes. Peak memory is the largest resident set of each child, libraries included,
as the system reports it. Then every checksum is verified, entries are compared with their mirror images across the
diagonal, and random entries are compared with the kernel recomputed in float64.

    python benchmarks/kernel_on_disk.py [--num-examples 2000] [--budget-gib 2] [--mnist ../shared/data/mnist]

At 20,000 examples, the store takes 0.8 GiB of disk. Without the MNIST files it uses random images, and says so.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHARE = 1 / 8  # of the budget goes to the factors of a block: programs, libraries and inputs need the rest
CHECKED = 12  # rows and columns; the entries where they cross are recomputed


def images(options: argparse.Namespace):
    import numpy as np

    import ntkbias as nb

    if options.mnist.is_dir():
        return nb.datasets.mnist(options.mnist, num_examples=options.num_examples).x
    noise = np.random.default_rng(0).normal(size=(options.num_examples, 28, 28, 1))
    return noise.astype(np.float32)


def network(options: argparse.Namespace):
    import jax

    import ntkbias as nb

    net = nb.nets.cnn(options.width, 3, 1, readout="pool")
    return net, net.init(jax.random.key(0), (28, 28, 1))


def fill(options: argparse.Namespace) -> None:
    """The work of a child: everything from the start, as after a crash."""
    import jax.numpy as jnp

    import ntkbias as nb

    net, params = network(options)
    x = images(options)
    kernel = nb.empirical_ntk(net.apply, params, memory_budget=int(SHARE * options.budget_gib * 2**30))
    eighth = -(-len(x) // 8)  # so that small runs also have several blocks
    nb.gram_on_disk(options.folder, kernel, x, rows=min(kernel.block_rows(jnp.asarray(x[:1])), eighth))


def num_finished(folder: Path) -> int:
    return len(list(folder.glob("*.npy")))


def num_blocks(folder: Path) -> float:
    """The number of blocks of the store, from its manifest; unknown before the manifest exists."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
    except FileNotFoundError:
        return float("inf")
    pieces = -(-manifest["shape"][0] // manifest["block_shape"][0])
    return pieces * (pieces + 1) / 2


def run_child(folder: Path, share: float) -> tuple[float, int, float]:
    """Fill the store until it has this share of its blocks, then kill. Returns seconds, exit status and peak GiB."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, __file__, *sys.argv[1:], "--folder", str(folder)])
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            break
        if num_finished(folder) >= share * num_blocks(folder):
            os.kill(child.pid, signal.SIGKILL)
        time.sleep(0.02)
    child.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    return time.perf_counter() - start, child.returncode, usage.ru_maxrss * unit / 2**30


def check(options: argparse.Namespace, folder: Path) -> None:
    import jax
    import numpy as np

    import ntkbias as nb

    store = nb.open_gram(folder)
    start = time.perf_counter()
    store.verify()
    print(f"all checksums are right                 {time.perf_counter() - start:9.1f} s")
    draws = np.random.default_rng(1)
    rows, columns = (np.sort(draws.choice(len(store), CHECKED, replace=False)) for _ in range(2))
    stored = np.stack([store[int(row), columns] for row in rows])
    across = np.stack([store[int(column), rows] for column in columns], axis=1)
    difference = np.max(np.abs(stored - across) / np.abs(stored))
    print(f"entries and those across the diagonal   {difference:9.1e} relative difference at most")
    assert difference < 1e-5
    net, params = network(options)
    x = images(options)
    jax.config.update("jax_enable_x64", True)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, float), params)
    exact = np.asarray(nb.empirical_ntk(net.apply, params)(np.asarray(x[rows], float), np.asarray(x[columns], float)))
    difference = np.max(np.abs(stored - exact) / np.abs(exact))
    print(f"{exact.size} random entries, in float64         {difference:9.1e} relative difference at most")
    assert difference < 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--num-examples", type=int, default=2000)
    parser.add_argument("--budget-gib", type=float, default=2.0, help="memory of the whole process")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--mnist", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "mnist")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # for the children
    options = parser.parse_args()
    if options.folder:
        fill(options)
        return
    data = "digits of MNIST" if options.mnist.is_dir() else "random images (no files of MNIST are there)"
    print(f"{platform.machine()}, {os.cpu_count()} processors; {options.num_examples} {data}, width {options.width}\n")
    base = Path(tempfile.mkdtemp())
    folder, peaks, total = base / "kernel", [], 0.0
    try:
        print(f"{'phase':28}{'time':>10}{'blocks':>10}{'peak memory':>15}")
        for name, share in (
            ("killed at one third", 1 / 3),
            ("killed at two thirds", 2 / 3),
            ("finished", float("inf")),
        ):
            before = num_finished(folder)
            took, status, peak = run_child(folder, share)
            finished = name == "finished"
            assert status == (0 if finished else -signal.SIGKILL), f"{name}: exit status {status}"
            peaks.append(peak)
            total += took
            print(f"{name:28}{took:9.1f}s{num_finished(folder) - before:10}{peak:11.2f} GiB")
        rows = json.loads((folder / "manifest.json").read_text())["block_shape"][0]
        size = sum(path.stat().st_size for path in folder.iterdir())
        print(f"{'in all':28}{total:9.1f}s{num_finished(folder):10}{max(peaks):11.2f} GiB of {options.budget_gib:g}")
        print(f"\n{size / 2**30:.3g} GiB on disk in blocks of {rows} rows")
        check(options, folder)
        assert max(peaks) <= options.budget_gib, f"peak memory {max(peaks):.2f} GiB is above the budget"
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
