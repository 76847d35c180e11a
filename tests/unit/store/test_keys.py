"""Partitions, slots, keys and ids."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.store import keys as module
from hub.store.keys import (
    PARTITIONS,
    SLOTS,
    TAGS,
    Keys,
    new_id,
    new_tag,
    partition,
    partition_of,
    slot,
    stable_id,
)

PARTITIONS_OF_THE_FIRST_RELEASE = [55, 16, 36]
ID_OF_THE_FIRST_RELEASE = "msg_05aepghpihu28qls8zbqe5"
IDS = st.text("AZaz09_.:-", min_size=1, max_size=64)


def test_tags_spread_evenly_over_the_slots() -> None:
    """Tag p lies in the p-th of 64 equal ranges of slots, and says p in hex to people."""
    assert len(set(TAGS)) == PARTITIONS
    for p, tag in enumerate(TAGS):
        assert slot(Keys("hub").base(p)) * PARTITIONS // SLOTS == p
        assert int(tag[:2], 16) == p


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"123456789", 0x31C3),
        (b"foo", 12182),
        (b"{user1000}.following", 3443),
        (b"foo{}{bar}", 8363),
        (b"foo{{bar}}zap", 4015),
        (b"foo{bar}{zap}", 5061),
        (b"open{bar", 5593),
    ],
)
def test_slot_follows_the_cluster_specification(key: bytes, expected: int) -> None:
    """The specification's examples of hash tags, and slots that a real server gave."""
    assert slot(key) == expected


def test_partition_is_the_same_for_ever() -> None:
    """Values of the first release: another function would look for old conversations in the wrong place."""
    found = [partition("acme", "cnv_1"), partition("acme", "cnv_2"), partition("beta", "cnv_1")]
    assert found == PARTITIONS_OF_THE_FIRST_RELEASE


def test_partitions_are_used_evenly() -> None:
    """Of 6,400 conversations in a row each partition has its share."""
    counts = [0] * PARTITIONS
    for i in range(6400):
        counts[partition("acme", f"cnv_{i:07}")] += 1
    assert min(counts) > 60
    assert max(counts) < 145


def test_new_ids_carry_their_partition() -> None:
    """Prefix, partition and 20 characters, fresh each time; seeded chance gives the same again."""
    one, two = new_id("tko", 63), new_id("tko", 63)
    assert re.fullmatch(r"tko_3f[0-9a-z]{20}", one)
    assert one != two
    assert partition_of(one) == 63
    assert new_id("msg", 1, random.Random(7).getrandbits) == new_id("msg", 1, random.Random(7).getrandbits)


@pytest.mark.parametrize(
    "other", ["", "cnv_1", "tko_40" + "a" * 20, "tko_0G" + "a" * 20, "tko_00" + "a" * 21, "TKO_00" + "a" * 20]
)
def test_other_ids_have_no_partition(other: str) -> None:
    """What hasn't the shape of an id of ours is None, and is refused as a session."""
    assert partition_of(other) is None
    assert partition_of("tko_00" + "a" * 20 + "\n") is None
    with pytest.raises(ValueError, match="not an id of ours"):
        Keys().session(other)


@given(
    st.integers(0, PARTITIONS - 1), st.lists(st.text(max_size=8), max_size=4), st.lists(st.text(max_size=8), max_size=4)
)
def test_stable_ids_are_equal_exactly_for_equal_parts(p: int, one: list[str], two: list[str]) -> None:
    """The same parts give the same id, others another; where parts are divided matters."""
    assert (stable_id("msg", p, *one) == stable_id("msg", p, *two)) == (one == two)
    assert partition_of(stable_id("msg", p, *one)) == p


def test_stable_ids_are_the_same_for_ever() -> None:
    """Values of the first release: another function would take a repeated event for a new one."""
    assert stable_id("msg", 5, "a", "b") == ID_OF_THE_FIRST_RELEASE


def test_tags_are_never_zero() -> None:
    """0 stands before the first entry, and 2^31 is the bound."""
    assert all(0 < int(new_tag()) < 2**31 for _ in range(1000))


@given(st.lists(st.tuples(IDS, IDS), min_size=2, max_size=2, unique=True), st.integers(0, 63), st.integers(0, 9))
def test_keys_of_different_conversations_differ(two: list[tuple[str, str]], p: int, k: int) -> None:
    """Whatever colons and dots the ids have, no two conversations share a key, and all keys stay in their partition."""
    keys = Keys("x")
    makers = [keys.conversation, keys.transcript, keys.segments, keys.panels, keys.actions]
    made = [make(p, org, conversation) for make in makers for org, conversation in two]
    made += [keys.seen(p, org, conversation, n) for org, conversation in two for n in (k, k + 1)]
    assert len(set(made)) == len(made)
    assert {slot(key) for key in made} == {slot(keys.base(p))}


@given(
    st.lists(st.tuples(IDS, st.sampled_from(["agent", "supervisor"]), IDS, IDS), min_size=2, max_size=2, unique=True)
)
def test_requests_of_different_people_differ(two: list[tuple[str, str, str, str]]) -> None:
    """The same request id by another user, role or organization is another request."""
    keys = Keys()
    assert len({keys.request(0, *one) for one in two}) == 2


def test_all_keys_of_a_partition_share_its_slot() -> None:
    """One script may touch all of them; an organization's people share a slot of their own."""
    keys, p = Keys("hub"), 9
    session = new_id("ses", p)
    made = [keys.board(p, "acme"), keys.board_top(p, "acme"), keys.due(p), keys.due(p, "sms:1"), keys.live(p)]
    made += [keys.closed(p), keys.ledger(p), keys.request(p, "acme", "agent", "bob", "r"), keys.incarnation(p)]
    made += [keys.session(session)]
    assert len(set(made)) == len(made)
    assert {slot(key) for key in made} == {slot(keys.base(p))}
    people = [keys.people("acme"), keys.people_top("acme"), keys.people_log("acme")]
    assert len(set(people)) == 3
    assert len({slot(key) for key in people}) == 1
    assert keys.nodes() == b"hub:nodes"


def test_braces_in_the_prefix_are_our_mistake() -> None:
    """They would move every key into one slot."""
    with pytest.raises(AssertionError):
        Keys("{hub}")


def test_module_imports_the_standard_library_only() -> None:
    """The names of things need no engine."""
    assert not any(name in vars(module) for name in ("hiredis", "redis", "asyncio"))
