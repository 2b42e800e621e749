"""Compiled programs of users' functions, which live exactly as long as the function.

A table refers to f weakly, and holds its programs and other facts found about f. A program never refers to f: while it
is traced, it finds f among the arguments of the call. So once the user drops f, its programs, its parameters and the
arrays it closes over are freed. Equal functions share their programs: methods of one object, and methods of equal
networks of layers.

>>> import jax.numpy as jnp
>>> from ntkbias.compilation import Function, compiled
>>> apply = compiled(lambda f, x: jnp.sum(f(x)))
>>> float(apply(Function.of(lambda x: x**2), jnp.ones(3)))
3.0
"""

import dataclasses
import functools
import math
import threading
import types
import weakref
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import equinox as eqx
import jax

from ntkbias.compiler import options
from ntkbias.errors import InputError
from ntkbias.wrappers import reduced

__all__ = ["Equal", "Function", "compiled", "held", "memory_of", "remembered"]

MOST_REMEMBERED = 256  # cached facts about one function, and about no function in particular
PACKAGE = __name__.partition(".")[0]


class Programs:
    """The compiled programs and cached facts of one function, or of several together."""

    def __init__(self) -> None:
        self.jitted: dict[Callable, _Jitted] = {}
        self.memory: dict[Hashable, Any] = {}
        self._joined: weakref.WeakKeyDictionary[Programs, Programs] = weakref.WeakKeyDictionary()

    def joined(self, other: "Programs") -> "Programs":
        """The programs of two functions together, freed with whichever goes first."""
        return self._joined.setdefault(other, Programs())


@jax.tree_util.register_pytree_node_class
class Function:
    """A user's function with its programs, as a pytree without leaves; made by `Function.of`.

    Two are equal if they share their programs. Calling it calls the function.
    """

    def __init__(self, f: Callable, programs: Programs) -> None:
        self.f, self.programs = f, programs
        for name in ("__name__", "__qualname__", "__doc__", "__module__"):
            if hasattr(f, name):
                setattr(self, name, getattr(f, name))

    @classmethod
    def of(cls, f: Any) -> "Function":
        """Wrap f, with the programs that f, or a function equal to it, already has."""
        return f if isinstance(f, Function) else cls(f, _programs_of(f))

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Call the function."""
        return self.f(*args, **options)

    def __deepcopy__(self, _: Any) -> "Function":  # as Python's own functions, which are never copied
        return self

    def __reduce__(self) -> tuple:  # programs stay here: they are found, or made, where f is loaded
        return reduced(type(self).of, self.f)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.programs is other.programs

    def __hash__(self) -> int:
        return id(self.programs)

    def __repr__(self) -> str:
        return getattr(self.f, "__qualname__", None) or repr(self.f)

    def tree_flatten(self) -> tuple[tuple, "Function"]:
        """No leaves: the function is part of the structure."""
        return (), self

    @classmethod
    def tree_unflatten(cls, function: "Function", _: Any) -> "Function":
        """Return the function, which is the structure itself."""
        return function


class Equal:
    """Base class of functions that are the same if their `equality`, a hashable value, is."""

    equality: Hashable


# Compared by type: wrappers copy the attributes of a function, so attributes would not tell them from methods.
_METHODS = (types.MethodType, type(eqx.nn.Sequential(()).is_stateful))


def held(f: Any) -> Any:
    """Wrap a function to be a field of a layer. Anything else is returned unchanged, for the checks that follow."""
    return Function.of(f) if callable(f) else f


# -- which functions share programs ----------------------------------------------------------------------------------

_by_identity: dict[int, tuple[weakref.ref, dict[Hashable, Programs]]] = {}  # by id, until that object is freed
_by_class: weakref.WeakKeyDictionary[type, dict[Hashable, Programs]] = weakref.WeakKeyDictionary()  # plain values
_by_equality: weakref.WeakValueDictionary[Hashable, Programs] = weakref.WeakValueDictionary()  # adapted models


def _programs_of(f: Any) -> Programs:
    """The programs of everything equal to `f`; new ones, which live with the result, if f has no weak references."""
    owner, part = _owner(f)
    try:
        inner: list[Function] = []
        if isinstance(owner, eqx.Module) and (plain := _plain(owner, inner)) is not None:
            table = _programs_of_all(inner).memory if inner else _by_class.setdefault(type(owner), {})
            return _found_or_made(table, (plain, part), Programs)
        programs = _by_equality.setdefault(owner.equality, Programs()) if isinstance(owner, Equal) else Programs()
        return _table_of(owner).setdefault(part, programs)
    except TypeError:
        return Programs()


def _owner(f: Any) -> tuple[Any, Hashable]:
    """The object whose lifetime is that of `f`, and a key that tells f from other functions of that object."""
    if isinstance(f, Function):
        return _owner(f.f)
    if type(f) in _METHODS:  # each attribute access makes a new one
        return f.__self__, weakref.ref(f.__func__)
    inner = getattr(f, "f", None)
    if dataclasses.is_dataclass(f) and callable(inner) and type(f).__module__.partition(".")[0] == PACKAGE:
        others = [getattr(f, field.name) for field in dataclasses.fields(f) if field.name != "f"]
        try:
            hash(tuple(others))
        except TypeError:
            return f, None
        owner, part = _owner(inner)
        return owner, (weakref.ref(type(f)), *((_kind(other), other) for other in others), part)
    return f, None


def _table_of(owner: Any) -> dict[Hashable, Programs]:
    """The table of an object, found by identity: comparing large values at each call would be slow."""
    key = id(owner)
    if key not in _by_identity or _by_identity[key][0]() is not owner:
        _by_identity[key] = weakref.ref(owner, lambda _: _by_identity.pop(key, None)), {}
    return _by_identity[key][1]


def _plain(value: Any, functions: list[Function]) -> Hashable | None:
    """A key of a value made only of numbers, strings, tuples, modules and functions; None if it holds anything else.

    Functions, whose programs tell them apart, are appended to `functions`.
    """
    if value is None or type(value) in (bool, int, float, str):
        return _kind(value), value
    if isinstance(value, Function):
        functions.append(value)
        return Function, type(value), len(functions)
    if not isinstance(value, eqx.Module | tuple):
        return None
    fields = value if isinstance(value, tuple) else [getattr(value, field.name) for field in dataclasses.fields(value)]
    parts = tuple(_plain(field, functions) for field in fields)
    return None if None in parts else (weakref.ref(type(value)), parts)


def _kind(value: Any) -> Any:
    """A key that tells equal constants apart: 1, 1.0 and True, 0.0 and -0.0."""
    return (float, math.copysign(1.0, value)) if type(value) is float else type(value)


def _found_or_made(table: dict, key: Hashable, make: Callable[[], Any]) -> Any:
    """The entry of a table at `key`, made if missing. A full table is cleared first."""
    if key in table:
        return table[key]
    if len(table) >= MOST_REMEMBERED:
        table.clear()
    return table.setdefault(key, make())


# -- programs --------------------------------------------------------------------------------------------------------


class _FunctionSlot(NamedTuple):
    """A placeholder in the structure of arguments for one of their functions."""

    number: int


class _SplitTree(NamedTuple):
    """A pytree split into its arrays and the rest, which is hashable and holds no user's function."""

    arrays: list
    others: tuple
    kinds: tuple
    treedef: Any


_call = threading.local()  # .functions: those of the current call, for a program that is traced during it
_memory: dict[Hashable, Any] = {}  # cached facts about no function in particular


def compiled(f: Callable | None = None, *, donate_rest: bool = False) -> Callable:
    """Return `jax.jit(f)`, whose programs live as long as the users' functions in its arguments. Also a decorator.

    Arguments are positional pytrees. Their arrays are arguments of the compiled program. The program is freed with any
    user's function in them, which reaches f as a `Function`. Everything else in them is a static constant, and has to
    be hashable. `donate_rest` donates the arrays of all arguments but the first. On a CPU, convolutions use the faster
    library. Inside another compiled function, and under `grad`, f becomes part of that program, with its options.
    """
    if f is None:
        return functools.partial(compiled, donate_rest=donate_rest)
    without_functions = _Jitted(f, donate_rest)

    @functools.wraps(f)
    def call(*args: Any) -> Any:
        functions: list[Function] = []
        split = _split_tree(args[:1], functions), _split_tree(args[1:], functions)
        if not functions:
            return without_functions(*split)
        jitted = _programs_of_all(functions).jitted
        if call not in jitted:
            jitted[call] = _Jitted(f, donate_rest)
        before, _call.functions = getattr(_call, "functions", ()), functions
        try:
            return jitted[call](*split)
        finally:
            _call.functions = before

    return call


def remembered(find: Callable) -> Callable:
    """Decorate `find(f, *arguments)` to cache its result per function and hashable arguments.

    The result must not refer to f, or neither would ever be freed.
    """

    @functools.wraps(find)
    def call(f: Any, *arguments: Hashable) -> Any:
        function = Function.of(f)
        return _found_or_made(function.programs.memory, (call, arguments), lambda: find(function, *arguments))

    return call


def memory_of(value: Any) -> tuple[dict[Hashable, Any], list, Hashable]:
    """Return a table for facts about a value, its leaves, and its structure, which is hashable.

    The table lives as long as the functions in the value. Leaves are arrays, and anything else that is no function.
    """
    functions: list[Function] = []
    arrays, others, kinds, treedef = _split_tree(value, functions)
    leaves = [other if array is None else array for array, other in zip(arrays, others, strict=True)]
    memory = _programs_of_all(functions).memory if functions else _memory
    if len(memory) >= MOST_REMEMBERED:
        memory.clear()
    return memory, leaves, (kinds, treedef)


def _programs_of_all(functions: list[Function]) -> Programs:
    return functools.reduce(Programs.joined, [function.programs for function in functions])


class _Jitted:
    """The two jitted forms of a function: as part of another program, and alone, with the options for convolutions."""

    def __init__(self, f: Callable, donate_rest: bool) -> None:
        def run(static: tuple, first: list, rest: list) -> Any:
            return f(*_rebuilt(first, *static[0]), *_rebuilt(rest, *static[1]))

        run.__name__, run.__qualname__ = f.__name__, f.__qualname__
        self._jit = functools.partial(jax.jit, run, static_argnums=0, donate_argnums=2 if donate_rest else ())
        self._inlined = self._jit()
        self._alone: Callable | None = None

    def __call__(self, first: _SplitTree, rest: _SplitTree) -> Any:
        static = first[1:], rest[1:]
        if jax.default_backend() != "cpu" or not options():
            return _on_one_mesh(self._inlined, static, first.arrays, rest.arrays)
        if self._alone is None:
            self._alone = self._jit(compiler_options=options())
        try:
            return _on_one_mesh(self._alone, static, first.arrays, rest.arrays)
        except ValueError as error:
            if "`compiler_options` can only be passed to top-level" not in str(error):
                raise
            return self._inlined(static, first.arrays, rest.arrays)


def _on_one_mesh(program: Callable, *args: Any) -> Any:
    """Run a program. Raises `InputError` if its arrays, or constraints inside f, lie on different sets of devices."""
    try:
        return program(*args)
    except ValueError as error:
        if "incompatible devices" not in str(error):
            raise
        raise InputError(
            "Expected params, inputs and f on the same devices; got several sets of them. Put params and inputs on the "
            "devices of f's sharding constraints with jax.device_put, or remove the constraints."
        ) from error


def _is_function(node: Any) -> bool:
    """Whether a node is a user's function. A method counts too: its leaves as a pytree would be those of its object."""
    return isinstance(node, Function) or type(node) in _METHODS


def _split_tree(tree: Any, functions: list[Function]) -> _SplitTree:
    """Split a pytree. Functions not yet in `functions` are appended to it."""
    leaves, treedef = jax.tree.flatten(tree, is_leaf=_is_function)
    arrays: list = []
    others: list = []
    for leaf in leaves:
        if callable(leaf) and not isinstance(leaf, type | jax.sharding.Mesh):
            function = Function.of(leaf)
            if function not in functions:
                functions.append(function)
            leaf = _FunctionSlot(functions.index(function))
        arrays.append(leaf if eqx.is_array(leaf) else None)
        others.append(None if eqx.is_array(leaf) else leaf)
    return _SplitTree(arrays, tuple(others), tuple(map(_kind, others)), treedef)


def _rebuilt(arrays: list, others: tuple, _: tuple, treedef: Any) -> Any:
    """The inverse of `_split_tree`, with the functions of the current call."""
    leaves = []
    for array, other in zip(arrays, others, strict=True):
        other = _call.functions[other.number] if isinstance(other, _FunctionSlot) else other
        leaves.append(other if array is None else array)
    return jax.tree.unflatten(treedef, leaves)
