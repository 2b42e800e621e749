"""How fast is the empirical NTK, compared with other packages, the plain Jacobian product and the unavoidable work?

Claim: reading how a network uses its parameters makes the kernel faster than forming the Jacobian, and faster than the
peers.

Each contender runs in its own process, with its own environment (`make bench-peers` builds those of the peers under
`.peers/`), on the same weights and inputs (`peers/cases.py`). They take turns, and the others wait, so that all meet
the same state of the machine. Each result is compared with ours: if the largest difference reaches 1e-4 of the largest
entry, the peer is reported and left out.

- ours: `empirical_ntk(f, params, outputs=...)(x)`, as users call it.
- peers: the three implementations of neural-tangents, on all inputs at once and with `nt.batch`; the recipes of
  torch.func, by Jacobian contraction and by NTK-vector products; and nngeometry's `GramMatrix`. The fastest on a case
  is its best peer. A peer that fails, or takes both seconds and ten times the best peer's time, is skipped on later
  cases with the same network and outputs. NTK-vector products take one pass per pair of inputs, so they run on at most
  256 inputs.
- Jacobian: `jax.vmap(jax.jacrev(f))` and one matrix product per parameter, in our JAX; in strips if it does not fit.
  Without `--all`, it is skipped on later cases of a network once it has taken longer than 4 seconds.
- floor: the sum of three parts, each timed alone: one forward pass of all inputs; one backward pass per output, with
  weight gradients summed over the batch; and the contraction as bare matrix products, in the cheaper order for each
  layer, halved if the matrix is symmetric. The tight floor leaves out weight gradients that the contraction does not
  need.
- GEMM share: the multiplications that the kernel needs (`cases.multiplications`) over our time, relative to the rate of
  a 2048 x 2048 matrix product measured in the same turns.

On a GPU, everything runs in full float32 (no TensorFloat-32), one process at a time, and memory is not measured. With
`--together`, the peers run in this environment, with neural-tangents through our adapter.

Compilation (one call) and the transfer of inputs are not timed. Times are medians; a run longer than 4 seconds is
measured once. Memory is the peak of one call above the process's use before it, result included: the largest of five
calls if they take at most a second.

    python benchmarks/empirical_ntk.py [--quick | --all | --accelerator | --growth] [--together] [--cases T]
                                       [--repeats N] [--limit S] [--json FILE]
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
from peers.cases import CASES, GROWTH, ON_ACCELERATOR, Case, multiplications, save
from peers.process import PEERS, Worker, machine

OURS = ("ours", "Jacobian", "floor", "tight floor", "gemm")  # all other methods are peers
AGREEMENT = 1e-4  # of the largest entry, in single precision
SLOW = ("batches", "vector products")  # never the best peer so far: run only with --all
BRIEF = 0.1  # seconds: for a shorter call, the run that measured memory does not count as a measurement of time
LONG = 4.0  # seconds: a longer run is measured once
FAR = 10.0  # times the best peer's time; if also long, the method is skipped on later cases of the network
NEAR = 1.5  # times the best peer's time: within it, a peer is measured as often as the best


@dataclasses.dataclass
class Entry:
    """The measurements of one method on one case."""

    worker: Worker
    prepared_in: int = 0  # the number of the worker's start in which the method was prepared
    seconds: list[float] = dataclasses.field(default_factory=list)
    peak_bytes: int | None = None
    difference: float | None = None
    error: str | None = None
    parts: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def time(self) -> float:
        """The median time in seconds, or NaN if nothing was measured."""
        return statistics.median(self.seconds) if self.seconds and not self.error else math.nan

    def measure(self, method: str, limit: float) -> None:
        """Take one more measurement."""
        self.add(self.worker.ask(limit, do="measure", method=method))

    def add(self, answer: dict) -> None:
        """Store a worker's answer to one measurement."""
        self.error = answer.get("error")
        if self.error is None:
            self.seconds.append(answer["seconds"])
            self.parts = answer["parts"]


class Bench:
    """All workers, their results so far, and the methods that are skipped from now on."""

    def __init__(self, workers: list[Worker], folder: Path, repeats: int, limit: float, patient: bool) -> None:
        self.workers, self.folder, self.repeats, self.limit, self.patient = workers, folder, repeats, limit, patient
        self.given_up: dict[tuple, str] = {}  # (*case.net, method) -> why

    def run(self, case: Case) -> dict[str, Entry]:
        """Prepare, check and measure every method on one case once, and then measure in turn."""
        note(f"{case.name}")
        data = self.folder / "data.npz"
        save(case, data)
        entries: dict[str, Entry] = {}
        for worker in self.workers:
            for method in self._methods(worker, case):
                entries[method] = entry = Entry(worker)
                start = time.monotonic()
                self._begin(case, data, method, entry)
                shown = entry.error or f"{entry.time:.4f} s, difference {entry.difference or 0:.1e}"
                note(f"    {method:34}{time.monotonic() - start:5.1f} s to prepare; {shown}")
                if method == "ours" and entry.error:
                    return entries
        self._give_up(case, entries)
        self._repeat(case, data, entries)
        for worker in self.workers:
            if worker.process:
                worker.ask(self.limit, do="forget")
        return entries

    def _methods(self, worker: Worker, case: Case) -> list[str]:
        answer = worker.ask(self.limit, do="methods", case=dataclasses.asdict(case))
        if "error" in answer:
            note(f"    {worker.name}: {answer['error']}")
        if worker.name in ("ours", "plain"):
            return [method for method in OURS if (method == "ours") == (worker.name == "ours")]
        return [method for method in answer.get("methods", []) if self.patient or not method.endswith(SLOW)]

    def _begin(self, case: Case, data: Path, method: str, entry: Entry) -> None:
        """Compile, compare with ours, and measure once."""
        if (reason := self.given_up.get((*case.net, method))) is not None:
            entry.error = f"not tried: {reason}"
            return
        result = self.folder / ("ours.npy" if method == "ours" else "other.npy")
        result.unlink(missing_ok=True)
        answer = self._prepare(case, data, method, entry, result)
        if (error := answer.get("error")) is None and method != "ours" and result.exists():
            entry.difference = difference(self.folder / "ours.npy", result)
            if not entry.difference < AGREEMENT:
                error = f"differs by {entry.difference:.1e} of the largest entry"
        entry.error = error
        if error is None:
            entry.peak_bytes = answer["peak_bytes"]
            if answer["seconds"] > BRIEF:
                entry.add(answer)
            else:
                entry.measure(method, self.limit)

    def _prepare(self, case: Case, data: Path, method: str, entry: Entry, result: Path) -> dict:
        command = {"case": dataclasses.asdict(case), "data": str(data), "method": method, "result": str(result)}
        limit = 10 * self.limit if method in OURS else self.limit
        answer = entry.worker.ask(limit, do="prepare", **command)
        entry.prepared_in = entry.worker.starts
        return answer

    def _give_up(self, case: Case, entries: dict[str, Entry]) -> None:
        best = best_peer(entries)
        if not self.patient and (taken := entries["Jacobian"].time) > LONG:
            self.given_up[*case.net, "Jacobian"] = f"{taken:.0f} s on {case.name}; --all goes on"
        for method, entry in entries.items():
            if method in OURS or (entry.error or "").startswith("not tried"):
                continue
            if entry.error:
                self.given_up[*case.net, method] = f"{entry.error}, on {case.name}"
            elif entry.time > max(FAR * entries[best].time, LONG / 2):
                ratio = f"{entry.time / entries[best].time:.0f} times slower than {best}"
                self.given_up[*case.net, method] = f"{ratio}, on {case.name}"

    def _repeat(self, case: Case, data: Path, entries: dict[str, Entry]) -> None:
        """Take more measurements, in turn, of our method and of the peers that may be the best."""
        best = best_peer(entries)
        chosen = [
            method
            for method, entry in entries.items()
            if entry.time <= LONG and (method in OURS or entry.time <= NEAR * entries[best].time)
        ]
        for method in chosen:
            entry = entries[method]
            if entry.worker.process is None or entry.worker.starts != entry.prepared_in:  # it was ended in between
                entry.error = self._prepare(case, data, method, entry, self.folder / "again.npy").get("error")
        for _ in range(self.repeats - 1):
            for method in chosen:
                if entries[method].error is None:
                    time.sleep(0.02)  # let the spinning threads of the previous process go to sleep
                    entries[method].measure(method, self.limit)


def best_peer(entries: dict[str, Entry]) -> str | None:
    """The peer with the shortest time among those that agree with ours."""
    times = {method: entry.time for method, entry in entries.items() if method not in OURS and entry.time > 0}
    return min(times, key=times.__getitem__, default=None)


def difference(ours: Path, other: Path) -> float:
    """The largest difference of two arrays, relative to the largest entry of the first; infinite if shapes differ."""
    if not ours.exists():
        return math.inf
    a, b = np.load(ours, mmap_mode="r"), np.load(other, mmap_mode="r")
    if a.shape != b.shape:
        return math.inf
    rows = range(0, len(a), 64)
    largest = max(float(np.max(np.abs(a[i : i + 64]))) for i in rows)
    return max(float(np.max(np.abs(a[i : i + 64] - b[i : i + 64]))) for i in rows) / largest


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def figures(case: Case, entries: dict[str, Entry]) -> dict:
    """The numbers of a row of the table, with NaN for failures."""
    best = best_peer(entries)
    time_of = dict.fromkeys(OURS, math.nan) | {method: entry.time for method, entry in entries.items()}
    ours = time_of["ours"]
    rate = multiplications(case) / ours / (2048**3 / time_of["gemm"])
    differences = [entry.difference for entry in entries.values() if entry.difference is not None and not entry.error]
    return {
        "ours": ours,
        "best peer": best,
        "peer": time_of.get(best, math.nan),
        "over peer": time_of.get(best, math.nan) / ours,
        "over Jacobian": time_of["Jacobian"] / ours,
        "of floor": ours / time_of["floor"],
        "of tight floor": ours / time_of["tight floor"],
        "GEMM share": rate,
        "peak": entries["ours"].peak_bytes,
        "peer's peak": entries[best].peak_bytes if best else None,
        "difference": max(differences, default=math.nan),
    }


HEADER = (
    f"{'case':50}{'ours':>10}{'peer':>10}{'over it':>9}{'over Jac.':>10}{'x floor':>9}{'x tight':>9}"
    f"{'GEMM':>7}{'MB':>8}{'peer MB':>9}{'differ':>9}  best peer"
)


def line(case: Case, row: dict) -> str:
    """A row of the table."""
    peaks = [format(row[key] / 1e6, ".1f") if row[key] is not None else "-" for key in ("peak", "peer's peak")]
    return (
        f"{case.name:50}{row['ours']:9.4f}s{row['peer']:9.4f}s{row['over peer']:8.1f}x{row['over Jacobian']:9.1f}x"
        f"{row['of floor']:8.1f}x{row['of tight floor']:8.1f}x{100 * row['GEMM share']:6.0f}%{peaks[0]:>8}{peaks[1]:>9}"
        f"{row['difference']:9.0e}  {row['best peer'] or 'none'}"
    )


def summary(rows: dict[Case, dict]) -> dict[str, float]:
    """Print the numbers that support the claim."""

    def mean(key: str, wanted: object) -> float:
        chosen = [row[key] for case, row in rows.items() if wanted(case) and row[key] > 0]
        return statistics.geometric_mean(chosen) if chosen else math.nan

    over = [row["over peer"] for row in rows.values() if row["over peer"] > 0]
    floors = [
        (row["of floor"], row["of tight floor"]) for case, row in rows.items() if case.n >= 512 and row["of floor"] > 0
    ]
    return {
        "over the best peer, geometric mean": mean("over peer", lambda case: True),
        "  at n >= 1000 with 10 outputs": mean("over peer", lambda case: case.n >= 1000 and case.num_outputs == 10),
        "  at 997 and 200 x 199": mean("over peer", lambda case: case.n == 997 or case.m == 199),
        "  worst case": min(over, default=math.nan),
        "over the Jacobian product, geometric mean": mean("over Jacobian", lambda case: True),
        "  MLPs with 10 outputs": mean(
            "over Jacobian", lambda case: case.network.startswith("mlp") and case.num_outputs == 10
        ),
        "times the floor at n >= 512, largest": max((floor for floor, _ in floors), default=math.nan),
        "  times the tight floor": max((tight for _, tight in floors), default=math.nan),
    }


def growth(bench: Bench, sizes: list[Case]) -> list[dict]:
    """Print the time and memory of our method for growing n under one memory budget."""
    found = []
    ours = next(worker for worker in bench.workers if worker.name == "ours")
    note(f"growth: {len(sizes)} sizes")
    for case in sizes:
        save(case, bench.folder / "data.npz")
        entry = Entry(ours)
        bench._begin(case, bench.folder / "data.npz", "ours", entry)
        bench._repeat(case, bench.folder / "data.npz", {"ours": entry})
        found.append({"n": case.n, "seconds": entry.time, "peak_bytes": entry.peak_bytes, "error": entry.error})
        note(f"    n = {case.n:5} {entry.error or f'{entry.time:.3f} s'}")
    return found


def show_growth(found: list[dict], budget: int) -> None:
    print(f"\nGrowth: {GROWTH[0].name.rpartition(',')[0]}, memory_budget {budget / 2**20:.0f} MiB")
    print(f"{'n':>6}{'time':>10}{'peak MB':>10}{'result MB':>11}{'without it':>12}")
    for each in found:
        result = 4 * each["n"] ** 2 / 1e6
        peak = each["peak_bytes"] / 1e6 if each["peak_bytes"] is not None else math.nan
        print(f"{each['n']:6}{each['seconds']:9.3f}s{peak:10.1f}{result:11.1f}{peak - result:12.1f}")
    last = [each for each in found if each["seconds"] > 0][-3:]
    if len(last) > 1:
        logs = np.log([[each["n"], each["seconds"]] for each in last])
        print(f"time ~ n^{np.polyfit(logs[:, 0], logs[:, 1], 1)[0]:.2f} over the last {len(last)} sizes")


def workers_found(folder: Path, together: bool) -> list[Worker]:
    """The workers: ours, and the peers whose environments exist. Prints which ones are missing."""
    here = Path(sys.executable)
    found = [Worker(name, here, "with_ntkbias.py", folder / f"{name}.log") for name in ("ours", "plain")]
    for name in ("neural-tangents", "torch"):
        python = here if together else PEERS / name / "bin" / "python"
        if python.exists():
            found.append(Worker(name, python, f"with_{name.replace('-', '_')}.py", folder / f"{name}.log"))
        else:
            print(f"Missing: {name} (`make bench-peers` builds it)")
    for worker in list(found):
        if "error" in (answer := worker.start()):
            print(f"Missing: {worker.name} ({answer['error']})")
            found.remove(worker)
    if not {"ours", "plain"} <= {worker.name for worker in found}:
        sys.exit("Expected ntkbias to be installed beside this Python: see the message above.")
    return found


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a few small cases: a minute or two")
    size.add_argument("--all", action="store_true", help="every case: this takes long")
    size.add_argument("--growth", action="store_true", help="no cases: measure how time and memory grow with n")
    size.add_argument("--accelerator", action="store_true", help="sizes that keep a GPU busy")
    parser.add_argument("--together", action="store_true", help="run the peers in this environment")
    parser.add_argument("--cases", default="", help="only cases, among all, whose name contains this text")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, help="seconds to prepare one peer: 60 with --all, else 15")
    parser.add_argument("--json", type=Path, help="where to save everything")
    return parser.parse_args()


def chosen_cases(wanted: argparse.Namespace) -> list[Case]:
    if wanted.growth:
        return []
    if wanted.accelerator:
        return [case for case in ON_ACCELERATOR if wanted.cases in case.name]
    groups = {"quick"} if wanted.quick else {"quick", "standard"}
    if wanted.cases or wanted.all:
        return [case for case in CASES if wanted.cases in case.name]
    return [case for case in CASES if case.group in groups]


def report(bench: Bench, found: dict[Case, dict[str, Entry]], grown: list[dict], path: Path | None) -> None:
    """Print what failed and the summary, and save everything."""
    rows = {case: figures(case, entries) for case, entries in found.items()}
    failed = [(case, m, e.error) for case, entries in found.items() for m, e in entries.items() if e.error]
    if failed:
        print("\nFailed, or given up (and then not tried on later cases of that network and outputs):")
    for case, method, reason in failed:
        if not reason.startswith("not tried"):
            print(f"  {case.name}: {method}: {reason}")
    if grown:
        show_growth(grown, GROWTH[0].memory_budget)
    numbers = summary(rows)
    print()
    for label, value in numbers.items():
        print(f"{label:45}{value:8.2f}")
    if path:
        saved = {
            "machine": machine(),
            "versions": {worker.name: worker.versions for worker in bench.workers},
            "cases": [
                {"case": dataclasses.asdict(case), "row": rows[case], "methods": _plain(entries)}
                for case, entries in found.items()
            ],
            "growth": grown,
            "summary": numbers,
        }
        path.write_text(json.dumps(saved, indent=1))


def _plain(entries: dict[str, Entry]) -> dict[str, dict]:
    keys = ("seconds", "peak_bytes", "difference", "error", "parts")
    return {method: {key: getattr(entry, key) for key in keys} for method, entry in entries.items()}


def main() -> None:
    wanted = options()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workers = workers_found(folder, wanted.together)
        versions = [f"{package} {v}" for worker in workers for package, v in worker.versions.items()]
        print(f"{machine()}\n{', '.join(dict.fromkeys(versions))}; median of {wanted.repeats}, in turn")
        limit = wanted.limit or (60.0 if wanted.all else 15.0)
        bench = Bench(workers, folder, wanted.repeats, limit, wanted.all)
        try:
            found: dict[Case, dict[str, Entry]] = {}
            grown: list[dict] = []
            print(f"\n{HEADER}", flush=True)
            try:
                for case in chosen_cases(wanted):
                    found[case] = bench.run(case)
                    print(line(case, figures(case, found[case])), flush=True)
                sizes = [] if wanted.cases or wanted.accelerator else GROWTH[:3] if wanted.quick else GROWTH
                grown = growth(bench, sizes) if sizes else []
            except KeyboardInterrupt:
                print("\nInterrupted: what was measured so far.")
            report(bench, found, grown, wanted.json)
        finally:
            for worker in workers:
                worker.stop()


if __name__ == "__main__":
    main()
