"""Refusals over HTTP: the status of the code, and the headers that go with it."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from hub.domain.errors import Refused
from hub.edge.answers import json_answer, refusal, refusal_headers, retry_after
from tests.support.refusals import asked_for


@pytest.mark.parametrize(
    ("code", "details", "status", "headers"),
    [
        ("unauthenticated", {}, 401, {"www-authenticate": "Bearer"}),
        ("rate_limited", {"retry_ms": 2_001}, 429, {"retry-after": "3"}),
        ("rate_limited", {}, 429, {"retry-after": "1"}),
        ("rate_limited", {"retry_ms": "soon"}, 429, {"retry-after": "1"}),
        ("not_permitted", {}, 403, {}),
    ],
)
def test_refusals(code: str, details: Mapping[str, Any], status: int, headers: dict[str, str]) -> None:
    """A challenge with 401, a time with 429, neither with another one; nobody keeps any of them."""
    answer = refusal(Refused(code, "No.", details), {"connection": "close"})
    assert answer.status_code == status
    assert json.loads(bytes(answer.body))["error"]["code"] == code
    sent = dict(answer.headers)
    assert sent.items() >= {"cache-control": "no-store", "connection": "close", **headers}.items()
    assert asked_for(status, sent)
    assert refusal_headers(status, Refused(code, "No.", details)) == headers


def test_another_status_than_the_codes_own() -> None:
    """A route that isn't there is a 404, whatever its code's status is elsewhere."""
    assert refusal(Refused("schema_invalid", "There is no such route."), status=404).status_code == 404


def test_answers_are_kept_by_nobody() -> None:
    """JSON has `no-store`, and may have headers of its route's beside it."""
    answer = json_answer({"a": 1}, headers={"vary": "origin"})
    assert (answer.headers["cache-control"], answer.headers["vary"], answer.body) == ("no-store", "origin", b'{"a":1}')


@pytest.mark.parametrize(("retry_ms", "seconds"), [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2"), (60_000, "60")])
def test_retry_after(retry_ms: int, seconds: str) -> None:
    """Whole seconds, rounded up, at least one."""
    assert retry_after(retry_ms) == seconds
