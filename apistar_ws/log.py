"""The log of a route, limited to one line a second of each kind."""

import logging
import time
from typing import Any, Dict, Tuple

logger = logging.getLogger('apistar_ws')

#: Seconds between two lines of one kind: a client that keeps trying cannot fill the log.
LINE_INTERVAL = 1.0


class RouteLog:
    """The log of one route; each message is a kind of line."""

    def __init__(self) -> None:
        #: When a line of each kind was written last, and how many were omitted since.
        self._kinds: Dict[str, Tuple[float, int]] = {}

    def write(self, level: int, message: str, *args: Any) -> None:
        """Write a line, unless one of its kind was written within a second; the next line has the number omitted."""
        if not logger.isEnabledFor(level):
            return
        now = time.monotonic()
        written_at, held_back = self._kinds.get(message, (now - LINE_INTERVAL, 0))
        if now - written_at < LINE_INTERVAL:
            self._kinds[message] = (written_at, held_back + 1)
            return
        self._kinds[message] = (now, 0)
        more = ' (%d more like it since the last one)' % held_back if held_back else ''
        logger.log(level, message + '%s', *args, more)
