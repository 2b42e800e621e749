"""What does it cost to follow a kernel through training, beyond the training and the kernels themselves?

Claim: `track` with its default measures takes at most 1.05 times as long as its parts. The parts are the training
alone, by the faster of a compiled scan and a loop over a compiled step, and as many kernels of the probe, each called
alone. Our step asks the compiler for faster convolutions, which a plain `jax.jit` does not. So there is a second
comparison, with a loop over a step with the same options ("apart, our options"): the remaining difference is the cost
of following.

The case is a CNN on MNIST (`peers/tracking_case.py`) with 30 snapshots in 3,000 steps, a probe of 500 and 10 outputs.
Each variant runs in its own process, compilation included. All variants run `--rounds` times in turn, and the median is
reported. If their environments exist (`make bench-peers`), the loops that users of neural-tangents and torch.func would
write run too; they compute kernels but take no measures. neural-tangents also runs on this JAX, through our adapter.
The transfers from device to host are counted: the calls that move an array, and their bytes.

`--large` follows a probe of 5,000, and reports its memory.

    python benchmarks/tracking.py [--steps N] [--snapshots N] [--probe N] [--rounds N] [--alone | --peer T] [--large]
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from peers.process import PEERS, machine
from peers.tracking_case import BATCH, RATE, batch_at, problem

HERE = Path(__file__).resolve().parent
TRIED = 30  # steps that decide whether a scan or a loop is faster


def main() -> None:
    """Run all variants in turn, and compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--snapshots", type=int, default=30)
    parser.add_argument("--probe", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="without other packages")
    parser.add_argument("--peer", default="", help="only other packages whose name contains this text")
    parser.add_argument("--large", action="store_true", help="a probe of 5,000, and two snapshots")
    parser.add_argument("--mnist", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "mnist")
    parser.add_argument(
        "--way", choices=("track", "apart", "apart, our options"), help=argparse.SUPPRESS
    )  # in a process of its own
    parser.add_argument("--file", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        sys.path.insert(0, str(HERE / "peers"))  # as its modules import each other
        print(json.dumps(WAYS[options.way](options)))
        return
    print(machine())
    if options.large:
        options.probe, options.steps, options.snapshots, options.rounds = 5_000, min(options.steps, 100), 2, 1
    with tempfile.TemporaryDirectory() as folder:
        options.file = f"{folder}/problem.npz"
        np.savez(options.file, **problem(options.mnist, options.probe))
        report(options)


def report(options: argparse.Namespace) -> None:
    """Print the table."""
    others = {} if options.large or options.alone else peers()
    ways = dict.fromkeys(WAYS) | {name: python for name, python in others.items() if options.peer in name}
    found: dict[str, list[dict]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way, python in ways.items():
            found[way].append(run(options, way, python))
    print(
        f"{options.snapshots} snapshots of {options.probe} inputs along {options.steps} steps, {options.rounds} rounds"
    )
    print(f"{'way':>30}{'seconds':>10}{'CPU s':>8}{'training':>10}{'kernels':>9}{'MB':>7}{'to host':>9}{'MB':>8}")
    for way, answers in found.items():
        good = [answer for answer in answers if "error" not in answer]
        if not good:
            print(f"{way:>30}  {answers[0]['error']}")
            continue
        middle = {key: float(np.median([answer.get(key, np.nan) for answer in good])) for key in good[0]}
        print(f"{way:>30}{middle['seconds']:10.1f}", end="")
        for key, width, digits in (
            ("cpu", 8, 1),
            ("training", 10, 1),
            ("kernels", 9, 1),
            ("megabytes", 7, 0),
            ("calls", 9, 0),
            ("host", 8, 1),
        ):
            print(f"{middle.get(key, np.nan):{width}.{digits}f}", end="")
        print()
    for other in ("apart", "apart, our options"):
        pairs = [
            both for both in zip(found["track"], found[other], strict=True) if not any("error" in one for one in both)
        ]
        for key, name in (("seconds", "time"), ("cpu", "CPU time, which other processes disturb less")):
            ratios = [ours[key] / theirs[key] for ours, theirs in pairs]
            if ratios:
                spread = f"({min(ratios):.3f} to {max(ratios):.3f})"
                print(f"track over {other}: {np.median(ratios):.3f} {spread}, {name}")


def peers() -> dict[str, Path | None]:
    """The environments of other packages that exist."""
    found: dict[str, Path | None] = {"neural-tangents, this JAX": Path(sys.executable)}
    for name in ("neural-tangents", "torch"):
        python = PEERS / name / "bin" / "python"
        if python.exists():
            found[name] = python
        else:
            print(f"{name}: no environment of its own is there, and it is left out (make bench-peers builds it)")
    return found


def run(options: argparse.Namespace, way: str, python: Path | None) -> dict:
    """One measurement, in its own process."""
    steps = [str(step) for step in snapshots(options)]
    words = [sys.executable, __file__, "--way", way, "--file", options.file, "--steps", str(options.steps)]
    words += ["--snapshots", str(options.snapshots)]
    if python is not None:
        script = "tracking_with_torch.py" if way == "torch" else "tracking_with_neural_tangents.py"
        words = [str(python), str(HERE / "peers" / script), options.file, *steps]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1][:100]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def snapshots(options: argparse.Namespace) -> list[int]:
    """Equally spaced steps, including the first and the last."""
    return sorted({round(step) for step in np.linspace(0, options.steps, options.snapshots)})


def loaded(options: argparse.Namespace) -> tuple:
    """The parameters and the data, on the device."""
    import jax.numpy as jnp

    arrays = dict(np.load(options.file))
    params = {name: jnp.asarray(arrays[name]) for name in arrays if name not in ("x", "y", "probe")}
    return params, *(jnp.asarray(arrays[name]) for name in ("x", "y", "probe"))


def tracked(options: argparse.Namespace) -> dict:
    """Run `track` with its default measures."""
    import optax
    from tracking_in_jax import f

    from ntkbias.tracking import track

    params, x, y, probe = loaded(options)
    before = peak()
    with counted() as host:
        began, used = time.perf_counter(), time.process_time()
        history = track(
            f,
            params,
            (x, y),
            optimizer=optax.sgd(RATE),
            num_steps=options.steps,
            loss="cross_entropy",
            batch_size=BATCH,
            probe=(probe, y[: len(probe)]),
            at=snapshots(options),
        )
        seconds, cpu = time.perf_counter() - began, time.process_time() - used
    assert len(history) == len(snapshots(options))
    return {"seconds": seconds, "cpu": cpu, "megabytes": (peak() - before) / 2**20, **host}


def apart(options: argparse.Namespace) -> dict:
    """Run the training alone, in the faster variant, and as many kernels, each called alone."""
    import jax
    import jax.numpy as jnp
    from tracking_in_jax import f, scan, step

    import ntkbias as nb
    from ntkbias.compilation import compiled

    if options.way != "apart":
        step = compiled(step.__wrapped__)

    params, x, y, probe = loaded(options)
    order = jnp.asarray(np.stack([batch_at(number, len(x)) for number in range(options.steps)]))
    tried = {}
    for way in ("loop", "scan"):
        for _ in range(2):  # the second time, it is compiled
            start = time.perf_counter()
            if way == "scan":
                jax.block_until_ready(scan(params, x, y, order[:TRIED]))
            else:
                current = params
                for number in range(TRIED):
                    current = step(current, x, y, order[number])
                jax.block_until_ready(current)
            tried[way] = time.perf_counter() - start
    jax.clear_caches()
    before, stored, current = peak(), [params], params
    began, used = time.perf_counter(), time.process_time()
    at = snapshots(options)
    for first, last in itertools.pairwise(at):
        if tried["scan"] < tried["loop"]:
            current = scan(current, x, y, order[first:last])
        else:
            for number in range(first, last):
                current = step(current, x, y, order[number])
        stored.append(current)
    jax.block_until_ready(current)
    training = time.perf_counter() - began
    for each in stored:
        jax.block_until_ready(nb.empirical_ntk(f, each)(probe))
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "cpu": time.process_time() - used,
        "training": training,
        "kernels": seconds - training,
        "megabytes": (peak() - before) / 2**20,
    }


class counted:
    """Counts the arrays that NumPy or a conversion to a number moves to the host, and their bytes."""

    names = ("__float__", "__int__", "__bool__")

    def __enter__(self) -> dict:
        import jax
        import jax.numpy as jnp

        self.type = type(jnp.ones(1))
        self.originals = {name: getattr(self.type, name) for name in self.names}
        self.asarray = np.asarray
        found = {"calls": 0, "host": 0.0}

        def count(array: object) -> None:
            if isinstance(array, jax.Array) and jax.dtypes.issubdtype(array.dtype, np.number):
                found["calls"] += 1
                found["host"] += array.nbytes / 2**20

        def counting(function):
            def bring(array, *args, **options):
                count(array)
                return function(array, *args, **options)

            return bring

        np.asarray = counting(np.asarray)
        for name in self.names:
            setattr(self.type, name, counting(self.originals[name]))
        return found

    def __exit__(self, *_: object) -> None:
        np.asarray = self.asarray
        for name in self.names:
            setattr(self.type, name, self.originals[name])


def peak() -> int:
    """The peak memory of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("Expected a system with /proc; found none.")


WAYS = {"track": tracked, "apart": apart, "apart, our options": apart}

if __name__ == "__main__":
    main()
