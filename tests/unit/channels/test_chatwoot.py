"""Chatwoot: its webhooks become events, actions become calls to its API; a server that behaves like it is the other side."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from hub.channels.chatwoot import Chatwoot, make, outcome_of, place_of
from hub.channels.port import Action, Answer, BadOption, Failed, Inbound, Later, Outcome, Place, Sent
from hub.domain.errors import Refused
from hub.protocol.platform import BadEvent, decode_event
from tests.support.chatwoot import ACCOUNT, API_TOKEN, ChatwootServer, signed
from tests.support.http_server import LoopbackCaller, Said
from tests.support.notes import MemoryNotes

Json = dict[str, Any]
SECRET, PATH_SECRET = "whsec-for-tests-0123456789", "in-the-address-0123456789"
PLACE = Place("acme", "desk", "https://hub.example.org/v1/channels/desk")
NOW_MS = 1_795_377_600_000
FIRST, SECOND = f"cw:{ACCOUNT}:207:1", f"cw:{ACCOUNT}:207:2"
MAX = {"participant_id": "cw-agent-12", "purpose": "agent", "user_id": "max", "name": "Max Weber"}
OPTIONS: Json = {
    "base_url": "http://chatwoot.example",
    "account_id": ACCOUNT,
    "api_token": API_TOKEN,
    "webhook_secret": SECRET,
    "queue": "support",
    "agents": {"12": "max", "7": "ana"},
    "inboxes": {"2": "web"},
    "teams": {"4": "billing"},
}


def adapter(**changed: Any) -> Chatwoot:
    """The adapter of one account."""
    return make(OPTIONS | changed, PLACE)


class Side:
    """A Chatwoot and the adapter's side of it."""

    def __init__(self, server: ChatwootServer, **options: Any) -> None:
        self.server = server
        self.channel = adapter(base_url=server.url, **options)
        self.notes = MemoryNotes()

    async def events(self, *webhooks: bytes) -> list[Json]:
        """The events of these webhooks, else of what Chatwoot sent since the last time; the hub can read each."""
        found: list[Json] = []
        for body in webhooks or self.server.take():
            inbound = Inbound("POST", PLACE.url, signed(SECRET, body, NOW_MS), body, NOW_MS)
            found += map(dict, (await self.channel.receive(inbound, self.notes)).events)
        for event in found:
            read = decode_event(orjson.dumps(event))
            assert not isinstance(read, BadEvent), read
        return found

    async def send(self, kind: str, *, attempt: int = 1, conversation: str = FIRST, **data: Any) -> Outcome:
        """Carry an action out."""
        action = Action("act_1", kind, "acme", conversation, "cw-contact-41", NOW_MS, attempt, data)
        return await self.channel.send(action, self.notes, LoopbackCaller())

    async def say(self, text: str = "Hello, Ana here.", *, attempt: int = 1, **data: Any) -> Outcome:
        """An outbound message."""
        return await self.send("outbound.message", attempt=attempt, message_id="msg_1", text=text, **data)

    async def hand_over(self, user: str) -> None:
        """What a takeover from Max brings."""
        gone, come = MAX, {"participant_id": "prt_1", "user_id": user, "purpose": "supervisor"}
        left = await self.send(
            "participant.disconnected", participant_id="cw-agent-12", participant=gone, disconnect_type="takeover"
        )
        joined = await self.send("participant.connected", participant_id="prt_1", participant=come)
        assert (left, joined) == (Sent(), Sent())


@pytest.fixture
def side() -> Iterator[Side]:
    """A fresh one."""
    with ChatwootServer() as server:
        yield Side(server)


def told(events: list[Json]) -> list[str]:
    """Types, without the starts that everything brings along."""
    return [event["type"] for event in events if event["type"] != "conversation.started"]


# In.


async def test_a_conversation_begins_in_its_inboxes_queue(side: Side) -> None:
    """With its contact as customer, a way to Chatwoot's page, and whom it is assigned to."""
    side.server.opens(assignee=12)
    start, *comes = await side.events()
    assert start["conversation_id"] == FIRST
    assert start["data"]["channel"] == "open"
    assert start["data"]["queue"] == "web"
    assert start["data"]["customer"] == {"id": "cw-contact-41", "name": "Dana"}
    page = f"{side.server.url}/app/accounts/{ACCOUNT}/conversations/207"
    assert start["data"]["panels"]["chatwoot"]["url"] == page
    assert [event["data"] for event in comes] == [MAX, MAX]  # by its coming, and by this webhook


async def test_what_the_customer_says_brings_the_start_along(side: Side) -> None:
    """Webhooks overtake each other: whichever comes first begins the conversation, under one id."""
    thread = side.server.opens()
    side.server.customer_says(thread, "Hi")
    created, said = side.server.take()
    first = await side.events(said)
    assert [event["type"] for event in first] == ["conversation.started", "message.created"]
    assert first[1]["data"] == {"message_id": "cw.501", "text": "Hi", "purpose": "customer"}
    assert (await side.events(created))[0]["id"] == first[0]["id"]


async def test_a_webhook_that_comes_twice_makes_the_same_events(side: Side) -> None:
    """Also at once on two nodes, and also where account and inbox both have one for a message."""
    side.server.customer_says(side.server.opens(), "Hi")
    body = side.server.take()[1]
    one, two = await asyncio.gather(side.events(body), side.events(body))
    assert one == two
    other = orjson.dumps(orjson.loads(body) | {"nonce": "another hook's"})
    assert [event["id"] for event in await side.events(other)] == [event["id"] for event in one]


async def test_agents_and_bots_come_with_what_they_say(side: Side) -> None:
    """Known users by the configuration, others by Chatwoot's number."""
    thread = side.server.opens()
    side.server.agent_says(thread, 12, "Hello, Max here.")
    side.server.agent_says(thread, 13, "And Eva.")
    side.server.bot_says(thread, "And I.")
    events = [event["data"] for event in await side.events() if event["type"] != "conversation.started"]
    assert events[0] == MAX
    assert events[1] == {"message_id": "cw.501", "text": "Hello, Max here.", "participant_id": "cw-agent-12"}
    assert (events[2]["user_id"], events[2]["name"]) == ("chatwoot-13", "Eva Rossi")
    assert (events[4]["purpose"], events[4]["participant_id"]) == ("bot", "cw-bot-5")
    assert events[5]["participant_id"] == "cw-bot-5"


@pytest.mark.parametrize(
    "more", [{"private": True}, {"message_type": "activity"}, {"message_type": "template"}, {"message_type": 2}]
)
async def test_what_the_customer_doesnt_see_is_no_message(side: Side, more: Json) -> None:
    """Private notes above all; activities and templates neither."""
    side.server.agent_says(side.server.opens(), 12, "between us", **more)
    assert await side.events(side.server.take()[1]) == []


async def test_files_come_as_attachments(side: Side) -> None:
    """With their address and a kind by their name."""
    files = [{"data_url": "https://chatwoot.example/x/photo.jpg"}, {"data_url": "no address"}, "nothing"]
    side.server.customer_says(side.server.opens(), None, attachments=files)
    events = await side.events()
    assert events[-1]["data"]["attachments"] == [
        {"url": "https://chatwoot.example/x/photo.jpg", "name": "photo.jpg", "mime": "image/jpeg"}
    ]
    side.server.customer_says(side.server.threads[207], None)
    assert await side.events() == []


async def test_another_assignee_comes_and_the_one_before_goes(side: Side) -> None:
    """Also nobody: then one goes."""
    thread = side.server.opens()
    await side.events()
    side.server.assign(thread, 12)
    assert [event["data"] for event in await side.events()] == [MAX, MAX]
    side.server.assign(thread, 13)
    gone, *come = await side.events()
    assert gone["data"] == {"participant_id": "cw-agent-12", "disconnect_type": "transfer"}
    assert {event["data"]["participant_id"] for event in come} == {"cw-agent-13"}
    side.server.assign(thread, 0)
    [gone] = await side.events()
    assert gone["data"] == {"participant_id": "cw-agent-13", "disconnect_type": "client"}


async def test_who_left_comes_again_under_another_id(side: Side) -> None:
    """By writing, too: Chatwoot lets anybody write."""
    thread = side.server.opens()
    side.server.agent_says(thread, 12, "Hello")
    before = await side.events()
    side.server.assign(thread, 12)
    side.server.assign(thread, 0)
    await side.events()
    side.server.agent_says(thread, 12, "Hello again")
    after = await side.events()
    ids = [event["id"] for event in before + after if event["data"] == MAX]
    assert len(set(ids)) == len(ids) == 2


async def test_another_team_is_another_queue(side: Side) -> None:
    """Where the configuration knows the team."""
    thread = side.server.opens()
    await side.events()
    side.server.move(thread, 4)
    side.server.move(thread, 5)
    assert [(event["type"], event["data"]) for event in await side.events()] == [
        ("conversation.transferred", {"queue": "billing"})
    ]
    thread.team = {"id": 4, "name": "Billing"}
    side.server.customer_says(thread, "Hi")
    assert (await side.events())[0]["data"]["queue"] == "billing"


async def test_resolved_is_the_end_and_what_follows_is_the_next_conversation(side: Side) -> None:
    """Once the hub has said that the first one is over."""
    thread = side.server.opens()
    side.server.becomes(thread, "resolved")
    assert (await side.events())[-1]["data"] == {"reason": "resolved"}
    side.server.customer_says(thread, "One more thing")
    assert await side.channel.ended(FIRST, side.notes)
    events = await side.events()
    assert {event["conversation_id"] for event in events} == {SECOND}
    assert told(events) == ["message.created"]
    assert not await side.channel.ended("sms:1:2:1", side.notes)


async def test_a_copy_of_an_old_end_ends_no_later_conversation(side: Side) -> None:
    """Two webhooks tell it, and the second may come when the customer has written again."""
    thread = side.server.opens()
    side.server.becomes(thread, "resolved")
    _, end = side.server.take()
    first = await side.events(end)
    await side.channel.ended(FIRST, side.notes)
    side.server.customer_says(thread, "One more thing")
    assert {event["conversation_id"] for event in await side.events()} == {SECOND}
    assert [event["conversation_id"] for event in await side.events(end)] == [FIRST]
    assert [event["id"] for event in await side.events(end)] == [event["id"] for event in first]


async def test_an_answer_behind_the_end_begins_no_conversation(side: Side) -> None:
    """The agent's last word and the end may change places on their way."""
    thread = side.server.opens()
    side.server.agent_says(thread, 12, "Bye")
    said = side.server.take()[1]
    await side.channel.ended(FIRST, side.notes)
    assert told(await side.events(said)) == [event["type"] for event in await side.events(said)]


async def test_a_bot_goes_when_people_take_over(side: Side) -> None:
    """In Chatwoot that is the change from pending to open."""
    thread = side.server.opens(status="pending")
    side.server.bot_says(thread, "How can I help?")
    await side.events()
    side.server.becomes(thread, "open")
    gone = (await side.events())[-1]
    assert (gone["type"], gone["data"]["participant_id"]) == ("participant.disconnected", "cw-bot-5")
    side.server.becomes(thread, "snoozed")
    assert await side.events() == []


async def test_typing_is_told_but_not_over_notes(side: Side) -> None:
    """Of the customer and of agents."""
    thread = side.server.opens()
    await side.events()
    side.server.types(thread, {"id": 41, "name": "Dana"})
    side.server.types(thread, {"id": 12, "name": "Max Weber", "type": "user"}, on=False)
    side.server.types(thread, {"id": 12, "name": "Max Weber", "type": "user"}, private=True)
    assert [event["data"] for event in await side.events()] == [
        {"on": True, "purpose": "customer"},
        {"on": False, "participant_id": "cw-agent-12"},
    ]


@pytest.mark.parametrize("event", ["contact_created", "webwidget_triggered", "message_updated", "inbox_created"])
async def test_what_the_hub_has_no_use_for_is_taken(side: Side, event: str) -> None:
    """Any event may be subscribed to; another account's, too."""
    body = json.dumps({"event": event, "id": 1, "conversation": {"id": 207}}).encode()
    assert await side.events(body) == []


async def test_another_accounts_webhook_means_nothing(side: Side) -> None:
    """One installation may send for several accounts."""
    side.server.customer_says(side.server.opens(), "Hi")
    told_elsewhere = orjson.loads(side.server.take()[1]) | {"account": {"id": ACCOUNT + 1}}
    assert await side.events(orjson.dumps(told_elsewhere)) == []


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"event":"message_created"}',
        b'{"event":"message_created","conversation":{}}',
        b'{"event":"message_created","conversation":{"id":207},"message_type":"incoming"}',
        b'{"event":"conversation_created","id":"207"}',
        b'{"event":"conversation_created","id":true}',
    ],
)
async def test_what_is_no_webhook_is_refused(side: Side, body: bytes) -> None:
    """By the place where something is missing."""
    with pytest.raises(Refused) as refused:
        await side.events(body)
    assert refused.value.code == "schema_invalid"


# Who sent it.


def test_the_signature_is_the_documented_one() -> None:
    """HMAC-SHA256 over time, point and body, in hexadecimal digits."""
    body = b'{"event":"message_created"}'
    headers = signed(SECRET, body, NOW_MS)
    wanted = hmac.new(SECRET.encode(), f"{NOW_MS // 1000}.".encode() + body, hashlib.sha256).hexdigest()
    assert headers["x-chatwoot-signature"] == f"sha256={wanted}"


async def test_a_wrong_signature_or_time_is_refused(side: Side) -> None:
    """Another secret, another body, another time, an old one, none at all."""
    side.server.opens()
    [body] = side.server.take()
    good = signed(SECRET, body, NOW_MS)
    old, coming = signed(SECRET, body, NOW_MS - 301_000), signed(SECRET, body, NOW_MS + 301_000)
    for headers, sent in (
        (signed("another-secret-0123456789", body, NOW_MS), body),
        (good, body + b" "),
        (good | {"x-chatwoot-timestamp": str(NOW_MS // 1000 + 1)}, body),
        (old, body),
        (coming, body),
        (signed(SECRET, body, NOW_MS) | {"x-chatwoot-signature": "é"}, body),
        ({}, body),
    ):
        with pytest.raises(Refused) as refused:
            await side.channel.receive(Inbound("POST", PLACE.url, headers, sent, NOW_MS), side.notes)
        assert refused.value.code == "unauthenticated"
        assert SECRET not in str(refused.value)
    assert (await side.channel.receive(Inbound("POST", PLACE.url, good, body, NOW_MS), side.notes)).events


async def test_a_secret_in_the_address_is_enough_where_it_is_configured_alone() -> None:
    """For a Chatwoot that doesn't sign; where both are configured, both are asked for."""
    body, notes = b'{"event":"conversation_created","id":207}', MemoryNotes()
    url = f"{PLACE.url}/{PATH_SECRET}"
    alone, both = adapter(webhook_secret="", path_secret=PATH_SECRET), adapter(path_secret=PATH_SECRET)
    assert (await alone.receive(Inbound("POST", url, {}, body, NOW_MS), notes)).events
    assert (await both.receive(Inbound("POST", url, signed(SECRET, body, NOW_MS), body, NOW_MS), notes)).events
    for channel, address, headers in (
        (alone, PLACE.url, {}),
        (alone, f"{url}x", {}),
        (both, url, {}),
        (both, PLACE.url, signed(SECRET, body, NOW_MS)),
    ):
        with pytest.raises(Refused) as refused:
            await channel.receive(Inbound("POST", address, headers, body, NOW_MS), notes)
        assert refused.value.code == "unauthenticated"


# Out.


async def test_a_message_is_sent_and_its_webhook_says_nothing_new(side: Side) -> None:
    """Its id comes back with it, so it is nobody's second message."""
    thread = side.server.opens()
    side.server.take()
    files = [{"url": "https://shop.example/a.png", "name": "a.png", "mime": "image/png"}]
    assert await side.say(attachments=files) == Sent()
    assert [one["content"] for one in thread.messages] == ["Hello, Ana here.\nhttps://shop.example/a.png"]
    assert side.server.provider.asked[-1].json["private"] is False
    assert await side.events() == []


async def test_a_file_that_nobody_could_open_fails(side: Side) -> None:
    """One of the hub's own where no public address of it is known."""
    side.server.opens()
    outcome = await side.say(attachments=[{"url": "/v1/files/fil_1/a.png"}])
    assert outcome == Failed("attachment_not_public")
    assert side.server.provider.asked == []


async def test_where_source_ids_are_lost_the_message_is_known_by_its_number() -> None:
    """As far as the answer was there before the webhook."""
    with ChatwootServer(keeps_source_id=False) as server:
        side = Side(server)
        server.opens()
        server.take()
        assert await side.say() == Sent()
        assert await side.events() == []


async def test_a_message_whose_answer_was_lost_isnt_sent_twice(side: Side) -> None:
    """Before a try again Chatwoot is asked whether it has it; and where it doesn't say, that is tried again, too."""
    thread = side.server.opens()
    side.server.failing = [None, Said(502)]
    assert await side.say() == Later("unreachable")
    assert await side.say(attempt=2) == Later("chatwoot_status_502")
    assert await side.say(attempt=3) == Sent()
    assert len(thread.messages) == 1


async def test_a_message_that_never_arrived_is_sent_again(side: Side) -> None:
    """It isn't among the newest ones."""
    thread = side.server.opens()
    side.server.failing = [Said(502)]
    assert await side.say() == Later("chatwoot_status_502")
    assert await side.say(attempt=2) == Sent()
    assert [one["content"] for one in thread.messages] == ["Hello, Ana here."]


async def test_a_takeover_gives_the_conversation_to_the_supervisors_agent(side: Side) -> None:
    """And what Chatwoot tells about that changes nothing in the hub."""
    thread = side.server.opens(assignee=12)
    side.server.take()
    await side.hand_over("ana")
    assert thread.assignee == 7
    assert await side.events() == []


async def test_a_supervisor_without_an_agent_leaves_it_unassigned(side: Side) -> None:
    """Nobody is assigned whom Chatwoot doesn't know."""
    thread = side.server.opens(assignee=12)
    side.server.take()
    await side.hand_over("bo")
    assert thread.assignee == 0
    assert await side.events() == []
    side.server.assign(thread, 13)
    side.server.assign(thread, 0)
    come = await side.events()
    assert told(come) == ["participant.connected", "participant.connected", "participant.disconnected"]


async def test_who_was_taken_over_doesnt_come_back_by_writing(side: Side) -> None:
    """No new coming is told: the hub refuses the message."""
    thread = side.server.opens(assignee=12)
    before = await side.events()
    await side.hand_over("ana")
    side.server.take()
    side.server.agent_says(thread, 12, "But I was answering")
    comes = [event["id"] for event in await side.events() if event["type"] == "participant.connected"]
    assert set(comes) <= {event["id"] for event in before}
    side.server.assign(thread, 12)  # somebody in Chatwoot wants them back
    again = [event["id"] for event in await side.events() if event["type"] == "participant.connected"]
    assert not set(again) <= {event["id"] for event in before}


async def test_a_supervisor_who_goes_on_in_chatwoot_speaks_as_supervisor(side: Side) -> None:
    """Under the participant that the takeover made."""
    thread = side.server.opens(assignee=12)
    await side.hand_over("ana")
    side.server.take()
    side.server.agent_says(thread, 7, "Ana again")
    [said] = await side.events()
    assert said["data"]["participant_id"] == "prt_1"


async def test_a_taken_over_bots_conversation_is_opened_for_people(side: Side) -> None:
    """So that the bot doesn't answer any more."""
    thread = side.server.opens(status="pending")
    side.server.take()
    assert await side.send("participant.disconnected", participant_id="cw-bot-5") == Sent()
    assert thread.status == "open"
    assert await side.send("participant.disconnected", participant_id="prt_9") == Sent()


async def test_an_end_resolves(side: Side) -> None:
    """Unless the customer has begun the next conversation already."""
    thread = side.server.opens()
    assert await side.send("conversation.ended") == Sent()
    assert thread.status == "resolved"
    side.server.take()
    side.server.customer_says(thread, "One more thing")
    assert {event["conversation_id"] for event in await side.events()} == {SECOND}
    assert await side.send("conversation.ended") == Sent()
    assert thread.status == "open"


async def test_a_name_means_nothing_to_chatwoot(side: Side) -> None:
    """It shows its own."""
    assert await side.send("sender.changed", name="Ana") == Sent()
    assert side.server.provider.asked == []


async def test_what_isnt_this_accounts_fails(side: Side) -> None:
    """Another account's, another adapter's, one that Chatwoot has lost."""
    for conversation in (f"cw:{ACCOUNT + 1}:207:1", "cnv_1"):
        outcome = await side.send("outbound.message", conversation=conversation, message_id="msg_1", text="Hi")
        assert outcome == Failed("not_a_conversation_of_this_account")
    assert await side.say() == Failed("unknown_conversation")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Answer(200), Sent()),
        (Answer(401), Later("credentials_refused")),
        (Answer(404), Failed("unknown_conversation")),
        (Answer(422), Failed("chatwoot_status_422")),
        (Answer(302), Failed("chatwoot_status_302")),
        (Answer(429, {"retry-after": "3"}), Later("chatwoot_status_429", 3_000)),
        (Answer(503, {"retry-after": "soon"}), Later("chatwoot_status_503")),
    ],
)
def test_each_answer_means_one_outcome(answer: Answer, outcome: Outcome) -> None:
    """What can pass is tried again, what can't has failed."""
    assert outcome_of(answer) == outcome


# Options.


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"base_url": "chatwoot.example"}, "base_url"),
        ({"account_id": 0}, "account_id"),
        ({"webhook_secret": ""}, "webhook_secret"),
        ({"webhook_secret": "brief"}, "webhook_secret"),
        ({"path_secret": "with/a/slash/0123456"}, "path_secret"),
        ({"queue": "no queue"}, "queue"),
        ({"division": "no division"}, "division"),
        ({"agents": {"max": "12"}}, "agents"),
        ({"agents": {"12": "max", "13": "max"}}, "agents"),
        ({"teams": {"4": "no queue"}}, "teams"),
        ({"inboxes": ["2"]}, "inboxes"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_a_wrong_option_is_named(changed: Json, key: str) -> None:
    """When the hub starts; a secret isn't shown."""
    with pytest.raises(BadOption) as bad:
        adapter(**changed)
    assert bad.value.key == key
    assert "brief" not in bad.value.message
    assert "slash" not in bad.value.message


def test_places_are_read_from_ids() -> None:
    """Only from those that this adapter makes."""
    assert place_of(FIRST) == (str(ACCOUNT), "207", 1)
    assert place_of("cw:1:2") is None
