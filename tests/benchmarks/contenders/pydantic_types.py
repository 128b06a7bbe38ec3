"""The types of the messages for the frameworks that have pydantic."""

from datetime import datetime
from typing import Annotated, List, Literal, Optional, Union

from pydantic import BaseModel, Field, TypeAdapter


class Customer(BaseModel):
    """Who orders."""

    name: str = Field(max_length=100)
    email: str = Field(max_length=200)


class Order(BaseModel):
    """What comes in."""

    number: int = Field(ge=1)
    article: str = Field(max_length=100)
    quantity: int = Field(ge=1, le=100)
    price: float = Field(ge=0)
    customer: Customer


class Receipt(BaseModel):
    """What goes out."""

    number: int
    status: Literal['accepted', 'refused']
    total: float


class Point(BaseModel):
    """A place."""

    x: int
    y: int


class Move(BaseModel):
    """One of two that come in."""

    type: Literal['move']
    player: str = Field(max_length=30)
    at: datetime
    path: List[Point] = Field(max_length=20)
    tags: List[str]
    comment: Optional[str] = None
    is_last: bool = False


class Say(BaseModel):
    """The other one."""

    type: Literal['say']
    text: str


class Moved(BaseModel):
    """What goes out."""

    type: Literal['moved']
    player: str
    at: datetime
    path: List[Point]
    score: float
    is_last: bool


MOVES: 'TypeAdapter[Union[Move, Say]]' = TypeAdapter(Annotated[Union[Move, Say], Field(discriminator='type')])


def receipt(order: Order) -> Receipt:
    """Return the receipt for an order."""
    total = order.price * order.quantity
    return Receipt(number=order.number, status='accepted', total=total)


def moved(move: Move) -> Moved:
    """Return what a move has done."""
    score = float(len(move.path))
    return Moved(type='moved', player=move.player, at=move.at, path=move.path, score=score, is_last=move.is_last)
