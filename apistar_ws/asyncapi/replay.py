"""The response to a handshake, without accepting it: browsers hide the response of a denied handshake."""

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

#: Characters of the body of a denial that are returned.
MAX_BODY = 20_000
#: Seconds that a handshake may take.
DRY_RUN_TIMEOUT = 5.0
#: A path with its query string, in ASCII.
_URL = re.compile('/[!-~]*')
#: Keys of the ASGI scope that the handshake has in common with the request.
_COPIED_KEYS = ('asgi', 'http_version', 'root_path', 'client', 'server')
#: Headers of the request that a handshake does not have.
_REMOVED_HEADERS = (b'content-length', b'content-type', b'transfer-encoding', b'accept', b'origin', b'connection')


class _InvalidRequest(Exception):
    """Raised for a request with an invalid body."""


async def denial_response(lifecycle: Lifecycle, scope: Scope, body: bytes) -> http.Response:
    """Return the response to the handshake that ``body`` describes, as JSON and without its cookies.

    Only pages of the same origin may request it, since hooks and components run again, for the same user.
    """
    # The test client of API Star does not send names of headers in lower case.
    scope = {**scope, 'headers': [(name.lower(), value) for name, value in scope['headers']]}
    headers = dict(scope['headers'])
    if not is_same_origin(headers.get(b'origin', b''), scope.get('scheme', 'http'), headers.get(b'host', b'')):
        return http.JSONResponse('Only for the page of this application', 403)
    if headers.get(b'content-type', b'').partition(b';')[0].strip() != b'application/json':
        return http.JSONResponse('Expected application/json', 415)
    try:
        handshake = _handshake_scope(scope, *_parse_body(body))
    except _InvalidRequest as exc:
        return http.JSONResponse(str(exc), 400)
    server = Responder()
    task = asyncio.ensure_future(lifecycle.dry_run().serve(handshake, server.receive, server.send))
    try:
        # A hook that hangs must not outlive the request.
        await asyncio.wait({task}, timeout=DRY_RUN_TIMEOUT)
    finally:
        is_answered = task.done()
        task.cancel()
        await asyncio.wait({task}, timeout=DRY_RUN_TIMEOUT)
    if not is_answered:
        return http.JSONResponse('The handshake was not answered within %g seconds' % DRY_RUN_TIMEOUT, 504)
    task.result()
    return http.JSONResponse(server.result(), headers={'Cache-Control': 'no-store'})


def _parse_body(body: bytes) -> Tuple[str, List[str]]:
    """Return the URL and the subprotocols of the handshake.

    :raises _InvalidRequest: with a text for the user.
    """
    try:
        request = json.loads(body)
        url, subprotocols = request['url'], request.get('subprotocols', [])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise _InvalidRequest('Expected an object with url and subprotocols') from None
    if not isinstance(url, str) or not _URL.fullmatch(url):
        raise _InvalidRequest('The url has to be a path of ASCII that begins with a slash')
    if not is_subprotocols(subprotocols):
        raise _InvalidRequest('The subprotocols have to be names')
    return url, list(subprotocols)


def _handshake_scope(scope: Mapping[str, Any], url: str, subprotocols: List[str]) -> Scope:
    """Return the ASGI scope of a handshake by the client of the request in ``scope``."""
    parts = urlsplit('http://host' + url)
    headers = [(name, value) for name, value in scope['headers'] if name not in _REMOVED_HEADERS]
    headers += [(b'connection', b'Upgrade'), (b'upgrade', b'websocket'), (b'sec-websocket-version', b'13')]
    headers += [(b'origin', value) for name, value in scope['headers'] if name == b'origin']
    if subprotocols:
        headers.append((b'sec-websocket-protocol', ', '.join(subprotocols).encode()))
    return {
        **{name: scope[name] for name in _COPIED_KEYS if name in scope},
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


class Responder:
    """The server's side of a handshake whose client leaves after the response."""

    def __init__(self) -> None:
        self._is_connect_received = False
        self._is_answered = asyncio.Event()
        self._messages: List[Message] = []

    async def receive(self) -> Message:
        """Return the connect message, and after the response the disconnect message."""
        if not self._is_connect_received:
            self._is_connect_received = True
            return {'type': 'websocket.connect'}
        await self._is_answered.wait()
        return {'type': 'websocket.disconnect', 'code': 1000}

    async def send(self, message: Message) -> None:
        """Store a message of the application."""
        self._messages.append(message)
        self._is_answered.set()

    def result(self) -> Dict[str, Any]:
        """Return the response as JSON for the page."""
        first = self._messages[0]
        if first['type'] == 'websocket.accept':
            return {'accepted': True, 'subprotocol': first.get('subprotocol')}
        if first['type'] == 'websocket.close':
            return {'accepted': False, 'status': 403, 'body': ''}
        body = b''.join(message.get('body', b'') for message in self._messages[1:])
        text = body[:MAX_BODY].decode('utf-8', 'replace')
        return {'accepted': False, 'status': first['status'], 'body': text if len(body) <= MAX_BODY else text + ' …'}
