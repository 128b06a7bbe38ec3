"""An application as API Star's documentation teaches them. It knows nothing of WebSockets."""

import base64
import os
import typing

from apistar import App, ASyncApp, Include, Route, exceptions, http, types, validators
from apistar.server.components import Component

BASE_DIR = os.path.dirname(__file__)


class Position(types.Type):
    row = validators.Integer(minimum=1)
    column = validators.Integer(minimum=1)


class Plant(types.Type):
    name = validators.String(max_length=12)
    height = validators.Number(minimum=0, default=0.5)
    light = validators.String(enum=['sun', 'shade'], default='sun')
    perennial = validators.Boolean(default=False)
    planted = validators.Date(allow_null=True)
    position = Position


class Gardener:
    def __init__(self, name):
        self.name = name


class GardenerComponent(Component):
    """Who sends the request, by HTTP Basic Authentication."""

    def resolve(self, authorization: http.Header) -> Gardener:
        if authorization is None:
            return None
        scheme, _, token = authorization.partition(' ')
        if scheme.lower() != 'basic':
            raise exceptions.BadRequest('Unknown scheme')
        name, _, password = base64.b64decode(token).decode().partition(':')
        if password != 'spade':
            raise exceptions.Forbidden('Wrong password')
        return Gardener(name)


class Almanac:
    def __init__(self, month):
        self.month = month


class AlmanacComponent(Component):
    async def resolve(self, month: http.QueryParam) -> Almanac:
        return Almanac(month or 'May')


PLANTS = {
    1: Plant(name='bean', height=1.5, position={'row': 1, 'column': 1}),
    2: Plant(name='fern', light='shade', perennial=True, planted='2018-04-11', position={'row': 1, 'column': 2}),
}


def list_plants(light: str = None, perennial: bool = False, at_least: float = 0.0) -> typing.List[Plant]:
    """All plants of the garden."""
    found = [plant for plant in PLANTS.values() if light in (None, plant.light) and plant.height >= at_least]
    return [plant for plant in found if plant.perennial or not perennial]


def get_plant(plant_id: int) -> Plant:
    if plant_id not in PLANTS:
        raise exceptions.NotFound({'plant_id': 'No such plant.'})
    return PLANTS[plant_id]


async def add_plant(plant: Plant, app: App) -> http.JSONResponse:
    plant_id = max(PLANTS) + 1
    PLANTS[plant_id] = plant
    location = app.reverse_url('plants:get_plant', plant_id=plant_id)
    return http.JSONResponse(plant, status_code=201, headers={'Location': location})


def replace_plant(plant_id: int, plant: Plant, almanac: Almanac) -> dict:
    PLANTS[plant_id] = plant
    return {'plant': plant, 'month': almanac.month}


def remove_plant(plant_id: int, gardener: Gardener) -> http.Response:
    if gardener is None:
        raise exceptions.Forbidden()
    del PLANTS[plant_id]
    return http.Response(b'', status_code=204)


def welcome(app: App, name=None):
    return app.render_template('garden.html', name=name)


def who(gardener: Gardener = None) -> dict:
    return {'gardener': gardener.name if gardener else None}


async def month(almanac: Almanac) -> http.Response:
    return http.Response(almanac.month, headers={'Content-Type': 'text/plain', 'Vary': 'Accept-Language'})


def page(path: str) -> list:
    return path.split('/')


def half(length: float) -> float:
    return length / 2


def label(name) -> str:
    return '<b>%s</b>' % name


def echo(request: http.Request, params: http.QueryParams) -> dict:
    return {
        'method': request.method,
        'url': request.url,
        'headers': sorted(request.headers.items()),
        'body': request.body.decode(),
        'params': params.items(),
    }


def moved(app: App):
    raise exceptions.Found(app.reverse_url('welcome'))


def fails():
    raise RuntimeError('The mole was here')


class SignedHook:
    """Signs every response, with what it noted on the request."""

    def on_request(self, method: http.Method, path: http.Path):
        self.request = '%s %s' % (method, path)

    def on_response(self, response: http.Response, exc: Exception):
        response.headers['X-Request'] = getattr(self, 'request', 'not routed')
        response.headers['X-Outcome'] = type(exc).__name__


class ClosedHook:
    """Closes the garden at night."""

    async def on_request(self, hour: http.QueryParam):
        if hour == '23':
            raise exceptions.Forbidden('The garden is closed')


plants = [
    Route('/', method='GET', handler=list_plants),
    Route('/', method='POST', handler=add_plant),
    Route('/{plant_id}', method='GET', handler=get_plant),
    Route('/{plant_id}', method='PUT', handler=replace_plant),
    Route('/{plant_id}', method='DELETE', handler=remove_plant),
]

routes = [
    Route('/', method='GET', handler=welcome),
    Route('/who/', method='GET', handler=who),
    Route('/month/', method='GET', handler=month),
    Route('/pages/{+path}', method='GET', handler=page),
    Route('/half/{length}', method='GET', handler=half),
    Route('/labels/{name}/', method='GET', handler=label),
    Route('/echo/', method='GET', handler=echo),
    Route('/echo/', method='POST', handler=echo, name='echo_post'),
    Route('/moved/', method='GET', handler=moved),
    Route('/fails/', method='GET', handler=fails),
    Include('/plants', name='plants', routes=plants),
]

app = ASyncApp(
    routes=routes,
    template_dir=os.path.join(BASE_DIR, 'templates'),
    static_dir=os.path.join(BASE_DIR, 'static'),
    components=[GardenerComponent(), AlmanacComponent()],
    event_hooks=[SignedHook, ClosedHook],
)


if __name__ == '__main__':
    app.serve('127.0.0.1', 5000, debug=True)
