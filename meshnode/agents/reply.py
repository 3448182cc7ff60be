"""How a request ended, as it is kept."""

from dataclasses import dataclass

RequestId = tuple[str, str, str]
"""Agent type, key, and an id that whoever asks has chosen."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The end of a request: an empty code and the result, or an error's code and its message."""

    code: str
    payload: bytes
