"""How much more than the model's own backward passes does the kernel of a language model cost?

Claim: the kernel of n contexts and k contrasts of next tokens costs about as much as k backward passes over the n
contexts, each of which gives one gradient of the sum over contexts. The kernel shares the forward pass among contrasts
and forms no gradient of the parameters, but it compares all contexts with each other. Memory stays far below that of
the n k gradients themselves, which is what a Jacobian holds.

Both are compiled first and then timed, each as the least of `--repeats` runs. Processor time counts, as wall time on a
shared machine does not repeat.

    python benchmarks/language_model.py [--weights FOLDER] [--num-contexts 16] [--num-contrasts 4]

FOLDER holds a GGUF file of the Llama family. Without it, a transformer with random weights stands in.
"""

import argparse
import json
import platform
import resource
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import ntkbias as nb
from ntkbias.studies.contexts import FAMILIES, contexts

STAND_IN = {"vocabulary": 8_000, "width": 128, "hidden": 256, "depth": 6}
LENGTH = 8  # tokens of the stand-in's contexts


def model(options: argparse.Namespace):
    """The structure, parameters, contexts `(n, t)`, and pairs of next tokens `(k, 2)`."""
    rng = np.random.default_rng(0)
    if options.weights is None:
        transformer = nb.language.Transformer(num_heads=4, num_key_heads=2)
        tokens = rng.integers(0, STAND_IN["vocabulary"], (options.num_contexts, LENGTH))
        pairs = rng.permutation(STAND_IN["vocabulary"])[: 2 * options.num_contrasts].reshape(-1, 2)
        return transformer, transformer.init(jax.random.key(0), **STAND_IN), tokens, pairs
    transformer, params, tokenizer = nb.language.read_gguf(options.weights)
    texts, _ = contexts(FAMILIES["number"], options.num_contexts, rng)
    words = [family.contrast for family in FAMILIES.values()] + [family.paraphrase for family in FAMILIES.values()]
    if options.num_contrasts > len(words):
        raise SystemExit(f"Expected --num-contrasts of at most {len(words)}; got {options.num_contrasts}.")
    pairs = [[tokenizer.encode_one(word) for word in pair] for pair in words[: options.num_contrasts]]
    return transformer, params, tokenizer.encode_batch(texts), np.array(pairs)


def least(work, repeats: int) -> tuple[float, float]:
    """The least processor time and wall time of `work`, in seconds, after one run that compiles."""
    found = []
    for _ in range(repeats + 1):
        began, used = time.perf_counter(), time.process_time()
        jax.block_until_ready(work())
        found.append((time.process_time() - used, time.perf_counter() - began))
    return min(each[0] for each in found[1:]), min(each[1] for each in found[1:])


def peak() -> float:
    """The largest resident set of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, help="a folder with a GGUF file")
    parser.add_argument("--num-contexts", type=int, default=16)
    parser.add_argument("--num-contrasts", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to save everything")
    options = parser.parse_args()
    transformer, params, tokens, pairs = model(options)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    n, k = len(tokens), len(pairs)

    @jax.jit
    def backward(params, pair):
        return jax.grad(lambda p: jnp.sum(transformer.preferences({"model": p, "pairs": pair[None]}, tokens)))(params)

    floor = least(lambda: [jax.block_until_ready(backward(params, pair)) for pair in pairs], options.repeats)
    before = peak()
    kernel = nb.empirical_ntk(
        transformer.preferences, {"model": params, "pairs": pairs}, outputs="each", wrt="['model']"
    )
    cost = least(lambda: kernel(tokens), options.repeats)
    found = {
        "parameters": count,
        "contexts": n,
        "tokens": tokens.shape[1],
        "contrasts": k,
        "backward passes, processor s": floor[0],
        "kernel, processor s": cost[0],
        "backward passes, s": floor[1],
        "kernel, s": cost[1],
        "ratio": cost[0] / floor[0],
        "peak GB, backward passes": before,
        "peak GB, kernel": peak(),
        "Jacobian GB": 4e-9 * n * k * count,
        "machine": f"{platform.machine()}, jax {jax.__version__}, {jax.devices()[0].device_kind}",
    }
    print(f"{count / 1e6:.1f} million parameters, {n} contexts of {tokens.shape[1]} tokens, {k} contrasts")
    print(f"{k} backward passes over all contexts: {floor[0]:.2f} s of processor time, {floor[1]:.2f} s")
    print(f"the kernel: {cost[0]:.2f} s of processor time, {cost[1]:.2f} s")
    print(f"ratio: {found['ratio']:.2f}")
    print(f"peak memory {found['peak GB, kernel']:.1f} GB; a Jacobian would hold {found['Jacobian GB']:.1f} GB")
    print(found["machine"])
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
