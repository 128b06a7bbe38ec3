"""What the log says of a route: a line for what the package decides, and not more than one a second of a kind."""

import logging
import time
from typing import Any, Dict, Tuple

logger = logging.getLogger('apistar_ws')

#: Seconds between two lines of a kind: a client that tries again and again cannot fill the log.
LINE_INTERVAL = 1.0


class RouteLog:
    """The log of one route; each message that it is given is a kind of its own."""

    def __init__(self) -> None:
        #: When a line of a kind was written, and how many were held back since.
        self._kinds: Dict[str, Tuple[float, int]] = {}

    def tell(self, level: int, message: str, *args: Any) -> None:
        """Write a line, unless one like it was written less than a second ago; the next one says how many were not."""
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
