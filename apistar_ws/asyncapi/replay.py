"""What a handshake is answered: up to the accept and no further, since a browser shows nothing of a denial."""

import asyncio
import json
import re
from typing import Any, Dict, List, Mapping, Tuple
from urllib.parse import unquote, urlsplit

from apistar import http

from apistar_ws.origins import is_same_origin
from apistar_ws.serving.lifecycle import Lifecycle
from apistar_ws.settings import is_subprotocols
from apistar_ws.types import Message, Scope

#: Characters of the body of a denial that are shown.
MAX_BODY_SHOWN = 20_000
#: Seconds that a handshake may take.
DRY_RUN_TIMEOUT = 5.0
#: What a path and a query are made of.
URL = re.compile('/[!-~]*')
#: What a handshake has of the request that asks for it, of ASGI and of nobody else.
KEPT = ('asgi', 'http_version', 'root_path', 'client', 'server')
#: Headers of the request that are not those of a handshake.
NOT_OF_A_HANDSHAKE = (b'content-length', b'content-type', b'transfer-encoding', b'accept', b'origin', b'connection')


class Malformed(Exception):
    """Raised for a request that cannot be meant."""


async def denial_response(lifecycle: Lifecycle, scope: Scope, body: bytes) -> http.Response:
    """Return what the handshake that ``body`` asks for is answered: JSON, and never a cookie.

    Only for pages of the same origin, since hooks and components run again, as the user who asks.
    """
    # The test client of API Star writes them as the test does.
    scope = {**scope, 'headers': [(name.lower(), value) for name, value in scope['headers']]}
    headers = dict(scope['headers'])
    if not is_same_origin(headers.get(b'origin', b''), scope.get('scheme', 'http'), headers.get(b'host', b'')):
        return http.JSONResponse('Only for the page of this application', 403)
    if headers.get(b'content-type', b'').partition(b';')[0].strip() != b'application/json':
        return http.JSONResponse('Expected application/json', 415)
    try:
        handshake = replayed_scope(scope, asked_for(body))
    except Malformed as exc:
        return http.JSONResponse(str(exc), 400)
    answer = Answer()
    task = asyncio.ensure_future(lifecycle.dry_run().serve(handshake, answer.receive, answer.send))
    try:
        # A hook that hangs must not outlive who has asked.
        await asyncio.wait({task}, timeout=DRY_RUN_TIMEOUT)
    finally:
        is_over = task.done()
        task.cancel()
        await asyncio.wait({task}, timeout=DRY_RUN_TIMEOUT)
    if not is_over:
        return http.JSONResponse('The handshake was not answered within %g seconds' % DRY_RUN_TIMEOUT, 504)
    task.result()
    return http.JSONResponse(answer.told(), headers={'Cache-Control': 'no-store'})


def asked_for(body: bytes) -> Tuple[str, List[str]]:
    """Return the URL and the subprotocols of a handshake.

    :raises Malformed: saying what is wrong.
    """
    try:
        asked = json.loads(body)
        url, subprotocols = asked['url'], asked.get('subprotocols', [])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Malformed('Expected an object with url and subprotocols') from None
    if not isinstance(url, str) or not URL.fullmatch(url):
        raise Malformed('The url has to be a path of ASCII that begins with a slash')
    if not is_subprotocols(subprotocols):
        raise Malformed('The subprotocols have to be names')
    return url, list(subprotocols)


def replayed_scope(scope: Mapping[str, Any], asked: Tuple[str, List[str]]) -> Scope:
    """Return the scope of a handshake of the client that has sent the request in ``scope``."""
    url, subprotocols = asked
    parts = urlsplit('http://host' + url)
    headers = [(name, value) for name, value in scope['headers'] if name not in NOT_OF_A_HANDSHAKE]
    headers += [(b'connection', b'Upgrade'), (b'upgrade', b'websocket'), (b'sec-websocket-version', b'13')]
    headers += [(b'origin', value) for name, value in scope['headers'] if name == b'origin']
    if subprotocols:
        headers.append((b'sec-websocket-protocol', ', '.join(subprotocols).encode()))
    return {
        **{name: scope[name] for name in KEPT if name in scope},
        'type': 'websocket',
        'scheme': 'wss' if scope.get('scheme') == 'https' else 'ws',
        'path': unquote(parts.path),
        'raw_path': (scope.get('root_path', '').rstrip('/') + parts.path).encode(),
        'query_string': parts.query.encode(),
        'headers': headers,
        'subprotocols': subprotocols,
        'extensions': {'websocket.http.response': {}},
        'state': dict(scope.get('state') or {}),
    }


class Answer:
    """The server's side of a handshake that leads nowhere, and what the application answers."""

    def __init__(self) -> None:
        self._is_begun = False
        self._is_answered = asyncio.Event()
        self._messages: List[Message] = []

    async def receive(self) -> Message:
        """Return the handshake, and once it is answered that the client has left."""
        if not self._is_begun:
            self._is_begun = True
            return {'type': 'websocket.connect'}
        await self._is_answered.wait()
        return {'type': 'websocket.disconnect', 'code': 1000}

    async def send(self, message: Message) -> None:
        """Keep what the application says."""
        self._messages.append(message)
        self._is_answered.set()

    def told(self) -> Dict[str, Any]:
        """Return the answer, to be shown."""
        first = self._messages[0]
        if first['type'] == 'websocket.accept':
            return {'accepted': True, 'subprotocol': first.get('subprotocol')}
        if first['type'] == 'websocket.close':
            return {'accepted': False, 'status': 403, 'body': ''}
        body = b''.join(message.get('body', b'') for message in self._messages[1:])
        text = body[:MAX_BODY_SHOWN].decode('utf-8', 'replace')
        return {
            'accepted': False,
            'status': first['status'],
            'body': text if len(body) <= MAX_BODY_SHOWN else text + ' …',
        }
