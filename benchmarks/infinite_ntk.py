"""How fast is the infinite-width NTK, compared with neural-tangents and the memory bandwidth?

Claim: our kernel is several times faster than neural-tangents on the same networks, and uses less memory. It carries
only the covariances that the read-out needs, computes half of the pairs, and works in tiles that stay in the cache.

Both run compiled on the same inputs in float32, in separate processes that take turns (`make bench-peers` builds the
environment of neural-tangents). Their results are compared: a result that differs by 1e-3 of the largest entry or more
is reported and left out.

- ours: `infinite_ntk(net)(x)`. neural-tangents: `jax.jit(kernel_fn)` on all inputs at once, and `nt.batch` over small
  batches; the faster counts.
- compile: the time of the first call minus that of a later one.
- memory: the peak of one call above the process's use before it, result included: the largest of five calls if they
  take at most a second.
- x bytes: our time over the time that it takes to move each layer's two kernels into and out of memory once, at the
  bandwidth of a copy measured in the same turns. A number below one means that the cache saves memory traffic.

Times are medians; a run longer than 8 seconds is measured once.

    python benchmarks/infinite_ntk.py [--quick | --all] [--cases T] [--repeats N] [--limit S] [--json FILE]
"""

import argparse
import dataclasses
import json
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from peers.infinite_cases import CASES, Case, fewest_bytes
from peers.process import PEERS, Worker, machine

# Relative to the largest entry. In single precision, a cosine near 1 has a rounding error of 6e-8, which is an angle of
# 3e-4, and as large an error in the kernel. The diagonal of neural-tangents has this error in each layer; ours has the
# exact angle.
AGREEMENT = 1e-3
LONG = 8.0  # seconds: a longer run is measured once
COPIED = 2 * 4 * 2**26  # bytes that the copy of `with_ntkbias` reads and writes
HEADER = (
    f"{'case':36}{'ours':>10}{'peer':>10}{'over it':>9}{'compile':>9}{'peer':>7}"
    f"{'MB':>9}{'peer MB':>9}{'ratio':>7}{'x bytes':>9}{'differ':>9}  best peer"
)


def run(case: Case, workers: dict[str, Worker], folder: Path, repeats: int, limit: float) -> dict[str, dict]:
    """The results of each method on a case: its answers to `prepare`, and its times in seconds."""
    rng = np.random.default_rng(0)
    sides = {f"x{1 + k}": rng.normal(size=(n, *case.shape)).astype(np.float32) for k, n in enumerate((case.n, case.m))}
    np.savez(folder / "data.npz", **sides)
    found: dict[str, dict] = {}
    asked = dataclasses.asdict(case)
    for worker in workers.values():
        for method in worker.ask(limit, do="methods", case=asked).get("methods", []):
            result = folder / f"{method}.npy"
            result.unlink(missing_ok=True)
            command = {"case": asked, "data": str(folder / "data.npz"), "method": method, "result": str(result)}
            answer = worker.ask(limit, do="prepare", **command)
            found[method] = answer | {"worker": worker, "times": [answer["seconds"]] if "seconds" in answer else []}
            if result.exists() and method != "ours":
                found[method]["difference"] = difference(folder / "ours.npy", result)
                if not found[method]["difference"] < AGREEMENT:
                    found[method]["error"] = f"differs by {found[method]['difference']:.1e} of the largest entry"
            print(f"    {method:10}{found[method].get('error') or found[method]['times'][0]}", file=sys.stderr)
    for _ in range(repeats - 1):
        for method, entry in found.items():
            if "error" not in entry and entry["times"][0] < LONG:
                time.sleep(0.02)  # let the spinning threads of the previous process go to sleep
                answer = entry["worker"].ask(limit, do="measure", method=method)
                entry["times"] += [answer["seconds"]] if "seconds" in answer else []
    for worker in workers.values():
        if worker.process:
            worker.ask(limit, do="forget")
    return found


def difference(ours: Path, other: Path) -> float:
    """The largest difference, relative to the largest entry; infinite if shapes differ."""
    a, b = np.load(ours), np.load(other)
    return float(np.abs(a - b).max() / np.abs(a).max()) if a.shape == b.shape else math.inf


def figures(case: Case, found: dict[str, dict]) -> dict:
    """The numbers of a row of the table, with NaN for failures."""
    times = {
        method: statistics.median(entry["times"])
        for method, entry in found.items()
        if entry["times"] and "error" not in entry
    }
    ours = times.get("ours", math.nan)
    peers = {method: seconds for method, seconds in times.items() if method not in ("ours", "copy")}
    best = min(peers, key=peers.__getitem__, default=None)

    def of(method: str | None, key: str) -> float:
        value = found.get(method or "", {}).get(key)
        return math.nan if value is None else value

    peak, peer_peak = (of(method, "peak_bytes") for method in ("ours", best))
    return {
        "ours": ours,
        "best peer": best,
        "peer": peers.get(best, math.nan),
        "over peer": peers.get(best, math.nan) / ours,
        "compile": of("ours", "first") - ours,
        "peer compile": of(best, "first") - peers.get(best, math.nan),
        "peak": peak,
        "peer peak": peer_peak,
        "memory share": peak / peer_peak,
        "of bandwidth": ours / (fewest_bytes(case) / (COPIED / times.get("copy", math.nan))),
        "difference": max((entry.get("difference", 0.0) for entry in found.values()), default=math.nan),
        "errors": {method: entry["error"] for method, entry in found.items() if "error" in entry},
    }


def line(case: Case, row: dict) -> str:
    """A row of the table."""
    return (
        f"{case.name:36}{row['ours']:9.4f}s{row['peer']:9.4f}s{row['over peer']:8.1f}x{row['compile']:8.1f}s"
        f"{row['peer compile']:6.1f}s{row['peak'] / 1e6:9.1f}{row['peer peak'] / 1e6:9.1f}"
        f"{row['memory share']:7.2f}{row['of bandwidth']:8.1f}x{row['difference']:9.0e}  {row['best peer'] or 'none'}"
    )


def summary(rows: dict[Case, dict]) -> dict[str, float]:
    """Print the numbers that support the claim."""
    over = {case: row["over peer"] for case, row in rows.items() if row["over peer"] > 0}
    pooled = [value for case, value in over.items() if "pooled" in case.net or case.net == "myrtle5"]
    memory = [row["memory share"] for row in rows.values() if row["memory share"] > 0]
    return {
        "over neural-tangents, geometric mean": statistics.geometric_mean(over.values()) if over else math.nan,
        "  pooled networks": statistics.geometric_mean(pooled) if pooled else math.nan,
        "  worst case": min(over.values(), default=math.nan),
        "  worst of the pooled": min(pooled, default=math.nan),
        "share of its memory, largest": max(memory, default=math.nan),
    }


def started(folder: Path) -> dict[str, Worker]:
    """Both processes. Prints a line if the environment of neural-tangents is missing."""
    pythons = {
        "ntkbias": Path(sys.executable),
        "neural_tangents": PEERS / "neural-tangents" / "bin" / "python",
    }
    found = {}
    for name, python in pythons.items():
        if not python.exists():
            print(f"Missing: {name} (`make bench-peers` builds it)")
            continue
        worker = Worker(name, python, f"infinite_with_{name}.py", folder / f"{name}.log")
        if "error" in (answer := worker.start()):
            print(f"Missing: {name} ({answer['error']})")
        else:
            found[name] = worker
    if "ntkbias" not in found:
        sys.exit("Expected ntkbias to be installed beside this Python: see the message above.")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a few cases: a minute or two")
    size.add_argument("--all", action="store_true", help="every case: this takes long")
    parser.add_argument("--cases", default="", help="only cases, among all, whose name contains this text")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=180.0, help="seconds to prepare one method")
    parser.add_argument("--json", type=Path, help="where to save everything")
    wanted = parser.parse_args()
    groups = {"quick"} if wanted.quick else {"quick", "standard"}
    chosen = [c for c in CASES if wanted.cases in c.name and (wanted.cases or wanted.all or c.group in groups)]
    rows: dict[Case, dict] = {}
    with tempfile.TemporaryDirectory() as name:
        workers = started(Path(name))
        try:
            versions = [f"{package} {v}" for worker in workers.values() for package, v in worker.versions.items()]
            print(f"{machine()}\n{', '.join(dict.fromkeys(versions))}; median of {wanted.repeats}, in turn\n\n{HEADER}")
            for case in chosen:
                print(case.name, file=sys.stderr)
                rows[case] = figures(case, run(case, workers, Path(name), wanted.repeats, wanted.limit))
                print(line(case, rows[case]), flush=True)
        except KeyboardInterrupt:
            print("\nInterrupted: what was measured so far.")
        finally:
            for worker in workers.values():
                worker.stop()
    for case, row in rows.items():
        for method, error in row["errors"].items():
            print(f"{case.name}: {method}: {error}")
    numbers = summary(rows)
    print()
    for label, value in numbers.items():
        print(f"{label:40}{value:8.2f}")
    if wanted.json:
        found = [{"case": dataclasses.asdict(case), "row": row} for case, row in rows.items()]
        wanted.json.write_text(json.dumps({"machine": machine(), "cases": found, "summary": numbers}, indent=1))


if __name__ == "__main__":
    main()
