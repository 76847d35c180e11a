"""Ids and secrets."""

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


def test_secrets() -> None:
    """No two are alike, and what is stored doesn't show them."""
    first, second = new_secret(), new_secret()
    assert first != second
    assert first not in secret_hash(first)
    assert secret_hash(first) == secret_hash(first) != secret_hash(second)
