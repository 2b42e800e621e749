"""Figures in the colors of their page: each color of an SVG text becomes a variable, which dark mode defines anew.

>>> from ntkbias.report.themes import dark_colors, dark_variant, with_variables
>>> with_variables('<path style="fill: #ffffff; stroke: #0072b2"/>')
'<path style="fill: var(--sffffff,#ffffff); stroke: var(--s0072b2,#0072b2)"/>'
>>> dark_variant("ffffff"), dark_variant("000000")
('#1b1b1b', '#e6e6e6')
>>> dark_colors("a swatch of var(--sffffff,#ffffff)")
'--sffffff:#1b1b1b'
"""

import re

__all__ = ["dark_colors", "dark_variant", "variable", "with_variables"]

PAPER, INK = 0x1B, 0xE6  # the grays of figures in dark mode that stand for white and black
CONTRAST = 4.0  # the least contrast with the paper, as the Web Content Accessibility Guidelines define it
STYLES = re.compile(r'style="[^"]*"')
HEX = re.compile(r"#([0-9a-f]{6})\b", re.IGNORECASE)


def with_variables(svg: str) -> str:
    """The SVG text with a variable, which falls back to the color itself, for each color of its styles."""
    return STYLES.sub(lambda style: HEX.sub(lambda color: variable(color[0]), style[0]), svg)


def variable(color: str) -> str:
    """The variable of the page for a color such as "#0072B2"."""
    color = color.lower()
    return f"var(--s{color[1:]},{color})"


def dark_colors(body: str) -> str:
    """The definitions, in dark mode, of all variables of colors in the HTML."""
    colors = sorted(set(re.findall(r"var\(--s([0-9a-f]{6}),", body)))
    return ";".join(f"--s{color}:{dark_variant(color)}" for color in colors)


def dark_variant(color: str) -> str:
    """The color on dark paper of a color, both as six hexadecimal digits.

    Grays change places: white becomes the paper, and black the ink. Other colors keep their hue, and become lighter as
    far as their contrast with the paper needs it.
    """
    channels = [int(color[place : place + 2], 16) for place in (0, 2, 4)]
    if max(channels) - min(channels) <= 2:
        gray = round(INK + (PAPER - INK) * channels[0] / 255)
        return f"#{gray:02x}{gray:02x}{gray:02x}"
    mixed = channels
    for part in range(21):
        mixed = [round(channel + (255 - channel) * part / 20) for channel in channels]
        if (_luminance(mixed) + 0.05) / (_luminance([PAPER] * 3) + 0.05) >= CONTRAST:
            break
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def _luminance(channels: list[int]) -> float:
    """The relative luminance of a color of sRGB, from 0 to 1."""
    linear = [c / 12.92 if (c := channel / 255) <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for channel in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
