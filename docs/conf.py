"""Sphinx configuration: ``make docs`` writes docs/_build/html."""

from nodeport import __version__

project = "nodeport"
author = "the nodeport maintainers"
copyright = author
release = __version__
extensions = ["myst_parser"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"nodeport {release}"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["wide.css"]
smartquotes = False  # two dashes in front of a flag are two dashes
