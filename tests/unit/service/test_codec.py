"""State as bytes and back."""

from dataclasses import replace
from typing import Any

import orjson

from hub.domain.conversation import Monitor, Notice
from hub.service.codec import Newer, decode_loaded, digest, encode_state, newer_in, spoken_as, with_newer
from tests.unit.domain.words import BOB, CAY, EVE, NOW, conversation, counters, monitor, prepared, situation, wrapup

NOTICE = Notice("tko_1", "bob", "prt_bob", "Ana", NOW, "optional", ("resolved",), 5)
FULL = conversation(
    BOB, CAY, past=(EVE,), wrapups=(wrapup(EVE),), notices=(NOTICE,), takeovers=("tko_1",), subject=None
)


def test_everything_survives() -> None:
    """State, monitor with its sessions' leases, counters, preparation, drafts and positions come back as they were."""
    held = monitor("ana", BOB, "ses_1", "ses_2")
    given = situation(conversation=FULL, monitor=held, prepared=prepared(), counters=counters())
    fields = {
        b"state": encode_state(FULL),
        b"m": encode_state(held),
        b"ml:ses_2": b"%d" % held.sessions[1].lease_end,
        b"ml:ses_1": b"%d" % held.sessions[0].lease_end,
        b"x": encode_state(prepared()),
        b"messages": b"5",
        b"awaiting": b"agent",
        b"since": b"%d" % (NOW - 3_000),
        b"unanswered": b"2",
        b"version": b"7.99",
        b"mv": b"12",
        b"epoch": b"abc",
        b"top": b"41",
        b"tag": b"77",
        b"ctop": b"20",
        b"draft:prt_bob": "Grüße".encode(),
    }
    loaded = decode_loaded(fields, NOW)
    assert loaded.situation == given
    assert (loaded.version, loaded.monitor_version, loaded.epoch) == ("7.99", "12", "abc")
    assert (loaded.top, loaded.tag, loaded.customer_top) == (41, "77", 20)
    assert loaded.drafts == {"prt_bob": "Grüße"}


def test_a_record_that_just_began() -> None:
    """What hasn't been written yet reads as nothing."""
    loaded = decode_loaded({b"state": encode_state(FULL), b"version": b"1.5", b"epoch": b"abc"}, NOW)
    assert loaded.situation == situation(conversation=FULL)
    assert (loaded.monitor_version, loaded.top, loaded.tag, loaded.customer_top, loaded.drafts) == ("", 0, "0", 0, {})


def test_nothing_there() -> None:
    """An empty record is a conversation that doesn't exist."""
    loaded = decode_loaded({}, NOW)
    assert (loaded.situation.conversation, loaded.situation.now_ms, loaded.version) == (None, NOW, "")


def test_leases_are_the_fields_not_the_state() -> None:
    """A renewal writes its field only, and that is what counts."""
    held = monitor("ana", BOB, "ses_1")
    fields = {b"state": encode_state(FULL), b"version": b"1.5", b"epoch": b"abc", b"m": encode_state(held)}
    loaded = decode_loaded({**fields, b"ml:ses_1": b"99"}, NOW).situation.monitor
    assert isinstance(loaded, Monitor)
    assert [(one.session, one.lease_end) for one in loaded.sessions] == [("ses_1", 99)]


def grown(thing: Any) -> Any:
    """The same with a member more in every object."""
    if isinstance(thing, list):
        return [grown(one) for one in thing]
    if not isinstance(thing, dict):
        return thing
    label = [thing.get("participant_id"), thing.get("takeover_id"), thing.get("since"), thing.get("asked_at")]
    return {name: grown(value) for name, value in thing.items()} | {"from_later": label}


def test_a_newer_nodes_members_are_no_business_of_the_rules() -> None:
    """Members that this version doesn't know don't break it, and aren't in what decisions look at."""
    later = orjson.dumps(grown(orjson.loads(encode_state(FULL))))
    assert decode_loaded({b"state": later, b"version": b"1.5", b"epoch": b"a"}, NOW).situation.conversation == FULL


def newer_of(state: bytes) -> Newer:
    """What a record with this state has that this version doesn't know."""
    loaded = decode_loaded({b"state": state, b"version": b"1.5", b"epoch": b"a"}, NOW)
    return newer_in(loaded.stored, loaded.situation.existing)


def test_a_newer_nodes_members_are_written_back() -> None:
    """Wherever in the state they stand; a thing that has moved takes its own along, one that is gone is gone."""
    later = grown(orjson.loads(encode_state(FULL)))
    newer = newer_of(orjson.dumps(later))
    assert orjson.loads(with_newer(encode_state(FULL), newer)) == later
    changed = replace(FULL, connected=(CAY,), past=(EVE, BOB), wrapups=(), owner=None)
    wanted = grown(orjson.loads(encode_state(changed)))
    assert orjson.loads(with_newer(encode_state(changed), newer)) == wanted


def test_a_state_of_this_version_has_nothing_newer() -> None:
    """Nor has one of an older version, which lacks members: what is written is what was encoded."""
    older = orjson.loads(encode_state(FULL))
    del older["at_end"]
    for stored in (encode_state(FULL), orjson.dumps(older)):
        newer = newer_of(stored)
        assert newer == Newer()
        assert with_newer(encode_state(FULL), newer) == encode_state(FULL)


def test_spoken_as() -> None:
    """The purpose for the script, then members that can stand in any object."""
    purpose, _, members = spoken_as(replace(BOB, name='Bob "B" {x}')).partition(b" ")
    assert purpose == b"agent"
    body = orjson.loads(b"{" + members + b"}")
    assert body == {"participant_id": "prt_bob", "purpose": "agent", "name": 'Bob "B" {x}'}


def test_digest() -> None:
    """Equal values have equal digests, whatever their order."""
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})
