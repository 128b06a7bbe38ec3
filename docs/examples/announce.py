import asyncio
import sys

from apistar_ws import Groups


async def main(url, text):
    async with Groups.connect(
        url, namespaces={'room': {'history': 100, 'history_ttl': 3600}}
    ) as groups:
        await groups.send_json('room:lobby', {'name': 'the management', 'text': text})


if __name__ == '__main__':
    asyncio.run(main(*sys.argv[1:]))
