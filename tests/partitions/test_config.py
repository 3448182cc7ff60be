"""What a user sets about partitions is checked when it is set."""

import pytest

from meshnode.partitions.config import PartitionsConfig


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"confirm_interval_s": 0.0}, "confirm_interval_s is 0.0"),
        ({"resend_after_s": -1.0}, "resend_after_s is -1.0"),
        ({"confirm_interval_s": 2.0, "lease_s": 3.9}, "lease_s is 3.9"),
        ({"uncommitted_bytes_max": 2**16 - 1}, "uncommitted_bytes_max is 65535"),
        ({"segment_bytes": 2**11}, "choose segment_bytes"),
        ({"segment_bytes": 2**20, "journal_bytes_max": 2**21 - 1}, "choose segment_bytes"),
    ],
)
def test_what_can_not_work_is_refused_with_the_value(given: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PartitionsConfig(**given)  # type: ignore[arg-type]


def test_the_smallest_values_are_taken() -> None:
    config = PartitionsConfig(lease_s=2.0, uncommitted_bytes_max=2**16, segment_bytes=2**16, journal_bytes_max=2**17)
    assert config.lease_s == 2 * config.confirm_interval_s
