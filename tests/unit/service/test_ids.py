"""Ids and secrets."""

from hypothesis import given
from hypothesis import strategies as st

from hub.service.ids import id_hash, new_secret, secret_hash


def test_hashes_tell_kinds_and_ids_apart() -> None:
    """The same text as another kind, or split otherwise, is another hash; each fits a signed 64-bit integer."""
    hashes = {
        id_hash("e", "1"),
        id_hash("m", "1"),
        id_hash("e", "2"),
        id_hash("e1", ""),
        id_hash("a", "b:c"),
        id_hash("a:b", "c"),
    }
    assert len(hashes) == 6
    assert all(-(2**63) <= int(one) < 2**63 for one in hashes)
    assert id_hash("e", "1") == id_hash("e", "1")


def test_hashes_are_the_same_for_ever() -> None:
    """A value of the first release: another function would take a repeated event for a new one."""
    assert id_hash("e", "evt_1") == b"-231018174897561158"


@given(st.text(), st.text())
def test_id_hashes_are_signed_64_bit_decimals(kind: str, text: str) -> None:
    """Engines keep such members as packed integers."""
    value = id_hash(kind, text)
    assert -(2**63) <= int(value) < 2**63
    assert value == b"%d" % int(value)


def test_secrets() -> None:
    """No two are alike, and what is stored doesn't show them."""
    first, second = new_secret(), new_secret()
    assert first != second
    assert first not in secret_hash(first)
    assert secret_hash(first) == secret_hash(first) != secret_hash(second)
