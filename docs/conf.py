"""How Sphinx builds the pages: `make docs`. Nothing is fetched, at build time or by a reader."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

import ntkbias

project = "ntkbias"
author = "The ntkbias authors"
smartquotes = False  # quotes are code here: outputs="all"
copyright = "the ntkbias authors. License: Apache-2.0"
version = release = ntkbias.__version__

extensions = ["myst_nb", "sphinx_copybutton", "local_math", "outside", "gallery", "public", "offline"]
exclude_patterns = ["_ext"]
templates_path: list[str] = []
suppress_warnings = ["ref.python"]  # a type in a signature may have a namesake in another room

# Markdown
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

# Notebooks are shown as they were stored. `make notebooks` executes them.
nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # by default from a network
nb_number_source_lines = False
nb_merge_streams = True

# Pages
html_theme = "furo"
html_title = "ntkbias"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sphinx = False
highlight_language = "none"  # blocks name their language
pygments_style = "friendly"
pygments_dark_style = "github-dark"
add_module_names = False
python_maximum_signature_line_length = 88
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = False
toc_object_entries_show_parents = "hide"
