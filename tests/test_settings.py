import inspect
import json
import typing

import orjson
import pytest
from apistar.exceptions import ConfigurationError

from apistar_ws import Settings, WebSocketComponent, websocket_listener, websocket_route, websocket_stream
from apistar_ws.settings import SETTING_NAMES, Options, check_settings


def test_defaults_match_the_documentation():
    """The defaults are those of the documentation."""
    assert Settings() == Settings(
        allowed_origins='same-origin',
        max_message_size=1024 * 1024,
        max_messages_per_second=None,
        idle_timeout=None,
        send_timeout=20.0,
        max_connections=10_000,
        subprotocols=(),
        cancel_on_disconnect=True,
        on_invalid='close',
        json=json,
    )


def test_route_overrides_given_settings():
    """A route overrides the settings that it gives and keeps the others."""
    settings = Settings(idle_timeout=60, max_connections=5)
    route = settings.override(idle_timeout=None, subprotocols=['chat'])
    assert (route.idle_timeout, route.max_connections, route.subprotocols) == (None, 5, ('chat',))
    assert settings.override() is settings


@pytest.mark.parametrize(
    'given, problem',
    [
        ({'idle_timeout': 0}, 'idle_timeout=0 has to be a number above 0, or None for no limit'),
        ({'idle_timeout': -1}, 'idle_timeout=-1'),
        ({'idle_timeout': float('inf')}, 'idle_timeout=inf'),
        ({'max_messages_per_second': 0.5}, 'has to be a whole number above 0'),
        ({'allowed_origins': None}, 'allowed_origins=None has to be a list'),
        ({'allowed_origins': iter(['*'])}, 'has to be a list'),
        ({'subprotocols': iter(['a'])}, 'has to be a list of names'),
        ({'send_timeout': '5'}, "send_timeout='5'"),
        ({'max_connections': True}, 'max_connections=True'),
        ({'max_message_size': 0}, 'max_message_size=0'),
        ({'max_messages_per_second': 0}, 'max_messages_per_second=0'),
        ({'subprotocols': 'chat'}, "subprotocols='chat' has to be a list of names"),
        ({'subprotocols': ['a b']}, 'subprotocols='),
        ({'subprotocols': ['']}, 'subprotocols='),
        ({'subprotocols': [1]}, 'subprotocols='),
        ({'cancel_on_disconnect': 1}, 'cancel_on_disconnect=1 has to be True or False'),
        ({'on_invalid': 'ignore'}, "on_invalid='ignore' has to be 'close', 'reply' or a function"),
        ({'error_key': ''}, "error_key='' has to be a text"),
        ({'json': object()}, 'needs the methods dumps'),
        ({'allowed_origins': ['a b']}, 'allowed_origins holds'),
        ({'idle_timout': 5}, 'does not know the setting idle_timout (did you mean idle_timeout?); the settings are '),
    ],
)
def test_invalid_settings_are_refused(given, problem):
    """Invalid settings are refused and named."""
    with pytest.raises(ConfigurationError, match=r"^websocket_route\('/x'\)") as info:
        check_settings(given, "websocket_route('/x')")
    assert problem in str(info.value)


@pytest.mark.parametrize(
    'settings, small',
    [
        (Settings(max_message_size=1000), 250),
        (Settings(max_message_size=None), 2**62),
        (Settings(max_messages_per_second=5), -1),
    ],
)
def test_small_messages_are_known_by_length(settings, small):
    """Messages that need no further check are recognised by their length."""
    assert settings.small_message == small


def test_codecs_are_made_ready_once():
    assert Settings(json=orjson).codec.dumps({'a': 1}) == '{"a":1}'
    assert Settings().codec is Settings(json=json).codec


def test_options_match_the_settings():
    """The keywords that an editor suggests are the settings."""
    assert tuple(Options.__annotations__) == SETTING_NAMES


def test_a_misspelt_setting_is_asked_about():
    with pytest.raises(
        ConfigurationError, match=r'the setting idletimeout \(did you mean idle_timeout\?\); the settings are'
    ):
        check_settings({'idletimeout': 3}, 'here')
    with pytest.raises(ConfigurationError, match=r'the setting colour; the settings are'):
        check_settings({'colour': 3}, 'here')


def test_annotations_resolve_at_runtime():
    """Annotations are resolved while the program runs."""
    for function in (websocket_route, websocket_listener, websocket_stream):
        assert typing.get_type_hints(function)['url'] is str
    assert list(inspect.signature(WebSocketComponent, eval_str=True).parameters) == ['settings']
