from apistar import App, Include, Route

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route


@websocket_route('/news')
async def live_news(ws: WebSocket):
    await ws.send('It rains.')


def news_page() -> str:
    return 'Read the news.'


@websocket_route('/rooms/{room}')
async def chat(room: str, ws: WebSocket):
    await ws.send(room)


def where(app: App) -> dict:
    return {
        'chat': app.reverse_url('api:chat', room='kitchen'),
        'news': app.reverse_url('live_news'),
    }


routes = [
    Route('/news', 'GET', news_page),
    Route('/where', 'GET', where),
    Include('/api', name='api', routes=collect_routes(chat)),
]
app = ASyncApp(routes=routes + collect_routes(live_news))
