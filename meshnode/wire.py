"""The one codec for everything that crosses a socket or is kept in a journal.

A message is a dataclass that nobody changes, registered under a kind number. On the wire it is CBOR (RFC 8949):

    [ version, kind, { 1: first field, 2: second field, … } ]

Fields are numbered in the order of their declaration, so new fields are added at the end, with a default. A field that
equals its default is left out, and unknown field numbers are ignored: nodes of neighbouring versions understand each
other. Types are checked on the way in; whatever arrives, `decode` returns a well-typed message or raises `WireError`.
"""

import dataclasses
import enum
import functools
import operator
import types
import typing
from collections.abc import Callable
from typing import Any, NewType, NoReturn, TypeVar, get_args, get_origin, get_type_hints

import cbor2

VERSION = 1

DEPTH_MAX = 16
"""The deepest message of ours nests eight containers; deeper input is hostile."""

T = TypeVar("T")
_Convert = Callable[[Any], Any]

_kind_of: dict[type, int] = {}
_class_of: dict[int, type] = {}


class WireError(ValueError):
    """The bytes are not a well-formed message of this version. The remote peer (or its network) must act."""


class UnknownKind(WireError):
    """A well-formed message of a kind that this version does not have: dropped, not an error of the peer."""


def message(kind: int) -> Callable[[type[T]], type[T]]:
    """Class decorator: give a dataclass that nobody changes its kind number, unique in the project (1 … 65535)."""

    def register_class(cls: type[T]) -> type[T]:
        register(kind, cls)
        return cls

    return register_class


def register(kind: int, cls: type) -> None:
    """Give a dataclass of a library its kind number."""
    assert dataclasses.is_dataclass(cls), cls
    assert 1 <= kind <= 65535, kind
    assert kind not in _class_of, f"kind {kind:#x} is taken by {_class_of[kind].__name__}"
    _class_of[kind] = cls
    _kind_of[cls] = kind


def encode(item: object) -> bytes:
    """A registered message as bytes."""
    cls = type(item)
    return cbor2.dumps([VERSION, _kind_of[cls], _encoder(cls)(item)])


def decode(data: bytes | bytearray | memoryview) -> Any:
    """The message in ``data``.

    Raises:
        UnknownKind: a kind that is not registered.
        WireError: anything else that is not a well-typed message of this version.
    """
    body = loads(data)
    if type(body) is not list or len(body) != 3:
        raise WireError("not an array of version, kind and fields")
    version, kind, fields = body
    if version != VERSION or type(version) is not int:
        raise WireError(f"version {version!r}; this node speaks version {VERSION}")
    if type(kind) is not int:
        raise WireError(f"kind {kind!r} is not a number")
    cls = _class_of.get(kind)
    if cls is None:
        raise UnknownKind(f"kind {kind} is unknown to version {VERSION}")
    return _decoder(cls)(fields)


def pack(item: object) -> bytes:
    """A dataclass without kind and version, for where the place says what it is: journal records, snapshots."""
    return cbor2.dumps(_encoder(type(item))(item))


def unpack(cls: type[T], data: bytes | bytearray | memoryview) -> T:
    """What `pack` made of a ``cls``.

    Raises:
        WireError: the bytes are not a well-typed ``cls``.
    """
    return typing.cast(T, _decoder(cls)(loads(data)))


def dumps(value: object) -> bytes:
    """Plain data (None, bool, int, float, str, bytes, list, dict) as CBOR."""
    return cbor2.dumps(value)


def loads(data: bytes | bytearray | memoryview) -> Any:
    """The CBOR item of plain data at the start of ``data``.

    Raises:
        WireError: malformed bytes, tags, indefinite lengths, repeated keys, nesting deeper than `DEPTH_MAX`.
    """
    try:
        return cbor2.loads(
            data,
            tag_hook=_refuse_tag,
            semantic_decoders=_REFUSE_TAGS,
            max_depth=DEPTH_MAX,
            allow_indefinite=False,
            allow_duplicate_keys=False,
        )
    except (cbor2.CBORDecodeError, ValueError, TypeError, OverflowError) as error:
        raise WireError(f"malformed CBOR: {error}") from error


def _refuse_tag(*_arguments: object) -> NoReturn:
    raise WireError("CBOR tags are not used")


# Every tag that cbor2 would turn into an object (dates, decimals, regular expressions, shared references, …).
_REFUSE_TAGS: Any = dict.fromkeys(
    (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799), _refuse_tag
)


# ---- converters, made once per class from its type hints


_encoders: dict[Any, _Convert] = {}
_decoders: dict[Any, _Convert] = {}


def _encoder(cls: Any) -> _Convert:
    """A function from an instance to a map of field numbers."""
    if cls not in _encoders:
        _encoders[cls] = _make_encoder(cls)
    return _encoders[cls]


def _decoder(cls: Any) -> _Convert:
    """A function from a map of field numbers to an instance; raises WireError."""
    if cls not in _decoders:
        _decoders[cls] = _make_decoder(cls)
    return _decoders[cls]


def _make_encoder(cls: Any) -> _Convert:
    fields = _fields_of(cls)
    plan = [(number, _to_plain(hint), field.default) for number, (field, hint) in enumerate(fields, start=1)]
    values_of = _attributes([field.name for field, _ in fields])

    def encode_fields(item: Any) -> dict[int, Any]:
        body = {}
        for (number, convert, default), value in zip(plan, values_of(item), strict=True):
            if value is not default and value != default:
                body[number] = value if convert is None else convert(value)
        return body

    return encode_fields


def _attributes(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """What reads these attributes of an object."""
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda item: tuple([getattr(item, name) for name in names])


def _make_decoder(cls: Any) -> _Convert:
    fields = _fields_of(cls)
    defaults = [field.default for field, _ in fields]
    plan = {
        number: (number - 1, _plain_type(hint), _from_plain(hint)) for number, (_, hint) in enumerate(fields, start=1)
    }
    required = [number for number, default in enumerate(defaults, start=1) if default is dataclasses.MISSING]

    def decode_fields(body: Any) -> Any:
        if type(body) is not dict:
            raise WireError(f"{cls.__name__}: expected a map of fields, got {type(body).__name__}")
        arguments = defaults.copy()
        for number, value in body.items():
            if number in plan:
                place, plain, convert = plan[number]
                try:
                    # What needs no check but for its type, most of all, costs no call.
                    is_plain = type(value) is plain and (plain is not int or 0 <= value < 2**63)
                    arguments[place] = value if is_plain else convert(value)
                except WireError as error:
                    raise WireError(f"{cls.__name__}.{fields[place][0].name}: {error}") from error
        for number in required:
            if number not in body:
                raise WireError(f"{cls.__name__}: field {fields[number - 1][0].name} is missing")
        try:
            return cls(*arguments)
        except ValueError as error:  # a message may check its own fields in __post_init__
            raise WireError(f"{cls.__name__}: {error}") from error

    return decode_fields


def _plain_type(hint: Any) -> Any:
    """The type of which any value will do as it is, if it is no large integer; None if there is none."""
    hint = _bare(hint)
    return hint if hint in (bool, int, float, str, bytes) else None


def _fields_of(cls: Any) -> list[tuple["dataclasses.Field[Any]", Any]]:
    hints = get_type_hints(cls)
    return [(field, hints[field.name]) for field in dataclasses.fields(cls)]


def _bare(hint: Any) -> Any:
    while isinstance(hint, NewType):
        hint = hint.__supertype__
    return hint


def _to_plain(hint: Any) -> _Convert | None:
    """What turns a field's value into plain data; None where it is plain already."""
    hint = _bare(hint)
    if hint in (int, bool, float, str, bytes):
        return None
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return operator.attrgetter("_value_")
    if dataclasses.is_dataclass(hint):
        return _encoder(hint)
    if get_origin(hint) is tuple:
        return _tuple_to_plain(get_args(hint))
    inner = _to_plain(_optional(hint))
    return None if inner is None else lambda value: None if value is None else inner(value)


def _tuple_to_plain(arguments: tuple[Any, ...]) -> _Convert:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        one = _to_plain(arguments[0])
        return list if one is None else lambda value: [one(item) for item in value]
    each = [_to_plain(argument) or _same for argument in arguments]
    return lambda value: [convert(item) for convert, item in zip(each, value, strict=True)]


def _same(value: Any) -> Any:
    return value


def _from_plain(hint: Any) -> _Convert:
    """What checks plain data and turns it into a field's value; raises WireError."""
    hint = _bare(hint)
    if hint is int:
        return _int
    if hint is float:
        return _float
    if hint in (bool, str, bytes):
        return functools.partial(_exactly, hint)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _enum(hint)
    if dataclasses.is_dataclass(hint):
        return _decoder(hint)
    if get_origin(hint) is tuple:
        return _tuple_from_plain(get_args(hint))
    inner = _from_plain(_optional(hint))
    return lambda value: None if value is None else inner(value)


def _optional(hint: Any) -> Any:
    """The X of ``X | None``."""
    members = [member for member in get_args(hint) if member is not types.NoneType]
    if get_origin(hint) not in (types.UnionType, typing.Union) or len(members) != 1:
        raise TypeError(f"{hint!r} can't cross the wire: use int, bool, float, str, bytes, enums, tuples, dataclasses")
    return members[0]


def _tuple_from_plain(arguments: tuple[Any, ...]) -> _Convert:
    repeated = len(arguments) == 2 and arguments[1] is Ellipsis
    each = [_from_plain(argument) for argument in arguments if argument is not Ellipsis]

    def convert_tuple(value: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise WireError(f"expected an array, got {type(value).__name__}")
        if repeated:
            one = each[0]
            return tuple([one(item) for item in value])
        if len(value) != len(each):
            raise WireError(f"expected an array of {len(each)}, got {len(value)}")
        return tuple([convert(item) for convert, item in zip(each, value, strict=True)])

    return convert_tuple


def _exactly(expected: type, value: Any) -> Any:
    if type(value) is not expected:
        raise WireError(f"expected {expected.__name__}, got {type(value).__name__}")
    return value


def _int(value: Any) -> int:
    if type(value) is not int or not -(2**63) <= value < 2**64:
        raise WireError(f"expected a 64-bit integer, got {type(value).__name__}")
    return value


def _float(value: Any) -> float:
    if type(value) is not float and type(value) is not int:
        raise WireError(f"expected a number, got {type(value).__name__}")
    try:
        return float(value)
    except OverflowError as error:
        raise WireError("number out of range") from error


def _enum(expected: type[enum.Enum]) -> _Convert:
    members = {member.value: member for member in expected}

    def convert_member(value: Any) -> enum.Enum:
        try:
            return members[value]
        except (KeyError, TypeError) as error:
            raise WireError(f"{value!r:.40} is not a {expected.__name__}") from error

    return convert_member
