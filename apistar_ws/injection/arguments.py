"""The arguments of a WebSocket handler, planned when the application is built."""

import asyncio
import contextlib
import difflib
import functools
import inspect
import re
from typing import (
    Any,
    AsyncIterator,
    Callable,
    Dict,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Sequence,
    Tuple,
)

from apistar import http
from apistar.exceptions import ConfigurationError
from apistar.server import validation
from apistar.server.components import Component
from apistar.server.core import Route

from apistar_ws.connection.websocket import WebSocket, connection_of
from apistar_ws.injection.injector import ASyncInjector, clear_if_full, identities, require_hook
from apistar_ws.injection.parameters import specialize_steps
from apistar_ws.injection.resources import OpenedResources, close_all, close_rest, unwind_cancelled
from apistar_ws.injection.signatures import describe_handler, handler_signature, in_order, plain_parameter
from apistar_ws.injection.steps import FAILED, Keywords, Run, State, Step, compiled_steps, note_failure
from apistar_ws.messages.validation import is_message_type

#: Annotations for the body of a request, which a handshake does not have.
_BODY_ANNOTATIONS = (http.Body, http.RequestData, validation.ValidatedRequestData)
_PATH_ANNOTATIONS = (str, int, float, inspect.Parameter.empty)
#: The annotation that an argument of this name probably lacks.
_EXPECTED_ANNOTATIONS = {**dict.fromkeys(('ws', 'websocket', 'web_socket', 'socket'), 'WebSocket'), 'groups': 'Groups'}
PARAMETER = re.compile('{([^}]*)}')


class _Plan(NamedTuple):
    """The steps before a handler, and the keys of its arguments in the state after them."""

    run: Run
    keywords: Keywords
    #: The same for the deferred arguments.
    run_deferred: Run
    deferred_keywords: Keywords


class Deferred:
    """Arguments that a handler resolves itself, repeatedly; their resources are closed each time.

    A handler has an argument that is annotated with a subclass, whose ``parameters`` are the arguments.

    :param plan: the plan of the handler, with the steps that supply them.
    :param state: the injector's state of the connection.
    """

    parameters: Sequence[inspect.Parameter] = ()

    def __init__(self, plan: _Plan, state: State) -> None:
        self._plan = plan
        self._state = state

    @contextlib.asynccontextmanager
    async def resolved(self) -> AsyncIterator[Dict[str, Any]]:
        """Supply the arguments for a ``with`` block; their resources are closed after it.

        :raises Exception: an exception while they are supplied or closed.
        """
        opened = OpenedResources()
        state = {**self._state, OpenedResources.__name__.lower(): opened}
        try:
            await self._plan.run_deferred((), state)
            yield {name: state[key] for name, key in self._plan.deferred_keywords}
        except BaseException as exc:
            self._state[FAILED] = state.get(FAILED, (None, None))
            connection = connection_of(state['websocket'])
            if connection.is_own_cancellation(exc):
                # The disconnect ended the handler, whatever fails later.
                await close_rest(opened, connection.as_disconnect())
                raise
            if not isinstance(exc, asyncio.CancelledError):
                await close_rest(opened, exc)
                raise
            result = await unwind_cancelled(opened, exc)
            if result is not None:
                raise result
            return
        with connection_of(state['websocket']).own_ending().postponed():
            await close_all(opened, functools.partial(note_failure, self._state))


def asks_for_websocket(handler: Any, components: Iterable[Component]) -> bool:
    """Return whether ``handler`` has a WebSocket argument, directly or through one of ``components``."""
    try:
        parameters = handler_signature(handler).parameters.values()
    except ConfigurationError:
        return False
    return any(
        parameter.annotation is WebSocket or any(component.can_handle_parameter(parameter) for component in components)
        for parameter in parameters
    )


def components_needing_websocket(components: Sequence[Component]) -> List[Component]:
    """Return those of ``components`` that need a WebSocket, directly or through each other."""
    found: List[Component] = []
    remaining = list(components)
    while True:
        more = [component for component in remaining if asks_for_websocket(component.resolve, found)]
        if not more:
            return found
        found += more
        remaining = [component for component in remaining if component not in more]


def _url_fields(url: str, signature: inspect.Signature, name: str) -> List[Any]:
    """Return the path and query fields of a handler at ``url``, as API Star's ``Route`` finds them.

    :raises ConfigurationError: for a malformed URL, or a path parameter of a type that is not possible in a path.
    """
    names = path_names(url)
    if len(names) > len(set(names)) or not all(map(str.isidentifier, names)) or set('{}') & set(PARAMETER.sub('', url)):
        raise ConfigurationError(
            'The URL %r of %s is malformed: each parameter is a name in braces, and each name is there once.'
            % (url, name)
        )

    def handler() -> None: ...  # Only its signature is read.

    handler.__signature__ = signature  # type: ignore[attr-defined]
    for parameter in signature.parameters.values():
        if parameter.name in names and parameter.annotation not in _PATH_ANNOTATIONS:
            raise ConfigurationError(
                'The path parameter %s of %s is annotated with %r: a path holds str, int or float.'
                % (parameter.name, name, parameter.annotation)
            )
    fields: List[Any] = Route(url, 'GET', handler).link.fields
    return fields


def path_names(url: str) -> List[str]:
    """Return the names of the parameters in ``url``, without the ``+`` of those that span several segments."""
    return [name.lstrip('+') for name in PARAMETER.findall(url)]


def _is_converted(parameter: inspect.Parameter, url: str) -> bool:
    """Return whether the router has converted ``parameter``, so that it needs no validation."""
    kinds = (str, parameter.empty) if '{+%s}' % parameter.name in url else (str, int, parameter.empty)
    return parameter.name in path_names(url) and parameter.annotation in kinds


def _is_websocket_subclass(annotation: Any) -> bool:
    """Return whether an annotation is a subclass of ``WebSocket``, which a component of the user supplies."""
    return isinstance(annotation, type) and issubclass(annotation, WebSocket) and annotation is not WebSocket


def _is_deferred(parameter: inspect.Parameter) -> bool:
    """Return whether ``parameter`` is for arguments that the handler resolves itself."""
    return isinstance(parameter.annotation, type) and issubclass(parameter.annotation, Deferred)


class Arguments:
    """Supplies the arguments of one WebSocket handler, in API Star's order: first hooks, then components.

    Made when the application is built, which refuses handlers with arguments that cannot be supplied.

    :param handler: the handler, as the user wrote it.
    :param injector: resolves its arguments.
    :param url: the full URL of its route, with the prefix of each ``Include`` around it.
    :param connect: whether the connection is accepted before the handler runs.
    :raises ConfigurationError: for an argument that no component supplies, or that a handshake does not have.
    """

    def __init__(self, handler: Any, injector: ASyncInjector, url: str, connect: bool = True) -> None:
        self._name = describe_handler(handler)
        self._title = 'arguments of %s at %s' % (self._name, url)
        self._connect = connect
        self._injector = injector
        self._plans: Dict[Any, _Plan] = {}
        signature = handler_signature(handler, injector.components)
        fields = _url_fields(url, signature, self._name)
        self._path_fields = [field for field in fields if field.location == 'path']
        self._query_fields = [field for field in fields if field.location == 'query']
        #: Names of the query parameters that the handler declares.
        self.query_names = tuple(field.name for field in self._query_fields)
        parameters = signature.parameters.values()
        self._refuse_bodies(parameters)
        self._refuse_positional(parameters)
        self._refuse_unknown(parameters, url)
        #: Names of the arguments that the router has converted.
        self.from_path = tuple(parameter.name for parameter in parameters if _is_converted(parameter, url))
        #: Names of the arguments that are the WebSocket.
        self.websockets = tuple(parameter.name for parameter in parameters if parameter.annotation is WebSocket)
        self._unused_path_params = tuple(name for name in path_names(url) if name not in self.from_path)
        self._deferred = next((parameter for parameter in parameters if _is_deferred(parameter)), None)
        given = {*self.from_path, *self.websockets}
        self._injected = [
            parameter for parameter in parameters if parameter.name not in given and parameter is not self._deferred
        ]
        #: Whether an argument has to be supplied by components.
        self.injects = bool(self._injected) or self._deferred is not None

    def given(self, ws: Any, path_params: Mapping[str, Any]) -> Dict[str, Any]:
        """Return the arguments that need no injection: the WebSocket, and the parameters that the router converted."""
        arguments = {**path_params}
        for name in self._unused_path_params:
            del arguments[name]
        for name in self.websockets:
            arguments[name] = ws
        return arguments

    def prepare(self, on_request: Sequence[Callable[..., Any]]) -> None:
        """Plan the arguments of the hooks and the handler.

        :raises ConfigurationError: for an argument that no component supplies.
        """
        try:
            self.plan(on_request)
        except ConfigurationError as exc:
            found = [getattr(parameter.annotation, 'supplied_by', '') for parameter in self._unsupplied()]
            suppliers = ', '.join(filter(None, found))
            if not suppliers or not str(exc).startswith('No component able'):
                raise
            raise ConfigurationError('%s Add %s to components.' % (exc, suppliers)) from None
        self._refuse_other_connections()

    def _refuse_other_connections(self) -> None:
        """Refuse components and handlers that would wait for ever for the handshake, which was received already."""
        steps, keywords = self._steps((), [*self._injected, *self._deferred_parameters()])
        websockets = {item.name for item in self._injected if _is_websocket_subclass(item.annotation)}
        made = {key for name, key in keywords if name in websockets}
        for step in steps:
            keys = {key for _, key in step.kwargs}
            if 'receive' in keys and (step.output in made or ('send' in keys and not self._connect)):
                raise ConfigurationError(
                    'The component %s, which the handler %s needs, makes a connection of its own from receive and '
                    'send. The application has received the handshake, and the component would wait for it for ever: '
                    'have it ask for ws: WebSocket, and use that.' % (describe_handler(step.func), self._name)
                )
        received = [name for name, key in keywords if key == 'receive']
        if received and not self._connect:
            raise ConfigurationError(
                'The handler %s connects by itself, and asks for ASGIReceive with its argument %s. The application has '
                'received the handshake, and the handler would wait for it for ever: ask for ws: WebSocket, and call '
                'ws.connect() and ws.receive().' % (self._name, received[0])
            )

    def _deferred_parameters(self) -> List[inspect.Parameter]:
        """Return the arguments that the handler resolves itself."""
        repeated = () if self._deferred is None else self._deferred.annotation.parameters
        return [plain_parameter(item, self._injector.components) for item in repeated]

    def _unsupplied(self) -> List[inspect.Parameter]:
        components = self._injector.components
        return [
            parameter
            for parameter in self._injected
            if not any(component.can_handle_parameter(parameter) for component in components)
        ]

    def resolved(self, plan: _Plan, state: State) -> Dict[str, Any]:
        """Return the arguments that components supply, once ``plan`` has run."""
        arguments = {name: state[key] for name, key in plan.keywords}
        if self._deferred is not None:
            arguments[self._deferred.name] = self._deferred.annotation(plan, state)
        return arguments

    def _refuse_bodies(self, parameters: Iterable[inspect.Parameter]) -> None:
        for parameter in parameters:
            annotation = parameter.annotation
            if annotation in _BODY_ANNOTATIONS or is_message_type(annotation):
                raise ConfigurationError(
                    'The handler %s asks for the body of a request with its argument %s. A handshake has none: '
                    'take it from the WebSocket, by ws.receive().' % (self._name, parameter.name)
                )

    def _refuse_positional(self, parameters: Iterable[inspect.Parameter]) -> None:
        for parameter in parameters:
            if parameter.kind is parameter.POSITIONAL_ONLY:
                raise ConfigurationError(
                    'The argument %s of %s is positional only, and API Star gives arguments by their names: '
                    'take the slash out of its signature.' % (parameter.name, self._name)
                )
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise ConfigurationError(
                    'The handler %s takes any arguments, by %s, and API Star gives those that it can name: write them '
                    'out, or in a decorator keep those of the handler by functools.wraps.' % (self._name, parameter)
                )

    def _refuse_unknown(self, parameters: Iterable[inspect.Parameter], url: str) -> None:
        """Refuse arguments that would be query parameters by mistake."""
        unasked = set(path_names(url)) - {parameter.name for parameter in parameters}
        for parameter in parameters:
            if parameter.annotation not in _PATH_ANNOTATIONS or parameter.default is not parameter.empty:
                continue
            if parameter.name in path_names(url):
                continue
            if parameter.annotation is parameter.empty and parameter.name in _EXPECTED_ANNOTATIONS:
                raise ConfigurationError(
                    'The argument %s of %s has no annotation, and would be taken for a query parameter: write '
                    '%s: %s.' % (parameter.name, self._name, parameter.name, _EXPECTED_ANNOTATIONS[parameter.name])
                )
            meant = difflib.get_close_matches(parameter.name, unasked, 1)
            if meant:
                raise ConfigurationError(
                    'The argument %s of %s would be taken for a query parameter, and nothing takes {%s} of the URL %r: '
                    'use the same name for both.' % (parameter.name, self._name, meant[0], url)
                )

    def plan(self, on_request: Sequence[Callable[..., Any]]) -> _Plan:
        """Return the plan of the handler after these hooks, which is made once."""
        key = identities(on_request)
        if key not in self._plans:
            clear_if_full(self._plans)
            self._plans[key] = self._resolve(on_request)
        return self._plans[key]

    def _resolve(self, on_request: Sequence[Callable[..., Any]]) -> _Plan:
        # Hooks may have been added after the application was built.
        for hook in on_request:
            require_hook(hook)

        if self._deferred is None:
            steps, keywords = self._steps(on_request, self._injected)
            return _Plan(compiled_steps(steps, self._title), keywords, compiled_steps([]), ())
        return self._resolve_deferred(on_request, self._deferred_parameters())

    def _resolve_deferred(
        self, on_request: Sequence[Callable[..., Any]], repeated: Sequence[inspect.Parameter]
    ) -> _Plan:
        """Return a plan that supplies ``repeated``, and the arguments that depend on them, separately each time."""
        steps, keywords = self._steps((), [*self._injected, *repeated])
        repeated_keys = {key for name, key in keywords if name in {parameter.name for parameter in repeated}}
        for step in steps:
            if repeated_keys & {key for _, key in step.kwargs}:
                repeated_keys.add(step.output)
        keys = dict(keywords)
        first, first_keywords = self._steps(
            on_request, [item for item in self._injected if keys[item.name] not in repeated_keys]
        )
        known = repeated_keys | {step.output for step in first}
        return _Plan(
            compiled_steps([*first, *[step for step in steps if step.output not in known]], self._title),
            first_keywords,
            compiled_steps([step for step in steps if step.output in repeated_keys], self._title + ' per message'),
            tuple((name, key) for name, key in keywords if key in repeated_keys),
        )

    def _steps(
        self, hooks: Sequence[Callable[..., Any]], parameters: Sequence[inspect.Parameter]
    ) -> Tuple[List[Step], Keywords]:
        """Return the steps that run ``hooks`` and supply ``parameters``, and the keys of these in the state."""

        async def handler() -> None: ...  # Only its signature is read.

        handler.__signature__ = inspect.Signature(in_order(parameters))  # type: ignore[attr-defined]
        handler.__name__ = self._name
        steps = self._injector.resolve_steps([*hooks, handler], {'websocket': None})
        last = steps.pop()
        return specialize_steps(steps, last.kwargs, self._path_fields, self._query_fields), last.kwargs
