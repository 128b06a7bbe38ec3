"""A process that forks while it is a member of a group, and a child that is one too."""

import asyncio
import os
import sys

from apistar_ws import GroupsComponent
from tests.groups.members import Inbox

URL, PREFIX = sys.argv[1:]
component = GroupsComponent(URL, prefix=PREFIX)


async def child():
    inbox, groups = Inbox(), component.resolve()
    async with groups.join('a', inbox):
        await groups.send('a', 'child')
        await inbox.count(1)
    await component.on_shutdown()
    print('child', inbox.messages, flush=True)


async def parent():
    inbox, groups = Inbox(), component.resolve()
    async with groups.join('a', inbox):
        await groups.send('a', 'before')
        await inbox.count(1)
        pid = os.fork()
        if pid == 0:
            asyncio.run(child())
            os._exit(0)
        await inbox.count(2)
        os.waitpid(pid, 0)
        await groups.send('a', 'after')
        await inbox.count(3)
    await component.on_shutdown()
    print('parent', inbox.messages, flush=True)


asyncio.run(parent())
