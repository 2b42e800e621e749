"""Language models as functions f(params, tokens): a transformer of the Llama family, its weights and its tokenizer."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
