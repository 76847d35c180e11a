"""What a token allows."""

import pytest

from hub.domain.grants import EVERYTHING, PERMISSIONS, covers
from tests.unit.domain.words import person


@pytest.mark.parametrize("permission", sorted(PERMISSIONS))
def test_no_permission_implies_another(permission: str) -> None:
    """A token with one permission has that one only."""
    one = person(permissions=frozenset({permission}))
    assert [each for each in sorted(PERMISSIONS) if one.may(each)] == [permission]


@pytest.mark.parametrize(
    ("queues", "divisions", "sees"),
    [
        ({"support"}, {"home"}, True),
        ({EVERYTHING}, {EVERYTHING}, True),
        ({"billing"}, {"home"}, False),
        ({"support"}, {"abroad"}, False),
        (set(), {EVERYTHING}, False),
    ],
)
def test_queue_and_division_must_both_be_granted(queues: set[str], divisions: set[str], sees: bool) -> None:
    """A conversation is a person's only where its queue and its division both are."""
    one = person(queues=frozenset(queues), divisions=frozenset(divisions))
    assert one.sees("support", "home") is sees


def test_everything_covers_anything() -> None:
    """`*` stands for every id, an id for itself only."""
    assert covers(frozenset({EVERYTHING}), "support")
    assert covers(frozenset({"support"}), "support")
    assert not covers(frozenset({"support"}), EVERYTHING)
