"""What of API Star's validators is mended for messages: arrays of unique items that are more than primitives."""

import copy
import traceback
from typing import Any, Dict, Iterator, Optional

from apistar import types, validators

#: Where a validator of API Star holds others.
PARTS = ('items', 'additional_items', 'properties', 'pattern_properties', 'additional_properties', 'definitions')


def is_message_type(declared: Any) -> bool:
    """Tell whether ``declared`` is a subclass of API Star's ``types.Type``."""
    return isinstance(declared, type) and issubclass(declared, types.Type)


def parts_of(validator: Any) -> Iterator[Any]:
    """Yield the validators and types that a validator holds."""
    for name in PARTS:
        part = vars(validator).get(name)
        parts = part.values() if isinstance(part, dict) else part if isinstance(part, list) else [part]
        yield from (held for held in parts if hasattr(held, 'validate'))


class Uniqueness(validators.Uniqueness):  # type: ignore[misc]
    """API Star's set of the items of an array, which fails on all but what JSON knows: here dates and types too.

    Items are the same if the validated values are equal, so two spellings of one moment are the same.
    """

    def make_hashable(self, element: Any) -> Any:
        """Return what stands for ``element`` in a set."""
        if isinstance(element, types.Type):
            element = {key: getattr(element, key) for key in element}
        if element is None or isinstance(element, (bool, int, float, str, list, dict)):
            return super().make_hashable(element)
        return element


class UniqueItem(validators.Validator):  # type: ignore[misc]
    """Validates an item of an array, and refuses one that was seen before.

    :param array: whose error it is.
    :param validator: what validates the item.
    :param seen: the items of the array so far.
    """

    def __init__(self, array: Any, validator: Any, seen: Uniqueness) -> None:
        self._array = array
        self._validator = validator
        self._seen = seen

    def validate(self, value: Any, definitions: Any = None, allow_coerce: bool = False) -> Any:
        """Return the validated item.

        :raises ValidationError: API Star's own, also where the item is not unique.
        """
        item = self._validator.validate(value, definitions=definitions, allow_coerce=allow_coerce)
        if item in self._seen:
            self._array.error('unique_items')
        self._seen.add(item)
        return item


class UniqueArray(validators.Validator):  # type: ignore[misc]
    """Stands for an array with ``unique_items``: API Star's own, but for the check of uniqueness.

    :param array: the array as it was declared.
    """

    def __init__(self, array: Any) -> None:
        # Its default, its definitions and its name in them are as declared.
        self.__dict__.update(vars(array))
        self._array = copy.copy(array)
        self._array.unique_items = False
        self._array.def_name = None

    def validate(self, value: Any, definitions: Any = None, allow_coerce: bool = False) -> Any:
        """Return the validated array.

        :raises ValidationError: API Star's own.
        """
        array, seen = copy.copy(self._array), Uniqueness()
        if not isinstance(array.items, list):
            array.items = UniqueItem(self._array, validators.Any() if array.items is None else array.items, seen)
        else:
            array.items = [UniqueItem(self._array, item, seen) for item in array.items]
            if array.additional_items is not False:
                # As API Star does, which takes no types.Type here.
                is_validator = isinstance(array.additional_items, validators.Validator)
                others = array.additional_items if is_validator else validators.Any()
                array.additional_items = UniqueItem(self._array, others, seen)
        return array.validate(value, definitions=self.get_definitions(definitions), allow_coerce=allow_coerce)


class TypeWithUniqueItems:
    """Stands for a ``types.Type`` that has arrays with ``unique_items``; makes instances of that very type.

    :param declared: the type.
    :param validator: what validates its properties instead of its own.
    """

    def __init__(self, declared: Any, validator: Any) -> None:
        self._declared = declared
        self._validator = validator
        self.has_default = declared.has_default

    def validate(self, value: Any, definitions: Any = None, allow_coerce: bool = False) -> Any:
        """Return the validated instance.

        :raises ValidationError: API Star's own.
        """
        instance = self._declared.__new__(self._declared)
        # Its __init__ asks the instance for the validator.
        object.__setattr__(instance, 'validator', self._validator)
        instance.__init__(value, definitions=definitions, allow_coerce=allow_coerce)
        object.__delattr__(instance, 'validator')
        return instance


def with_unique_items(validator: Any, known: Optional[Dict[int, Any]] = None) -> Any:
    """Return ``validator`` with the mended check of ``unique_items`` wherever it is in it; itself if it is nowhere.

    A type with a ``validate`` of its own stays as it is, and so does what a type holds of itself.

    :param validator: a validator or a type; what is neither is returned.
    :param known: what has been returned for others, by their ids.
    """
    known = {} if known is None else known
    if id(validator) not in known:
        known[id(validator)] = validator
        if is_message_type(validator):
            made = with_unique_items(validator.validator, known)
            is_plain = validator.validate.__func__ is types.Type.validate.__func__
            if made is not validator.validator and is_plain:
                known[id(validator)] = TypeWithUniqueItems(validator, made)
        elif isinstance(validator, validators.Validator):
            known[id(validator)] = mended_validator(validator, known)
    return known[id(validator)]


def is_failed_uniqueness(exc: AssertionError) -> bool:
    """Tell whether API Star could not compare items of an array that :func:`with_unique_items` has not reached."""
    *_, (frame, _) = traceback.walk_tb(exc.__traceback__)
    return frame.f_code is validators.Uniqueness.make_hashable.__code__


def mended_validator(validator: Any, known: Dict[int, Any]) -> Any:
    """Return ``validator`` with its parts mended, and itself where it is an array with ``unique_items``."""
    changed = {}
    for name in PARTS:
        part = vars(validator).get(name)
        if isinstance(part, dict):
            made: Any = {key: with_unique_items(value, known) for key, value in part.items()}
        elif isinstance(part, list):
            made = [with_unique_items(value, known) for value in part]
        else:
            made = with_unique_items(part, known)
        if made != part:
            changed[name] = made
    if changed:
        validator = copy.copy(validator)
        validator.__dict__.update(changed)
    return UniqueArray(validator) if getattr(validator, 'unique_items', False) else validator
