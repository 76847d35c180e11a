"""What every HTTP refusal has beside its body, whichever route made it."""

from collections.abc import Mapping


def asked_for(status: int, headers: Mapping[str, str]) -> bool:
    """True where the headers are there that the status asks for (RFC 9110): a challenge with 401, a time with 429."""
    match status:
        case 401:
            return headers.get("www-authenticate") == "Bearer"
        case 429:
            return int(headers.get("retry-after", 0)) >= 1
        case _:
            return "www-authenticate" not in headers and "retry-after" not in headers
