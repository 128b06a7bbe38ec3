"""What Sphinx needs to know; ``make docs`` builds the pages."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import apistar_ws  # noqa: E402

project = 'apistar-ws'
author = 'the apistar-ws developers'
copyright = '2026, ' + author
version = release = apistar_ws.__version__

extensions = ['sphinx.ext.autodoc']
exclude_patterns = ['_build']
autodoc_member_order = 'bysource'

html_theme = 'alabaster'
html_theme_options = {'description': 'WebSockets for API Star, by decorating a handler', 'page_width': '1000px'}
html_static_path = []
html_show_sourcelink = False
