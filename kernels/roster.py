"""The models that an engine holds, by handle, and the rule that one thread at a time uses an engine."""

import threading
from typing import Final, Generic, NewType, TypeVar

from kernels.errors import TooManyModelsError, UnknownModelError

ModelHandle = NewType("ModelHandle", int)

# Who has more models than this unloads one before the next. A node serves a handful at a time, and this many of the
# largest are 4 GiB of parameters.
MODELS_MAX: Final = 16

T = TypeVar("T")


class Roster(Generic[T]):
    """Values by handle. A handle is never given out twice, so that one kept too long cannot reach another model."""

    def __init__(self) -> None:
        self._entries: dict[ModelHandle, T] = {}  # at most MODELS_MAX
        self._next = 1

    def check_room(self) -> None:
        """Raises TooManyModelsError when there are MODELS_MAX models."""
        if len(self._entries) >= MODELS_MAX:
            raise TooManyModelsError(f"an engine holds at most {MODELS_MAX} models; unload one first")

    def add(self, entry: T) -> ModelHandle:
        """Keep the entry under a new handle. Raises TooManyModelsError."""
        self.check_room()
        handle = ModelHandle(self._next)
        self._next += 1
        self._entries[handle] = entry
        return handle

    def get(self, handle: ModelHandle) -> T:
        """Raises UnknownModelError."""
        try:
            return self._entries[handle]
        except KeyError:
            raise UnknownModelError(f"no model has the handle {handle}; load it first") from None

    def remove(self, handle: ModelHandle) -> T:
        """Raises UnknownModelError."""
        entry = self.get(handle)
        del self._entries[handle]
        return entry

    def clear(self) -> list[T]:
        """Remove all, and give them back."""
        entries = list(self._entries.values())
        self._entries.clear()
        return entries


class OneAtATime:
    """A context that asserts that no two threads are inside at once. Any thread may be next."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        """Raises AssertionError when another thread is inside: a bug of the caller."""
        free = self._lock.acquire(blocking=False)
        assert free, "an engine is used by one thread at a time"

    def __exit__(self, *error: object) -> None:
        self._lock.release()
