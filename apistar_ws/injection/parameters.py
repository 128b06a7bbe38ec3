"""API Star's parameters of a handshake, with validators that are made once per route."""

import inspect
from typing import Any, Dict, List, Mapping, Optional, Sequence

from apistar import http, validators
from apistar.exceptions import BadRequest, NotFound
from apistar.server import validation
from apistar.server.asgi import HeaderComponent
from apistar.validators import ValidationError

from apistar_ws.connection.handshake import decode_cookies, decode_value
from apistar_ws.injection.components import HeadersComponent
from apistar_ws.injection.steps import Keywords, Step
from apistar_ws.types import Scope


class _Boolean(validators.Boolean):  # type: ignore[misc]
    """API Star's ``Boolean``, with the attribute ``value`` that it reads instead of ``values`` if null is allowed."""

    value = validators.Boolean.values


#: The validators for annotations of path and query parameters.
PRIMITIVES: Dict[Any, Any] = {
    inspect.Parameter.empty: validators.Any,
    str: validators.String,
    int: validators.Integer,
    float: validators.Number,
    bool: _Boolean,
}
#: Types whose values API Star's validator for the same annotation returns unchanged.
_UNCHANGED = (str, int, bool)


class _URLParams:
    """Validates URL parameters like API Star, with a validator that is made once.

    :param fields: the path or query fields of the route.
    """

    error: Any

    def __init__(self, fields: Sequence[Any]) -> None:
        self._validator = validators.Object(
            properties=[(field.name, self._schema(field.schema)) for field in fields],
            required=[field.name for field in fields if field.required],
        )

    def _schema(self, schema: Any) -> Any:
        """Return the validator of a field: its schema, with the fixed Boolean instead of API Star's."""
        if type(schema) is validators.Boolean and schema.allow_null:
            return _Boolean(default=schema.default, allow_null=True)
        return schema or validators.Any()

    def _validate(self, params: Any) -> Any:
        try:
            return self._validator.validate(params, allow_coerce=True)
        except ValidationError as exc:
            raise self.error(exc.detail) from None


class PathParams(_URLParams):
    """Validates the path parameters, which are all required."""

    error = NotFound

    def resolve(self, path_params: Any) -> Any:
        """Return the validated parameters.

        :raises NotFound: as API Star does, with its detail.
        """
        return self._validate(path_params)


class QueryParams(_URLParams):
    """Validates the query parameters."""

    error = BadRequest

    def resolve(self, query_params: Any) -> Any:
        """Return the validated parameters.

        :raises BadRequest: as API Star does, with its detail.
        """
        return self._validate(query_params)


class PrimitiveParam:
    """Supplies one path or query parameter like API Star, with a validator that is made once.

    :param parameter: the argument.
    """

    def __init__(self, parameter: inspect.Parameter) -> None:
        has_default = parameter.default is not parameter.empty
        options = {} if parameter.annotation is parameter.empty else {'allow_null': parameter.default is None}
        self._name = parameter.name
        self._annotation = parameter.annotation
        self._default = parameter.default
        self._validator = validators.Object(
            properties=[(parameter.name, PRIMITIVES[parameter.annotation](**options))],
            required=[] if has_default else [parameter.name],
        )

    def resolve(self, path_params: Mapping[str, Any], query_params: Mapping[str, Any]) -> Any:
        """Return the value of the argument.

        :raises NotFound: for a path parameter, as API Star does, with its detail.
        :raises BadRequest: for a query parameter that is missing, which API Star answers with 404.
        """
        in_path = self._name in path_params
        params = path_params if in_path else query_params
        value = params.get(self._name)
        if type(value) is self._annotation and self._annotation in _UNCHANGED:
            return value
        try:
            return self._validator.validate(params, allow_coerce=True).get(self._name, self._default)
        except ValidationError as exc:
            raise (NotFound if in_path else BadRequest)(exc.detail) from None


class _HeaderParam:
    """Supplies one header like API Star.

    :param parameter: the argument, named after the header.
    """

    def __init__(self, parameter: inspect.Parameter) -> None:
        self._name = parameter.name.replace('_', '-').lower().encode()

    def resolve(self, scope: Scope) -> Optional[http.Header]:
        """Return the first header of that name, or None."""
        wanted = self._name
        for name, value in scope['headers']:
            # ASGI requires lower case; scopes written by hand may differ.
            if name == wanted or name.lower() == wanted:
                return http.Header(decode_value(value))
        return None


def _cookie_header(scope: Scope) -> Optional[http.Header]:
    """Return the joined ``Cookie`` fields of a handshake, or None."""
    found = [value for name, value in scope['headers'] if name == b'cookie' or name.lower() == b'cookie']
    return http.Header(decode_cookies(found)) if found else None


def specialize_steps(
    steps: Sequence[Step], keywords: Keywords, path_fields: Sequence[Any], query_fields: Sequence[Any]
) -> List[Step]:
    """Return ``steps`` specialized for one route: with validators made once, and single headers read directly.

    :param steps: API Star's steps.
    :param keywords: the arguments that are needed after the steps.
    :param path_fields: the path fields of the route.
    :param query_fields: its query fields.
    """
    path_params, query_params = PathParams(path_fields), QueryParams(query_fields)
    return [_with_validator(step, path_params, query_params) for step in _with_single_headers(steps, keywords)]


def _with_validator(step: Step, path_params: PathParams, query_params: QueryParams) -> Step:
    """Return ``step`` with a validator that is made once, and not for each request as by API Star."""
    component = getattr(step.func, '__self__', None)
    if isinstance(component, validation.ValidatePathParamsComponent):
        return step._replace(func=path_params.resolve, kwargs=(('path_params', 'path_params'),))
    if isinstance(component, validation.ValidateQueryParamsComponent):
        return step._replace(func=query_params.resolve, kwargs=(('query_params', 'queryparams'),))
    if isinstance(component, validation.PrimitiveParamComponent):
        return step._replace(func=PrimitiveParam(step.consts['parameter']).resolve, consts={})
    return step


def _with_single_headers(steps: Sequence[Step], keywords: Keywords) -> List[Step]:
    """Return ``steps`` without the step for all headers, if only single ones are needed."""
    others = [step.kwargs for step in steps if not _calls(HeaderComponent, step)]
    asked = {key for kwargs in [*others, keywords] for _, key in kwargs}
    unasked = [step for step in steps if _calls(HeadersComponent, step) and step.output not in asked]
    return [_single_header(step) for step in steps if step not in unasked] if unasked else list(steps)


def _single_header(step: Step) -> Step:
    """Return ``step``, reading its header from the scope if it is one for a single header."""
    if not _calls(HeaderComponent, step):
        return step
    parameter = step.consts['parameter']
    resolve = _cookie_header if parameter.name.lower() == 'cookie' else _HeaderParam(parameter).resolve
    return step._replace(func=resolve, kwargs=(('scope', 'scope'),), consts={})


def _calls(component: Any, step: Step) -> bool:
    """Return whether a step calls this component, and not a subclass that a user has given instead."""
    return type(getattr(step.func, '__self__', None)) is component
