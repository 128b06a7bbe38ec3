from apistar import Route

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route

PAGE = """
<!DOCTYPE html>
<title>Chat</title>
<input id="text" placeholder="say something" autofocus>
<ul id="messages"></ul>
<script>
  const ws = new WebSocket(location.href.replace('http', 'ws') + 'chat/kitchen')
  const text = document.getElementById('text')
  ws.onmessage = event => {
    const item = document.createElement('li')
    item.textContent = event.data
    document.getElementById('messages').append(item)
  }
  text.onchange = () => { ws.send(text.value); text.value = '' }
</script>
"""


def homepage() -> str:
    return PAGE


@websocket_route('/chat/{room}')
async def chat(room: str, ws: WebSocket):
    async for message in ws:
        await ws.send('%s: %s' % (room, message))


app = ASyncApp(routes=[Route('/', 'GET', homepage)] + collect_routes(chat))
