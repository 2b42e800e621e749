from .gguf_files import LanguageModel, read_gguf
from .tokens import Tokenizer
from .transformers import Transformer

__all__ = ["LanguageModel", "Tokenizer", "Transformer", "read_gguf"]
