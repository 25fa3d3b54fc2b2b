"""Sphinx's settings for the web site. `make site` builds it: see tools/build_site.py."""

import tomllib
from pathlib import Path

# Sphinx runs in build/site-sources, two folders below the checkout's root.
ROOT = Path(__file__).resolve().parent.parent.parent
ABOUT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

project = "The executable course on GFlowNets"
author = "the authors of the course"
version = release = ABOUT["version"]
html_title = project

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "sphinx_copybutton",
]

# Notebooks are shown as they were saved. Nothing is run.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True}

html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
html_css_files = ["course.css"]
html_theme_options = {
    "show_navbar_depth": 1,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "home_page_in_toc": True,
    "navigation_with_keys": False,
    "navbar_persistent": [],
    "extra_footer": "MIT licence",
}
html_context = {"default_mode": "auto"}  # as the reader's system has it, until told otherwise
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False

# `make check-links`: the outside links answer. What stands behind a # is made by scripts too often.
linkcheck_anchors = False
linkcheck_timeout = 30
linkcheck_retries = 3


def keep_bars(app, what, name, obj, options, lines):
    """In docstrings | is a letter like any other; in reStructuredText it would begin a name."""
    lines[:] = [line.replace("|", r"\|") for line in lines]


def setup(app):
    app.connect("autodoc-process-docstring", keep_bars)
