"""The two recipes of torch.func for the empirical NTK, and nngeometry, on torch modules with the same weights."""

import importlib.metadata

import numpy as np
import torch
from cases import Case, Layer, layers, load, num_parameters
from torch import nn
from torch.func import functional_call, jacrev, jvp, vjp, vmap
from worker import Part, Work, serve

JACOBIAN_BYTES = 2**31  # per strip of examples
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
torch.backends.cudnn.allow_tf32 = False  # matrix products use full float32 by default


class Network(nn.Module):
    """The layers of a case, by name. Images are (channels, height, width)."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({layer.name: module(layer) for layer in layers(case.network, case.num_outputs)})


class Mlp(Network):
    """Dense layers with ReLU in between."""

    def forward(self, x):
        """The outputs `(n, o)`."""
        *hidden, last = self.layers.values()
        for k, layer in enumerate(hidden):
            x = torch.relu(gain(k) * layer.in_features**-0.5 * layer(x))
        return last.in_features**-0.5 * last(x)


class Cnn(Network):
    """Convolutions with ReLU, then a dense layer over all positions or on their mean."""

    def forward(self, x):
        """The outputs `(n, o)`."""
        *hidden, last = self.layers.values()
        for k, layer in enumerate(hidden):
            x = torch.relu(gain(k) * (9 * layer.in_channels) ** -0.5 * layer(x))
        x = x.mean((2, 3)) if last.in_features == x.shape[1] else x.flatten(1)
        return last.in_features**-0.5 * last(x)


class ResNet(Network):
    """Basic blocks, with projections where the channels change."""

    def forward(self, x):
        """The outputs `(n, o)`."""
        x = torch.relu(self.layers["stem"](x))
        for stage in range(4):
            for block in range(2):
                name = f"stage{stage}_block{block}"
                branch = self.layers[f"{name}_conv1"](torch.relu(self.layers[f"{name}_conv0"](x)))
                if f"{name}_shortcut" in self.layers:
                    x = self.layers[f"{name}_shortcut"](x)
                x = torch.relu(x + branch)
        return self.layers["head"](x.mean((2, 3)))


class Transformer(Network):
    """One pre-norm block."""

    def forward(self, x):
        """The outputs `(n, o)`."""
        n, length, width = x.shape
        qkv = self.layers["qkv"](self.layers["norm0"](x)).reshape(n, length, 3, 4, width // 4)
        q, k, v = (qkv[:, :, part].transpose(1, 2) for part in range(3))
        scores = torch.softmax(q @ k.transpose(-1, -2) / (width // 4) ** 0.5, -1)
        x = x + self.layers["projection"]((scores @ v).transpose(1, 2).reshape(n, length, width))
        x = x + self.layers["reduce"](nn.functional.gelu(self.layers["expand"](self.layers["norm1"](x))))
        return self.layers["head"](x.mean(1))


MODULES = {"mlp": Mlp, "cnn": Cnn, "res": ResNet, "tra": Transformer}


def gain(k: int) -> float:
    return 2**0.5 if k else 1.0


def module(layer: Layer) -> nn.Module:
    if layer.norm:
        return nn.LayerNorm(layer.fan_out)
    if not layer.window:
        return nn.Linear(layer.fan_in, layer.fan_out, bias=layer.bias)
    halves = layer.name.startswith("stage") and layer.fan_in != layer.fan_out
    window = layer.window[0]
    return nn.Conv2d(layer.fan_in, layer.fan_out, window, 2 if halves else 1, window // 2, bias=layer.bias)


def network(case: Case, params: dict[str, np.ndarray]) -> Network:
    made = MODULES[case.network[:3]](case)
    state = {}
    for name, value in params.items():
        layer, kind = name.split(".")
        if case.network == "cnn_flatten" and layer == "dense":  # from (height, width, channels) to channels first
            value = value.reshape(256, 32, -1).transpose(1, 0, 2).reshape(256 * 32, -1)
        value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
        state[f"layers.{layer}.{'weight' if kind == 'w' else 'bias'}"] = torch.tensor(np.ascontiguousarray(value))
    made.load_state_dict(state)
    return made


def by_jacobians(model: Network, x1: torch.Tensor, x2: torch.Tensor | None, case: Case) -> torch.Tensor:
    """The recipe by Jacobian contraction, in strips of examples if the Jacobian does not fit."""
    params = {name: value.detach() for name, value in model.named_parameters()}

    def single(params, x):
        return functional_call(model, params, (x[None],))[0]

    def jacobians(x):
        return [leaf.flatten(2) for leaf in vmap(jacrev(single), (None, 0))(params, x).values()]

    rows = max(1, JACOBIAN_BYTES // (4 * case.num_outputs * num_parameters(case)))
    if max(case.n, case.m) <= rows:
        left = jacobians(x1)
        return products(left, left if x2 is None else jacobians(x2), case)
    other = x1 if x2 is None else x2
    outputs = (case.num_outputs,) if case.outputs == "all" else ()
    result = torch.empty((case.n, *outputs, case.columns, *outputs), device=DEVICE)
    for i in range(0, case.n, rows):
        left = jacobians(x1[i : i + rows])
        for j in range(i if x2 is None else 0, case.columns, rows):
            right = left if x2 is None and i == j else jacobians(other[j : j + rows])
            block = products(left, right, case)
            _at(result, i, j, rows, case).copy_(block)
            if x2 is None and i != j:
                _at(result, j, i, rows, case).copy_(block.permute(2, 3, 0, 1) if outputs else block.T)
    return result


def _at(result: torch.Tensor, i: int, j: int, rows: int, case: Case) -> torch.Tensor:
    return result[i : i + rows, :, j : j + rows] if case.outputs == "all" else result[i : i + rows, j : j + rows]


def products(left: list[torch.Tensor], right: list[torch.Tensor], case: Case) -> torch.Tensor:
    pairs = zip(left, right, strict=True)
    if case.outputs == "all":
        return sum(torch.einsum("nap,mbp->namb", a, b) for a, b in pairs)
    return sum(a.flatten(1) @ b.flatten(1).T for a, b in pairs) / case.num_outputs


def by_vector_products(model: Network, x1: torch.Tensor, x2: torch.Tensor | None, case: Case) -> torch.Tensor:
    """The recipe by NTK-vector products."""
    params = {name: value.detach() for name, value in model.named_parameters()}

    def single(params, x):
        return functional_call(model, params, (x[None],))[0]

    def pair(x1, x2):
        def product(vector):
            pulled = vjp(lambda params: single(params, x1), params)[1](vector)
            return jvp(lambda params: single(params, x2), (params,), pulled)[1]

        return vmap(product)(torch.eye(case.num_outputs, device=DEVICE))

    every = vmap(vmap(pair, (None, 0)), (0, None))(x1, x1 if x2 is None else x2)  # (n, m, o, o)
    if case.outputs == "all":
        return every.permute(0, 2, 1, 3)
    return torch.einsum("nmaa->nm", every) / case.num_outputs


def by_nngeometry(model: Network, x1: torch.Tensor, x2: torch.Tensor | None, case: Case) -> torch.Tensor:
    """nngeometry's Gram matrix. It has all pairs of outputs, and knows one set of inputs.

    The mean over outputs takes one Gram matrix per output. Two sets of inputs are joined, and one block is kept.
    """
    from nngeometry import GramMatrix

    x = x1 if x2 is None else torch.cat([x1, x2])
    columns = slice(None) if x2 is None else slice(case.n, None)

    def gram(function):
        return GramMatrix(model, (x,), function=function).to_torch()[:, : case.n, :, columns]

    if case.outputs == "all":
        return gram(lambda x: model(x)).permute(1, 0, 3, 2)
    parts = (gram(lambda x, k=k: model(x)[:, k : k + 1])[0, :, 0] for k in range(case.num_outputs))
    return sum(parts) / case.num_outputs


METHODS = {
    "torch.func Jacobian contraction": by_jacobians,
    "torch.func NTK-vector products": by_vector_products,
    "nngeometry": by_nngeometry,
}


def make(case: Case, path: str, method: str) -> Work:
    params, *inputs = load(path)
    model = network(case, params).to(DEVICE)
    tensors = [None if x is None else torch.tensor(x, device=DEVICE) for x in inputs]
    if len(inputs[0].shape) == 4:
        tensors = [None if x is None else x.permute(0, 3, 1, 2).contiguous() for x in tensors]

    def run() -> torch.Tensor:
        result = METHODS[method](model, *tensors, case)
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        return result

    return Work({method: Part(run)}, lambda K: K.detach().cpu().numpy())


def methods(case: Case) -> list[str]:
    here = [name for name in METHODS if name != "nngeometry" or "nngeometry" in installed()]
    return [name for name in here if case.few or not name.endswith("NTK-vector products")]


def installed() -> dict[str, str]:
    found = {}
    for package in ("torch", "nngeometry", "numpy"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    serve(installed(), methods, make)
