"""What is made once for a route supplies what API Star makes for each request."""

import inspect
from typing import Optional
from unittest.mock import patch

import pytest
from apistar import http, validators
from apistar.exceptions import BadRequest, NotFound
from apistar.server import validation
from apistar.server.asgi import ASGI_COMPONENTS
from apistar.server.components import Component
from apistar.server.core import Route
from apistar.server.validation import VALIDATION_COMPONENTS
from hypothesis import example, given
from hypothesis import strategies as st

from apistar_ws.app import INITIAL_COMPONENTS
from apistar_ws.injection.arguments import Arguments
from apistar_ws.injection.components import HANDSHAKE_COMPONENTS
from apistar_ws.injection.injector import ASyncInjector
from apistar_ws.injection.parameters import PathParams, PrimitiveParam, QueryParams
from tests.injection.supply import supply


def injector(*components):
    return ASyncInjector(
        [*components, *HANDSHAKE_COMPONENTS, *ASGI_COMPONENTS, *VALIDATION_COMPONENTS], INITIAL_COMPONENTS
    )


TEXTS = st.sampled_from(['1', '1.5', 'true', 'off', '', 'None', 'null'])


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3),
    TEXTS,
)  # fmt: skip


class Outcome:
    """What a call gave: its value and type, or its error and detail."""

    def __init__(self, call):
        try:
            value = call()
            self.seen = ('value', repr(value), type(value))
        except (NotFound, BadRequest) as exc:
            self.seen = ('error', type(exc), exc.detail)
        except Exception as exc:
            self.seen = ('crash', type(exc))

    def __eq__(self, other):
        return self.seen == other.seen


class TestValidators:
    """What is made once gives what API Star makes for each request, and would make but for its fault."""

    def theirs(self, call):
        """Return the outcome of a call of API Star, whose Boolean reads ``value`` where it has ``values``."""
        with patch.object(validators.Boolean, 'value', validators.Boolean.values, create=True):
            return Outcome(call)

    @given(
        st.sampled_from([inspect.Parameter.empty, str, int, float, bool]),
        st.sampled_from([inspect.Parameter.empty, None, 'x', 5]),
        st.dictionaries(st.sampled_from(['x', 'y']), VALUES),
        st.dictionaries(st.sampled_from(['x', 'y']), VALUES),
    )
    @example(bool, None, {}, {'x': 'on'})
    @example(bool, None, {}, {'x': 'null'})
    @example(bool, None, {'x': 'maybe'}, {})
    @example(float, None, {}, {'x': 10**400})  # Both fail.
    def test_one_argument(self, annotation, default, path_params, query_params):
        parameter = inspect.Parameter('x', inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        theirs = self.theirs(lambda: validation.PrimitiveParamComponent().resolve(parameter, path_params, query_params))
        # Of a query parameter that is missing, API Star says 404; the contract for WebSockets says 400.
        if 'x' not in path_params and theirs.seen[1] is NotFound:
            theirs.seen = ('error', BadRequest, theirs.seen[2])
        assert Outcome(lambda: PrimitiveParam(parameter).resolve(path_params, query_params)) == theirs

    @given(st.dictionaries(st.sampled_from(['a', 'n', 'x', 'q', 'm', 'z', 'flag']), TEXTS | st.text(max_size=3)))
    def test_all_parameters(self, params):
        def handler(a, n: int, x: float, q: int, m: bool = False, z: str = None, flag: bool = None):
            """Take parameters of every kind."""

        route = Route('/{a}/{n}/{x}', 'GET', handler)
        assert Outcome(lambda: PathParams(route.link.get_path_fields()).resolve(params)) == self.theirs(
            lambda: validation.ValidatePathParamsComponent().resolve(route, params)
        )
        assert Outcome(lambda: QueryParams(route.link.get_query_fields()).resolve(params)) == self.theirs(
            lambda: validation.ValidateQueryParamsComponent().resolve(route, params)
        )


class TestOptionalBooleans:
    async def resolved(self, handler, query):
        state = {'scope': {'path': '/', 'query_string': query}, 'path_params': {}, 'route': None, 'websocket': None}
        return await supply(Arguments(handler, injector(), '/'), [], state)

    @pytest.mark.parametrize(
        'query, value',
        [
            (b'', None),
            (b'flag=true', True),
            (b'flag=1', True),
            (b'flag=ON', True),
            (b'flag=false', False),
            (b'flag=0', False),
            (b'flag=', None),
            (b'flag=null', None),
            (b'flag=None', None),
        ],
    )
    async def test_query_supplies_optional_booleans(self, query, value):
        """A handler takes them from the query, as arguments and as validated parameters."""

        async def optional(params: validation.ValidatedQueryParams, flag: Optional[bool]):
            """Take it by its annotation."""

        async def defaulting(params: validation.ValidatedQueryParams, flag: bool = None):
            """Take it by its default."""

        for handler in (optional, defaulting):
            assert await self.resolved(handler, query) == {'params': {'flag': value}, 'flag': value}

    async def test_invalid_value_is_bad_request(self):
        """An invalid value is a bad request with API Star's error detail."""

        async def handler(flag: Optional[bool]):
            """Take it."""

        with pytest.raises(BadRequest) as info:
            await self.resolved(handler, b'flag=maybe')
        assert info.value.detail == {'flag': 'Must be a valid boolean.'}


def test_invalid_path_parameters_are_not_found():
    """Path parameters that fail their validation are not found."""
    number = [field for field in Route('/{x}', 'GET', lambda x: None).link.fields]
    number[0].schema = validators.Number()
    with pytest.raises(NotFound) as info:
        PathParams(number).resolve({'x': float('inf')})
    assert info.value.detail == {'x': 'Must be finite.'}


class TestSingleHeaders:
    """One header is taken without API Star's ``Headers`` of all, where nothing asks for these."""

    HEADERS = [(b'host', b'a.example'), (b'X-Name', b'first'), (b'x-name', b'second'), (b'x-text', 'é'.encode())]

    async def supplied(self, handler, *components):
        state = {'scope': {'path': '/', 'headers': self.HEADERS}, 'path_params': {}, 'route': None, 'websocket': None}
        arguments = await supply(Arguments(handler, injector(*components), '/'), [], state)
        return arguments, state

    async def test_they_are_what_api_star_supplies(self):
        async def single(
            path: http.Path, host: http.Header, x_name: http.Header, x_text: http.Header, x_none: http.Header
        ):
            """Take them."""

        async def together(
            host: http.Header, x_name: http.Header, x_text: http.Header, x_none: http.Header, every: http.Headers
        ):
            """Take all of them too."""

        alone, state = await self.supplied(single)
        assert alone.pop('path') == '/'
        assert not [value for value in state.values() if isinstance(value, http.Headers)]
        beside, _ = await self.supplied(together)
        every = beside.pop('every')
        assert isinstance(every, http.Headers) and every['x-name'] == 'first'
        assert alone == beside == {'host': 'a.example', 'x_name': 'first', 'x_text': 'é', 'x_none': None}

    async def test_headers_of_a_users_own_count(self):
        class Renaming(Component):
            def resolve(self) -> http.Headers:
                return http.Headers({'host': 'b.example'})

        async def handler(host: http.Header):
            """Take it."""

        assert (await self.supplied(handler, Renaming()))[0] == {'host': 'b.example'}
