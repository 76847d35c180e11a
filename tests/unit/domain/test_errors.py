"""Refusals."""

import pytest

from hub.domain.errors import CODES, RETRYABLE, Refused


def test_retryable_follows_from_the_code() -> None:
    """Only being too fast and a missing store can be helped by sending the same again."""
    assert (
        {code for code in CODES if Refused(code, "No.").retryable} == RETRYABLE == {"rate_limited", "store_unavailable"}
    )


def test_details_are_a_copy() -> None:
    """A refusal keeps what it was told, whatever the teller does with it later."""
    details: dict[str, object] = {"path": "code"}
    refused = Refused("schema_invalid", "No.", details)
    details["path"] = "other"
    assert refused.details == {"path": "code"}
    assert str(refused) == "schema_invalid: No."
    assert Refused("schema_invalid", "No.").details == {}


def test_unknown_code_is_our_mistake() -> None:
    """A code that the protocol doesn't have can't be answered."""
    with pytest.raises(AssertionError):
        Refused("made_up", "No.")
