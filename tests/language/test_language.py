"""The transformer, its weights from a file, and its tokenizer."""

import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import assert_near

import ntkbias as nb
from ntkbias.language import Tokenizer, Transformer, read_gguf
from ntkbias.studies.parts import ease_of_parts, layer_of, parts_of

MODEL = Transformer(num_heads=4, num_key_heads=2)
SIZES = {"vocabulary": 11, "width": 8, "hidden": 12, "depth": 2}
PARAMS = MODEL.init(jax.random.key(0), **SIZES)
TOKENS = jax.random.randint(jax.random.key(1), (3, 5), 0, 11)


def by_hand(params, tokens, model=MODEL):
    """One context, head by head and position by position, in NumPy."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, float), params)
    norm = lambda h, scale: h / np.sqrt(np.mean(h**2) + model.epsilon) * scale  # noqa: E731
    h = [p["table"][token] for token in tokens]
    width = p["layers"]["query"].shape[-1] // model.num_heads

    def rotated(vector, position):
        angles = position * model.base ** (-np.arange(0, width, 2) / width)
        turned = (vector[::2] + 1j * vector[1::2]) * np.exp(1j * angles)
        return np.stack([turned.real, turned.imag], -1).ravel()

    for place in range(len(p["layers"]["query"])):
        layer = {name: leaf[place] for name, leaf in p["layers"].items()}
        inputs = [norm(state, layer["attention_norm"]) for state in h]
        added = []
        for t in range(len(h)):
            heads = []
            for head in range(model.num_heads):
                shared = head // (model.num_heads // model.num_key_heads)
                own, other = (slice(width * index, width * (index + 1)) for index in (head, shared))
                query = rotated((inputs[t] @ layer["query"])[own], t)
                scores = [query @ rotated((inputs[s] @ layer["key"])[other], s) / width**0.5 for s in range(t + 1)]
                weights = np.exp(scores) / np.sum(np.exp(scores))
                heads.append(sum(w * (inputs[s] @ layer["value"])[other] for s, w in enumerate(weights)))
            added.append(np.concatenate(heads) @ layer["mix"])
        h = [state + more for state, more in zip(h, added, strict=True)]
        inner = [norm(state, layer["hidden_norm"]) for state in h]
        gate = [state @ layer["gate"] for state in inner]
        h = [
            state + (g / (1 + np.exp(-g)) * (i @ layer["up"])) @ layer["down"]
            for state, g, i in zip(h, gate, inner, strict=True)
        ]
    return np.stack([norm(state, p["norm"]) for state in h]) @ p["table"].T


def test_the_transformer_is_its_formulas():
    found = MODEL.logits(PARAMS, TOKENS)
    for row, tokens in zip(found, TOKENS, strict=True):
        assert_near(row, by_hand(PARAMS, tokens), 1e-5)
    assert_near(MODEL.logits(MODEL.by_layer(PARAMS), TOKENS), found, 1e-6)
    assert_near(MODEL.last_logits(PARAMS, TOKENS), found[:, -1], 1e-6)


def test_layers_and_kinds_of_parameters_add_up():
    """The kernels of a study's parts are those of the whole, and their eases weighted by the trace are its ease."""
    variables = {"model": PARAMS, "pairs": np.array([[3, 4]])}
    whole = nb.empirical_ntk(MODEL.preferences, variables, outputs="each", wrt="['model']")(TOKENS)[0]
    grams, labeling = parts_of(MODEL, PARAMS, np.asarray(TOKENS), [3, 4]), np.arange(len(TOKENS)) < 2
    assert_near(sum(grams.values()), whole, 1e-5)
    ease = nb.behaviors.ease(whole, labeling)["labeling"].ease.value
    for groups in ease_of_parts(grams, labeling).values():
        np.testing.assert_allclose(groups["share"] @ groups["ease"][:, 0], ease, rtol=1e-4)
        np.testing.assert_allclose(groups["share"].sum(), 1)
    assert {layer_of(path) for path in grams} == {"no layer", "layer 1", "layer 2"}


def test_padding_is_not_seen(x64):
    params = jax.tree.map(lambda leaf: leaf.astype(float), PARAMS)
    padded = jnp.concatenate([TOKENS, jnp.full((3, 2), -1)], 1)
    assert_near(MODEL.last_hidden(params, padded), MODEL.last_hidden(params, TOKENS), 1e-12)
    assert_near(MODEL.mean_embedding(params, padded), params["table"][TOKENS].mean(1), 1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Transformer(num_heads=3, num_key_heads=2),
            "a multiple of num_key_heads, which they share; got 3 and 2.",
        ),
        (lambda: Transformer(num_heads=0, num_key_heads=1), "num_heads"),
        (lambda: MODEL.init(jax.random.key(0), **SIZES | {"width": 4}), "Expected heads of even width"),
        (lambda: MODEL.init(jax.random.key(0), **SIZES | {"depth": 0}), "depth"),
    ],
)
def test_messages(make, message):
    with pytest.raises(nb.InputError, match=re.escape(message)):
        make()


# -- tokens ----------------------------------------------------------------------------------------------------------


def test_merges_apply_in_their_order():
    tokenizer = Tokenizer(["a", "b", "c", "ab", "bc", "Ġ", "1", "Ġab"], [("b", "c"), ("a", "b"), ("Ġ", "ab")])
    assert tokenizer.encode("abc") == [0, 4]  # b c first, so that a stays alone
    assert tokenizer.encode("ab ab11") == [3, 7, 6, 6]
    assert tokenizer.decode([3, 7, 6]) == "ab ab1"
    assert tokenizer.encode_one(" ab") == 7
    assert tokenizer.encode_batch(["ab", "abc"]).tolist() == [[3, -1], [0, 4]]
    assert len(tokenizer) == 8
    for call, message in (
        (lambda: tokenizer.encode("x"), "Expected text that the vocabulary can write; it has no token 'x'."),
        (lambda: tokenizer.encode_one("abc"), "Expected a text of one token; got 2 for 'abc'."),
        (lambda: tokenizer.encode_batch(["ab", ""]), "Expected texts of one token or more; got an empty one, or none."),
    ):
        with pytest.raises(nb.InputError, match=re.escape(message)):
            call()


@pytest.mark.parametrize(
    "text", ["Hello world!", "  two  spaces\n", "naïve café — 12.5 %", "it's x_1, isn't it?", "日本"]
)
def test_bytes_make_every_text(text):
    from ntkbias.language.tokens import _printable

    tokenizer = Tokenizer(list(_printable().values()), [])
    assert tokenizer.decode(tokenizer.encode(text)) == text


# -- weights from a file ----------------------------------------------------------------------------------------------


def written(path, quantized=None, **changes):
    """A file of PARAMS as llama.cpp writes them."""
    gguf = pytest.importorskip("gguf", reason="the extra `language` is not installed")
    from ntkbias.language.gguf_files import NAMES

    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), changes.pop("params", PARAMS))
    writer = gguf.GGUFWriter(path, changes.pop("architecture", "llama"))
    writer.add_block_count(2)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model(changes.pop("tokenizer", "gpt2"))
    writer.add_token_list(list("abcdefghijk"))
    writer.add_token_merges(["a b"])
    tensors = {"token_embd.weight": params["table"], "output_norm.weight": params["norm"]}
    for theirs, ours in NAMES.items():
        for layer in range(2):
            tensors[f"blk.{layer}.{theirs}.weight"] = np.ascontiguousarray(params["layers"][ours][layer].T)
    for name, array in {**tensors, **changes.pop("more", {})}.items():
        if name in changes.get("without", ()):
            continue
        if quantized and array.ndim == 2:
            kind = gguf.GGMLQuantizationType[quantized]
            writer.add_tensor(name, gguf.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_weights_are_read_from_a_folder(tmp_path):
    written(tmp_path / "model.gguf")
    model = read_gguf(tmp_path)
    assert model.transformer == MODEL
    for found, own in zip(jax.tree.leaves(model.params), jax.tree.leaves(PARAMS), strict=True):
        assert_near(found, own, 1e-7)
    assert_near(model.transformer.logits(model.params, TOKENS), MODEL.logits(PARAMS, TOKENS), 1e-6)
    assert len(model.tokenizer) == 11
    assert len(read_gguf(tmp_path, depth=1).params["layers"]["gate"]) == 1


def test_quantized_weights_are_read(tmp_path):
    sizes = {"vocabulary": 11, "width": 32, "hidden": 64, "depth": 2}
    params = MODEL.init(jax.random.key(0), **sizes)
    model = read_gguf(written(tmp_path / "model.gguf", "Q8_0", params=params))
    for found, own in zip(jax.tree.leaves(model.params), jax.tree.leaves(params), strict=True):
        # A group of 32 has steps of its largest entry / 127.
        assert float(jnp.max(jnp.abs(found - own))) <= float(jnp.max(jnp.abs(own))) / 127


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "gpt2"}, "Expected a model of the architecture llama; got gpt2 in model.gguf."),
        ({"tokenizer": "llama"}, "Expected a tokenizer of byte pairs; got llama in model.gguf."),
        ({"more": {"output.weight": np.ones((11, 8), np.float32)}}, "model.gguf has a read-out of its own."),
        (
            {"without": ["output_norm.weight"]},
            "Expected the weights output_norm.weight in model.gguf; they are missing.",
        ),
    ],
)
def test_what_a_file_lacks_is_named(tmp_path, changes, message):
    path = written(tmp_path / "model.gguf", **changes)
    with pytest.raises(nb.InputError, match=re.escape(message)):
        read_gguf(path)


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(
        nb.InputError, match=re.escape(f"Expected one file *.gguf in {tmp_path}; got 0. Name the file.")
    ):
        read_gguf(tmp_path)
    pytest.importorskip("gguf", reason="the extra `language` is not installed")
    (tmp_path / "model.gguf").write_bytes(b"not a model" * 100)
    with pytest.raises(nb.InputError, match="Expected a GGUF file; got .* which does not read as one"):
        read_gguf(tmp_path)
    written(tmp_path / "model.gguf")
    with pytest.raises(nb.InputError, match="Expected a depth of 1 to 2 layers; got 3."):
        read_gguf(tmp_path, depth=3)


@pytest.mark.slow
def test_a_real_model_knows_capitals():
    """SmolLM2-135M-Instruct, from the folder that NTKBIAS_LANGUAGE_MODEL names."""
    folder = os.environ.get("NTKBIAS_LANGUAGE_MODEL")
    if not folder:
        pytest.skip("NTKBIAS_LANGUAGE_MODEL does not name the folder of a GGUF file")
    model = read_gguf(folder)
    texts = ["The capital of France is", "Neil Armstrong was the first man to walk on the"]
    logits = model.transformer.last_logits(model.params, model.tokenizer.encode_batch(texts))
    assert [model.tokenizer.decode([row]) for row in np.argmax(logits, 1)] == [" Paris", " moon"]
