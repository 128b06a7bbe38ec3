"""The ASGI messages of a connection: reading them, and sending a close."""

import contextlib
import re
from typing import Optional, Tuple

from apistar_ws.codes import CloseCode
from apistar_ws.connection.pace import TOO_FAST
from apistar_ws.connection.readahead import byte_length
from apistar_ws.settings import Settings
from apistar_ws.types import Data, Message, Scope, Send


def is_shutdown(message: Message, scope: Scope) -> bool:
    """Return whether a disconnect means that the server goes down.

    A client may close with 1012 too, but its close has a reason, possibly empty (ASGI specification, WebSocket, 2.4).
    """
    is_restart = message.get('code') == CloseCode.SERVICE_RESTART and 'reason' not in message
    return is_restart and _has_reasons(scope)


def _has_reasons(scope: Scope) -> bool:
    """Return whether the server passes on the reason of a client's close (ASGI specification, WebSocket, 2.4)."""
    version = str((scope.get('asgi') or {}).get('spec_version', '2.0'))
    return tuple(map(int, re.findall(r'\d+', version))) >= (2, 4)


def is_clean_close(message: Message, scope: Scope) -> bool:
    """Return whether the client closed the connection: it was not lost, over a limit or shut down.

    uvicorn with wsproto reports a lost connection with 1005, without a reason.
    """
    if _has_reasons(scope) and 'reason' not in message:
        return False
    return message.get('code') not in (CloseCode.ABNORMAL_CLOSURE, CloseCode.MESSAGE_TOO_BIG)


def message_data(message: Message) -> Data:
    """Return the text or bytes of a message; servers may send both keys, one of them None."""
    text = message.get('text')
    return text if text is not None else message.get('bytes') or b''


def broken_limit(message: Message, settings: Settings) -> Optional[Tuple[int, str]]:
    """Return the close code and reason if ``message`` is too large or came too fast, or None."""
    limit = settings.max_message_size
    if limit is not None and _is_longer(message_data(message), limit):
        return CloseCode.MESSAGE_TOO_BIG, 'Message larger than %d bytes' % limit
    if TOO_FAST in message:
        return CloseCode.POLICY_VIOLATION, 'More than %s messages per second' % settings.max_messages_per_second
    return None


def _is_longer(data: Data, limit: float) -> bool:
    """Return whether ``data`` is longer than ``limit`` bytes in UTF-8."""
    return len(data) > limit or byte_length(data) > limit


async def send_close(send: Send, code: int, reason: str) -> None:
    """Send a close; if the server raises, the connection is lost anyway."""
    message = {'type': 'websocket.close', 'code': code, 'reason': reason}
    try:
        await send(message)
    except Exception as exc:
        await close_with_private_code(send, message, exc)


async def close_with_private_code(send: Send, message: Message, exc: BaseException) -> bool:
    """Close with a private code if the server refused one of RFC 6455, and return whether it did.

    daphne refuses all of them except 1000: it raises, and would leave the connection open.
    """
    if isinstance(exc, OSError) or not isinstance(exc, Exception) or not 1000 < message.get('code', 0) < 3000:
        return False
    with contextlib.suppress(Exception):
        await send({**message, 'code': message['code'] + 3000})
    return True
