"""Entries of the reference, as Markdown, from the signatures and docstrings of public names.

An entry has the signature as the source writes it, the docstring with links to the public names that it mentions, and
the other names of its group under "See also". A name with a second home (`eigen.spectrum` is `spectrum`) has one entry,
which names the other homes.
"""

import ast
import functools
import inspect
import re
import textwrap
import types
from typing import Any

import ntkbias

CODE = re.compile(r"`([^`\n]+)`")
SPECIAL = re.compile(r"([\\*_<>\[\]$|#{}~^])")
MOST_RELATED = 8  # names under "See also"


@functools.cache
def public_names() -> dict[str, Any]:
    """All public names of the package and its namespaces, by their dotted path after `ntkbias.`."""
    found = {}
    for name in ntkbias.__all__:
        value = getattr(ntkbias, name)
        if isinstance(value, types.ModuleType):
            found |= {f"{name}.{inner}": getattr(value, inner) for inner in value.__all__}
        else:
            found[name] = value
    return {name: value for name, value in found.items() if not isinstance(value, types.ModuleType)}


@functools.cache
def homes(path: str) -> list[str]:
    """The paths of the value that a path names. Entries are filed under the first, the shortest."""
    value = public_names()[path]
    named = callable(value)  # equal constants of two rooms are two things
    found = [other for other, this in public_names().items() if other == path or (named and this is value)]
    return sorted(found, key=lambda other: (other.count("."), other))


@functools.cache
def links() -> dict[str, str]:
    """What a docstring may call a public name -> its path; ambiguous names are left out."""
    found: dict[str, set[str]] = {}
    for path in public_names():
        first = homes(path)[0]
        for called in {path, path.rpartition(".")[2], f"nb.{path}"}:
            found.setdefault(called, set()).add(first)
    return {called: paths.pop() for called, paths in found.items() if len(paths) == 1}


def _syntax(thing: Any) -> ast.FunctionDef | ast.ClassDef:
    return ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(thing)))).body[0]  # type: ignore[return-value]


def _of_function(thing: Any) -> str:
    syntax = _syntax(thing)
    arguments = syntax.args
    for kind in (arguments.posonlyargs, arguments.args):
        if kind and kind[0].arg in ("self", "cls"):
            del kind[0]
            break
    result = f" -> {_annotation(syntax.returns)}" if syntax.returns else ""
    return f"({ast.unparse(arguments)}){result}"


def _annotation(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ast.unparse(node)


def _of_class(thing: type) -> str:
    """The fields or arguments by which a value is made, each with the annotation that the source gives it."""
    if "__init__" in vars(thing):
        return _of_function(vars(thing)["__init__"]).removesuffix(" -> None")
    annotations: dict[str, str] = {}
    for base in reversed(thing.__mro__):
        if base.__module__.startswith("ntkbias"):
            fields = [line for line in _syntax(base).body if isinstance(line, ast.AnnAssign)]
            annotations |= {ast.unparse(line.target): _annotation(line.annotation) for line in fields}
    try:
        parameters = inspect.signature(thing).parameters.values()
    except ValueError:  # a plain exception
        return ""
    written = []
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            return ""
        annotation = annotations.get(parameter.name)
        default = "" if parameter.default is parameter.empty else f" = {_value(parameter.default)}"
        written.append(parameter.name + (f": {annotation}" if annotation else "") + default)
    return f"({', '.join(written)})"


def _value(default: Any) -> str:
    text = repr(default)
    return "..." if " at 0x" in text or text.startswith("<") or len(text) > 40 else text


def signature(thing: Any) -> str:
    """The arguments of a function or class as its source writes them; empty for other values."""
    try:
        return _of_class(thing) if isinstance(thing, type) else _of_function(thing) if callable(thing) else ""
    except (OSError, TypeError, AttributeError, SyntaxError):  # made by a factory: no source of its own
        return ""


def _prose(line: str, own: str) -> str:
    """A line of a docstring as Markdown: code stays, a public name becomes a link, the rest is plain text."""

    def code(text: str) -> str:
        called = text.removesuffix("()")
        target = links().get(called)
        return f"{{py:obj}}`{text} <ntkbias.{target}>`" if target and target != own else f"`{text}`"

    pieces = CODE.split(line)
    return "".join(code(piece) if place % 2 else SPECIAL.sub(r"\\\1", piece) for place, piece in enumerate(pieces))


def markdown(docstring: str, own: str = "") -> list[str]:
    """A docstring as lines of Markdown: paragraphs, indented blocks and examples."""
    lines: list[str] = []
    kind = "prose"
    for line in [*inspect.cleandoc(docstring).splitlines(), ""]:
        example = line.lstrip().startswith(">>>") or (kind == "example" and line.strip())
        if kind == "example" and not example:
            lines += ["```", ""]
            kind = "prose"
        if example and kind != "example":
            lines += ["", "```pycon"]
            kind = "example"
        if example:
            lines.append(line.strip() if line.lstrip().startswith((">>>", "...")) else line)
        else:
            lines.append(line if line.startswith("    ") or not line.strip() else _prose(line, own))
    return lines


def _fence(directive: str, argument: str, body: list[str]) -> list[str]:
    """A directive around lines that may hold fences of their own."""
    longest = max([2, *(len(line) - len(line.lstrip("`")) for line in body)])
    ticks = "`" * max(4, longest + 1)
    return [f"{ticks}{{{directive}}} {argument}", *body, ticks, ""]


def _members(thing: type, path: str) -> list[str]:
    lines: list[str] = []
    for name, member in sorted(vars(thing).items()):
        function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        function = getattr(function, "method", function)  # equinox wraps methods
        doc = getattr(function, "__doc__", None)
        is_property = isinstance(function, property)
        if name.startswith("_") or not doc or not (is_property or inspect.isfunction(function)):
            continue
        head = f"ntkbias.{path}.{name}" + ("" if is_property else signature(function))
        lines += _fence("py:property" if is_property else "py:method", head, ["", *markdown(doc, path)])
    return lines


def entry(path: str, group: list[str]) -> list[str]:
    """The entry of one name as Markdown."""
    thing = public_names()[path]
    first, *others = homes(path)
    kind = "py:class" if isinstance(thing, type) else "py:function" if callable(thing) else "py:data"
    doc = thing.__doc__ if callable(thing) else ""
    body = ["", *markdown(doc or "", first)]
    if others:
        body += ["", "Also named " + ", ".join(f"`ntkbias.{other}`" for other in others) + ".", ""]
    related = [homes(other)[0] for other in group if other != path]
    if related:
        shown = [f"{{py:obj}}`{other} <ntkbias.{other}>`" for other in related[:MOST_RELATED]]
        body += ["", "See also: " + ", ".join(shown) + ".", ""]
    if isinstance(thing, type):
        body += ["", *_members(thing, first)]
    return _fence(kind, f"ntkbias.{first}{signature(thing)}", body)
