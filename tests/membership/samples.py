"""Members and messages: a plain one by name, and hypothesis strategies for whatever is well-typed."""

from hypothesis import strategies as st

from meshnode.identity import NODE_ID_MAX, Address, Boot, NodeId
from meshnode.membership.messages import (
    BOOT_MAX,
    BOOT_SHIFT,
    BUCKETS,
    DIGEST_BYTES,
    INCARNATION_LIMIT,
    SEQUENCE_MAX,
    WEIGHT_MAX,
    Ack,
    Gossip,
    Member,
    Message,
    Ping,
    PingRequest,
    State,
    SyncPage,
    SyncPush,
    SyncRequest,
)


def address(number: int) -> Address:
    """The address of the plain member of this number."""
    return Address(f"10.{number // 62_500 % 250}.{number // 250 % 250}.{number % 250 + 1}", 7946)


def member(
    number: int, *, boot: int = 1, claim: int = 0, state: State = State.ALIVE, name: str = "", zone: str = ""
) -> Member:
    """A plain member; ``claim`` counts its refutations."""
    incarnation = (boot << BOOT_SHIFT) + claim
    return Member(
        NodeId(number), name or f"n{number}", address(number), Boot(boot), incarnation, state=state, zone=zone
    )


def rumours(numbers: st.SearchStrategy[int], *, conflicts: bool = False) -> st.SearchStrategy[Member]:
    """Claims about few nodes with few incarnations, so that they collide; with ``conflicts`` in their contents too."""
    zones = st.sampled_from(["", "a", "b"]) if conflicts else st.just("")
    return st.builds(
        member,
        numbers,
        boot=st.integers(1, 2),
        claim=st.integers(0, 2),
        state=st.sampled_from(State),
        zone=zones,
    )


_boots = st.integers(1, 3) | st.integers(1, BOOT_MAX)
_ids = st.integers(1, 5) | st.integers(1, NODE_ID_MAX)
_sequences = st.integers(0, 3) | st.integers(0, SEQUENCE_MAX)
_cursors = st.integers(0, 5) | st.integers(0, NODE_ID_MAX)
_texts = st.text(max_size=60) | st.just("n" * 255)
_addresses = st.builds(
    Address,
    st.ip_addresses()
    .filter(lambda ip: not (ip.is_unspecified or ip.is_multicast))
    .map(str)
    .filter(lambda host: "%" not in host),
    st.integers(1, 65535),
) | st.sampled_from([address(number) for number in range(1, 6)])


@st.composite
def members(draw: st.DrawFn) -> Member:
    """Any member that can be said at all."""
    boot = draw(_boots)
    low = boot << BOOT_SHIFT
    return Member(
        NodeId(draw(_ids)),
        draw(_texts),
        draw(_addresses),
        Boot(boot),
        draw(st.integers(low, low + 2) | st.integers(low, INCARNATION_LIMIT - 1)),
        draw(st.sampled_from(State)),
        draw(st.integers(0, WEIGHT_MAX)),
        draw(_texts),
    )


_updates = st.lists(members(), max_size=6).map(tuple)
_digests = st.binary(min_size=BUCKETS * DIGEST_BYTES, max_size=BUCKETS * DIGEST_BYTES)
_masks = st.integers(0, 2**BUCKETS - 1) | st.sampled_from([0, 1, 2**BUCKETS - 1])

messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Ping, _sequences, _ids, _ids, _updates),
    st.builds(Ack, _sequences, _ids, _updates),
    st.builds(PingRequest, _sequences, _ids, _ids, _updates),
    st.builds(Gossip, _updates),
    st.builds(SyncRequest, _sequences, members(), _digests, _cursors),
    st.builds(SyncPage, _sequences, _cursors, _masks, _updates),
    st.builds(SyncPush, _updates),
)
