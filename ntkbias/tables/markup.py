r"""One line of text as a cell of a Markdown or a LaTeX table.

>>> from ntkbias.tables.markup import latex, markdown
>>> print(markdown("a|b_c"), latex("50 % & more"), latex("-3.00e-09"))
a\|b\_c 50 \% \& more $-3.00 \times 10^{-9}$
"""

import re

__all__ = ["latex", "markdown"]

MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~$&!]|^[-+](?= )|(?<=^\d)\.(?= ))")
LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after the end of a row, [ and * would be its arguments
    "*": "{*}",
    "±": r"$\pm$",
    **{char: f"\\{char}" for char in "&%$#_"},
}
# Of a number alone: a sign is not a hyphen, and 1e-9 is a power of ten.
LATEX_NUMBER = re.compile(r"(?<![\w.^-])(-?)(\d[\d,]*\.?\d*|inf\b)(?:e([-+]\d+))?(?![\w.])")


def markdown(text: str) -> str:
    """The text in Markdown, with its punctuation escaped. A blank cell stays blank."""
    return MARKDOWN.sub(r"\\\1", text)


def latex(text: str) -> str:
    """The text in LaTeX. Negative numbers and powers of ten are set as mathematics."""
    parts, end = [], 0
    for found in LATEX_NUMBER.finditer(text):
        sign, digits, power = found.groups()
        if not sign and power is None and digits != "inf":
            continue
        digits = r"\infty" if digits == "inf" else digits.replace(",", "{,}")
        times = "" if power is None else rf" \times 10^{{{int(power)}}}"
        parts += [_escaped(text[end : found.start()]), f"${sign}{digits}{times}$"]
        end = found.end()
    return "".join([*parts, _escaped(text[end:])])


def _escaped(text: str) -> str:
    return "".join(LATEX.get(char, char) for char in text)
