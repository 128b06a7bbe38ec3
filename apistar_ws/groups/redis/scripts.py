"""The scripts that run inside Redis, each in one atomic step, and the names of keys."""

import hashlib
import importlib.resources
from typing import NamedTuple

#: Milliseconds that a record is kept longer than its messages, and that presence is kept; renewed while it is used.
KEPT_LONGER_MS = 3_600_000


class Names(NamedTuple):
    """The names of keys and channels.

    A channel has the number of the database, which its subscribers would not see otherwise.
    """

    prefix: str
    database: int

    def key(self, *parts: str) -> str:
        """Return the name of a key."""
        return ':'.join((self.prefix, *parts))

    def channel(self, kind: str, name: str) -> bytes:
        """Return the name of a channel."""
        return ('%s:%d:%s:%s' % (self.prefix, self.database, kind, name)).encode()


class Script:
    """A script, and the digest by which Redis knows it.

    :param parts: the names of its files, in order; each says what it promises.
    """

    def __init__(self, *parts: str) -> None:
        folder = importlib.resources.files(__package__)
        self.text = b''.join(folder.joinpath(part + '.lua').read_bytes() for part in parts)
        self.sha = hashlib.sha1(self.text).hexdigest()


OPEN = Script('open')
PUBLISH = Script('guard', 'place', 'publish')
READ = Script('guard', 'place', 'read')
ENTER = Script('guard', 'session', 'enter')
ANNOUNCE = Script('guard', 'session', 'announce')
WITHDRAW = Script('guard', 'session', 'withdraw')
REPLACE = Script('guard', 'session', 'replace')
RETIRE = Script('guard', 'session', 'remove', 'retire')
MEMBERS = Script('guard', 'members')
COUNT = Script('guard', 'count')
TICK = Script('guard', 'remove', 'tick')
