"""Relative URLs of the documentation."""

import posixpath


def relative(here: str, url: str) -> str:
    """Return ``url`` relative to ``here``, so that it is correct behind a proxy that adds a prefix to both."""
    path = posixpath.relpath(url, posixpath.dirname(here))
    return path + '/' if url.endswith('/') else path


def asset_url(docs_url: str, name: str) -> str:
    """Return the URL of a script or style of the page."""
    return '%s/%s' % (docs_url.rstrip('/'), name)
