"""The style sheet and the script of all pages. Both are part of the page: it loads no other file.

>>> from ntkbias.report.style import SCRIPT, sheet
>>> "prefers-color-scheme: dark" in sheet("<p>"), "http" in SCRIPT
(True, False)
"""

from ntkbias.report.themes import dark_colors

__all__ = ["SCRIPT", "sheet"]

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1c1c; --dim: #5a5a5a; --line: #d4d4d4; --panel: #fff;
  --soft: #f3f5f8 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 0 auto; padding: 1rem 1.5rem 3rem;
  background: var(--paper); color: var(--ink) }
h1 { line-height: 1.2; font-size: 1.7rem } h2 { margin-top: 2.5rem }
h1, h2, p, caption, figcaption, label, li { overflow-wrap: anywhere }
.question { font-size: 1.2rem; margin-bottom: .5rem }
.answer { background: var(--soft); border-left: 4px solid #0072b2; border-radius: 4px; padding: .8rem 1.1rem }
.answer p { margin: .3rem 0; max-width: 80ch }
svg { display: block; max-width: 100%; height: auto; margin: auto } .picture svg { fill: var(--ink) }
.picture + figcaption { margin-top: .4rem } .wide .picture { overflow-x: auto }
.wide svg { width: 100%; min-width: 640px; max-width: 1000px }
p, li { max-width: 75ch } figcaption, .note { color: var(--dim); font-size: .9rem }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 520px), 1fr)); gap: 1.5rem }
.grid > * { min-width: 0 } .wide { grid-column: 1 / -1 } figure { margin: 0; min-width: 0 }
.named-figure { display: flex; flex-direction: column-reverse } .named-figure figcaption { font-weight: 600 }
.named-figure .picture + figcaption { color: var(--ink); margin: 0 0 .4rem }
.tall { max-height: 34rem; overflow-y: auto; border-bottom: 1px solid var(--line) }
.tall thead th { position: sticky; top: 0; background: var(--paper) }
.scroll { overflow-x: auto } .scroll + .scroll { margin-top: 1rem }
.picture { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: .5rem }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: 600; padding: .3rem 0 }
th, td { padding: .2rem .6rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top }
td { white-space: nowrap } .text td, .text th { text-align: left }
.named td:first-child, .text td { white-space: normal; overflow-wrap: anywhere; min-width: 9em }
.named th:first-child, .named td:first-child { text-align: left } thead th { vertical-align: bottom }
.kernels td { white-space: normal; min-width: 4em } .modes { font-size: .85rem }
.modes th, .modes td { padding: .15rem .35rem }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .5em }
.toggles { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: .5rem 0 1rem; position: sticky; top: 0;
  background: var(--paper); padding: .4rem 0; z-index: 1 } .toggles[hidden] { display: none }
.tip { position: fixed; pointer-events: none; background: var(--ink); color: var(--paper); font-size: .8rem;
  line-height: 1.35; padding: .3rem .5rem; border-radius: 4px; white-space: pre-line; max-width: 16rem; z-index: 2 }
.ring { fill: none; stroke: var(--ink); stroke-width: 1.4; pointer-events: none }
pre { overflow-x: auto; font-size: .8rem; background: var(--soft); padding: .7rem; border-radius: 4px }
code { overflow-wrap: anywhere } summary { cursor: pointer }
@media (max-width: 600px) { body { padding: .6rem .8rem 2rem } h1 { font-size: 1.35rem }
  .question { font-size: 1.05rem } h2 { margin-top: 1.8rem } .answer { padding: .5rem .8rem }
  .toggles { position: static } }
@media print { @page { margin: 1.4cm } body { max-width: none; padding: 0; font-size: 10pt } .grid { display: block }
  figure, tr { break-inside: avoid } h2, caption, thead { break-after: avoid } .toggles, .tip { display: none }
  .picture { border: 0; padding: 0 } .wide svg { min-width: 0 } .wide .picture, .scroll, .tall { overflow: visible }
  figure { margin-bottom: 1.2rem } table { font-size: 7.5pt; width: 100% } th, td { padding: .1rem .2rem }
  td, .modes td { white-space: normal } .text td, .named td:first-child { min-width: 0 } .modes { font-size: 7.5pt }
  pre { white-space: pre-wrap; font-size: 7pt } svg { max-height: 9cm }
  .tall { max-height: none; border: 0 } .tall thead th { position: static } .wide svg { width: auto } }
"""
DARK = """
@media screen and (prefers-color-scheme: dark) { :root { --paper: #121212; --ink: #e6e6e6; --dim: #a8a8a8;
  --line: #3a3a3a; --panel: #1b1b1b; --soft: #1d2228; COLORS } }
"""
# What it adds to a page that is complete without it: switches for the kernels, and the numbers of a mode under the
# pointer. Marks and vertices of the figure are in the order of the modes that the inputs of the switches list.
SCRIPT = """
(() => {
  const bar = document.querySelector(".toggles");
  if (!bar) return;
  bar.hidden = bar.querySelectorAll("input").length < 2;
  const kernels = {}, tip = document.createElement("div");
  tip.className = "tip"; tip.hidden = true; document.body.append(tip);
  for (const box of bar.querySelectorAll("input")) {
    const { kernel, name, values, frequencies, modes, bounds, curve } = box.dataset;
    const list = text => (text || "").split(" ").filter(Boolean);
    kernels[kernel] = { name, values: list(values), frequencies: list(frequencies),
      modes: list(modes), bounds: list(bounds), curve: list(curve) };
    box.addEventListener("change", () => {
      for (const part of document.querySelectorAll(`[data-kernel="${kernel}"]:not(input)`))
        part.style.display = box.checked ? "" : "none";
    });
  }
  const vertices = path =>
    path.getAttribute("d").match(/[ML] *\\S+ +\\S+/g).map(step => step.slice(1).trim().split(/ +/));
  for (const svg of document.querySelectorAll(".picture svg")) {
    const points = [];
    for (const group of svg.querySelectorAll("g[data-part]")) {
      const kernel = kernels[group.dataset.kernel], part = group.dataset.part;
      const modes = kernel && kernel[part];
      if (!Array.isArray(modes) || part === "values" || !modes.length) continue;
      const marks = [...group.querySelectorAll("use")].map(mark => [mark.getAttribute("x"), mark.getAttribute("y")]);
      const places = part === "curve" ? vertices(group.querySelector("path")) : marks;
      if (places.length !== modes.length) continue;
      const bound = part === "bounds";
      places.forEach(([x, y], i) => points.push({ x: +x, y: +y, group, kernel, mode: +modes[i], bound }));
    }
    if (!points.length) continue;
    const ring = document.createElementNS(svg.namespaceURI, "circle");
    ring.setAttribute("class", "ring"); ring.setAttribute("r", 4); ring.style.display = "none"; svg.append(ring);
    const leave = () => { tip.hidden = true; ring.style.display = "none"; };
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("pointermove", event => {
      const scale = svg.getScreenCTM();
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(scale.inverse());
      let best = null, least = (14 / scale.a) ** 2;
      for (const point of points) {
        const distance = (point.x - at.x) ** 2 + (point.y - at.y) ** 2;
        if (distance < least && point.group.getClientRects().length) { least = distance; best = point; }
      }
      if (!best) return leave();
      const { kernel, mode, bound } = best;
      tip.textContent = `${kernel.name}\\nmode ${mode}, eigenvalue ${kernel.values[mode - 1]}, ` +
        `frequency ${bound ? "above " : ""}${kernel.frequencies[mode - 1]}`;
      ring.setAttribute("cx", best.x); ring.setAttribute("cy", best.y); ring.style.display = "";
      tip.hidden = false;
      tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 4)) + "px";
      tip.style.top = Math.max(4, event.clientY - tip.offsetHeight - 10) + "px";
    });
  }
})();
"""


def sheet(body: str) -> str:
    """The style sheet of a page with this body. In dark mode it defines the colors of its figures as well."""
    return STYLE + DARK.replace("COLORS", dark_colors(body))
