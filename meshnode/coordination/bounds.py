"""How large, how long and how many: the same on every node, since the state machine refuses by these bounds.

Each check returns what is wrong and what to do, or nothing. Callers' programs ask before they propose; the state
machine asks again, since a command may come from anywhere.
"""

from collections.abc import Sequence

from meshnode.identity import NAME_BYTES_MAX

TICK_MS_MAX = 2000
"""The most that one tick counts. What a leader was held up for beyond that makes each TTL longer, never shorter."""

TTL_MS_MIN = 1000
TTL_MS_MAX = 24 * 3600 * 1000

SESSION_TTL_MS = 60_000
"""How long a session without a claim outlives its last request: longer than any request is tried again."""

SESSIONS_MAX = 4096
"""Processes that coordinate at a time: the largest mesh, and as many clients."""

PENDING_MAX = 64
"""Requests of one session whose answers are not known to be received; so many replies are kept for it."""

REPLIES_BYTES_MAX = 16 * 2**20
"""Of all replies that are kept, together: values that transactions read are part of them."""

LOCK_NAMES_MAX = 16
"""Names that are taken at once."""

CLAIMS_MAX = 10_000
"""Locks that are held or waited for. Each takes some hundred bytes on every node, and is looked at when a TTL ends."""

KEY_BYTES_MAX = 512
VALUE_BYTES_MAX = 64 * 2**10
TRANSACTION_STEPS_MAX = 64
"""Comparisons, and steps of one branch."""

TRANSACTION_BYTES_MAX = 96 * 2**10
"""Of its keys and values: with what is said about them they fit into one entry of the log (128 KiB)."""

FOUND_BYTES_MAX = 512 * 2**10
"""Of the entries that a transaction returns: its reply is kept."""

STORE_BYTES_MAX = 4 * 2**20
"""The whole configuration: every node has it in memory, and one answer has room for it."""

ENTRY_COST_BYTES = 64
"""What a key costs beside itself and its value."""

HISTORY_CHANGES_MAX = 4096
HISTORY_BYTES_MAX = 2 * 2**20
"""Past changes that are kept for those who watch."""


def problem_of_names(names: Sequence[str]) -> str:
    """Of a claim."""
    if not names:
        return "a lock has no name: give one or more"
    if len(names) > LOCK_NAMES_MAX:
        return f"{len(names)} names at once: take at most {LOCK_NAMES_MAX}, or one that stands for all"
    if len(set(names)) != len(names):
        return f"the names {', '.join(map(repr, names))} are not all different: give each once"
    for name in names:
        if not name:
            return "a lock's name is empty: give one of 1 to 255 bytes"
        if problem := _problem_of_text("lock", name, NAME_BYTES_MAX):
            return problem
    return ""


def problem_of_ttl(ttl_s: float) -> str:
    """Of a lock or a key."""
    if not TTL_MS_MIN <= ttl_s * 1000 <= TTL_MS_MAX:
        return f"a TTL of {ttl_s:g} s: choose {TTL_MS_MIN // 1000} to {TTL_MS_MAX // 1000} s"
    return ""


def problem_of_key(key: str) -> str:
    """Of the configuration."""
    if not key:
        return "a key is empty: give one of 1 to 512 bytes"
    return _problem_of_text("key", key, KEY_BYTES_MAX)


def problem_of_value(key: str, value: bytes) -> str:
    """Of a key of the configuration."""
    if len(value) > VALUE_BYTES_MAX:
        return (
            f"the value of {key!r:.80} has {len(value)} bytes and at most {VALUE_BYTES_MAX} may: keep it in an agent or"
            " a file, and configure where it is"
        )
    return ""


def _problem_of_text(what: str, text: str, bytes_max: int) -> str:
    # Characters first: hostile text of a megabyte needs no encoding to be refused.
    if len(text) <= bytes_max:
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            return f"the {what} {text!r:.80} has no UTF-8 form"
        if size <= bytes_max:
            return ""
    return f"the {what} {text[:20]!r}… is longer than {bytes_max} bytes: shorten it"
