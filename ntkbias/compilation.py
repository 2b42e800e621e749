"""Compiled functions that hold a network: they are kept as long as the user's function is, and no longer.

A table refers to f weakly, and holds its programs and whatever else was found out about f. A program never holds f:
while it is traced, it finds f among the arguments of the call. Once a user lets go of f, its programs, its parameters
and the arrays it closes over are free. Equal functions share their programs: methods of one object, and of equal
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

MOST_REMEMBERED = 256  # things found out about one function, or about none
PACKAGE = __name__.partition(".")[0]


class Programs:
    """What was compiled and found out for one function, or for several together."""

    def __init__(self) -> None:
        self.jitted: dict[Callable, _Jitted] = {}
        self.memory: dict[Hashable, Any] = {}
        self._joined: weakref.WeakKeyDictionary[Programs, Programs] = weakref.WeakKeyDictionary()

    def joined(self, other: "Programs") -> "Programs":
        """The programs of two functions, which end with the first of them to go."""
        return self._joined.setdefault(other, Programs())


@jax.tree_util.register_pytree_node_class
class Function:
    """A user's function with its programs, as a pytree without leaves; made by `Function.of`.

    Two are equal where they share their programs. Calling it calls the function.
    """

    def __init__(self, f: Callable, programs: Programs) -> None:
        self.f, self.programs = f, programs
        for name in ("__name__", "__qualname__", "__doc__", "__module__"):
            if hasattr(f, name):
                setattr(self, name, getattr(f, name))

    @classmethod
    def of(cls, f: Any) -> "Function":
        """The function with the programs that it, or one equal to it, has already."""
        return f if isinstance(f, Function) else cls(f, _programs_of(f))

    def __call__(self, *args: Any, **options: Any) -> Any:
        """What the function itself returns."""
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
        """No leaves: the function is a part of the structure."""
        return (), self

    @classmethod
    def tree_unflatten(cls, function: "Function", _: Any) -> "Function":
        """The function itself."""
        return function


class Equal:
    """A function that tells by `equality`, a hashable value, whether another one is the same function."""

    equality: Hashable


# By their types: wrappers of functions copy attributes, and would pass for what they wrap.
_METHODS = (types.MethodType, type(eqx.nn.Sequential(()).is_stateful))


def held(f: Any) -> Any:
    """A function with its programs, as a field of a layer; anything else as it is, for the checks that follow."""
    return Function.of(f) if callable(f) else f


# -- whose programs --------------------------------------------------------------------------------------------------

_by_identity: dict[int, tuple[weakref.ref, dict[Hashable, Programs]]] = {}  # until the object of this id is gone
_by_class: weakref.WeakKeyDictionary[type, dict[Hashable, Programs]] = weakref.WeakKeyDictionary()  # of plain values
_by_equality: weakref.WeakValueDictionary[Hashable, Programs] = weakref.WeakValueDictionary()  # of adapted models


def _programs_of(f: Any) -> Programs:
    """The programs of everything equal to `f`; new ones, which live with the result, where f has no weak references."""
    owner, part = _owner(f)
    try:
        inner: list[Function] = []
        if isinstance(owner, eqx.Module) and (plain := _plain(owner, inner)) is not None:
            table = _programs_of_all(inner).memory if inner else _by_class.setdefault(type(owner), {})
            return _kept(table, (plain, part), Programs)
        programs = _by_equality.setdefault(owner.equality, Programs()) if isinstance(owner, Equal) else Programs()
        return _parts_of(owner).setdefault(part, programs)
    except TypeError:
        return Programs()


def _owner(f: Any) -> tuple[Any, Hashable]:
    """The object whose end is the end of `f`, and what tells f from others of that object."""
    if isinstance(f, Function):
        return _owner(f.f)
    if type(f) in _METHODS:  # a new object each time it is asked for
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


def _parts_of(owner: Any) -> dict[Hashable, Programs]:
    """The table of an object, by identity: comparing large values takes long at each call."""
    key = id(owner)
    if key not in _by_identity or _by_identity[key][0]() is not owner:
        _by_identity[key] = weakref.ref(owner, lambda _: _by_identity.pop(key, None)), {}
    return _by_identity[key][1]


def _plain(value: Any, functions: list[Function]) -> Hashable | None:
    """What tells a value from others, if it is numbers, names, modules and functions; None if it holds anything else.

    Functions, whose programs tell them apart, go to `functions`.
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
    """What tells constants apart that are equal: 1, 1.0 and True, 0.0 and -0.0."""
    return (float, math.copysign(1.0, value)) if type(value) is float else type(value)


def _kept(table: dict, key: Hashable, make: Callable[[], Any]) -> Any:
    """What a table of bounded size has at `key`, made if it is not there."""
    if key in table:
        return table[key]
    if len(table) >= MOST_REMEMBERED:
        table.clear()
    return table.setdefault(key, make())


# -- programs --------------------------------------------------------------------------------------------------------


class _Place(NamedTuple):
    """Stands in the structure of arguments for one of their functions."""

    number: int


class _Parted(NamedTuple):
    """A pytree taken apart: its arrays, and the rest, which has a hash and no function of a user's."""

    arrays: list
    others: tuple
    kinds: tuple
    treedef: Any


_call = threading.local()  # .functions: those of the call at hand, for the program that is traced in it
_memory: dict[Hashable, Any] = {}  # what was found out about no function in particular


def compiled(f: Callable | None = None, *, donate_rest: bool = False) -> Callable:
    """`jax.jit(f)`, kept with the users' functions among its arguments; a decorator, too.

    Arguments are pytrees, by position. Their arrays are the program's. Each function in them decides how long the
    program is kept, and reaches f as a `Function`. Whatever else they hold is a constant that it is compiled for, and
    has to be hashable. With `donate_rest` the arrays of all arguments but the first are given away. Convolutions are as
    fast as the device has them. Inside another program, and under `grad`, f becomes part of that, with its options.
    """
    if f is None:
        return functools.partial(compiled, donate_rest=donate_rest)
    of_none = _Jitted(f, donate_rest)

    @functools.wraps(f)
    def call(*args: Any) -> Any:
        functions: list[Function] = []
        parted = _parted(args[:1], functions), _parted(args[1:], functions)
        if not functions:
            return of_none(*parted)
        jitted = _programs_of_all(functions).jitted
        if call not in jitted:
            jitted[call] = _Jitted(f, donate_rest)
        before, _call.functions = getattr(_call, "functions", ()), functions
        try:
            return jitted[call](*parted)
        finally:
            _call.functions = before

    return call


def remembered(find: Callable) -> Callable:
    """`find(f, *arguments)`, found once for each function and its hashable arguments; a decorator.

    The result must not hold f, or both stay for good.
    """

    @functools.wraps(find)
    def call(f: Any, *arguments: Hashable) -> Any:
        function = Function.of(f)
        return _kept(function.programs.memory, (call, arguments), lambda: find(function, *arguments))

    return call


def memory_of(value: Any) -> tuple[dict[Hashable, Any], list, Hashable]:
    """Where to remember what is found out about a value from its structure: a table, its leaves and its structure.

    The table lasts as long as the functions in the value. Leaves are arrays, and whatever else has no functions.
    """
    functions: list[Function] = []
    arrays, others, kinds, treedef = _parted(value, functions)
    leaves = [other if array is None else array for array, other in zip(arrays, others, strict=True)]
    memory = _programs_of_all(functions).memory if functions else _memory
    if len(memory) >= MOST_REMEMBERED:
        memory.clear()
    return memory, leaves, (kinds, treedef)


def _programs_of_all(functions: list[Function]) -> Programs:
    return functools.reduce(Programs.joined, [function.programs for function in functions])


class _Jitted:
    """The two programs of a function: as part of another one, and alone, with the options for convolutions."""

    def __init__(self, f: Callable, donate_rest: bool) -> None:
        def run(static: tuple, first: list, rest: list) -> Any:
            return f(*_whole(first, *static[0]), *_whole(rest, *static[1]))

        run.__name__, run.__qualname__ = f.__name__, f.__qualname__
        self._jit = functools.partial(jax.jit, run, static_argnums=0, donate_argnums=2 if donate_rest else ())
        self._inlined = self._jit()
        self._alone: Callable | None = None

    def __call__(self, first: _Parted, rest: _Parted) -> Any:
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
    """What a program returns; an `InputError` where its arrays, or f itself, ask for different devices."""
    try:
        return program(*args)
    except ValueError as error:
        if "incompatible devices" not in str(error):
            raise
        raise InputError(
            "Expected params, inputs and f on the same devices; got several sets of them. Put params and inputs where "
            "f has its sharding constraints, by jax.device_put, or leave the constraints out."
        ) from error


def _is_function(node: Any) -> bool:
    """Whether a node is a user's function: one, or a method, which as a pytree is the object that it is of."""
    return isinstance(node, Function) or type(node) in _METHODS


def _parted(tree: Any, functions: list[Function]) -> _Parted:
    """A pytree taken apart. Functions that are new go to the end of `functions`."""
    leaves, treedef = jax.tree.flatten(tree, is_leaf=_is_function)
    arrays: list = []
    others: list = []
    for leaf in leaves:
        if callable(leaf) and not isinstance(leaf, type | jax.sharding.Mesh):
            function = Function.of(leaf)
            if function not in functions:
                functions.append(function)
            leaf = _Place(functions.index(function))
        arrays.append(leaf if eqx.is_array(leaf) else None)
        others.append(None if eqx.is_array(leaf) else leaf)
    return _Parted(arrays, tuple(others), tuple(map(_kind, others)), treedef)


def _whole(arrays: list, others: tuple, _: tuple, treedef: Any) -> Any:
    """The pytree of these parts, with the functions of the call at hand."""
    leaves = []
    for array, other in zip(arrays, others, strict=True):
        other = _call.functions[other.number] if isinstance(other, _Place) else other
        leaves.append(other if array is None else array)
    return jax.tree.unflatten(treedef, leaves)
