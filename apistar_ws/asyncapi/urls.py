"""URLs of the documentation, as seen from each other."""

import posixpath


def relative(here: str, url: str) -> str:
    """Return ``url`` as seen from ``here``, so that a prefix that a proxy puts before both does not matter."""
    path = posixpath.relpath(url, posixpath.dirname(here))
    return path + '/' if url.endswith('/') else path


def asset_url(docs_url: str, name: str) -> str:
    """Return the URL of a script or style of the page."""
    return '%s/%s' % (docs_url.rstrip('/'), name)
