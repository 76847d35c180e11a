"""What is told afterwards: detail, transcript, timeline, list."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from hub.domain import commands as c
from hub.domain.errors import Refused
from hub.domain.grants import Person
from hub.protocol.commands import MessageSend
from hub.service.history import checked
from tests.unit.domain.words import confirm, desk, disconnect, lacking, person, prepare, watch
from tests.unit.service.words import CNV, ORG, SETTINGS, Node, connected, disconnected, event, over, said, started


async def whole() -> Node:
    """Watched by Zoe, taken over by Ana, transferred, ended; Bob has wrapped up."""
    node = Node()
    await node.take(started(), connected(), said("hello"), said("hi", "bob"))
    node.store.now_ms += 1_000
    await node.run(watch(person("zoe"), lease_end=node.store.now_ms + 15_000))
    node.store.now_ms += 2_000
    await node.run(c.ReleaseMonitor(person(), "mine now"))
    await node.run(watch(lease_end=node.store.now_ms + 15_000))
    await node.run(prepare(expires_at=node.store.now_ms + 60_000))
    node.store.now_ms += 3_000
    await node.run(confirm())
    await node.messaging.send(person(), CNV, _words("I'm Ana"))
    await node.run(c.SubmitWrapup(desk("bob"), "resolved", "fine"))
    moved = event("e-t", "conversation.transferred", {"queue": "billing"}, at=node.store.now_ms)
    await node.take(moved, replace_at(over(), node.store.now_ms))
    return node


def replace_at(one: Any, at: int) -> Any:
    """The same event at another time."""
    return type(one)(id=one.id, conversation_id=one.conversation_id, at=at, data=one.data)


def _words(text: str) -> MessageSend:
    return MessageSend(id=1, conversation_id=CNV, text=text, client_message_id="c1")


async def test_detail() -> None:
    """Who was there, who monitored from when to when and why it ended, takeovers, wrap-ups and figures."""
    node = await whole()
    situation = await node.history.situation(ORG, CNV)
    detail: dict[str, Any] = orjson.loads(orjson.dumps(await node.history.detail(situation)))
    assert detail["conversation"]["taken_over"] is True
    parts = [(one["purpose"], one["disconnect_type"]) for one in detail["participants"]]
    assert sorted(parts) == [("agent", "takeover"), ("customer", None), ("supervisor", "transfer")]
    zoe, ana = detail["monitors"]
    assert (zoe["user_id"], zoe["reason"], zoe["by"], zoe["to"] - zoe["from"]) == (
        "zoe",
        "force_released",
        {"user_id": "ana", "name": "Ana"},
        2_000,
    )
    assert (ana["name"], ana["reason"], ana["participant_id"]) == ("Ana", "taken_over", "prt_bob")
    (takeover,) = detail["takeovers"]
    assert (takeover["user_id"], takeover["from"], takeover["to"], takeover["owner_epoch"]) == (
        "ana",
        ["prt_bob"],
        "prt_ana",
        2,
    )
    done = {one["user_id"]: one for one in detail["wrapups"]}
    assert (done["bob"]["code"], done["bob"]["notes"], done["bob"]["timed_out"]) == ("resolved", "fine", False)
    assert (done["ana"]["ended_at"], done["ana"]["code"]) == (None, None)
    figures = detail["metrics"]
    assert (figures["n_monitor"], figures["monitoring_ms"], figures["n_takeover"]) == (2, 5_000, 1)
    assert (figures["messages"], figures["n_transfer"], figures["n_wrapup"]) == (3, 1, 2)
    assert figures["duration_ms"] == 6_000


async def test_timeline() -> None:
    """One segment for each part, monitoring and wrap-up, by start; marks aren't segments."""
    node = await whole()
    timeline = await node.history.timeline(await node.history.situation(ORG, CNV))
    segments = timeline["segments"]
    assert isinstance(segments, list)
    assert [one["start"] for one in segments] == sorted(one["start"] for one in segments)
    kinds = [one["kind"] for one in segments]
    assert {kind: kinds.count(kind) for kind in kinds} == {"interact": 3, "monitoring": 2, "wrapup": 2}
    assert {"participant_id", "user", "start", "end", "disconnect_type"} <= set.intersection(*map(set, segments))


async def test_running_segments_are_open() -> None:
    """While it runs, those who are there and the monitor have no end yet."""
    node = Node()
    await node.take(started(), connected(), connected("cay"))
    await node.run(watch(participant_id="prt_bob"))
    await node.run(disconnect())
    await node.run(watch(participant_id="prt_cay", monitor_id="mon_2"))
    segments = await node.history.segments(await node.history.situation(ORG, CNV))
    found = [(one["kind"], one["participant_id"], one["end"] is None) for one in segments]
    customer = node.conversation.customer.participant_id
    assert sorted(found) == [
        ("interact", customer, True),
        ("interact", "prt_bob", False),
        ("interact", "prt_cay", True),
        ("monitoring", "prt_bob", False),
        ("monitoring", "prt_cay", True),
        ("wrapup", "prt_bob", True),
    ]
    node.store.now_ms += 5_000
    detail: Any = await node.history.detail(await node.history.situation(ORG, CNV))
    assert detail["metrics"]["monitoring_ms"] == 5_000
    assert detail["monitors"][-1]["to"] is None


async def test_transcript() -> None:
    """Messages and marks, oldest first, each with its offset; `before` brings the older ones."""
    node = await whole()
    whole_one = await node.history.transcript(ORG, CNV, before=None, limit=50, viewer="staff")
    entries: Any = whole_one["entries"]
    assert [one["kind"] for one in entries] == ["message", "message", "takeover", "message", "transfer"]
    assert [one["offset"] for one in entries] == sorted(one["offset"] for one in entries)
    assert "monitor" not in orjson.dumps(entries).decode()
    newest: Any = (await node.history.transcript(ORG, CNV, before=None, limit=2, viewer="staff"))["entries"]
    older: Any = (await node.history.transcript(ORG, CNV, before=newest[0]["offset"], limit=9, viewer="staff"))[
        "entries"
    ]
    assert older + newest == entries
    assert entries[0]["cursor"].endswith(f"-{entries[0]['offset']}")


async def test_transcript_knows_what_became_of_messages() -> None:
    """Each message has its furthest receipt's status, on any page, for any viewer; receipts themselves aren't shown."""
    node = Node()
    read = [
        event(f"r-{text}-{status}", "message.receipt", {"message_id": f"m-{text}", "status": status})
        for text, status in (("one", "delivered"), ("one", "read"), ("one", "sent"), ("two", "sent"))
    ]
    await node.take(started(), connected(), said("one", "bob"), said("two", "bob"), said("three", "bob"), *read)
    for viewer in ("staff", "customer"):
        first: Any = await node.history.transcript(ORG, CNV, before=None, limit=2, viewer=viewer)
        assert [(one["text"], one.get("status")) for one in first["entries"]] == [("two", "sent"), ("three", None)]
        before = first["entries"][0]["offset"]
        rest: Any = await node.history.transcript(ORG, CNV, before=before, limit=2, viewer=viewer)
        assert [(one["text"], one.get("status")) for one in rest["entries"]] == [("one", "read")]


async def test_an_agent_who_left_learns_no_later_status() -> None:
    """What became of a message after somebody left isn't theirs."""
    node = Node()
    late = event("r1", "message.receipt", {"message_id": "m-one", "status": "read"})
    await node.take(started(), connected(), said("one", "bob"), disconnected(), late)
    found: Any = await node.history.transcript(
        ORG, CNV, before=None, limit=9, viewer="staff", left=frozenset({"prt_bob"})
    )
    assert [one.get("status", "none") for one in found["entries"]] == ["none"]


async def test_transcript_for_the_customer() -> None:
    """Messages as the customer's socket shows them, under the customer's own offsets, and no mark."""
    node = await whole()
    entries: Any = (await node.history.transcript(ORG, CNV, before=None, limit=50, viewer="customer"))["entries"]
    assert [(one["offset"], one["text"], one["own"]) for one in entries] == [
        (1, "hello", True),
        (2, "hi", False),
        (3, "I'm Ana", False),
    ]
    assert all(one["sender"]["name"] in ("Dana", None) for one in entries)


async def listed() -> Node:
    """Five conversations: one monitored by Zoe, one ended, one of another division."""
    node = Node()
    for number in range(1, 6):
        division = "abroad" if number == 5 else "home"
        await node.take(
            started(f"s{number}", f"cnv_{number}", queue="plain" if number == 3 else "open", division=division)
        )
        await node.take(connected(id=f"c{number}", conversation_id=f"cnv_{number}"))
    await node.conversations.run(ORG, "cnv_2", lambda _: watch(person("zoe")))
    await node.conversations.run(ORG, "cnv_4", lambda _: c.EndIdle())
    return node


async def ids(node: Node, who: Person, **wanted: str) -> list[str]:
    """The conversations that a list names."""
    answer = await node.history.list(who, wanted)
    rows = answer["conversations"]
    assert isinstance(rows, list)
    return [orjson.loads(orjson.dumps(one))["conversation_id"] for one in rows]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["cnv_5", "cnv_4", "cnv_3", "cnv_2", "cnv_1"]),
        ({"state": "ended"}, ["cnv_4"]),
        ({"state": "ended,queued"}, ["cnv_4"]),
        ({"queue": "plain"}, ["cnv_3"]),
        ({"channel": "sms"}, []),
        ({"agent": "bob", "state": "active"}, ["cnv_5", "cnv_3", "cnv_2", "cnv_1"]),
        ({"agent": "cay"}, []),
        ({"monitored_by": "zoe"}, ["cnv_2"]),
        ({"monitored_by": "ana"}, []),
        ({"taken_over": "true"}, []),
        ({"taken_over": "0", "queue": "plain"}, ["cnv_3"]),
        ({"until": "5"}, []),
        ({"since": "5", "limit": "1"}, ["cnv_5"]),
    ],
)
async def test_list_filters(wanted: dict[str, str], found: list[str]) -> None:
    """Each filter leaves what fits all of them."""
    assert await ids(await listed(), person(), **checked(wanted)) == found


async def test_list_shows_only_what_one_may_see() -> None:
    """Queues, divisions and permissions hold for lists, too: without `history` only what runs."""
    node = await listed()
    assert "cnv_5" not in await ids(node, person(divisions=frozenset({"home"})))
    assert await ids(node, person(queues=frozenset({"plain"}))) == ["cnv_3"]
    assert "cnv_4" not in await ids(node, lacking("history"))
    assert await ids(node, person(permissions=frozenset({"monitor"}))) == []
    assert await ids(node, person(org="other")) == []


async def test_list_pages() -> None:
    """Page by page each conversation comes once, and the last page has no cursor."""
    node = await listed()
    found: list[str] = []
    cursor: object = None
    for _ in range(9):
        wanted = {"limit": "2"} | ({"cursor": cursor} if isinstance(cursor, str) else {})
        answer: Any = await node.history.list(person(), wanted)
        found += [orjson.loads(orjson.dumps(one))["conversation_id"] for one in answer["conversations"]]
        cursor = answer["cursor"]
        if cursor is None:
            break
    assert found == ["cnv_5", "cnv_4", "cnv_3", "cnv_2", "cnv_1"]


@pytest.mark.parametrize(
    "wanted",
    [
        {"colour": "red"},
        {"state": "asleep"},
        {"taken_over": "maybe"},
        {"since": "yesterday"},
        {"until": "-1"},
        {"since": "9" * 16},
    ],
)
def test_wrong_parameters_are_named(wanted: dict[str, str]) -> None:
    """What is unknown or wrong is refused with its name."""
    with pytest.raises(Refused) as caught:
        checked(wanted)
    assert (caught.value.code, caught.value.details["path"]) == ("schema_invalid", next(iter(wanted)))


@pytest.mark.parametrize("cursor", ["*", "AAAA", "é", "YQ=="])
async def test_wrong_cursor(cursor: str) -> None:
    """A cursor that no list answered is refused."""
    with pytest.raises(Refused) as caught:
        await Node().history.list(person(), {"cursor": cursor})
    assert caught.value.details["path"] == "cursor"


async def test_list_looks_at_a_bounded_number_of_rows() -> None:
    """A filter that fits nothing gives up after a while and says where to go on."""
    node = Node(settings=replace(SETTINGS, list_rows_max=200))
    for number in range(250):
        await node.take(started(f"s{number}", f"cnv_{number:03}"))
    answer = await node.history.list(person(), {"channel": "sms"})
    assert answer["conversations"] == []
    assert answer["cursor"] is not None
    last = await node.history.list(person(), {"channel": "sms", "cursor": str(answer["cursor"])})
    assert last["cursor"] is None
