import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.membership.config import SwimConfig


@pytest.mark.parametrize(
    "change",
    [
        {"probe_interval_s": 0.0},
        {"probe_interval_s": float("nan")},
        {"probe_timeout_s": 0.0},
        {"probe_timeout_s": 1.0},
        {"indirect_probes": -1},
        {"suspicion_multiplier": 0.5},
        {"retransmit_multiplier": 0},
        {"gossip_interval_s": -1.0},
        {"gossip_peers": 0},
        {"datagram_bytes_max": 1231},
        {"datagram_bytes_max": 65_508},
        {"sync_interval_s": 0.0},
        {"rejoin_interval_s": float("inf")},
        {"dead_retention_s": 29.0},
    ],
)
def test_a_value_out_of_range_is_refused_by_field_and_value(change: dict[str, Any]) -> None:
    (field, value), *_ = change.items()
    with pytest.raises(ValueError, match=f"{field} = {value}".replace(".", r"\.")):
        dataclasses.replace(SwimConfig(), **change)


def test_timeouts_and_repetitions_grow_with_the_logarithm_of_the_members() -> None:
    config = SwimConfig()
    assert [config.suspicion_s(members) for members in (1, 10, 100, 10_000)] == [3.0, 3.0, 6.0, 12.0]
    assert [config.transmit_limit(members) for members in (1, 9, 10, 99, 100, 9_999)] == [4, 4, 8, 8, 12, 16]


@given(st.integers(1, 16_384), st.integers(1, 16_384))
def test_a_larger_mesh_never_gets_less_time_or_fewer_repetitions(one: int, other: int) -> None:
    config = SwimConfig()
    small, large = sorted([one, other])
    assert config.suspicion_s(small) <= config.suspicion_s(large)
    assert config.transmit_limit(small) <= config.transmit_limit(large)
