"""The built pages ask no network for anything: no script, style, font or image from elsewhere.

A link that a reader may follow is not such a request. What is found is a warning, which `make docs` makes an error.
"""

import re
from pathlib import Path
from typing import Any

REQUESTS = (
    re.compile(r"<(?:script|img|iframe|video|audio|source|embed)\b[^>]*\bsrc=[\"'](?:https?:)?//[^\"']+"),
    re.compile(r"<link\b(?![^>]*rel=[\"'](?:canonical|license)[\"'])[^>]*\bhref=[\"'](?:https?:)?//[^\"']+"),
    re.compile(r"@import\s+[^;]*//[^;]+|url\(\s*[\"']?(?:https?:)?//[^)]+"),
)
WITHOUT_ALT = re.compile(r"<img\b(?![^>]*\balt=[\"'][^\"']+[\"'])[^>]*>")


def requests(text: str) -> list[str]:
    """The requests to other hosts that a page or a style sheet makes."""
    return [match[0] for pattern in REQUESTS for match in pattern.finditer(text)]


def check(app: Any, failure: Exception | None) -> None:
    """Warn about each request, and about each image without a text for those who do not see it."""
    if failure or app.builder.name != "html":
        return
    from sphinx.util import logging  # the tests use this file without Sphinx

    log = logging.getLogger(__name__)
    for path in sorted(p for p in Path(app.outdir).rglob("*") if p.suffix in (".html", ".css")):
        text = path.read_text(errors="replace")
        for request in requests(text):
            log.warning("%s asks the network: %s", path.name, request)
        for image in WITHOUT_ALT.findall(text) if path.suffix == ".html" else ():
            log.warning("%s shows an image without a text for readers who do not see it: %s", path.name, image[:200])


def setup(app: Any) -> dict[str, bool]:
    """Check after the build."""
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
