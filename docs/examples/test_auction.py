"""The tests of the auction; they need no server and no Redis."""

from typing import Any, Iterator

import pytest

from apistar_ws.testing import (
    BlockingConnection,
    ConnectionClosed,
    HandshakeDenied,
    TestClient,
)
from auction import make_app

ANN = {'Cookie': 'session=1f0c'}
BOB = {'Cookie': 'session=9b3e'}


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(make_app()) as client:
        yield client


def until(ws: BlockingConnection, kind: str) -> Any:
    """Return the next message of that type."""
    while True:
        message = ws.receive_json()
        if message.get('type') == kind:
            return message


def test_who_is_not_logged_in_is_denied(client: TestClient) -> None:
    with pytest.raises(HandshakeDenied) as denied:
        with client.websocket_connect('/auctions/teapot'):
            pass
    assert (denied.value.status, denied.value.json()) == (401, 'Log in first')


def test_a_higher_bid_is_told_to_all_and_a_lower_one_to_its_bidder(
    client: TestClient,
) -> None:
    with client.websocket_connect('/auctions/teapot', headers=ANN) as ann:
        with client.websocket_connect('/auctions/teapot', headers=BOB) as bob:
            ann.send_json({'type': 'bid', 'amount': 7})
            assert until(ann, 'raised')['amount'] == until(bob, 'raised')['amount'] == 7
            bob.send_json({'type': 'bid', 'amount': 7})
            assert until(bob, 'too low') == {'type': 'too low', 'highest': 7}


def test_people_are_listed_once_each(client: TestClient) -> None:
    with client.websocket_connect('/auctions/teapot', headers=ANN) as ann:
        with client.websocket_connect('/auctions/teapot', headers=ANN):
            assert until(ann, 'people')['names'] == ['Ann']
            assert client.get('/auctions/teapot/people').json() == ['Ann', 'Ann']


def test_who_comes_back_gets_what_it_has_missed(client: TestClient) -> None:
    with client.websocket_connect('/auctions/teapot', headers=ANN) as ann:
        ann.send_json({'type': 'say', 'text': 'one'})
        position = until(ann, 'said')['position']
    with client.websocket_connect('/auctions/teapot', headers=BOB) as bob:
        bob.send_json({'type': 'say', 'text': 'two'})
        assert [until(bob, 'said')['text'] for _ in range(2)] == ['one', 'two']
    with client.websocket_connect(
        '/auctions/teapot?since=' + position, headers=ANN
    ) as ann:
        assert until(ann, 'said')['text'] == 'two'


def test_all_are_told_of_the_end(client: TestClient) -> None:
    with client.websocket_connect('/auctions/teapot', headers=ANN) as ann:
        assert client.post('/auctions/teapot/close').json() == {'highest': 5}
        assert until(ann, 'closed')['highest'] == 5


def test_what_is_no_message_closes_with_1007(client: TestClient) -> None:
    with client.websocket_connect('/auctions/teapot', headers=ANN) as ann:
        ann.send_json({'type': 'bid', 'amount': 0})
        with pytest.raises(ConnectionClosed) as closed:
            until(ann, 'raised')
    assert closed.value.code == 1007
