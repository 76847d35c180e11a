"""Who watches doesn't read what is masked; who answers does; a reveal is for one message, one session and the ledger."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.test_silence import scenario
from tests.support.centre import Centre, Story, confirm
from tests.support.judge import read_truth
from tests.support.processes import CONFIG, HubProcess, StoreProcess
from tests.support.socket import HubError, Json, Socket
from tests.support.tokens import ALL

CARD, MAIL, ORDER = "4111 1111 1111 1111", "dana@example.com", "KD-4711"
SECRETS = (CARD, MAIL, ORDER, CARD.replace(" ", ""))
SAID = f"My card is {CARD}, mail {MAIL}, order {ORDER}"
SHOWN = "My card is [card ••••1111], mail [e-mail ••••], order [order ••••]"
MASKED = (
    CONFIG
    + """
[masking]
card = true
email = true

[[masking.patterns]]
name = "order"
pattern = "KD-[0-9]+"

[masking.queues.billing]
card = false
email = false
patterns = []
"""
)
ANYTHING = (*ALL, "reveal")


@pytest.fixture(scope="module")
def masking_hub(store: StoreProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub that masks, except in `billing`."""
    process = HubProcess(tmp_path_factory.mktemp("masking"), redis_url=store.url, config=MASKED)
    process.start()
    yield process
    process.kill()


@pytest_asyncio.fixture
async def masked(masking_hub: HubProcess) -> AsyncIterator[Centre]:
    """A fresh organization on the hub that masks."""
    own = Centre(masking_hub)
    yield own
    await own.close()


def clear(line: Socket | str) -> set[str]:
    """What must be masked and stands in everything that a socket got, or in a text."""
    text = line if isinstance(line, str) else "\n".join(line.lines)
    return {one for one in SECRETS if one in text}


async def told(centre: Centre, **about: Any) -> Story:
    """A conversation whose subject, customer, panels and first message hold what is masked."""
    customer = {"id": "cus_7", "name": f"Dana {MAIL}"}
    panels = {"order": {"paid with": CARD.replace(" ", ""), "number": 4111111111111111, "ok": True, CARD: [ORDER, 1]}}
    story = await centre.story(subject=f"Refund to {CARD}", customer=customer, panels=panels, **about)
    await story.customer_says(SAID)
    return story


async def test_a_monitor_reads_masks(masked: Centre) -> None:
    """Snapshot, messages, panels, receipts: nothing of it is clear, what is masked says so, the rest is as ever."""
    ana, story = await masked.supervisor(), await told(masked)
    snapshot = (await story.monitored_by(ana))["data"]["snapshot"]
    [first] = snapshot["messages"]
    assert (first["text"], first["masked"]) == (SHOWN, True)
    row = snapshot["conversation"]
    assert (row["subject"], row["customer"]["name"]) == ("Refund to [card ••••1111]", "Dana [e-mail ••••]")
    panel = {"paid with": "[card ••••1111]", "number": "[card ••••1111]", "ok": True}
    assert snapshot["panels"] == {"order": {**panel, "[card ••••1111]": ["[order ••••]", 1]}}
    message = await story.agent_says(f"I read {CARD}?")
    await ana.expect("message.created", story.id, text="I read [card ••••1111]?", masked=True)
    await story.tell("message.receipt", message_id=message, status="failed", reason=f"no such box: {MAIL}")
    await ana.expect("message.receipt", story.id, reason="no such box: [e-mail ••••]", masked=True)
    await story.tell("panel.updated", panel="order", content=CARD)
    await ana.expect("panel.updated", story.id, content="[card ••••1111]", masked=True)
    await story.agent_says("Nothing to hide")
    plain = await ana.expect("message.created", story.id, text="Nothing to hide")
    assert "masked" not in plain["data"]
    await story.fence(ana)
    assert clear(ana) == set()


async def test_those_who_answer_read_everything(masked: Centre) -> None:
    """The agent and the customer, whoever watches; a supervisor from their takeover until their part ends."""
    ana, story = await masked.supervisor(), await told(masked)
    agent, customer = await masked.agent(), await masked.customer(story.id)
    await agent.expect("conversation.snapshot", story.id)
    snapshot = (await customer.expect("conversation.snapshot", story.id))["data"]
    assert snapshot["messages"][0]["text"] == SAID
    await story.monitored_by(ana)
    await story.customer_says(f"Again: {CARD}")
    for line in (agent, customer):
        await line.expect("message.created", story.id, text=f"Again: {CARD}")
    await ana.expect("message.created", story.id)
    assert clear(ana) == set()
    await confirm(ana, await story.prepared_by(ana))
    own = (await ana.expect("conversation.snapshot", story.id))["data"]
    assert [one["text"] for one in own["messages"]] == [SAID, f"Again: {CARD}"]
    assert (own["conversation"]["subject"], "masked" in json.dumps(own)) == (f"Refund to {CARD}", False)
    await story.customer_says(f"And {MAIL}")
    await ana.expect("message.created", story.id, text=f"And {MAIL}")
    assert (await masked.messages(story.id))[0]["text"] == SAID
    assert (await masked.row(story.id))["subject"] == f"Refund to {CARD}"
    await story.transfer("support")  # ends an owning supervisor's part
    await ana.expect("participant.disconnected", story.id)
    assert (await masked.messages(story.id))[0]["text"] == SHOWN
    assert (await masked.row(story.id))["subject"] == "Refund to [card ••••1111]"


async def test_history_is_masked(masked: Centre) -> None:
    """Transcript, detail, timeline and list show a supervisor masks; to the agent and the platform all as it was."""
    story = await told(masked)
    await story.end()
    paths = ("", "/transcript", "/timeline")
    texts = [(await masked.get(f"/v1/conversations/{story.id}{path}")).text for path in paths]
    texts.append((await masked.get("/v1/conversations", state="ended")).text)
    assert story.id in texts[-1]
    assert [clear(text) for text in texts] == [set()] * 4
    assert SHOWN in texts[1]
    for bearer in (masked.token("max", "agent"), masked.token("platform", "connector")):
        answer = await masked.get(f"/v1/conversations/{story.id}/transcript", bearer=bearer)
        assert [one["text"] for one in answer.json()["entries"] if one["kind"] == "message"] == [SAID]


async def test_what_a_wrapup_says_is_masked(masked: Centre) -> None:
    """The notes of a wrap-up are words, too."""
    story = await masked.story(queue="quick")
    agent = await masked.agent()
    await story.end()
    await agent.expect("wrapup.requested", story.id)
    await agent.command("wrapup.submit", conversation_id=story.id, code="resolved", notes=f"Paid with {CARD}")
    [wrapup] = (await masked.detail(story.id))["wrapups"]
    assert (wrapup["notes"], wrapup["name"]) == ("Paid with [card ••••1111]", "Max Weber")


async def test_views_show_and_search_masks(masked: Centre) -> None:
    """Rows are masked for everybody; a search finds what is shown and not what is behind; so does the order."""
    ana, story = await masked.supervisor(), await told(masked)
    rows = await found(ana)
    assert rows[story.id]["subject"] == "Refund to [card ••••1111]"
    assert rows[story.id]["customer"] == {"id": "cus_7", "name": "Dana [e-mail ••••]"}
    assert set(await found(ana, text="refund to [card")) == {story.id}
    for searched in ("4111", "1111 1111", "dana@", "example.com"):
        assert await found(ana, text=searched) == {}
    await story.customer_says("A patch of the counters")
    await story.join("eva")
    changed = await ana.expect("view.changed", where=lambda event: len(event["data"]["rows"][0]["agents"]) == 2)
    assert changed["data"]["rows"][0]["subject"] == "Refund to [card ••••1111]"
    assert clear(ana) == set()


async def test_an_agents_search_finds_as_ever(masked: Centre) -> None:
    """An agent's roster searches the subject as it is: they read it anyway."""
    story, agent = await told(masked), await masked.agent()
    await agent.command("view.subscribe", view="roster", filter={"text": "4111 1111"})
    rows = (await agent.expect("view.snapshot"))["data"]["rows"]
    assert [row["conversation_id"] for row in rows] == [story.id]


async def found(line: Socket, **filter: Any) -> dict[str, Json]:
    """Rows of a fresh view of conversations, by id."""
    subscription = (await line.command("view.subscribe", view="interactions", filter=filter or None))["subscription"]
    snapshot = await line.expect("view.snapshot", subscription=subscription)
    return {row["conversation_id"]: row for row in snapshot["data"]["rows"]}


async def test_a_resume_gives_masks_back(masked: Centre) -> None:
    """What a lost session missed comes masked, and so does the snapshot of what its cursors don't name."""
    ana, story = await masked.supervisor(), await told(masked)
    await story.monitored_by(ana)
    await ana.close(1001)
    await story.customer_says(f"Missed: {CARD}")
    back = await masked.supervisor(resume=ana.resumption())
    await back.expect("message.created", story.id, text="Missed: [card ••••1111]")
    await back.close(1001)
    again = await masked.supervisor(resume=back.resumption(cursors={}))
    snapshot = (await again.expect("monitor.started", story.id))["data"]["snapshot"]
    assert [one["text"] for one in snapshot["messages"]] == [SHOWN, "Missed: [card ••••1111]"]
    for line in (ana, back, again):
        assert clear(line) == set()


async def test_the_present_queue_decides(masked: Centre) -> None:
    """In a queue that says otherwise nothing is masked; a conversation that is transferred follows its new queue."""
    ana, story = await masked.supervisor(), await told(masked, queue="billing")
    snapshot = (await story.monitored_by(ana))["data"]["snapshot"]
    assert snapshot["messages"][0]["text"] == SAID
    assert "masked" not in snapshot["messages"][0]
    await story.transfer("support")
    await ana.expect("conversation.transferred", story.id)
    await story.customer_says(f"Now {CARD}")
    await ana.expect("message.created", story.id, text="Now [card ••••1111]")
    assert [one["text"] for one in await masked.messages(story.id)] == [SHOWN, "Now [card ••••1111]"]


async def test_others_streams_are_byte_equal_with_and_without_masking(masked: Centre, centre: Centre) -> None:
    """Agent, customer and platform get the same bytes on a hub that masks, monitored, as on one that doesn't, alone."""
    without = await scenario(centre, monitored=False)
    assert await scenario(masked, monitored=True) == without


# Reveal.


async def revealing(centre: Centre, sub: str = "ana", **options: Any) -> Socket:
    """A supervisor with the right to reveal."""
    return await centre.supervisor(sub, permissions=ANYTHING, **options)


async def test_a_reveal_is_for_one_message(masked: Centre, store: StoreProcess) -> None:
    """The answer has the message as it was said; the ledger who, which, why; everything else stays masked."""
    ana, story = await revealing(masked), await told(masked)
    tab = await revealing(masked)
    started = await story.monitored_by(ana)
    await story.monitored_by(tab)
    message = started["data"]["snapshot"]["messages"][0]
    ok = await ana.command(
        "message.reveal", conversation_id=story.id, message_id=message["message_id"], reason="They asked"
    )
    as_said = {"text": SAID, "name": f"Dana {MAIL}"}
    assert ok["message"] == {key: value for key, value in message.items() if key != "masked"} | as_said
    await story.fence(ana, tab)
    assert clear(tab) == set()
    assert [one["text"] for one in await masked.messages(story.id)] == [SHOWN]
    again = await revealing(masked)
    assert (await story.monitored_by(again))["data"]["snapshot"]["messages"][0]["text"] == SHOWN
    lines = (await read_truth(store, masked.org)).conversations[story.id].ledger
    [line] = [one for one in lines if one["what"] == "message.revealed"]
    wanted = {"user_id": "ana", "message_id": message["message_id"], "why": "They asked"}
    assert line.items() >= wanted.items()
    assert line["monitor_id"] == started["data"]["monitor_id"]
    assert clear(json.dumps(lines)) == set()


async def test_a_reveal_ends_with_the_monitor(masked: Centre) -> None:
    """After the monitor's end the same command is refused, and snapshot and history show the mask again."""
    ana, story = await revealing(masked), await told(masked)
    message_id = (await story.monitored_by(ana))["data"]["snapshot"]["messages"][0]["message_id"]
    arguments = {"conversation_id": story.id, "message_id": message_id, "reason": "They asked"}
    await ana.command("message.reveal", **arguments)
    await ana.command("monitor.stop", conversation_id=story.id)
    await ana.refused("not_monitoring", "message.reveal", **arguments)
    assert [one["text"] for one in await masked.messages(story.id)] == [SHOWN]
    snapshot = (await story.monitored_by(ana))["data"]["snapshot"]
    assert snapshot["messages"][0]["text"] == SHOWN


async def test_who_may_not_reveal(masked: Centre, store: StoreProcess) -> None:
    """Without the right, without a monitor, from another's session, of another message, without a reason: no, no line."""
    ana, bo, story = await revealing(masked), await revealing(masked, "bo"), await told(masked)
    cy, other = await masked.supervisor("cy"), await told(masked)
    message_id = (await masked.messages(story.id))[0]["message_id"]
    arguments = {"conversation_id": story.id, "message_id": message_id, "reason": "They asked"}
    await story.monitored_by(ana)
    await bo.refused("not_monitoring", "message.reveal", **arguments)
    await (await revealing(masked)).refused("not_monitoring", "message.reveal", **arguments)
    await other.monitored_by(cy)
    theirs = (await masked.messages(other.id))[0]["message_id"]
    await cy.refused("not_permitted", "message.reveal", conversation_id=other.id, message_id=theirs, reason="x")
    unknown = await ana.refused("schema_invalid", "message.reveal", **arguments | {"message_id": "c:999"})
    assert unknown.details == {"path": "message_id", "got": "c:999"}
    for broken in ({"reason": ""}, {"req": "r1"}):
        with pytest.raises(HubError, match="schema_invalid"):
            await ana.command("message.reveal", **arguments | broken)
    stranger = await revealing(masked, "eva", queues=["sales"])
    await stranger.refused("unknown_conversation", "message.reveal", **arguments)
    for line in (ana, bo, cy, stranger):
        assert clear(line) == set()
    lines = (await read_truth(store, masked.org)).conversations[story.id].ledger
    assert [one for one in lines if one["what"] == "message.revealed"] == []


async def test_a_reveal_is_silent(masked: Centre) -> None:
    """Agent, customer, platform and the views of other supervisors get nothing of it."""
    ana, bo, story = await revealing(masked), await masked.supervisor("bo"), await told(masked)
    agent, customer, platform = await masked.agent(), await masked.customer(story.id), await masked.connector()
    for line in (agent, customer):
        await line.expect("conversation.snapshot", story.id)
    message_id = (await story.monitored_by(ana))["data"]["snapshot"]["messages"][0]["message_id"]
    await found(bo)
    await story.fence(agent, ana)
    before = {line: len(line.lines) for line in (agent, customer, platform.socket)}
    rows = len([one for one in bo.events if one["event"] == "view.changed"])
    for number in range(3):
        await ana.command("message.reveal", conversation_id=story.id, message_id=message_id, reason=f"{number}")
    await story.fence(agent, ana)
    await customer.round_trip()
    await platform.socket.round_trip()
    news = [json.loads(one) for line, count in before.items() for one in line.lines[count:]]
    assert {one.get("event", "answer") for one in news} <= {"panel.updated", "ping", "answer"}
    await bo.round_trip()
    assert len([one for one in bo.events if one["event"] == "view.changed"]) == rows
