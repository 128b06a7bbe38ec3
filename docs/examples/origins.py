from apistar_ws import (
    ASyncApp,
    WebSocket,
    WebSocketComponent,
    collect_routes,
    websocket_route,
)


@websocket_route('/account')
async def account(ws: WebSocket):
    await ws.send('for our own pages')


@websocket_route(
    '/partners',
    allowed_origins=['same-origin', 'https://*.example.com', 'http://localhost:3000'],
)
async def partners(ws: WebSocket):
    await ws.send('for pages of partners too')


@websocket_route('/weather', allowed_origins='*')
async def weather(ws: WebSocket):
    await ws.send('for all pages')


app = ASyncApp(
    collect_routes(account, partners, weather),
    components=[WebSocketComponent(allowed_origins=['https://example.com'])],
)
