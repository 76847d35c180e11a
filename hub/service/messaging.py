"""What people in a conversation do without changing its state: speak, type, keep a draft, confirm that they read."""

from collections.abc import Sequence
from typing import Protocol

import orjson

from hub.domain.conversation import Conversation, Participant
from hub.domain.decide import speaker, stale_owner, unknown, visible
from hub.domain.errors import Refused
from hub.domain.files import FileMeta, unknown_file
from hub.domain.grants import Person
from hub.protocol.commands import Attachment, DraftUpdate, MessageSend, ReceiptSend, Typing
from hub.protocol.encode import encode_event
from hub.service.conversations import Conversations
from hub.service.file_links import file_url, split_url
from hub.service.ids import Ids, id_hash
from hub.service.ingest import receipt_body, refusal_of, said
from hub.service.ports import Append, Appended, ConversationStore

REPORTS_MAX_MS = 24 * 3600 * 1000  # how long after a message its delivery reports are understood


class KeptFiles(Protocol):
    """What sending needs to know of files."""

    async def kept(self, org: str, conversation_id: str, file_ids: Sequence[str]) -> list[FileMeta | None]:
        """The files of this conversation, in the order asked; None where it has no such one."""


class Messaging:
    """Appends by people (platforms have `Ingest`). Without `files` nobody can attach any."""

    def __init__(
        self, store: ConversationStore, conversations: Conversations, ids: Ids, files: KeptFiles | None = None
    ) -> None:
        self._store = store
        self._conversations = conversations
        self._ids = ids
        self._files = files

    async def send(self, person: Person, conversation_id: str, command: MessageSend) -> str:
        """
        Say something as the owner or as the customer; the message's id, the same for the same `client_message_id`.

        Raises:
            Refused: `conversation_ended` or `stale_owner` (with the text as `draft`), `unknown_file` for a file that
                isn't one of this conversation, or as any command.
        """
        parts = (person.role, person.user_id, command.client_message_id)
        message_id = self._ids.stable("msg", person.org, conversation_id, *parts)
        loaded = await self._conversations.load(person.org, conversation_id)
        situation = loaded.situation
        conversation = visible(situation, person)
        refused: Refused | None = None
        who, owner, name_visible = conversation.customer, "-", situation.name_visible
        try:
            who = speaker(situation, person)
            owner = "" if who.purpose == "customer" else f"{who.participant_id} {conversation.owner_epoch}"
        except Refused as error:
            # Asked all the same, under a guard that never holds: a repeat of what was said in time is no refusal.
            refused = error
        files = await self._attached(person.org, conversation_id, command) if command.attachments else ()
        content = said(command.text, files)
        append = self._message(conversation, who, owner, content, message_id, situation.now_ms, name_visible)
        if append.action:  # before, so that no report comes for a message that nobody knows
            await self._store.point(message_id, person.org, conversation_id, REPORTS_MAX_MS)
        answer = (await self._store.append([append]))[0]
        if answer.outcome in ("ok", "duplicate"):
            return message_id
        raise with_draft(refused or await self._why(answer, person, conversation_id), command.text)

    async def _attached(self, org: str, conversation_id: str, command: MessageSend) -> tuple[Attachment, ...]:
        """
        The attachments: files as the hub knows them (name and type were checked when they came), links as they were given.

        Raises Refused `unknown_file` for a file that isn't this conversation's.
        """
        ids = [found[0] for one in command.attachments if (found := split_url(one.url)) is not None]
        kept = await self._files.kept(org, conversation_id, ids) if ids and self._files is not None else ()
        known = {
            one.file_id: Attachment(url=file_url(one), name=one.name, mime=one.mime) for one in kept if one is not None
        }
        if not known.keys() >= set(ids):
            raise unknown_file()
        return tuple(
            Attachment(url=one.url, name=one.name, mime=one.mime) if found is None else known[found[0]]
            for one in command.attachments
            for found in [split_url(one.url)]
        )

    def _message(
        self,
        conversation: Conversation,
        who: Participant,
        owner: str,
        content: bytes,
        message_id: str,
        now_ms: int,
        name_visible: bool,
    ) -> Append:
        conversation_id = conversation.conversation_id
        head = b'{"event":"message.created","conversation_id":"%b","at":%d,"data":{"message_id":"%b",' % (
            conversation_id.encode(),
            now_ms,
            message_id.encode(),
        )
        action = b""
        if conversation.connector and who.purpose != "customer":
            sender = orjson.dumps({"name": who.name if name_visible else None})
            data = b'{"message_id":"%b",%b,"sender":%b,"owner_epoch":%d}' % (
                message_id.encode(),
                content,
                sender,
                conversation.owner_epoch,
            )
            event = encode_event("outbound.message", data, conversation_id=conversation_id, at=now_ms)
            action = message_id.encode() + b" " + event
        return Append(
            "message",
            conversation.org,
            conversation_id,
            None,
            "@" if who.purpose == "customer" else who.participant_id,
            owner or None,
            now_ms,
            head,
            b"," + content + b"}}",
            "asc",
            (id_hash("m", message_id),),
            action=action,
            action_connector=conversation.connector,
        )

    async def _why(self, answer: Appended, person: Person, conversation_id: str) -> Refused:
        """Things changed between looking and writing: say how they stand now."""
        if answer.outcome != "stale":
            return refusal_of(answer)
        loaded = await self._conversations.load(person.org, conversation_id)
        return stale_owner(loaded.situation.existing)

    async def type(self, person: Person, conversation_id: str, command: Typing) -> None:
        """Show that the owner or the customer is typing. Raises Refused as `send`."""
        loaded = await self._conversations.load(person.org, conversation_id)
        who = speaker(loaded.situation, person)
        head = b'{"event":"typing","conversation_id":"%b","at":%d,"data":{' % (
            conversation_id.encode(),
            loaded.situation.now_ms,
        )
        owner = None
        if who.purpose != "customer":
            owner = f"{who.participant_id} {loaded.situation.existing.owner_epoch}"
        append = Append(
            "typing",
            person.org,
            conversation_id,
            None,
            "@" if who.purpose == "customer" else who.participant_id,
            owner,
            loaded.situation.now_ms,
            head,
            b',"on":%b}}' % (b"true" if command.on else b"false"),
            "",
        )
        answer = (await self._store.append([append]))[0]
        if answer.outcome != "ok":
            raise await self._why(answer, person, conversation_id)

    async def draft(self, person: Person, command: DraftUpdate) -> None:
        """Keep what an agent is writing, while connected. Raises Refused `stale_owner`, `conversation_ended`."""
        loaded = await self._conversations.load(person.org, command.conversation_id)
        conversation = visible(loaded.situation, person)
        if conversation.ended_at is not None:
            raise with_draft(Refused("conversation_ended", "The conversation has ended."), command.text)
        mine = [one for one in conversation.connected if one.user_id == person.user_id and one.purpose != "supervisor"]
        if not mine:
            raise with_draft(stale_owner(conversation), command.text)
        append = Append(
            "draft",
            person.org,
            command.conversation_id,
            None,
            mine[0].participant_id,
            None,
            loaded.situation.now_ms,
            b"",
            command.text.encode(),
            "",
        )
        answer = (await self._store.append([append]))[0]
        if answer.outcome != "ok":
            raise with_draft(await self._why(answer, person, command.conversation_id), command.text)

    async def receipt(self, person: Person, conversation_id: str, command: ReceiptSend) -> None:
        """The customer's messenger got or showed a message. Raises Refused `unknown_conversation`."""
        loaded = await self._conversations.load(person.org, conversation_id)
        visible(loaded.situation, person)
        await self.receipts(
            person.org, conversation_id, None, loaded.situation.now_ms, command.message_id, command.status, None
        )

    async def receipts(
        self,
        org: str,
        conversation_id: str,
        connector: str | None,
        at: int,
        message_id: str,
        status: str,
        reason: str | None,
    ) -> None:
        """Write what became of a message, once per status. Raises Refused `unknown_conversation`."""
        append = Append(
            "receipt",
            org,
            conversation_id,
            connector,
            "",
            None,
            at,
            b"",
            receipt_body(conversation_id, at, message_id, status, reason),
            "asc",
            (id_hash("r", f"{message_id} {status}"),),
        )
        answer = (await self._store.append([append]))[0]
        if answer.outcome == "unknown":
            raise unknown()


def with_draft(refused: Refused, text: str) -> Refused:
    """The same refusal, with the text that was not sent."""
    if refused.code not in ("stale_owner", "conversation_ended"):
        return refused
    return Refused(refused.code, refused.message, {**refused.details, "draft": text})
