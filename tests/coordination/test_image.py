"""A snapshot of locks and keys that is none is told from one."""

import pytest

from meshnode import wire
from meshnode.coordination.commands import Done, Step, Transact
from meshnode.coordination.image import ITEM_BYTES_MAX, items_of, state_from
from tests.coordination.log import Log


def items() -> list[bytes]:
    log = Log()
    session = log.open()
    log.acquire(session, "a")
    log.transact(session, Step.put("k", b"v" * 65_000))
    log.append(Transact(log.request(session, answered=1), (), tuple(Step.get("k") for _ in range(8))))
    return list(items_of(log.state.freeze()))


def test_every_item_has_a_bound() -> None:
    sizes = [len(item) for item in items()]
    assert 500_000 < max(sizes) < ITEM_BYTES_MAX


def test_what_is_no_snapshot_is_refused() -> None:
    found = items()
    with pytest.raises(wire.WireError, match="has no head"):
        state_from(found[1:])
    with pytest.raises(wire.WireError, match="KeptReply is out of place"):
        state_from([found[0], *found[2:]])
    with pytest.raises(wire.WireError, match="Done is out of place"):
        state_from([*found, wire.encode(Done())])
    with pytest.raises(wire.WireError):
        state_from([*found, b"\xff"])
