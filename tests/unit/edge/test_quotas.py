"""Quotas: rates with a burst, amounts that may become a debt, what is held, and bounded tables."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.grants import Person
from hub.edge.quotas import BURST_S, SCOPES, Quotas, keys_of
from hub.settings import Settings

RATE = "commands_per_user_per_s"
ANA = Person("ana", "Ana", "acme", "supervisor", frozenset(), frozenset(), frozenset())


def quotas(**changed: Any) -> Quotas:
    """Quotas of the defaults but for these."""
    return Quotas(Settings(**changed))


def test_a_burst_then_the_rate() -> None:
    """Ten seconds' worth at once, then as many as the rate says, and the wait is named in milliseconds."""
    one = quotas(commands_per_user_per_s=4)
    assert [one.take(RATE, "ana", 0.0) for _ in range(4 * BURST_S)] == [0] * 40
    assert 250 <= one.take(RATE, "ana", 0.0) <= 251
    assert one.take(RATE, "ana", 0.26) == 0
    assert one.take(RATE, "bo", 0.26) == 0, "another key has its own"


@given(st.lists(st.floats(0, 2), min_size=1, max_size=200), st.integers(1, 20))
def test_never_more_than_burst_and_rate(pauses: list[float], rate: int) -> None:
    """However one asks, no more is given than the burst and what the time has brought."""
    one, now, given_ = quotas(commands_per_user_per_s=rate), 0.0, 0
    for pause in pauses:
        now += pause
        given_ += one.take(RATE, "ana", now) == 0
    assert given_ <= rate * BURST_S + rate * now + 1


def test_zero_is_no_limit() -> None:
    """A limit of 0 stops nobody, and remembers nobody."""
    one = quotas(commands_per_user_per_s=0, replay_bytes_per_user_per_s=0, subscriptions_per_user=0)
    assert not any(one.take(RATE, "ana", 0.0) for _ in range(10_000))
    assert one.spend("replay_bytes_per_user_per_s", "ana", 0.0, 1 << 40)
    for _ in range(3):
        one.hold("subscriptions", [("user", "ana")])
    assert one.full("subscriptions", [("user", "ana")]) is None


def test_an_amount_may_become_a_debt() -> None:
    """What is known only afterwards is taken all the same; the next one waits until it is paid."""
    one, name = quotas(replay_bytes_per_user_per_s=100), "replay_bytes_per_user_per_s"
    assert one.spend(name, "ana", 0.0, 1_500)
    assert not one.spend(name, "ana", 4.0, 0)
    assert one.spend(name, "ana", 5.1, 0)


def test_what_is_held_is_counted_and_let_go() -> None:
    """The limit counts what is held now, in each scope; a release makes room."""
    one = quotas(subscriptions_per_user=2, subscriptions_per_org=3)
    ana, bo = [("user", "ana"), ("org", "acme")], [("user", "bo"), ("org", "acme")]
    for keys in (ana, ana):
        assert one.full("subscriptions", keys) is None
        one.hold("subscriptions", keys)
    over = one.full("subscriptions", ana)
    assert over is not None
    assert (over.limit, over.most) == ("subscriptions_per_user", 2)
    one.hold("subscriptions", bo)
    full = one.full("subscriptions", bo)
    assert full is not None
    assert full.limit == "subscriptions_per_org"
    one.release("subscriptions", ana)
    assert one.full("subscriptions", ana) is None
    assert dict(one.refused) == {"subscriptions_per_user": 1, "subscriptions_per_org": 1}


def test_the_table_is_bounded() -> None:
    """Past the bound the key that was silent longest is forgotten; what is remembered is that many."""
    one = Quotas(Settings(commands_per_user_per_s=1), keys_max=3)
    for user in "abcd":
        one.take(RATE, user, 0.0)
    assert list(one._buckets[RATE]) == ["b", "c", "d"]


def test_the_refusal_names_the_limit() -> None:
    """`rate_limited` with the limit's name, what it allows, and when to come back."""
    one = quotas(commands_per_user_per_s=1)
    for _ in range(BURST_S):
        assert one.first_over([(RATE, "ana")], 0.0) is None
    over = one.first_over([(RATE, "ana")], 0.0)
    assert over is not None
    refused = over.refused("Too many.")
    assert (refused.code, refused.retryable) == ("rate_limited", True)
    assert refused.details == {"retry_ms": 1001, "limit": RATE, "max": 1}


def test_an_address_may_bring_back_all_its_sockets_at_once() -> None:
    """After a lost network everybody behind one address connects again: the burst is at least `sockets_per_address`."""
    one = quotas(handshakes_per_address_per_s=1, sockets_per_address=50)
    assert [one.take("handshakes_per_address_per_s", "a", 0.0) for _ in range(51)].count(0) == 50


def test_endpoints_count_apart() -> None:
    """A supervisor's commands use up nothing of what an agent of the same office, organization and node may send."""
    agent = Person("max", "Max", "acme", "agent", frozenset(), frozenset(), frozenset())
    theirs, mine = dict(keys_of("::/64", ANA, "supervisor")), dict(keys_of("::/64", agent, "agent"))
    assert set(theirs) == set(mine) == set(SCOPES)
    assert not set(theirs.values()) & set(mine.values())


def test_an_unknown_person_counts_by_address_and_node() -> None:
    """Before hello there is no person, no organization."""
    nobody = Person("", "", "", "", frozenset(), frozenset(), frozenset())
    assert [scope for scope, _ in keys_of("10.0.0.7", nobody)] == ["address", "node"]


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("limit", ["handshakes_per_{}_per_s", "commands_per_{}_per_s", "replay_bytes_per_{}_per_s",
                                   "subscriptions_per_{}", "sockets_per_{}"])  # fmt: skip
def test_each_scope_has_its_setting(limit: str, scope: str) -> None:
    """Handshakes, sockets, commands, subscriptions and replayed bytes are limited in every scope."""
    assert quotas().most(limit.format(scope)) > 0
