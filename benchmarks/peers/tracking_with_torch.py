"""The loop that users of torch.func write: train, and compute the kernel of the probe at some steps.

python tracking_with_torch.py PROBLEM.npz STEP STEP ...        prints one line of JSON
"""

import json
import sys
import time

import numpy as np
import torch
from torch.func import jacrev, vmap
from torch.nn import functional
from tracking_case import RATE, STRIDES, batch_at

PIECE = 50  # examples per Jacobian: each has 10 rows over all parameters


def f(params: dict, x: torch.Tensor) -> torch.Tensor:
    """Logits (n, 10) of images (n, channels, height, width)."""
    for k, stride in enumerate(STRIDES):
        x = torch.relu(functional.conv2d(x, params[f"w{k}"], stride=stride, padding=1))
    return x.mean((2, 3)) @ params["out"]


def kernel(params: dict, probe: torch.Tensor) -> torch.Tensor:
    """The mean over outputs of the NTK, from Jacobians in pieces (the recipe of torch's tutorial)."""
    one = vmap(jacrev(lambda params, x: f(params, x[None])[0]), (None, 0))
    pieces = [one(params, piece) for piece in probe.split(PIECE)]
    rows = torch.cat([torch.cat([leaf.flatten(2) for leaf in piece.values()], 2) for piece in pieces])
    return torch.einsum("iap,jap->ij", rows, rows) / rows.shape[1]


def main() -> None:
    """Train, and compute the kernels."""
    arrays = dict(np.load(sys.argv[1]))
    at = [int(word) for word in sys.argv[2:]]
    params = {name: torch.tensor(arrays[name]) for name in arrays if name not in ("x", "y", "probe")}
    params = {name: w.permute(3, 2, 0, 1).contiguous() if w.ndim == 4 else w for name, w in params.items()}
    x, probe = (torch.tensor(arrays[name]).permute(0, 3, 1, 2).contiguous() for name in ("x", "probe"))
    y = torch.tensor(arrays["y"]).long()
    began, kernels = time.perf_counter(), 0.0
    for number in range(at[-1] + 1):
        if number in at:
            start = time.perf_counter()
            with torch.no_grad():
                trace = float(torch.trace(kernel(params, probe)))
            kernels += time.perf_counter() - start
        if number < at[-1]:
            chosen = torch.tensor(batch_at(number, len(x)))
            leaves = {name: w.detach().requires_grad_() for name, w in params.items()}
            value = functional.cross_entropy(f(leaves, x[chosen]), y[chosen])
            gradient = torch.autograd.grad(value, list(leaves.values()))
            params = {name: (w - RATE * g).detach() for (name, w), g in zip(leaves.items(), gradient, strict=True)}
    print(json.dumps({"seconds": time.perf_counter() - began, "kernels": kernels, "trace": trace / len(probe)}))


if __name__ == "__main__":
    main()
