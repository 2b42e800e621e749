"""Pages that live outside docs/: the notebooks, the measurements and how to contribute.

They are copied into the folder `docs/generated`, which git ignores, and links to them are adjusted on the way. So every
link also works for those who read the files in a checkout.
"""

import re
import shutil
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "docs" / "generated"
COPIES = {
    "benchmarks/RESULTS.md": "measurements.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
}
LINK = re.compile(r"\]\(((?!https?:)[^)#\s]+)((?:#[^)\s]*)?)\)")


def page_of(path: Path) -> str | None:
    """Where a file of the checkout stands among the pages, relative to docs/; None if it is not one."""
    try:
        name = path.resolve().relative_to(ROOT).as_posix()
    except ValueError:
        return None
    if name in COPIES:
        return f"generated/{COPIES[name]}"
    if name == "README.md":
        return "index.md"
    if name.startswith("notebooks/"):
        return f"generated/{name}"
    return name.removeprefix("docs/") if name.startswith("docs/") else None


def relinked(text: str, source: Path, depth: int) -> str:
    """The text of a page with its links pointing to pages. A link to a file that is no page becomes plain text."""

    def link(match: re.Match) -> str:
        page = page_of(source.parent / match[1])
        # In JSON, as in notebooks, the brackets and slashes are written as they are.
        return f"]({'../' * depth}{page}{match[2]})" if page else "](" + match[1] + match[2] + ")"

    return LINK.sub(link, text)


def copy_pages(app: Any) -> None:
    """Copy the pages from outside."""
    shutil.rmtree(GENERATED / "notebooks", ignore_errors=True)
    (GENERATED / "notebooks").mkdir(parents=True)
    for name, page in COPIES.items():
        (GENERATED / page).write_text(relinked((ROOT / name).read_text(), ROOT / name, 1))
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        (GENERATED / "notebooks" / notebook.name).write_text(relinked(notebook.read_text(), notebook, 2))


def adjust_links(app: Any, name: str, content: list[str]) -> None:
    """Adjust the links of pages in docs/ itself."""
    if not name.startswith("generated/"):
        source = Path(app.srcdir) / f"{name}.md"
        content[0] = relinked(content[0], source, name.count("/"))


def setup(app: Any) -> dict[str, bool]:
    """Copy before reading, adjust while reading."""
    app.connect("builder-inited", copy_pages)
    app.connect("source-read", adjust_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
