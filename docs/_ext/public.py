"""The directive `public`: the entries of public names, one group per directive.

```{public}
spectrum top_modes nystrom
```
"""

from docutils import nodes
from docutils.statemachine import StringList
from entries import entry, public_names
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Public(SphinxDirective):
    """Entries for a group of names."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The nodes of all entries."""
        group = " ".join(self.content).split()
        unknown = set(group) - set(public_names())
        if unknown:
            raise self.error(f"Expected public names of ntkbias; got {', '.join(sorted(unknown))}.")
        lines = [line for path in group for line in entry(path, group)]
        self.env.note_reread()  # docstrings change without the page
        node = nodes.Element()
        self.state.nested_parse(StringList(lines, source="docstrings"), self.content_offset, node)
        return node.children


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("public", Public)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
