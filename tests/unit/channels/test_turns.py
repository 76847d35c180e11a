"""Which partitions a courier looks at first."""

from hypothesis import given
from hypothesis import strategies as st

from hub.channels.delivery import in_turn

PARTITIONS = st.integers(0, 63)


@given(st.sets(PARTITIONS), st.integers(-1, 63))
def test_every_partition_is_there_once(wanted: set[int], last: int) -> None:
    """In a circle that begins behind the last one."""
    turns = in_turn(wanted, last)
    assert sorted(turns) == sorted(wanted)
    assert [p > last for p in turns] == sorted((p > last for p in wanted), reverse=True)


@given(st.sets(PARTITIONS, min_size=1), st.integers(-1, 63))
def test_none_waits_for_more_than_all_others(wanted: set[int], last: int) -> None:
    """Where there is room for one at a time and all stay wanted, each has its turn before any has two."""
    served = []
    for _ in wanted:
        last = in_turn(wanted, last)[0]
        served.append(last)
    assert sorted(served) == sorted(wanted)
