"""What the typed routes take and give, as JSON has it.

The moves and the route with a counter are there to see whether what was done for the others is of use elsewhere: they
were written before any of it was made faster.
"""

from typing import Any, Dict

CUSTOMER = {'name': 'Ann', 'email': 'ann@example.com'}
ORDER: Dict[str, Any] = {
    'number': 4711,
    'article': 'A-17 teapot',
    'quantity': 3,
    'price': 12.5,
    'customer': CUSTOMER,
}
RECEIPT: Dict[str, Any] = {
    'number': 4711,
    'status': 'accepted',
    'total': 37.5,
}
PATH = [{'x': 1, 'y': 2}, {'x': 2, 'y': 2}, {'x': 3, 'y': 4}, {'x': 5, 'y': 8}]
MOVE: Dict[str, Any] = {
    'type': 'move',
    'player': 'ann',
    'at': '2026-11-24T12:30:00Z',
    'path': PATH,
    'tags': ['fast', 'first'],
    'comment': None,
}
MOVED: Dict[str, Any] = {
    'type': 'moved',
    'player': 'ann',
    'at': '2026-11-24T12:30:00Z',
    'path': PATH,
    'score': 4.0,
    'is_last': False,
}
