"""The values of a user's program as bytes that cross the mesh, and back as the types that the program declares."""

from typing import Any

import msgspec

from meshnode import wire
from meshnode.errors import InvalidArgument


def encode(value: object, what: str) -> bytes:
    """``value`` as CBOR of plain data.

    Args:
        what: names the value in the error, as in "the result".

    Raises:
        InvalidArgument: a part of it is of no type that can cross the mesh.
    """
    try:
        return wire.dumps(msgspec.to_builtins(value, builtin_types=(bytes, bytearray)))
    except (TypeError, ValueError, RecursionError) as error:
        raise _unfit(what, error) from error


def encode_readable(value: object, what: str) -> bytes:
    """As `encode`, and sure to be read by `wire.loads`: what is nested too deep is found by whoever made it.

    Raises:
        InvalidArgument: as `encode`, or an integer is too large, or it is nested too deep.
    """
    data = encode(value, what)
    try:
        wire.loads(data)
    except wire.WireError as error:
        raise _unfit(what, error) from error
    return data


def convert(value: object, declared: Any) -> Any:
    """Plain data as the type that is declared for it. Text is never taken for bytes.

    Raises:
        InvalidArgument: it does not fit.
    """
    try:
        return msgspec.convert(value, declared, builtin_types=(bytes,))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a declared class may check its own fields, and raise anything
        raise InvalidArgument(text_of(error) or type(error).__name__) from error


def text_of(error: BaseException) -> str:
    """The message of an exception of the user's, which may not even have one."""
    try:
        return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - its __str__ may raise anything
        return "its message can't be read"


def _unfit(what: str, error: Exception) -> InvalidArgument:
    return InvalidArgument(
        f"{what} can't cross the mesh: {error}. Use numbers (integers of 64 bits), text, bytes, dates, enums, "
        f"lists, dicts and classes of these, nested up to {wire.DEPTH_MAX} deep"
    )


def check_declared(declared: Any) -> None:
    """Refuse a type whose values can't be told from plain data.

    Raises:
        TypeError: it is one, or has one inside.
    """
    try:
        msgspec.json.schema(declared)
    except TypeError as error:
        raise TypeError(f"{declared!r} can't cross the mesh: {str(error).partition(' requires')[0]}") from error
