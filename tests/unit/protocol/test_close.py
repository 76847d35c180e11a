"""Close codes and HTTP status."""

from hub.domain.errors import CODES
from hub.protocol.close import CLOSE_REASONS, HTTP_STATUS, Close


def test_close_codes_are_the_documented_ones() -> None:
    """The table of protocol.md, section 1."""
    assert {code.name: int(code) for code in Close} == {
        "BAD_FRAME": 4400,
        "UNAUTHENTICATED": 4401,
        "NOT_PERMITTED": 4403,
        "NO_HELLO": 4408,
        "RESUMED_ELSEWHERE": 4409,
        "TOO_BIG": 4413,
        "TOO_MANY": 4429,
        "DRAINING": 4501,
        "TOO_SLOW": 4502,
        "STORE_AWAY": 4503,
    }


def test_each_close_code_has_a_reason_that_fits_a_close_frame() -> None:
    """A close frame holds at most 123 bytes of reason (RFC 6455, section 5.5)."""
    assert set(CLOSE_REASONS) == set(Close)
    assert all(0 < len(reason.encode()) <= 123 for reason in CLOSE_REASONS.values())


def test_each_error_code_has_a_status() -> None:
    """Codes with a status of their own have it, all others are conflicts."""
    assert set(HTTP_STATUS) == CODES
    assert {code: status for code, status in HTTP_STATUS.items() if status != 409} == {
        "schema_invalid": 400,
        "unauthenticated": 401,
        "not_permitted": 403,
        "unknown_conversation": 404,
        "too_large": 413,
        "rate_limited": 429,
        "store_unavailable": 503,
        "file_refused": 422,
        "unknown_file": 404,
    }
