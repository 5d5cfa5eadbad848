"""How Sphinx builds these pages: `make docs`, strictly."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]  # settings.py; the types it reads

project = "fgsearch"
extensions = ["myst_parser", "settings"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
highlight_language = "none"  # most blocks are commands with what they print
html_theme = "furo"
html_title = "fgsearch"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
