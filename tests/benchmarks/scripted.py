"""The other side of a connection, in process: a scope as uvicorn builds it, and scripted receive and send."""

import asyncio
import contextlib
import json
from typing import Any, AsyncIterator, Dict, List, Optional

from tests.benchmarks.contenders import visited

Message = Dict[str, Any]

#: What a browser sends with a handshake, in the order in which it sends it.
BROWSER_HEADERS = (
    ('host', 'chat.example.com'),
    ('connection', 'Upgrade'),
    ('pragma', 'no-cache'),
    ('cache-control', 'no-cache'),
    ('user-agent', 'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0'),
    ('upgrade', 'websocket'),
    ('origin', 'http://chat.example.com'),
    ('sec-websocket-version', '13'),
    ('accept-encoding', 'gzip, deflate'),
    ('accept-language', 'en-GB,en;q=0.9'),
    ('cookie', 'session=5b1d0c6a8f3e4d27'),
    ('sec-websocket-key', 'dGhlIHNhbXBsZSBub25jZQ=='),
)
#: What a proxy in front adds for a user that it knows.
PROXY_HEADERS = (('x-forwarded-user', 'ann'),)
TEXT = 'hello'
VALUE = {'user': 'ann', 'text': 'hello', 'n': 1}
#: What an application sends that echoes one text: accept, the text, close.
ECHO_DUE = 3
#: How long an application may take to start, or a checked connection to end.
PATIENCE = 30.0


class Wrong(Exception):
    """Raised for a contender that does not do the work."""


def make_scope(path: str, query: str = '', proxied: bool = False) -> Dict[str, Any]:
    """Return the scope of a new connection; everything in it is made anew, as for bytes from a socket."""
    headers = BROWSER_HEADERS + PROXY_HEADERS if proxied else BROWSER_HEADERS
    return {
        'type': 'websocket',
        'asgi': {'version': '3.0', 'spec_version': '2.4'},
        'http_version': '1.1',
        'scheme': 'ws',
        'server': ('127.0.0.1', 8000),
        'client': ('127.0.0.1', 50000),
        'root_path': '',
        'path': path,
        'raw_path': path.encode('ascii'),
        'query_string': query.encode('ascii'),
        'headers': [(name.encode('ascii'), value.encode('latin-1')) for name, value in headers],
        'subprotocols': [],
        'state': {},
        'extensions': {'websocket.http.response': {}},
    }


class Script:
    """One connection: connects, sends ``count`` messages once it is accepted, and leaves once it has its answers.

    :param scope: the scope of the connection.
    :param payload: each message, as it comes from the network.
    :param due: how many messages the application has to send.
    :param count: how many messages the client sends.
    """

    __slots__ = ('scope', 'payload', 'due', 'end', 'received', 'sent', 'turn')

    def __init__(self, scope: Dict[str, Any], payload: bytes, due: int, count: int = 1) -> None:
        self.scope = scope
        self.payload = payload
        self.due = due
        self.end = count + 1
        self.received = 0
        self.sent = 0
        #: Set once somebody waits for the client, who waits for the application.
        self.turn: Optional[asyncio.Event] = None

    async def receive(self) -> Message:
        """Return the next message, made as a server makes it."""
        self.received = received = self.received + 1
        if 1 < received <= self.end:
            if not self.sent:
                await self.until_sent(1)
            return {'type': 'websocket.receive', 'text': self.payload.decode()}
        if received == 1:
            return {'type': 'websocket.connect'}
        if self.sent < self.due:
            await self.until_sent(self.due)
        return {'type': 'websocket.disconnect', 'code': 1000, 'reason': ''}

    async def until_sent(self, count: int) -> None:
        """Wait until the application has sent so many messages."""
        self.turn = asyncio.Event()
        while self.sent < count:
            self.turn.clear()
            await self.turn.wait()

    async def send(self, message: Message) -> None:
        """Take a message."""
        self.sent += 1
        if self.turn is not None:
            self.turn.set()


class PreparedScript(Script):
    """A connection whose messages are made beforehand, so that their making is in no figure."""

    __slots__ = ('message',)

    def __init__(self, scope: Dict[str, Any], payload: bytes, due: int, count: int = 1) -> None:
        super().__init__(scope, payload, due, count)
        self.message: Message = {'type': 'websocket.receive', 'text': payload.decode()}

    async def receive(self) -> Message:
        """Return the next message."""
        if 0 < self.received < self.end and self.sent:
            self.received += 1
            return self.message
        return await super().receive()


class RecordingScript(Script):
    """A connection that keeps what the application sends."""

    __slots__ = ('messages',)

    def __init__(self, scope: Dict[str, Any], payload: bytes, due: int, count: int = 1) -> None:
        super().__init__(scope, payload, due, count)
        self.messages: List[Message] = []

    async def send(self, message: Message) -> None:
        """Keep a message."""
        self.messages.append(message)
        await super().send(message)


async def play(app: Any, script: RecordingScript) -> List[Message]:
    """Return what ``app`` sends over a connection."""
    await asyncio.wait_for(app(script.scope, script.receive, script.send), PATIENCE)
    return script.messages


def require(holds: bool, messages: List[Message]) -> None:
    """Raise unless the application sent what it should have."""
    if not holds:
        raise Wrong('it answered %r' % messages[:4])


def require_visit(expected: Any) -> None:
    """Raise unless the handler was given what it should have been."""
    if not visited or visited[0] != expected:
        raise Wrong('its handler was given %r, not %r' % (list(visited), expected))


async def check_echo(app: Any, path: str, visit: Any, query: str = '', proxied: bool = False) -> None:
    """Require that ``app`` accepts, echoes one text and closes with 1000, knowing its parameters."""
    visited.clear()
    messages = await play(app, RecordingScript(make_scope(path, query, proxied), TEXT.encode(), ECHO_DUE))
    kinds = [message['type'] for message in messages]
    require(kinds == ['websocket.accept', 'websocket.send', 'websocket.close'], messages)
    require(messages[1].get('text') == TEXT and messages[2].get('code', 1000) == 1000, messages)
    require_visit(visit)


async def check_talk(app: Any, path: str, visit: Any, value: Any = TEXT, answer: Any = None) -> None:
    """Require that ``app`` accepts and answers messages until the client leaves; what is no text goes as JSON.

    Without an ``answer`` it has to be an echo.
    """
    answer = value if answer is None else answer
    visited.clear()
    payload = value if isinstance(value, str) else json.dumps(value)
    messages = await play(app, RecordingScript(make_scope(path), payload.encode(), 4, 3))
    kinds = [message['type'] for message in messages]
    require(kinds == ['websocket.accept'] + 3 * ['websocket.send'], messages)
    for message in messages[1:]:
        sent = message.get('text') or message.get('bytes') or ''
        require((sent if isinstance(value, str) else json.loads(sent)) == answer, messages)
    require_visit(visit)


async def check_refused(app: Any, path: str, query: str, header: str, value: str) -> None:
    """Require that ``app`` refuses a client with that header, which is no browser's page."""
    scope = make_scope(path, query, proxied=True)
    dropped = (header.encode(), b'origin')
    kept = [pair for pair in scope['headers'] if pair[0] not in dropped]
    scope['headers'] = kept + [(header.encode(), value.encode())]
    messages = await play(app, RecordingScript(scope, TEXT.encode(), 1))
    kinds = {message['type'] for message in messages}
    require(bool(messages) and not kinds & {'websocket.accept', 'websocket.send'}, messages)


@contextlib.asynccontextmanager
async def started(app: Any) -> AsyncIterator[Any]:
    """Start ``app`` as a server does (ASGI lifespan protocol), and shut it down at the end."""
    answers: 'asyncio.Queue[Message]' = asyncio.Queue()
    questions: 'asyncio.Queue[Message]' = asyncio.Queue()
    scope = {'type': 'lifespan', 'asgi': {'version': '3.0', 'spec_version': '2.0'}, 'state': {}}
    lifespan = asyncio.ensure_future(app(scope, questions.get, answers.put))
    try:
        await ask(lifespan, questions, answers, 'startup')
        yield app
        await ask(lifespan, questions, answers, 'shutdown')
    finally:
        lifespan.cancel()
        await asyncio.wait([lifespan])


async def ask(
    lifespan: 'asyncio.Future[None]', questions: 'asyncio.Queue[Message]', answers: 'asyncio.Queue[Message]', what: str
) -> None:
    """Send a message of the lifespan protocol; applications that do not speak it raise, which is their right."""
    questions.put_nowait({'type': 'lifespan.' + what})
    answer = asyncio.ensure_future(answers.get())
    either: List[Any] = [lifespan, answer]
    await asyncio.wait(either, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    if answer.done() and not answer.result()['type'].endswith('.complete'):
        raise Wrong('its %s failed: %r' % (what, answer.result()))
    answer.cancel()
    if lifespan.done() and not lifespan.cancelled():
        lifespan.exception()
