# SPDX-License-Identifier: Apache-2.0
"""Sphinx's configuration: `make docs` makes a site of these pages and of the docstrings."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from aegnn_core import __version__  # noqa: E402

project = "aegnn_ros"
author = "aegnn_ros developers"
project_copyright = "aegnn_ros developers"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["conf.py", "draw_topics.py", "node_reference.py"]
html_theme = "alabaster"
html_theme_options = {"page_width": "1100px"}

# The pages are read on code hosts too, where links lead to files of the repository beside them.
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
add_module_names = False
napoleon_numpy_docstring = False
