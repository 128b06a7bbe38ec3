"""The component that supplies ``Groups``."""

import contextlib
from typing import Optional

from apistar.server.components import Component

from apistar_ws.groups.api import Groups
from apistar_ws.groups.errors import GroupsUnavailable
from apistar_ws.groups.hubs import Hubs
from apistar_ws.groups.settings import GroupsOptions
from apistar_ws.types import Unpack

#: Seconds that what waits to be sent has when the application ends.
TIME_TO_STOP = 0.7


class GroupsComponent(Component):  # type: ignore[misc]
    """Supplies ``groups: Groups``: sending to many connections, in this process or in many.

    Give one to the application, ``components=[GroupsComponent()]`` for one process, and
    ``GroupsComponent('redis://localhost/0')`` for many processes and machines, which needs ``apistar-ws[redis]``. It
    starts with the application or at its first use, and ends with the application.

    :param url: of a Redis or Valkey, as redis-py has it; None for this process alone.
    :param options: as follows, and those of all groups; see :class:`GroupSettings`.
    :param namespaces: settings by namespace, which is what comes before the first colon of a name.
    :param prefix: what all keys and channels in Redis begin with.
    :param lease: seconds without a sign of life after which the members of a process count as gone. Default: 10.
    :param publish_timeout: seconds that Redis may take to answer. Default: 5.
    :param json: the codec: the ``json`` module, ``orjson``, or an object with ``dumps`` and ``loads``.
    :raises ConfigurationError: for a setting or a value that is not known, or without redis-py.
    """

    #: An application has one.
    given_once = 'GroupsComponent'

    def __init__(self, url: Optional[str] = None, **options: 'Unpack[GroupsOptions]') -> None:
        self._hubs = Hubs(url, options, 'GroupsComponent')

    def resolve(self) -> Groups:
        """Return the groups of this event loop."""
        return Groups(self._hubs.current())

    async def on_startup(self) -> None:
        """Start with the application; an engine that is away is waited for meanwhile."""
        engine = self._hubs.current().engine
        engine.is_held = True
        with contextlib.suppress(GroupsUnavailable):
            await engine.ready()

    async def on_shutdown(self) -> None:
        """End with the application."""
        await self._hubs.stop(TIME_TO_STOP)
