"""Any value of this package as files: arrays in one .npz, their structure in a .json beside it, never pickle or code.

    storing      the two files: `save` and `load`
    describing   a value as JSON and arrays
    building     the value again, of types that have a public name
    keeping      descriptions of what could not be built, to be saved again
    functions    users' functions: described, tried at a few inputs, and given again to `load`
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
