"""What people say, type and keep as drafts."""

from collections.abc import Callable, Sequence

import orjson
import pytest

from hub.domain import commands as c
from hub.domain.errors import Refused
from hub.domain.files import FileMeta
from hub.protocol.commands import DraftUpdate, MessageSend, ReceiptSend, SentFile, Typing
from hub.service.file_links import file_url
from hub.service.messaging import Messaging, with_draft
from tests.unit.domain.words import confirm, desk, disconnect, finish, messenger, person, prepare, watch
from tests.unit.service.words import CNV, ORG, SETTINGS, Node, connected, draft_of, said, started


def message(text: str = "hello", client_id: str = "c1") -> MessageSend:
    """A message to send."""
    return MessageSend(id=1, conversation_id=CNV, text=text, client_message_id=client_id)


def draft(text: str) -> DraftUpdate:
    """A draft to keep."""
    return DraftUpdate(id=1, conversation_id=CNV, text=text)


async def running(**data: str) -> Node:
    """A conversation that Bob answers; Cay is there, too."""
    node = Node()
    await node.take(started(**data), connected(), connected("cay"))
    return node


async def take_over(node: Node) -> None:
    """Ana takes over."""
    for command in (watch(participant_id="prt_bob"), prepare(), confirm()):
        await node.run(command)


def slip_before_append(node: Node, *commands: c.Command) -> None:
    """Let commands be faster than the next append."""

    def hook() -> None:
        node.store.before_append = lambda: None
        for command in commands:
            node.slip_in(command)

    node.store.before_append = hook


async def test_owner_speaks_to_customer_and_platform() -> None:
    """The message is in the transcript for all, is an action for the platform, and its id can be asked for reports."""
    node = await running()
    message_id = await node.messaging.send(desk("bob"), CNV, message())
    entry = node.record.transcript[-1]
    body = orjson.loads(entry.body)
    assert (entry.audience, body["event"]) == ("asc", "message.created")
    assert body["data"] == {
        "message_id": message_id,
        "participant_id": "prt_bob",
        "purpose": "agent",
        "name": "Bob",
        "text": "hello",
        "attachments": [],
    }
    action_id, _, action = node.record.actions[-1].partition(b" ")
    sent = orjson.loads(action)
    assert (action_id.decode(), sent["event"]) == (message_id, "outbound.message")
    assert sent["data"] == {
        "message_id": message_id,
        "text": "hello",
        "attachments": [],
        "sender": {"name": None},
        "owner_epoch": 1,
    }
    assert node.store.pointed[message_id] == (ORG, CNV)


async def test_name_of_the_sender_where_the_channel_shows_it() -> None:
    """Configuration of the channel decides it."""
    assert SETTINGS.name_visible("open")
    node = await running(channel="open")
    await node.messaging.send(desk("bob"), CNV, message())
    assert orjson.loads(node.record.actions[-1].partition(b" ")[2])["data"]["sender"] == {"name": "Bob"}


async def test_customer_speaks() -> None:
    """The customer's words need no owner and are no action; they count as unanswered until somebody answers."""
    node = await running()
    await node.messaging.send(messenger(), CNV, message())
    await node.messaging.send(messenger(), CNV, message("anyone?", "c2"))
    counters = node.loaded.situation.counters
    assert (counters.messages, counters.unanswered, counters.awaiting) == (2, 2, "agent")
    assert node.record.actions == []
    await node.messaging.send(desk("bob"), CNV, message())
    counters = node.loaded.situation.counters
    assert (counters.messages, counters.unanswered, counters.awaiting) == (3, 0, "customer")


FILE = FileMeta("fil_00" + "a" * 20, ORG, CNV, "a b.png", "image/png", 3, 0, "bob", "agent")


class Kept:
    """The files of one conversation."""

    async def kept(self, org: str, conversation_id: str, file_ids: Sequence[str]) -> list[FileMeta | None]:
        """The one file, where it is asked for."""
        return [FILE if (org, conversation_id, one) == (ORG, CNV, FILE.file_id) else None for one in file_ids]


def with_file(url: str) -> MessageSend:
    """A message of a file alone, about which its sender says something else than the hub knows."""
    file = SentFile(url=url, name="b.exe", mime="text/html")
    return MessageSend(id=1, conversation_id=CNV, text="", client_message_id="c1", attachments=(file,))


async def test_attachments() -> None:
    """Files of the conversation stand in the message and in the action, as the hub knows them."""
    node = await running()
    messaging = Messaging(node.store, node.conversations, node.ids, Kept())
    await messaging.send(desk("bob"), CNV, with_file(file_url(FILE)))
    expected = [{"url": file_url(FILE), "name": "a b.png", "mime": "image/png"}]
    assert orjson.loads(node.record.transcript[-1].body)["data"]["attachments"] == expected
    assert orjson.loads(node.record.actions[-1].partition(b" ")[2])["data"]["attachments"] == expected


@pytest.mark.parametrize("files", [Kept(), None])
async def test_attachments_of_elsewhere(files: Kept | None) -> None:
    """A file that isn't this conversation's is refused, and nothing is said; so is any where no files are kept."""
    node = await running()
    messaging = Messaging(node.store, node.conversations, node.ids, files)
    before = len(node.record.transcript)
    with pytest.raises(Refused) as refused:
        await messaging.send(desk("bob"), CNV, with_file(f"/v1/files/fil_00{'b' * 20}/a.png"))
    assert refused.value.code == "unknown_file"
    assert len(node.record.transcript) == before


async def test_links_go_as_they_are() -> None:
    """What is attached from elsewhere keeps its address, name and type, and its place among the files."""
    node = await running()
    messaging = Messaging(node.store, node.conversations, node.ids, Kept())
    link, file = SentFile(url="https://a.example/b", name="b.pdf", mime="application/pdf"), SentFile(url=file_url(FILE))
    both = MessageSend(id=1, conversation_id=CNV, text="", client_message_id="c2", attachments=(link, file, link))
    await messaging.send(desk("bob"), CNV, both)
    sent = orjson.loads(node.record.transcript[-1].body)["data"]["attachments"]
    assert [one["url"] for one in sent] == [link.url, file_url(FILE), link.url]
    assert sent[0] == {"url": link.url, "name": "b.pdf", "mime": "application/pdf"}


async def test_same_client_message_id() -> None:
    """The same id by the same person is one message; another person's is another."""
    node = await running()
    first = await node.messaging.send(desk("bob"), CNV, message())
    assert await node.messaging.send(desk("bob"), CNV, message()) == first
    assert await node.messaging.send(messenger(), CNV, message()) != first
    assert sum(name == "message.created" for _, _, name in node.shown()) == 2
    assert len(node.record.actions) == 1


@pytest.mark.parametrize("later", [take_over, lambda node: node.run(finish()), lambda node: node.run(disconnect())])
async def test_repeat_of_what_was_said_in_time(later: Callable[[Node], object]) -> None:
    """Sent again after losing the conversation, a message that made it gets its first answer."""
    node = await running()
    first = await node.messaging.send(desk("bob"), CNV, message())
    await later(node)  # type: ignore[misc]
    assert await node.messaging.send(desk("bob"), CNV, message()) == first
    with pytest.raises(Refused):
        await node.messaging.send(desk("bob"), CNV, message("more", "c2"))
    assert sum(name == "message.created" for _, _, name in node.shown()) == 1


@pytest.mark.parametrize("who", [desk("cay"), person()])
async def test_who_does_not_own(who: object) -> None:
    """Another agent and a watching supervisor get their words back, and nothing is shown or sent."""
    node = await running()
    await node.run(watch(participant_id="prt_bob"))
    with pytest.raises(Refused) as caught:
        await node.messaging.send(who, CNV, message("mine"))  # type: ignore[arg-type]
    assert caught.value.code == "stale_owner"
    assert caught.value.details == {"owner": "prt_bob", "owner_epoch": 1, "draft": "mine"}
    assert "message.created" not in [name for _, _, name in node.shown()]
    assert node.record.actions == []


async def test_taken_over_while_sending() -> None:
    """A message that is under way when the takeover happens is refused, comes back, and is never shown after the mark."""
    node = await running()
    await node.run(watch(participant_id="prt_bob"))
    await node.run(prepare())
    slip_before_append(node, confirm())
    with pytest.raises(Refused) as caught:
        await node.messaging.send(desk("bob"), CNV, message("too late"))
    assert caught.value.code == "stale_owner"
    assert caught.value.details == {"owner": "prt_ana", "owner_epoch": 2, "draft": "too late"}
    assert [name for _, _, name in node.shown()][-1] == "takeover.completed"
    await node.messaging.send(person(), CNV, message("I'm here"))
    assert orjson.loads(node.record.actions[-1].partition(b" ")[2])["data"]["owner_epoch"] == 2


async def test_ended_while_sending() -> None:
    """The same at the end."""
    node = await running()
    slip_before_append(node, finish())
    with pytest.raises(Refused) as caught:
        await node.messaging.send(desk("bob"), CNV, message("too late"))
    assert (caught.value.code, draft_of(caught.value)) == ("conversation_ended", "too late")


async def test_monitor_starting_while_sending() -> None:
    """A monitor that starts or stops between looking and writing is nothing to an agent's message."""
    node = await running()
    slip_before_append(node, watch(participant_id="prt_bob"))
    first = await node.messaging.send(desk("bob"), CNV, message())
    slip_before_append(node, c.StopMonitor(person()))
    second = await node.messaging.send(desk("bob"), CNV, message("more", "c2"))
    assert first != second
    assert [one.monitor_id for one in node.record.transcript[-2:]] == ["mon_ana", "-"]


async def test_unknown_and_ended() -> None:
    """Strangers learn nothing; words after the end come back."""
    node = await running()
    with pytest.raises(Refused) as caught:
        await node.messaging.send(desk("zoe"), CNV, message())
    assert (caught.value.code, caught.value.details) == ("unknown_conversation", {})
    await node.run(finish())
    for who in (desk("bob"), messenger()):
        with pytest.raises(Refused) as caught:
            await node.messaging.send(who, CNV, message("late", "c9"))
        assert (caught.value.code, draft_of(caught.value)) == ("conversation_ended", "late")


async def test_typing() -> None:
    """Owner and customer are shown typing; others are refused as for a message; nothing is stored."""
    node = await running()
    command = Typing(id=1, conversation_id=CNV, on=True)
    await node.messaging.type(desk("bob"), CNV, command)
    await node.messaging.type(messenger(), CNV, command)
    bodies = [orjson.loads(one)["data"] for one in node.record.typing]
    assert [(one["purpose"], one["on"]) for one in bodies] == [("agent", True), ("customer", True)]
    with pytest.raises(Refused) as caught:
        await node.messaging.type(desk("cay"), CNV, command)
    assert caught.value.code == "stale_owner"
    assert len(node.record.transcript) == 3


async def test_typing_while_the_owner_changes() -> None:
    """What is under way then is refused and says who owns now."""
    node = await running()
    slip_before_append(node, disconnect())
    with pytest.raises(Refused) as caught:
        await node.messaging.type(desk("bob"), CNV, Typing(id=1, conversation_id=CNV, on=False))
    assert (caught.value.code, caught.value.details) == ("stale_owner", {"owner": "prt_cay", "owner_epoch": 2})
    assert node.record.typing == []


async def test_drafts() -> None:
    """Each connected agent keeps a draft; a removed one's comes back until the notice is acknowledged."""
    node = await running()
    await node.messaging.draft(desk("bob"), draft("I thi"))
    await node.messaging.draft(desk("cay"), draft("psst"))
    assert node.loaded.drafts == {"prt_bob": "I thi", "prt_cay": "psst"}
    await take_over(node)
    assert node.loaded.drafts == {"prt_bob": "I thi", "prt_cay": "psst"}
    with pytest.raises(Refused) as caught:
        await node.messaging.draft(desk("bob"), draft("I think"))
    assert (caught.value.code, draft_of(caught.value)) == ("stale_owner", "I think")
    await node.run(c.AcknowledgeTakeover(desk("bob"), "tko_1"))
    assert node.loaded.drafts == {"prt_cay": "psst"}
    await node.run(finish())
    with pytest.raises(Refused) as caught:
        await node.messaging.draft(desk("cay"), draft("late"))
    assert (caught.value.code, draft_of(caught.value)) == ("conversation_ended", "late")


async def test_draft_while_being_removed() -> None:
    """A draft under way at the takeover comes back with the refusal."""
    node = await running()
    await node.run(watch(participant_id="prt_bob"))
    await node.run(prepare())
    slip_before_append(node, confirm())
    with pytest.raises(Refused) as caught:
        await node.messaging.draft(desk("bob"), draft("I thi"))
    assert (caught.value.code, draft_of(caught.value)) == ("stale_owner", "I thi")


async def test_leaving_drops_the_draft() -> None:
    """Who leaves without a takeover leaves no draft behind."""
    node = await running()
    await node.messaging.draft(desk("bob"), draft("I thi"))
    await node.run(disconnect())
    assert node.loaded.drafts == {}


async def test_receipts() -> None:
    """Each status of a message is written once; they are written after the end, too; unknown stays unknown."""
    node = await running()
    await node.take(said("hi", "bob"))
    await node.run(finish())
    top = node.loaded.top
    read = ReceiptSend(id=1, message_id="m-hi", status="read")
    await node.messaging.receipt(messenger(), CNV, read)
    await node.messaging.receipt(messenger(), CNV, read)
    assert node.loaded.top == top + 1
    assert orjson.loads(node.record.transcript[-1].body)["data"] == {
        "message_id": "m-hi",
        "status": "read",
        "reason": None,
    }
    with pytest.raises(Refused) as caught:
        await node.messaging.receipts(ORG, CNV, "other", 0, "m-hi", "failed", "no")
    assert caught.value.code == "unknown_conversation"
    with pytest.raises(Refused) as caught:
        await node.messaging.receipt(messenger("cnv_2"), CNV, read)
    assert caught.value.code == "unknown_conversation"


def test_drafts_come_back_where_words_were_refused() -> None:
    """Other refusals don't repeat what was written."""
    assert draft_of(with_draft(Refused("stale_owner", "No."), "mine")) == "mine"
    assert with_draft(Refused("unknown_conversation", "No."), "mine").details == {}
