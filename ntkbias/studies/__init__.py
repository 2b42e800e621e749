"""Papers as experiments: one study per file, each of which a user runs, reads and changes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
