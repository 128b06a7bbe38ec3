"""Generated functions, whose source lines are shown in tracebacks."""

import linecache
from typing import Any, Dict, Sequence


def define(title: str, lines: Sequence[str], names: Dict[str, Any]) -> None:
    """Execute generated source, with ``names`` as its globals.

    :param title: what the source is for; a traceback shows it in place of a file name.
    """
    filename, source = '<apistar_ws: %s>' % title, '\n'.join(lines)
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, 'exec'), names)
