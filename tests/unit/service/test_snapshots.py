"""Snapshots for each kind of viewer."""

import orjson
import pytest

from hub.domain.conversation import Situation
from hub.protocol.cursor import format_cursor
from hub.service.ports import Snapshot
from hub.service.snapshots import (
    MESSAGES_SHOWN,
    Receipts,
    count_messages,
    customer_message,
    messages_of,
    snapshot_for_customer,
    snapshot_for_staff,
)
from tests.unit.domain.words import desk, finish, watch
from tests.unit.service.test_messaging import draft
from tests.unit.service.words import CNV, ORG, Node, connected, event, said, started


async def talked(**data: str) -> tuple[Node, Snapshot, Situation]:
    """A monitored conversation with two messages, a receipt and a panel."""
    node = Node()
    receipts = [
        event(f"r-{status}", "message.receipt", {"message_id": "m-hi", "status": status})
        for status in ("delivered", "read")
    ]
    panel = event("p1", "panel.updated", {"panel": "customer", "content": {"tier": "gold"}})
    await node.take(started(**data), connected(), said("hello"), said("hi", "bob"), *receipts, panel)
    await node.messaging.draft(desk("bob"), draft("I thi"))
    await node.run(watch())
    return node, *await seen(node)


async def seen(node: Node) -> tuple[Snapshot, Situation]:
    """The conversation as one moment shows it."""
    snapshot = await node.store.snapshot(ORG, CNV)
    assert snapshot is not None
    return snapshot, node.conversations.configured(snapshot.loaded.situation)


async def test_for_a_supervisor() -> None:
    """Row with the monitor, participants, panels, messages with their last receipt, and the position."""
    node, snapshot, situation = await talked()
    shown = orjson.loads(orjson.dumps(snapshot_for_staff(snapshot, situation, "ana", supervisor=True)))
    assert shown["conversation"]["monitor"]["user_id"] == "ana"
    assert [(one["purpose"], one["name"]) for one in shown["participants"]] == [("customer", "Dana"), ("agent", "Bob")]
    assert all("since" in one for one in shown["participants"])
    assert shown["panels"] == {"customer": {"tier": "gold"}}
    assert [(one["text"], one["purpose"], one.get("status")) for one in shown["messages"]] == [
        ("hello", "customer", None),
        ("hi", "agent", "read"),
    ]
    assert shown["draft"] is None, "another's draft is nobody else's"
    assert shown["cursor"] == format_cursor(node.loaded.epoch, node.loaded.tag, 7)


async def test_for_an_agent() -> None:
    """The same without anything about a monitor, and with the own draft."""
    _, snapshot, situation = await talked()
    shown = orjson.loads(orjson.dumps(snapshot_for_staff(snapshot, situation, "bob", supervisor=False)))
    assert "monitor" not in orjson.dumps(shown).decode()
    assert shown["draft"] == "I thi"


async def test_for_the_customer() -> None:
    """Messages only, names where the channel shows them, and a position that counts what the customer sees."""
    for channel, name in (("web", None), ("open", "Bob")):
        node, snapshot, situation = await talked(channel=channel)
        shown = snapshot_for_customer(snapshot, situation)
        assert shown["conversation"] == {"conversation_id": CNV, "subject": None, "ended": False}
        messages = shown["messages"]
        assert isinstance(messages, list)
        assert [(one["own"], one["sender"], one["text"]) for one in messages] == [
            (True, {"name": "Dana"}, "hello"),
            (False, {"name": name}, "hi"),
        ]
        assert shown["cursor"] == format_cursor(node.loaded.epoch, node.loaded.tag, 4)
        assert "prt_" not in orjson.dumps(messages).decode()
        assert "bob" not in orjson.dumps(messages).decode()
        await node.run(finish())
        assert snapshot_for_customer(*await seen(node))["conversation"]["ended"] is True  # type: ignore[index]


async def test_the_last_messages() -> None:
    """At most the newest fifty, oldest first; marks and people aren't among them."""
    node = Node()
    await node.take(started(), connected(), *(said(f"m{number}", "bob") for number in range(MESSAGES_SHOWN + 5)))
    messages = messages_of(node.record.transcript)
    assert [one["text"] for one in messages] == [f"m{number}" for number in range(5, MESSAGES_SHOWN + 5)]
    assert count_messages(node.record.transcript) == MESSAGES_SHOWN + 5


async def test_receipt_of_a_message_that_is_not_there() -> None:
    """It stands for itself and breaks nothing."""
    node = Node()
    await node.take(started(), event("r", "message.receipt", {"message_id": "m-none", "status": "read"}))
    assert messages_of(node.record.transcript) == []


@pytest.mark.parametrize(
    ("reports", "shown"),
    [
        (["read", "delivered"], "read"),
        (["delivered", "sent"], "delivered"),
        (["delivered", "failed"], "delivered"),
        (["failed", "sent"], "failed"),
        (["sent", "failed"], "failed"),
        (["failed", "delivered"], "delivered"),
        (["sent", "delivered", "read", "delivered", "sent"], "read"),
    ],
)
async def test_receipts_that_come_late(reports: list[str], shown: str) -> None:
    """
    A message has the furthest of the statuses that were reported, in whatever order.

    Platforms don't keep it: a late `delivered` once took `read` away.
    """
    node = Node()
    marks = [event(f"r{n}", "message.receipt", {"message_id": "m-hi", "status": one}) for n, one in enumerate(reports)]
    await node.take(started(), connected(), said("hi", "bob"), *marks)
    assert [one["status"] for one in messages_of(node.record.transcript)] == [shown]


async def test_why_a_message_failed() -> None:
    """The reason stands beside `failed`, for staff alone; it goes when the message arrived after all."""
    node = Node()
    failed = event("r1", "message.receipt", {"message_id": "m-hi", "status": "failed"})
    await node.take(started(), connected(), said("hi", "bob"), failed)
    await node.messaging.receipts(ORG, CNV, None, 1, "m-hi", "failed", "no such number")
    states = Receipts()
    states.take({"message_id": "m-hi", "status": "failed", "reason": "no such number"})
    assert states.of("m-hi") == {"status": "failed", "reason": "no such number"}
    assert states.of("m-other") == {}
    states.take({"message_id": "m-hi", "status": "delivered", "reason": None})
    assert states.of("m-hi") == {"status": "delivered"}
    (shown,) = messages_of(node.record.transcript)
    assert customer_message(shown, name_visible=False)["status"] == "failed"
    assert "reason" not in customer_message(shown | {"reason": "x"}, name_visible=False)


def test_customer_message_names() -> None:
    """The customer's own name is always theirs to see."""
    own = customer_message({"purpose": "customer", "name": "Dana", "text": "x"}, name_visible=False)
    assert own == {"text": "x", "own": True, "sender": {"name": "Dana"}}
