"""What Sphinx needs to know; ``make docs`` builds the pages."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import apistar_ws  # noqa: E402

project = 'apistar-ws'
author = 'the apistar-ws developers'
copyright = '2026, ' + author
version = release = apistar_ws.__version__

extensions = ['sphinx.ext.autodoc', 'sphinx_copybutton']
exclude_patterns = ['_build']
autodoc_member_order = 'bysource'
# Else the path of a module on this machine is on the page.
autodoc_preserve_defaults = True

html_theme = 'furo'
html_title = 'apistar-ws'
html_theme_options = {'footer_icons': []}
html_static_path = ['_static']
html_css_files = ['pages.css']
html_show_sourcelink = False
html_copy_source = False
