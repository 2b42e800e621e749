"""Weights of a language model from a GGUF file, as llama.cpp writes them: a transformer, its parameters, its tokenizer.

Models of the architecture "llama" with a tied table are read, such as SmolLM2. Quantized weights become float32. The
package `gguf` reads the file; `pip install 'ntkbias[language]'` brings it. Nothing is downloaded: name a file or a
folder of your own.

>>> import ntkbias as nb
>>> try:
...     nb.language.read_gguf("no/such/folder")
... except nb.InputError as error:
...     print(error)
Expected a GGUF file, or a folder with one; got no/such/folder, which does not exist.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ntkbias.errors import InputError
from ntkbias.language.tokens import Tokenizer
from ntkbias.language.transformers import Transformer
from ntkbias.types import Params

__all__ = ["LanguageModel", "read_gguf"]

ENDING = ".gguf"
NAMES = {
    "attn_norm": "attention_norm",
    "attn_q": "query",
    "attn_k": "key",
    "attn_v": "value",
    "attn_output": "mix",
    "ffn_norm": "hidden_norm",
    "ffn_gate": "gate",
    "ffn_up": "up",
    "ffn_down": "down",
}
SEPARATE = "output.weight"  # a read-out that is not the table


class LanguageModel(NamedTuple):
    """A language model: the structure, its parameters, and its tokenizer. Made by `read_gguf`.

    >>> LanguageModel("transformer", {"table": 0}, "tokenizer")._fields
    ('transformer', 'params', 'tokenizer')
    """

    transformer: Transformer
    params: Params
    tokenizer: Tokenizer


def read_gguf(path: str | Path, *, depth: int | None = None) -> LanguageModel:
    """The language model in a GGUF file, or in the only one of a folder, in float32.

    `depth` keeps only the first layers. Memory is 4 bytes per parameter, twice that while it reads. Weights come as
    the file has them: 4-bit weights lie on a grid of 16 values per group of 32.

    Raises `InputError` if there is no file or more than one, if the architecture is not "llama", if the read-out is not
    the table, if the tokenizer is not one of byte pairs, and if `gguf` is not installed.

    >>> from ntkbias.language import read_gguf
    >>> model = read_gguf(folder)  # doctest: +SKIP
    >>> tokens = model.tokenizer.encode_batch(["The capital of France is"])  # doctest: +SKIP
    >>> model.tokenizer.decode(model.transformer.last_logits(model.params, tokens).argmax(1))  # doctest: +SKIP
    ' Paris'
    """
    file = _file(Path(path))
    try:
        import gguf
    except ImportError as error:
        raise InputError(
            "Expected the package gguf, which reads GGUF files; it is not installed. pip install 'ntkbias[language]' "
            "brings it."
        ) from error
    try:
        reader = gguf.GGUFReader(file)
    except (ValueError, OSError, IndexError) as error:
        raise InputError(f"Expected a GGUF file; got {file}, which does not read as one: {error}.") from error

    def fact(name: str, default: Any = None) -> Any:
        field = reader.get_field(name)
        if field is None and default is None:
            raise InputError(f"Expected a GGUF file of a language model; {file.name} does not say {name}.")
        return default if field is None else field.contents()

    architecture = fact("general.architecture")
    if architecture != "llama":
        raise InputError(f"Expected a model of the architecture llama; got {architecture} in {file.name}.")
    stored = {tensor.name: tensor for tensor in reader.tensors}
    if SEPARATE in stored:
        raise InputError(f"Expected a model whose table makes its logits; {file.name} has a read-out of its own.")
    if fact("tokenizer.ggml.model") != "gpt2":
        raise InputError(f"Expected a tokenizer of byte pairs; got {fact('tokenizer.ggml.model')} in {file.name}.")
    count = int(fact("llama.block_count"))
    if depth is not None and not 1 <= depth <= count:
        raise InputError(f"Expected a depth of 1 to {count} layers; got {depth}.")

    def weights(name: str) -> np.ndarray:
        if name not in stored:
            raise InputError(f"Expected the weights {name} in {file.name}; they are missing.")
        tensor = stored[name]
        shape = tuple(int(size) for size in tensor.shape[::-1])
        return np.asarray(gguf.dequantize(tensor.data, tensor.tensor_type), np.float32).reshape(shape)

    layers = {}
    for theirs, ours in NAMES.items():
        parts = [weights(f"blk.{layer}.{theirs}.weight").T for layer in range(count if depth is None else depth)]
        layers[ours] = jnp.asarray(np.stack(parts))
    params = {
        "table": jnp.asarray(weights("token_embd.weight")),
        "layers": layers,
        "norm": jnp.asarray(weights("output_norm.weight")),
    }
    heads = int(fact("llama.attention.head_count"))
    transformer = Transformer(
        num_heads=heads,
        num_key_heads=int(fact("llama.attention.head_count_kv", heads)),
        base=float(fact("llama.rope.freq_base", 10_000.0)),
        epsilon=float(str(np.float32(fact("llama.attention.layer_norm_rms_epsilon")))),  # 1e-5, which float32 rounds
    )
    merges = [tuple(merge.split(" ", 1)) for merge in fact("tokenizer.ggml.merges")]
    single = fact("tokenizer.ggml.pre", "default") in SINGLE_DIGITS
    return LanguageModel(transformer, params, Tokenizer(fact("tokenizer.ggml.tokens"), merges, single))


SINGLE_DIGITS = ("smollm", "starcoder", "refact", "command-r", "codeshell")  # these split numbers into digits


def _file(path: Path) -> Path:
    if not path.exists():
        raise InputError(f"Expected a GGUF file, or a folder with one; got {path}, which does not exist.")
    if path.is_file():
        return path
    found = sorted(path.rglob(f"*{ENDING}"))
    if len(found) != 1:
        raise InputError(f"Expected one file *{ENDING} in {path}; got {len(found)}. Name the file.")
    return found[0]
