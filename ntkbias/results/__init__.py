"""Values of this package as files: arrays in an .npz, their structure in a .json beside it, and never pickle or code.

    storing      the two files: `save` and `load`
    describing   turns a value into JSON and arrays
    building     rebuilds the value, from types that have a public name
    keeping      keeps descriptions of values that could not be rebuilt, so that they can be saved again
    functions    users' functions: named and tried at a few inputs, and given again to `load`
    names        public names of types

>>> import tempfile, pathlib, jax.numpy as jnp, ntkbias as nb
>>> folder = pathlib.Path(tempfile.mkdtemp())
>>> nb.save(folder / "spectrum", nb.eigen.eigh(jnp.eye(3)))
>>> nb.load(folder / "spectrum").eigenvalues.shape
(3,)
"""

from ntkbias.results.describing import OPTIONAL
from ntkbias.results.names import public_name, type_of
from ntkbias.results.storing import load, save

__all__ = ["OPTIONAL", "load", "public_name", "save", "type_of"]
