"""The types of the messages for the framework that has msgspec."""

from datetime import datetime
from typing import Annotated, List, Literal, Optional

from msgspec import Meta, Struct


class Customer(Struct):
    """Who orders."""

    name: Annotated[str, Meta(max_length=100)]
    email: Annotated[str, Meta(max_length=200)]


class Order(Struct):
    """What comes in."""

    number: Annotated[int, Meta(ge=1)]
    article: Annotated[str, Meta(max_length=100)]
    quantity: Annotated[int, Meta(ge=1, le=100)]
    price: Annotated[float, Meta(ge=0)]
    customer: Customer


class Receipt(Struct):
    """What goes out."""

    number: int
    status: Literal['accepted', 'refused']
    total: float


class Point(Struct):
    """A place."""

    x: int
    y: int


class Move(Struct, tag_field='type', tag='move'):
    """One of two that come in."""

    player: Annotated[str, Meta(max_length=30)]
    at: datetime
    path: Annotated[List[Point], Meta(max_length=20)]
    tags: List[str]
    comment: Optional[str] = None
    is_last: bool = False


class Say(Struct, tag_field='type', tag='say'):
    """The other one."""

    text: str


class Moved(Struct, tag_field='type', tag='moved'):
    """What goes out."""

    player: str
    at: datetime
    path: List[Point]
    score: float
    is_last: bool


def receipt(order: Order) -> Receipt:
    """Return the receipt for an order."""
    total = order.price * order.quantity
    return Receipt(number=order.number, status='accepted', total=total)


def moved(move: Move) -> Moved:
    """Return what a move has done."""
    score = float(len(move.path))
    return Moved(player=move.player, at=move.at, path=move.path, score=score, is_last=move.is_last)
