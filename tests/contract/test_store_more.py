"""The store's laws on real engines, beside conversations: leases, actions, sessions, tickets, people, lists, the end."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from hub.domain import commands as c
from hub.protocol.commands import MessageSend
from hub.service.ports import Request
from hub.store.follow import Follower, Log
from hub.store.keys import PARTITIONS, Keys, new_id, partition, partition_of, slot
from hub.store.redis_store import UNPROVEN_MS, Lease, Unproven, parsed_entry
from tests.contract.test_store import CONNECTOR, HOUR_MS, ORG, World, agent, opened, supervisor, until
from tests.support.engines import Engines
from tests.support.socket import eventually

MINUTE_MS = 60_000


@pytest.fixture
async def world(engines: Engines, keys: Keys) -> AsyncIterator[World]:
    """A world over each kind of engine."""
    async with opened(engines, keys) as one:
        yield one


async def until_gone(world: World, key: bytes) -> None:
    """Wait for a key's time to be over."""
    await until(lambda: not world.ask("EXISTS", key))


# -- leases and what is due ------------------------------------------------------------------------------------------


async def test_a_renewal_extends_what_is_still_theirs(world: World) -> None:
    """Leases of the running monitor's sessions get a new end, in the record and in what is due; all others get nothing."""
    conversation = await world.begin("ann")
    now = await world.store.now_ms()
    command = world.watching(conversation, lease_end=now + MINUTE_MS // 6)
    await world.do(conversation, command)
    await world.do(conversation, replace(command, session="ses-two", lease_end=1))
    p = partition(ORG, conversation)
    theirs = [
        Lease(ORG, conversation, command.monitor_id, "ses-sue"),
        Lease(ORG, conversation, command.monitor_id, "ses-two"),
        Lease(ORG, conversation, command.monitor_id, "ses-other"),
        Lease(ORG, conversation, world.ids.new("mon", ORG, conversation), "ses-sue"),
        Lease(ORG, "nowhere", command.monitor_id, "ses-sue"),
    ]
    if world.engines.clustered:
        theirs.pop()  # only what is in this partition may be asked for
    assert await world.store.renew(p, theirs) == [True, *[False] * (len(theirs) - 1)]
    fields = world.fields(conversation)
    assert int(fields["ml:ses-sue"]) >= now + world.settings.lease_ms
    assert fields["ml:ses-two"] == "1"
    assert "ml:ses-other" not in fields
    score = world.ask("ZSCORE", world.shared("due", conversation), f"lease:{ORG}/{conversation}")
    assert int(score) == int(fields["ml:ses-sue"])


@pytest.mark.parametrize("end", ["stop", "release", "takeover", "end"])
async def test_a_renewal_after_the_end_extends_nothing(world: World, end: str) -> None:
    """However a monitor ended: who renews it is told, and nothing comes to life again."""
    conversation = await world.begin("ann")
    command = world.watching(conversation)
    await world.do(conversation, command)
    if end == "takeover":
        await world.take_over(conversation)
    elif end == "end":
        await world.push(world.event("conversation.ended", conversation))
    else:
        stop, release = c.StopMonitor(supervisor("sue")), c.ReleaseMonitor(supervisor("tom"), "mine")
        await world.do(conversation, stop if end == "stop" else release)
    before = world.everything()
    lease = Lease(ORG, conversation, command.monitor_id, "ses-sue")
    assert await world.store.renew(partition(ORG, conversation), [lease]) == [False]
    assert world.everything() == before


async def test_a_lapsed_lease_is_not_renewed(world: World) -> None:
    """A session that comes back after its lease was over has lost it."""
    conversation = await world.begin("ann")
    command = world.watching(conversation, lease_end=5)
    await world.do(conversation, command)
    lease = Lease(ORG, conversation, command.monitor_id, "ses-sue")
    assert await world.store.renew(partition(ORG, conversation), [lease]) == [False]


async def test_a_renewal_after_the_clock_was_set_back_is_due_as_it_ends(world: World) -> None:
    """
    What is due follows the lease, also where it had been further away.

    A store's clock was set back by an hour: renewals brought the lease back, and left what was due an hour ahead. Once the
    holder had gone, the rules said that the lease was over and the store that it wasn't due, so that nobody got the lock
    and each attempt failed with "too many changes at once", until all leases were cut.
    """
    conversation = await world.begin("ann")
    now = await world.store.now_ms()
    command = world.watching(conversation, lease_end=now + HOUR_MS)
    await world.do(conversation, command)
    await world.do(conversation, replace(command, session="ses-two"))
    lease = Lease(ORG, conversation, command.monitor_id, "ses-sue")
    assert await world.store.renew(partition(ORG, conversation), [lease]) == [True]
    latest = await world.store.now_ms() + world.settings.lease_ms
    fields = world.fields(conversation)
    assert int(fields["ml:ses-sue"]) <= latest
    assert int(fields["ml:ses-two"]) <= latest
    assert await world.store.due(range(PARTITIONS), latest) == [("lease", ORG, conversation)]


async def test_what_is_due_is_found_in_its_partition(world: World) -> None:
    """Due leases and wrap-ups are named with their conversation; what is due later or was dropped isn't."""
    lapsed, owing, running = [await world.begin("ann", queue="timeout") for _ in range(3)]
    await world.do(lapsed, world.watching(lapsed, lease_end=5))
    now = await world.store.now_ms()
    await world.do(running, world.watching(running, lease_end=now + 5_000))
    gone = {"participant_id": "p-ann", "disconnect_type": "client"}
    await world.push(world.event("participant.disconnected", owing, **gone))
    found = await world.store.due(range(PARTITIONS), now)
    assert found == [("lease", ORG, lapsed)]
    found = await world.store.due(range(PARTITIONS), now + HOUR_MS)
    assert set(found) == {("lease", ORG, lapsed), ("wrapup", ORG, owing), ("lease", ORG, running)}
    await world.store.drop_due("wrapup", ORG, owing)
    assert ("wrapup", ORG, owing) not in await world.store.due(range(PARTITIONS), now + HOUR_MS)


async def test_quiet_conversations_are_found_and_put_off(world: World) -> None:
    """The live index is by last activity: a message moves a conversation, and so does looking at it again later."""
    conversation = await world.begin("ann")
    p, now = partition(ORG, conversation), await world.store.now_ms()
    assert await world.store.quiet_since(p, "live", now + MINUTE_MS) == [(ORG, conversation)]
    assert await world.store.quiet_since(p, "live", now - MINUTE_MS) == []
    world.ask("ZADD", world.shared("live", conversation), "5", f"{ORG}/{conversation}")
    await world.push(world.message(conversation))
    assert await world.store.quiet_since(p, "live", now - MINUTE_MS) == []
    await world.store.touch_live(ORG, conversation, now + HOUR_MS)
    assert await world.store.quiet_since(p, "live", now + MINUTE_MS) == []
    await world.store.touch_live(ORG, "nowhere", now)
    assert world.ask("ZSCORE", world.shared("live", "nowhere"), f"{ORG}/nowhere") is None


# -- actions for platforms -------------------------------------------------------------------------------------------


async def test_actions_go_out_one_by_one_in_order(world: World) -> None:
    """One action of a conversation is claimed at a time; the next follows its report; each can be found by its id."""
    conversation = await world.begin("ann", "bob", channel="open")
    await world.do(conversation, world.watching(conversation, participant_id="p-ann"))
    await world.take_over(conversation)
    p, events = partition(ORG, conversation), []
    while claimed := await world.store.claim(p, ORG, CONNECTOR):
        [(name, action)] = claimed
        assert name == conversation
        assert await world.store.claim(p, ORG, CONNECTOR) == [], "claimed by another node"
        id, _, body = action.partition(b" ")
        assert orjson.loads(body)["data"]["action_id"] == id.decode()
        assert await world.store.pointed(partition_of(id.decode()) or 0, id.decode()) == (ORG, conversation)
        events.append((orjson.loads(body)["event"], orjson.loads(body)["data"].get("participant_id")))
        assert await world.store.report(ORG, CONNECTOR, conversation, id.decode())
        assert not await world.store.report(ORG, CONNECTOR, conversation, id.decode()), "reported once"
    assert events == [
        ("participant.disconnected", "p-ann"),
        ("participant.disconnected", "p-bob"),
        ("participant.connected", "p-sue"),
        ("sender.changed", None),
    ]
    assert world.ask("EXISTS", world.key("o", conversation)) == 0
    assert world.ask("ZCARD", world.shared(f"due:{ORG}/{CONNECTOR}", conversation)) == 0


async def test_an_unreported_action_comes_again(world: World) -> None:
    """What was claimed and not reported is due again after the repeat time, or at once for a new socket (`again`)."""
    conversation = await world.begin("ann")
    await world.do(conversation, c.EndConversation(agent("ann")))
    p, due = partition(ORG, conversation), world.shared(f"due:{ORG}/{CONNECTOR}", conversation)
    first = await world.store.claim(p, ORG, CONNECTOR)
    assert len(first) == 1
    now, member = await world.store.now_ms(), f"{ORG}/{conversation}"
    assert abs(int(world.ask("ZSCORE", due, member)) - now - world.settings.action_repeat_ms) < 5_000
    assert await world.store.claim(p, ORG, CONNECTOR) == []
    assert await world.store.claim(p, ORG, CONNECTOR, again=True) == first
    world.ask("ZADD", due, str(now - 1), member)
    assert await world.store.claim(p, ORG, CONNECTOR) == first


async def test_only_the_first_action_can_be_reported(world: World) -> None:
    """A report of a later, an unknown or half an id changes nothing."""
    conversation = await world.begin("ann", channel="open")
    await world.do(conversation, world.watching(conversation))
    await world.take_over(conversation)
    before = world.everything()
    ids = [one.partition(b" ")[0].decode() for one in world.ask("LRANGE", world.key("o", conversation), "0", "-1")]
    for wrong in (ids[1], "act_nobody", ids[0][:-1], ids[0][:4]):
        assert not await world.store.report(ORG, CONNECTOR, conversation, wrong)
    assert not await world.store.report(ORG, "other", conversation, ids[0]), "another platform's"
    assert world.everything() == before
    assert await world.store.report(ORG, CONNECTOR, conversation, ids[0])


async def test_a_message_behind_an_open_action_waits(world: World) -> None:
    """Actions by appends queue behind those by commits, and wake the platform only when they are the first."""
    conversation = await world.begin("ann", channel="web")
    await world.do(conversation, world.watching(conversation))
    await world.take_over(conversation)
    await world.store.claim(partition(ORG, conversation), ORG, CONNECTOR)
    send = MessageSend(id=1, req="r", conversation_id=conversation, text="hello", client_message_id="m1")
    message_id = await world.messaging.send(supervisor("sue"), conversation, send)
    assert await world.store.claim(partition(ORG, conversation), ORG, CONNECTOR) == []
    waiting = [one.partition(b" ")[0].decode() for one in world.ask("LRANGE", world.key("o", conversation), "0", "-1")]
    assert waiting[-1] == message_id
    assert len(waiting) == 3
    assert await world.messaging.send(supervisor("sue"), conversation, send) == message_id
    assert world.ask("LLEN", world.key("o", conversation)) == 3


async def test_platforms_have_queues_of_their_own(world: World) -> None:
    """Another platform, or another organization's of the same name, claims nothing."""
    conversation = await world.begin("ann")
    await world.do(conversation, c.EndConversation(agent("ann")))
    p = partition(ORG, conversation)
    assert await world.store.claim(p, ORG, "other") == []
    assert await world.store.claim(p, "other", CONNECTOR) == []
    assert len(await world.store.claim(p, ORG, CONNECTOR)) == 1


# -- sessions --------------------------------------------------------------------------------------------------------

OWNER = "acme/supervisor/sue"


async def a_session(world: World, ttl_ms: int = MINUTE_MS) -> str:
    """A session of node one with secret `s1`."""
    session = new_id("ses", 7)
    fields = {"secret": b"s1", "user": OWNER.encode(), "node": b"one", "nonce": b"n1", "views": b"[1]"}
    await world.store.open_session(session, fields, ttl_ms)
    return session


def attachment(**changes: Any) -> dict[str, Any]:
    """Arguments of a right resume by node two."""
    right = {"secret": "s1", "user": OWNER, "new_secret": "s2", "nonce": "n2", "node": "two", "ttl_ms": MINUTE_MS}
    return {**right, **changes}


async def test_a_session_is_resumed_once_per_secret(world: World) -> None:
    """Of twenty sockets that resume at once one gets the session, with what it had; then only the new secret fits."""
    session = await a_session(world)
    answers = await asyncio.gather(*[world.store.resume_session(session, **attachment()) for _ in range(20)])
    assert [one for one in answers if not isinstance(one, Unproven)] == [("one", "n1", b"[1]", b"")]
    assert await world.store.write_session(session, "n2", 60_000, before=b"")  # its client was heard
    assert await world.store.resume_session(session, **attachment()) is None
    again = await world.store.resume_session(session, **attachment(secret="s2", new_secret="s3", nonce="n3"))
    assert again == ("two", "n2", b"[1]", b"")


async def test_the_secret_before_counts_while_the_new_one_may_be_lost(world: World) -> None:
    """
    A line that breaks before its client has the answer to a resume costs nobody the session.

    The store had the next secret already, so the client's only one was wrong: its monitor ended with its lease, though it
    came back at once.
    """
    session = await a_session(world)
    assert await world.store.resume_session(session, **attachment()) == ("one", "n1", b"[1]", b"")
    again = attachment(new_secret="s3", nonce="n3")
    assert isinstance(await world.store.resume_session(session, **again), Unproven)
    assert await world.store.write_session(session, "n2", 60_000, attached=b"")  # it has closed, unheard
    assert await world.store.resume_session(session, **again) == ("two", "n2", b"[1]", b"")
    assert await world.store.resume_session(session, **attachment(secret="s2")) is None

    async def silent_for_long() -> bool:
        later = attachment(new_secret="s4", nonce="n4")
        return not isinstance(await world.store.resume_session(session, **later), Unproven)

    await eventually(silent_for_long, 5 * UNPROVEN_MS / 1000)  # half-open: nobody is told of its end
    assert (
        await world.store.resume_session(session, **attachment(secret="s4", new_secret="s5", nonce="n5"))
    ) is not None


@pytest.mark.parametrize(
    "changes", [{"secret": "s0"}, {"secret": ""}, {"user": "acme/supervisor/tom"}, {"user": "other/supervisor/sue"}]
)
async def test_a_session_is_not_for_others(world: World, changes: dict[str, Any]) -> None:
    """A wrong secret, another person or organization gets nothing and spoils nothing."""
    session = await a_session(world)
    before = world.everything()
    assert await world.store.resume_session(session, **attachment(**changes)) is None
    assert world.everything() == before
    assert await world.store.resume_session(session, **attachment()) is not None


async def test_sessions_that_are_none_cannot_be_resumed(world: World) -> None:
    """Made-up ids, of our shape or not, are no sessions; nor is one whose time is over."""
    for made_up in (new_id("ses", 7), "ses_zz", "", "a{b}c", "ses_" + "0" * 500):
        assert await world.store.resume_session(made_up, **attachment()) is None
    session = await a_session(world, ttl_ms=1)
    await until_gone(world, world.store.keys.session(session))
    assert await world.store.resume_session(session, **attachment()) is None


async def test_a_session_is_written_by_the_socket_that_has_it(world: World) -> None:
    """After a resume the old socket can neither write nor end the session; the new one can do both."""
    session = await a_session(world)
    assert await world.store.write_session(session, "n1", MINUTE_MS, views=b"[2]")
    assert await world.store.resume_session(session, **attachment()) == ("one", "n1", b"[2]", b"")
    before = world.everything()
    assert not await world.store.write_session(session, "n1", MINUTE_MS, views=b"[3]")
    assert not await world.store.write_session(session, "n1", 0)
    assert world.everything() == before
    assert await world.store.write_session(session, "n2", 5_000)
    assert 0 < world.ask("PTTL", world.store.keys.session(session)) <= 5_000
    assert await world.store.write_session(session, "n2", 0)
    assert not await world.store.write_session(session, "n2", MINUTE_MS, views=b"[4]")
    assert world.ask("EXISTS", world.store.keys.session(session)) == 0


# -- small things ----------------------------------------------------------------------------------------------------


async def test_a_ticket_is_taken_once(world: World) -> None:
    """Of fifty who take one ticket at once a single one gets its claims."""
    await world.store.put_ticket("t1", b"claims", MINUTE_MS)
    taken = await asyncio.gather(*[world.store.take_ticket("t1") for _ in range(50)])
    assert [one for one in taken if one is not None] == [b"claims"]
    assert await world.store.take_ticket("t1") is None


async def test_a_ticket_ends_by_itself(world: World) -> None:
    """A ticket nobody took in time is none."""
    await world.store.put_ticket("t1", b"claims", 1)
    await until_gone(world, world.store._ticket_key("t1"))
    assert await world.store.take_ticket("t1") is None


async def test_an_answer_is_remembered_by_its_asker(world: World) -> None:
    """The first answer of a request is kept; another organization's, role's or person's same `req` is another one."""
    request = Request(ORG, "supervisor", "sue", "r1", "digest")
    assert await world.store.first_answer(request) is None
    await world.store.remember_answer(request, b'{"n":1}')
    await world.store.remember_answer(replace(request, digest="other"), b'{"n":2}')
    first = await world.store.first_answer(request)
    assert first is not None
    assert (first.digest, first.answer) == ("digest", b'{"n":1}')
    for change in ({"org": "other"}, {"role": "agent"}, {"user_id": "tom"}, {"req": "r2"}):
        assert await world.store.first_answer(replace(request, **change)) is None


async def test_revocations_are_remembered(world: World) -> None:
    """Each revocation is kept by organization and kind; a newer one of the same replaces it."""
    assert await world.store.revoked() == {}
    await world.store.revoke(ORG, "sub", "sue", 5)
    await world.store.revoke(ORG, "jti", "t:1", 6)
    await world.store.revoke("other", "sub", "sue", 7)
    await world.store.revoke(ORG, "sub", "sue", 9)
    assert await world.store.revoked() == {"acme/sub/sue": 9, "acme/jti/t:1": 6, "other/sub/sue": 7}


async def test_nodes_know_who_lives(world: World) -> None:
    """A node lives for five seconds after its beat by the store's clock, or until it says goodbye; others are forgotten."""
    key = world.store.keys.nodes()

    async def heard(node: str, ago_ms: int) -> None:
        world.ask("ZADD", key, str(await world.store.now_ms() - ago_ms), node)

    assert await world.store.beat("one") == ["one"]
    assert set(await world.store.beat("two")) == {"one", "two"}
    await heard("one", 5_500)
    await heard("long gone", 600_000)
    await heard("ahead", -60_000)  # the store's clock was set back since
    assert await world.store.beat("two") == ["two"]
    assert world.ask("ZSCORE", key, "long gone") is None
    await world.store.leave("two")
    assert await world.store.beat("one") == ["one"]


async def test_a_store_has_one_incarnation(world: World) -> None:
    """Whoever asks first makes it; everybody gets the same until the store is wiped."""
    words = set(await asyncio.gather(*[world.store.incarnation() for _ in range(10)]))
    assert len(words) == 1
    world.ask("DEL", world.store.keys.incarnation(0))
    assert await world.store.incarnation() not in words


# -- people ----------------------------------------------------------------------------------------------------------


async def test_a_person_is_changed_by_who_saw_the_last_record(world: World) -> None:
    """Compare and set: of ten writers on one record one wins, the others are told what it is now; the log has one entry."""
    answers = await asyncio.gather(
        *[world.store.set_person(ORG, "ann", b"", b"record %d" % n, b"entry %d" % n) for n in range(10)]
    )
    winner = answers.index(None)
    assert answers == [b"record %d" % winner if n != winner else None for n in range(10)]
    assert await world.store.person(ORG, "ann") == b"record %d" % winner
    assert await world.store.person(ORG, "bob") == b""
    log = world.ask("XRANGE", world.store.keys.people_log(ORG), "-", "+")
    assert [entry[3] for _, entry in log] == [b"entry %d" % winner]


async def test_peoples_changes_are_a_log(world: World) -> None:
    """Each change of people is followed in order, with positions that rise by one, whatever their names."""
    keys = world.store.keys
    told: list[tuple[int, bytes]] = []

    class Recorder(Log):
        def entry(self, offset: int, tag: bytes, header: bytes, body: bytes) -> None:
            told.append((offset, body))

        def reset(self, reason: str) -> None:
            raise AssertionError(reason)

    follower = Follower(world.store.primaries)
    log = Recorder(keys.people_log(ORG), keys.people_top(ORG))
    try:
        await follower.subscribe(log)
        top, tag, records = await world.store.people(ORG)
        assert (top, tag, records) == (0, b"0", [])
        follower.start(log, top, tag)
        users = ["top", "tag", "ann", "top"]
        for n, user in enumerate(users):
            old = await world.store.person(ORG, user)
            assert await world.store.set_person(ORG, user, old, b"r%d" % n, b"e%d" % n) is None
        await until(lambda: len(told) >= len(users))
    finally:
        await follower.aclose()
    assert told == [(n + 1, b"e%d" % n) for n in range(len(users))]
    top, _, records = await world.store.people(ORG)
    assert (top, set(records)) == (4, {b"r1", b"r2", b"r3"})
    assert await world.store.people("other") == (0, b"0", [])


# -- reading ---------------------------------------------------------------------------------------------------------


async def test_a_list_is_paged_without_gap_or_repeat(world: World) -> None:
    """Pages of any size give all conversations of the organization once, last active first, live and closed alike."""
    names = [await world.begin("ann") for _ in range(12)]
    for name in names[::3]:
        await world.push(world.event("conversation.ended", name))
    for n, name in enumerate(names):  # several at the same time, so that ids decide
        index = "closed" if n % 3 == 0 else "live"
        world.ask("ZADD", world.shared(index, name), str(1000 + n // 4), f"{ORG}/{name}")
    whole = await world.store.listed(ORG, below=None, count=50, watched_by=None)
    places = [one.place for one in whole]
    assert places == sorted(places, reverse=True)
    assert {name for _, name in places} == set(names)
    for size in (1, 5, 12):
        found: list[tuple[int, str]] = []
        while page := await world.store.listed(ORG, below=found[-1] if found else None, count=size, watched_by=None):
            assert len(page) <= size
            found += [one.place for one in page]
        assert found == places
    assert await world.store.listed("other", below=None, count=50, watched_by=None) == []


async def test_a_list_has_todays_counters_and_who_watched(world: World) -> None:
    """Rows of a list carry the counters that are newer than the row, and whether somebody ever watched."""
    conversation, other = await world.begin("ann"), await world.begin("ann")
    await world.do(conversation, world.watching(conversation))
    await world.do(conversation, c.StopMonitor(supervisor("sue")))
    await world.push(world.message(conversation), world.message(conversation))
    listed = {one.place[1]: one for one in await world.store.listed(ORG, below=None, count=9, watched_by="sue")}
    row = orjson.loads(listed[conversation].row)
    assert (row["messages"], row["awaiting"], row["awaiting_since"]) == (2, "agent", world.now - 10)
    assert (listed[conversation].watched, listed[other].watched) == (True, False)
    nobody = await world.store.listed(ORG, below=None, count=9, watched_by=None)
    assert [one.watched for one in nobody] == [False, False]


async def test_entries_are_read_forward_and_backward(world: World) -> None:
    """Both ways of reading a transcript give the same entries, from an offset inclusive or before it."""
    conversation = await world.begin("ann")
    await world.push(*[world.message(conversation) for _ in range(20)])
    entries = await world.store.entries(ORG, conversation, from_offset=1)
    assert [one.offset for one in entries] == list(range(1, 23))
    assert await world.store.entries(ORG, conversation, from_offset=5, to_offset=9) == entries[4:9]
    assert await world.store.entries(ORG, conversation, from_offset=5, count=3) == entries[4:7]
    assert await world.store.entries_before(ORG, conversation, before=None, count=4) == entries[:-5:-1]
    assert await world.store.entries_before(ORG, conversation, before=5, count=9) == entries[3::-1]
    assert await world.store.entries_before(ORG, conversation, before=1, count=9) == []
    assert await world.store.entries(ORG, "nowhere", from_offset=1) == []


async def test_a_snapshot_is_of_one_moment(world: World) -> None:
    """While messages pour in, a snapshot's position is always that of its newest entry."""
    conversation = await world.begin("ann")
    await world.push(world.event("panel.updated", conversation, panel="crm", content={"a": [1, "ü"]}))
    pouring = asyncio.gather(*[world.push(world.message(conversation)) for _ in range(60)])
    for _ in range(15):
        snapshot = await world.store.snapshot(ORG, conversation, entries=5)
        assert snapshot is not None
        newest = snapshot.entries[-1]
        assert (snapshot.loaded.top, snapshot.loaded.tag) == (newest.offset, newest.tag)
        assert len(snapshot.entries) <= 5
        assert snapshot.loaded.situation.counters.messages == newest.offset - 3
    await pouring
    assert snapshot is not None
    assert snapshot.panels == {"crm": b'{"a":[1,"\xc3\xbc"]}'}
    assert await world.store.snapshot(ORG, "nowhere") is None


def test_a_header_is_read_as_it_was_written() -> None:
    """Audience, the customer's position and the monitor come apart."""
    entry = parsed_entry(7, b"99", b"asc,3,mon_00abc", b"{}")
    assert (entry.audience, entry.customer_offset, entry.monitor_id) == ("asc", 3, "mon_00abc")


# -- places and the end ----------------------------------------------------------------------------------------------


async def lived(world: World) -> str:
    """A conversation that has left everything that one can leave, and is over; all its actions were reported."""
    conversation = await world.begin("ann", queue="mandatory")
    await world.push(
        world.message(conversation),
        world.event("panel.updated", conversation, panel="crm", content={"a": 1}),
        *[world.message(conversation, "ann") for _ in range(300)],
    )
    await world.do(conversation, world.watching(conversation))
    takeover_id = await world.take_over(conversation)
    await world.do(conversation, c.AcknowledgeTakeover(agent("ann"), takeover_id))
    await world.do(conversation, c.SubmitWrapup(agent("ann"), "sold", None))
    await world.do(conversation, c.EndConversation(supervisor("sue")))
    await world.do(conversation, c.SubmitWrapup(supervisor("sue"), "sold", None))
    p = partition(ORG, conversation)
    while claimed := await world.store.claim(p, ORG, CONNECTOR):
        for name, action in claimed:
            assert await world.store.report(ORG, CONNECTOR, name, action.partition(b" ")[0].decode())
    return conversation


async def test_all_of_a_conversation_is_in_one_slot(world: World) -> None:
    """Every key that a conversation's whole life touches has its partition's hash tag, so one script may touch them."""
    conversation = await lived(world)
    base = world.store.keys.base(partition(ORG, conversation))
    names = [key for node in world.engines.nodes for key in node.ask("KEYS", f"{world.store.keys.prefix}:*")]
    assert {key[len(base) :].partition(b":")[0] for key in names} >= {
        b"c",
        b"t",
        b"d",
        b"p",
        b"g",
        b"ledger",
        b"closed",
    }
    assert all(key.startswith(base) for key in names)
    assert {slot(key) for key in names} == {slot(base)}


async def test_an_erased_conversation_leaves_only_the_ledger(world: World) -> None:
    """Nothing of an erased conversation is left but its ledger, with one line more; erasing again is no error."""
    conversation, other = await lived(world), await world.begin("bob")
    kept = world.fields(other)
    ledger = world.ask("XLEN", world.shared("ledger", conversation))
    assert world.ask("EXISTS", world.key("d", conversation) + b":1") == 1, "so many ids that there are two sets"
    for _ in range(2):
        await world.store.erase(ORG, conversation)
    left = world.everything()
    assert not [key for key in left if conversation.encode() in key]
    indexes = ("live", "closed", "due", f"due:{ORG}/{CONNECTOR}")
    for name in indexes:
        members = world.ask("ZRANGE", world.shared(name, conversation), "0", "-1")
        assert not [one for one in members if conversation.encode() in one], name
    assert world.ask("XLEN", world.shared("ledger", conversation)) == ledger + 1
    assert world.fields(other) == kept
    assert (await world.load(conversation)).situation.conversation is None
    assert await world.store.snapshot(ORG, conversation) is None


async def test_an_erased_conversation_leaves_no_action_behind(world: World) -> None:
    """What a platform never reported goes with its conversation, and isn't due any more."""
    conversation = await world.begin("ann")
    await world.do(conversation, c.EndConversation(agent("ann")))
    await world.store.erase(ORG, conversation)
    assert not [key for key in world.everything() if conversation.encode() in key]
    assert world.ask("EXISTS", world.shared(f"due:{ORG}/{CONNECTOR}", conversation)) == 0
    assert await world.store.claim(partition(ORG, conversation), ORG, CONNECTOR, again=True) == []


async def test_equal_ids_of_two_organizations_are_two(world: World) -> None:
    """The same conversation id in another organization is another conversation, with a record of its own."""
    conversation = await world.begin("ann")
    start: dict[str, Any] = {"channel": "web", "queue": "none", "customer": {"id": "eve", "name": "Eve"}}
    event = world.event("conversation.started", conversation, **start)
    [result] = await world.ingest.take("other", CONNECTOR, [event])
    assert result.status == "accepted"
    [foreign, mine] = [await world.store.load(org, conversation) for org in ("other", ORG)]
    assert foreign.situation.existing.customer.name == "Eve"
    assert mine.situation.existing.customer.name == "Carl"
    assert (foreign.top, mine.top) == (1, 2)
