"""The types of the messages for apistar-ws: API Star's own."""

from apistar import types, validators


class Customer(types.Type):
    """Who orders."""

    name = validators.String(max_length=100)
    email = validators.String(max_length=200)


class Order(types.Type):
    """What comes in."""

    number = validators.Integer(minimum=1)
    article = validators.String(max_length=100)
    quantity = validators.Integer(minimum=1, maximum=100)
    price = validators.Number(minimum=0)
    customer = Customer


class Receipt(types.Type):
    """What goes out."""

    number = validators.Integer()
    status = validators.String(enum=['accepted', 'refused'])
    total = validators.Number()


class Point(types.Type):
    """A place."""

    x = validators.Integer()
    y = validators.Integer()


class Move(types.Type):
    """One of two that come in."""

    type = validators.String(enum=['move'])
    player = validators.String(max_length=30)
    at = validators.DateTime()
    path = validators.Array(items=Point, max_items=20)
    tags = validators.Array(items=validators.String())
    comment = validators.String(allow_null=True)
    is_last = validators.Boolean(default=False)


class Say(types.Type):
    """The other one."""

    type = validators.String(enum=['say'])
    text = validators.String()


class Moved(types.Type):
    """What goes out."""

    type = validators.String(enum=['moved'])
    player = validators.String()
    at = validators.DateTime()
    path = validators.Array(items=Point)
    score = validators.Number()
    is_last = validators.Boolean()
