from apistar_ws import ServiceUnavailable, UpgradeRequired, WebSocketDisconnect


def test_a_disconnect_names_code_and_reason():
    exc = WebSocketDisconnect(4001, 'bye')
    assert (exc.code, exc.reason) == (4001, 'bye')
    assert str(exc) == "The WebSocket is disconnected (code 4001, 'bye')."
    assert str(WebSocketDisconnect()) == 'The WebSocket is disconnected (code 1005).'


def test_answers_carry_their_headers():
    """HTTP answers carry the headers that HTTP asks for."""
    assert (UpgradeRequired().status_code, UpgradeRequired().get_headers()) == (
        426,
        {'Upgrade': 'websocket', 'Connection': 'Upgrade'},
    )
    assert (ServiceUnavailable().status_code, ServiceUnavailable().get_headers()) == (503, {'Retry-After': '5'})
