"""
Chatwoot: its webhooks in, its API out.

    make(options, place)   the adapter; options are those of `Account`
    signature_of(...)      what Chatwoot signs a webhook with

A Chatwoot conversation may be resolved and opened again, one of the hub's is ended once; so each is a series
`cw:<account>:<number>:<n>` (`series`). Chatwoot sends its webhooks from several workers: they may overtake each other,
and some come twice (by the account's webhook and the inbox's). So nothing depends on their order that needn't: what a
customer says, and what begins a conversation, always brings its start along under an id of its own, and every id is made
of Chatwoot's ids or of the webhook's bytes.

What the hub itself did comes back as webhooks, too. A message carries its id as `source_id`; an assignment is noted before
it is made.

Sources: Chatwoot's "webhook events" and API reference (application APIs: messages, assignments, toggle status), and its
`WebhookListener` for the fields.
"""

from __future__ import annotations

import hashlib
import hmac
import mimetypes
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import orjson

from hub.channels import series
from hub.channels.option_reader import Options
from hub.channels.port import (
    Action,
    Answer,
    BadOption,
    Caller,
    Failed,
    Inbound,
    Later,
    Notes,
    Option,
    Outcome,
    Place,
    Received,
    Sent,
    Unreachable,
)
from hub.domain.errors import Refused
from hub.protocol.fields import (
    ATTACHMENTS_MAX,
    ID_PATTERN,
    LABEL_CHARS_MAX,
    TEXT_CHARS_MAX,
    URL_CHARS_MAX,
    URL_PATTERN,
)

Json = Mapping[str, Any]
Event = dict[str, Any]

# A signed webhook that is older, or from the future, is refused: it may be a copy of one that somebody overheard.
AGE_MS_MAX: Final = 300_000
SECRET_BYTES_MIN: Final = 16
NOTE_TTL_MS: Final = 7 * 86_400_000
NOBODY_KNOWN: Final = {"id": "unknown", "name": ""}  # a contact that Chatwoot doesn't tell
OUR_MARK: Final = "hub:"  # before the message's id in `source_id`
NOBODY: Final = 0  # what Chatwoot's own pages send to leave a conversation without an assignee
INCOMING: Final = ("incoming", 0)
OUTGOING: Final = ("outgoing", 1)

_CONVERSATION: Final = re.compile(r"cw:([0-9]{1,12}):([0-9]{1,12}):([0-9]+)")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """
    What an operator writes. `base_url`: where Chatwoot is; `account_id` and `api_token`: of whom the hub acts as.

    At least one of `webhook_secret` (Chatwoot's, which signs each webhook) and `path_secret` (the last part of the
    webhook's address: .../v1/channels/<connector>/<path_secret>); both where both are set. `queue` is for what neither
    `teams` nor `inboxes` (Chatwoot's ids, each with a queue) tells; `agents` has the hub's `user_id` of each of
    Chatwoot's agent ids.
    """

    base_url: str
    account_id: int
    api_token: str
    webhook_secret: str
    path_secret: str
    queue: str
    teams: Mapping[str, str]
    inboxes: Mapping[str, str]
    agents: Mapping[str, str]
    division: str


def make(options: Mapping[str, Option], place: Place) -> Chatwoot:
    """The adapter of one connector. Raises BadOption."""
    reader = Options(options)
    account = Account(
        base_url=reader.text("base_url").rstrip("/"),
        account_id=reader.number("account_id", least=1, most=10**12 - 1),
        api_token=reader.secret("api_token", bytes_min=8),
        webhook_secret=reader.secret("webhook_secret", "", bytes_min=SECRET_BYTES_MIN),
        path_secret=reader.secret("path_secret", "", bytes_min=SECRET_BYTES_MIN),
        queue=reader.text("queue"),
        teams=reader.table("teams", {}),
        inboxes=reader.table("inboxes", {}),
        agents=reader.table("agents", {}),
        division=reader.text("division", ""),
    )
    reader.done()
    _check(account)
    return Chatwoot(account)


def _check(account: Account) -> None:
    """Refuse what would only be found out by the first webhook."""
    if not re.fullmatch(r"https?://[^\s?#]+", account.base_url):
        raise BadOption("base_url", "isn't an address; allowed: https://HOST")
    if not account.webhook_secret and not account.path_secret:
        raise BadOption(
            "webhook_secret", "is missing, and so is `path_secret`; one is needed to know Chatwoot's webhooks"
        )
    if account.path_secret and not re.fullmatch(r"[A-Za-z0-9_.~-]+", account.path_secret):
        raise BadOption("path_secret", "can't stand in an address; allowed: letters, digits, - . _ ~")
    for key, ids in (("queue", [account.queue]), ("division", [account.division] if account.division else [])):
        if not all(re.search(ID_PATTERN, one) for one in ids):
            raise BadOption(key, f"is {ids[0]!r}; allowed: an id")
    for key, table in (("teams", account.teams), ("inboxes", account.inboxes), ("agents", account.agents)):
        for name, value in table.items():
            if not name.isdecimal() or not re.search(ID_PATTERN, value):
                raise BadOption(key, f"has {name!r} = {value!r}; allowed: a number of Chatwoot's = an id of the hub's")
    if len(set(account.agents.values())) < len(account.agents):
        raise BadOption("agents", "has one user twice; allowed: one of Chatwoot's agents for each user")


def signature_of(secret: str, timestamp: str, body: bytes) -> str:
    """The header `X-Chatwoot-Signature`: over `X-Chatwoot-Timestamp` (Unix seconds), a point and the body."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def place_of(conversation_id: str) -> tuple[str, str, int] | None:
    """Account, Chatwoot's number and place in the series of a conversation's id; None where it isn't one of ours."""
    found = _CONVERSATION.fullmatch(conversation_id)
    return (found[1], found[2], int(found[3])) if found else None


@dataclass(frozen=True, slots=True)
class _Webhook:
    """One webhook: what it tells, about which of Chatwoot's conversations, and which one of the series that is now."""

    payload: Json
    about: Json  # the conversation, as Chatwoot shows it
    conversation_id: str
    number: int
    digest: str  # of the body: two copies have the same
    at: int

    def event(self, id: str, kind: str, data: Event) -> Event:
        """An event of this conversation. Its id is hashed, since Chatwoot's may be long together."""
        hashed = "cw." + hashlib.sha256(f"{self.conversation_id}|{id}".encode()).hexdigest()[:40]
        return {"id": hashed, "type": kind, "conversation_id": self.conversation_id, "at": self.at, "data": data}


class Chatwoot:
    """One account of one Chatwoot."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self._agent_of = {user: int(agent) for agent, user in account.agents.items()}

    # In.

    async def receive(self, inbound: Inbound, notes: Notes) -> Received:
        """
        One webhook; what the hub has no use for is taken and means nothing.

        Raises:
            Refused: `unauthenticated` for a wrong signature, time or secret; `schema_invalid` for what isn't a webhook.
        """
        self._verify(inbound)
        payload = _object(inbound.body)
        kind = payload.get("event")
        about = payload.get("conversation") if str(kind).startswith(("message_", "conversation_typing")) else payload
        if not isinstance(kind, str) or not isinstance(about, dict):
            raise _wrong(
                "event", "Expected a webhook of Chatwoot's with its event and conversation, got something else."
            )
        tells = _TELLS.get(kind)
        account = payload.get("account")
        foreign = isinstance(account, dict) and account.get("id") != self.account.account_id
        if tells is None or foreign or not _matters(kind, payload):
            return Received()
        number = about.get("id")
        if type(number) is not int or not 0 < number < 10**12:
            raise _wrong("conversation.id", "Expected the conversation's number, got none.")
        notes = notes.about(_customer(about))
        pair = f"{self.account.account_id}:{number}"
        digest = hashlib.sha256(inbound.body).hexdigest()
        if tells is Chatwoot._typing:
            place = await series.running(notes, pair)  # it comes often, and is over at once
        else:
            word = f"m:{payload.get('id')}" if kind == "message_created" else digest[:32]
            place = await series.number_of(notes, pair, word, inbound.over)
        webhook = _Webhook(payload, about, f"cw:{pair}:{place}", place, digest, inbound.now_ms)
        return Received(await tells(self, webhook, notes))

    async def ended(self, conversation_id: str, notes: Notes) -> bool:
        """The conversation is over: what comes next begins another one. True where it is one of this adapter's."""
        place = place_of(conversation_id)
        if place is None:
            return False
        await series.over(notes, f"{place[0]}:{place[1]}", place[2])
        return True

    def _verify(self, inbound: Inbound) -> None:
        secret, headers = self.account.webhook_secret, inbound.headers
        if self.account.path_secret:
            told = urlsplit(inbound.url).path.rpartition("/")[2]
            if not hmac.compare_digest(told.encode(), self.account.path_secret.encode()):
                raise _unknown("the secret at the end of the address")
        if not secret:
            return
        timestamp = headers.get("x-chatwoot-timestamp", "")
        given = headers.get("x-chatwoot-signature", "").encode()
        if not hmac.compare_digest(signature_of(secret, timestamp, inbound.body).encode(), given):
            raise _unknown("the signature")
        if not re.fullmatch(r"[0-9]{1,12}", timestamp) or abs(int(timestamp) * 1000 - inbound.now_ms) > AGE_MS_MAX:
            raise _unknown(f"the time (more than {AGE_MS_MAX // 1000} s from now)")

    # What each webhook tells.

    async def _begun(self, webhook: _Webhook, notes: Notes) -> list[Event]:
        """`conversation_created`"""
        return [self._start(webhook), *await self._assignee(webhook, notes)]

    async def _said(self, webhook: _Webhook, notes: Notes) -> list[Event]:
        """`message_created`: of the customer, an agent or a bot; private notes, activities and templates don't matter."""
        payload, kind = webhook.payload, webhook.payload.get("message_type")
        number = payload.get("id")
        if type(number) is not int:
            raise _wrong("id", "Expected the message's number, got none.")
        if str(payload.get("source_id") or "").startswith(OUR_MARK) or await notes.get(f"mine:{number}") is not None:
            return []
        data = _message(payload, f"cw.{number}")
        if data is None:
            return []
        if kind in INCOMING:
            data["purpose"] = "customer"
            return [self._start(webhook), webhook.event(f"m:{number}", "message.created", data)]
        by = self._participant(payload.get("sender"))
        if by is None:
            return []  # an automation's: nobody said it
        said = webhook.event(f"m:{number}", "message.created", data)
        supervisor = await notes.get(f"as:{webhook.conversation_id}:{by['participant_id']}")
        if supervisor is not None:  # who took over goes on in Chatwoot
            data["participant_id"] = supervisor
            return [said]
        data["participant_id"] = by["participant_id"]
        if by["purpose"] == "bot":
            await notes.put(f"bot:{webhook.conversation_id}", by["participant_id"], ttl_ms=NOTE_TTL_MS)
        # An answer that comes behind its conversation's end (webhooks overtake each other) begins no other one.
        begins = [self._start(webhook)] if webhook.number == 1 else []
        return [*begins, await self._comes(webhook, by, notes), said]

    async def _comes(self, webhook: _Webhook, by: Event, notes: Notes) -> Event:
        """
        That somebody has come, under one id for each coming: a repeat changes nothing.

        So whoever was taken over doesn't come back by going on to write: what they write is refused.
        """
        left = await notes.get(f"left:{webhook.conversation_id}:{by['participant_id']}") or ""
        return webhook.event(f"in:{by['participant_id']}:{left}", "participant.connected", by)

    async def _goes(self, webhook: _Webhook, participant: str, how: str, notes: Notes) -> Event:
        """That somebody has left; they can come again."""
        key = f"left:{webhook.conversation_id}:{participant}"
        await notes.put(key, webhook.digest[:16], ttl_ms=NOTE_TTL_MS)
        data = {"participant_id": participant, "disconnect_type": how}
        return webhook.event(f"{webhook.digest}:out", "participant.disconnected", data)

    async def _updated(self, webhook: _Webhook, notes: Notes) -> list[Event]:
        """`conversation_updated`: another assignee, another team."""
        events: list[Event] = []
        changed = _changed(webhook.payload)
        team = changed.get("team_id")
        queue = self.account.teams.get(str(team[1])) if team else None
        if queue is not None:
            moved = webhook.event(f"{webhook.digest}:team", "conversation.transferred", {"queue": queue})
            events.append(moved)
        assignee = changed.get("assignee_id")
        if assignee is None or await self._is_ours(webhook, assignee, notes):
            return events
        before, now = assignee
        if type(before) is int and before:
            how = "transfer" if now else "client"
            events.append(await self._goes(webhook, _agent_participant(before), how, notes))
        return events + (await self._assignee(webhook, notes) if now else [])

    async def _is_ours(self, webhook: _Webhook, assignee: Sequence[object], notes: Notes) -> bool:
        """True where the hub itself made this assignment; one of somebody else's ends what was noted of the hub's."""
        before, now = (str(one or NOBODY) for one in assignee)
        if await notes.get(f"set:{webhook.conversation_id}:{now}") == "1":
            return True
        for stale in {before, str(NOBODY)}:
            await notes.put(f"set:{webhook.conversation_id}:{stale}", "0", ttl_ms=NOTE_TTL_MS)
        return False

    async def _status(self, webhook: _Webhook, notes: Notes) -> list[Event]:
        """`conversation_status_changed`: resolved is the end; open is a bot's handing over, or a new beginning."""
        if webhook.about.get("status") == "resolved":
            return [webhook.event(f"{webhook.digest}:end", "conversation.ended", {"reason": "resolved"})]
        events = [self._start(webhook), *await self._assignee(webhook, notes)]
        bot = await notes.get(f"bot:{webhook.conversation_id}")
        if bot is not None and _changed(webhook.payload).get("status", ("", ""))[0] == "pending":
            events.append(await self._goes(webhook, bot, "transfer", notes))
        return events

    async def _typing(self, webhook: _Webhook, notes: Notes) -> list[Event]:
        """`conversation_typing_on`, `conversation_typing_off`; of notes nobody hears."""
        payload = webhook.payload
        by = self._participant(payload["user"])
        data: Event = {"on": payload.get("event") == "conversation_typing_on"}
        data |= {"participant_id": by["participant_id"]} if by else {"purpose": "customer"}
        return [webhook.event(f"{webhook.digest}:typing", "typing", data)]

    def _start(self, webhook: _Webhook) -> Event:
        """The start of the conversation, the same whichever webhook brings it."""
        about = webhook.about
        contact = _who(about.get("meta"), "sender") or NOBODY_KNOWN
        team = _who(about.get("meta"), "team")
        queue = self.account.teams.get(str(team["id"])) if team else None
        queue = queue or self.account.inboxes.get(str(about.get("inbox_id"))) or self.account.queue
        account, number = self.account.account_id, about["id"]
        page = f"{self.account.base_url}/app/accounts/{account}/conversations/{number}"
        data: Event = {
            "channel": "open",
            "queue": queue,
            "customer": {"id": _customer(about), "name": contact["name"]},
            "panels": {"chatwoot": {"conversation": number, "inbox": about.get("inbox_id"), "url": page}},
        }
        if self.account.division:
            data["division"] = self.account.division
        return webhook.event("start", "conversation.started", data)

    async def _assignee(self, webhook: _Webhook, notes: Notes) -> list[Event]:
        """That whom the conversation is assigned to has come: also again, where an assignment is told by two webhooks."""
        by = _who(webhook.about.get("meta"), "assignee")
        comes = self._participant(by | {"type": "user"}) if by else None
        if comes is None or await notes.get(f"as:{webhook.conversation_id}:{comes['participant_id']}") is not None:
            return []
        again = webhook.event(f"{webhook.digest}:in", "participant.connected", comes)
        return [await self._comes(webhook, comes, notes), again]

    def _participant(self, sender: object) -> Event | None:
        """An agent or bot as the hub knows it; None for a contact, or where nobody is named."""
        if not isinstance(sender, dict) or type(sender.get("id")) is not int:
            return None
        number, name = sender["id"], _label(sender.get("name"))
        match sender.get("type"):
            case "user":
                user = self.account.agents.get(str(number), f"chatwoot-{number}")
                made = {"participant_id": _agent_participant(number), "purpose": "agent", "user_id": user}
            case "agent_bot":
                made = {"participant_id": f"cw-bot-{number}", "purpose": "bot", "user_id": f"chatwoot-bot-{number}"}
            case _:
                return None
        return made | {"name": name or made["user_id"]}

    # Out.

    async def send(self, action: Action, notes: Notes, caller: Caller) -> Outcome:
        """One action, by Chatwoot's API."""
        place = place_of(action.conversation_id)
        if place is None or place[0] != str(self.account.account_id):
            return Failed("not_a_conversation_of_this_account")
        api = _Api(self.account, place[1], caller)
        try:
            match action.type:
                case "outbound.message":
                    return await self._say(action, api, notes)
                case "participant.disconnected":
                    return await self._remove(action, api, notes)
                case "participant.connected":
                    return await self._hand_over(action, api, notes)
                case "conversation.ended":
                    return await self._resolve(action, place, api, notes)
                case _:
                    return Sent()  # under which name somebody answers is Chatwoot's to show
        except Unreachable:
            return Later("unreachable")

    async def _say(self, action: Action, api: _Api, notes: Notes) -> Outcome:
        mark = OUR_MARK + str(action.data["message_id"])
        # A try before this one may have reached Chatwoot though its answer didn't reach us: it knows no ids for repeats.
        if action.attempt > 1:
            newest = await api.get("messages")
            if outcome_of(newest) != Sent() or _is_among(mark, newest):
                return outcome_of(newest)  # where that can't be found out, nothing is risked
        if any(address.startswith("/") for address in action.addresses):
            return Failed("attachment_not_public")  # a file of the hub's, and no public address to reach it by
        content = "\n".join(filter(None, [action.data.get("text") or "", *action.addresses]))
        message = {"content": content, "message_type": "outgoing", "private": False, "source_id": mark}
        answer = await api.post("messages", message)
        outcome = outcome_of(answer)
        number = _maybe_object(answer.body).get("id")
        if outcome == Sent() and type(number) is int:
            # For a Chatwoot that keeps no `source_id` of outgoing messages; its webhook may be faster than this note.
            await notes.put(f"mine:{number}", "1", ttl_ms=NOTE_TTL_MS)
        return outcome

    async def _remove(self, action: Action, api: _Api, notes: Notes) -> Outcome:
        """Somebody doesn't answer any more: an agent's assignment goes, a bot's conversation is opened for people."""
        participant = str(action.data.get("participant_id", ""))
        if participant.startswith("cw-bot-"):
            return outcome_of(await api.post("toggle_status", {"status": "open"}))
        if participant.startswith("cw-agent-"):
            return await self._assign(NOBODY, action, api, notes)
        return Sent()

    async def _hand_over(self, action: Action, api: _Api, notes: Notes) -> Outcome:
        """Somebody answers now: the conversation is assigned to them where Chatwoot knows them."""
        who = action.data.get("participant") or {}
        agent = self._agent_of.get(str(who.get("user_id")))
        if agent is None:
            return Sent()
        key = f"as:{action.conversation_id}:{_agent_participant(agent)}"
        await notes.put(key, str(action.data["participant_id"]), ttl_ms=NOTE_TTL_MS)
        return await self._assign(agent, action, api, notes)

    async def _assign(self, agent: int, action: Action, api: _Api, notes: Notes) -> Outcome:
        # Before the call, since its webhook may come back before the answer.
        await notes.put(f"set:{action.conversation_id}:{agent}", "1", ttl_ms=NOTE_TTL_MS)
        return outcome_of(await api.post("assignments", {"assignee_id": agent}))

    async def _resolve(self, action: Action, place: tuple[str, str, int], api: _Api, notes: Notes) -> Outcome:
        """The end; unless the customer has written again already, and Chatwoot has the next conversation open."""
        if await series.running(notes, f"{place[0]}:{place[1]}") > place[2]:
            return Sent()
        outcome = outcome_of(await api.post("toggle_status", {"status": "resolved"}))
        if outcome == Sent():
            await self.ended(action.conversation_id, notes)
        return outcome


_TELLS: Final = {
    "conversation_created": Chatwoot._begun,
    "conversation_updated": Chatwoot._updated,
    "conversation_status_changed": Chatwoot._status,
    "message_created": Chatwoot._said,
    "conversation_typing_on": Chatwoot._typing,
    "conversation_typing_off": Chatwoot._typing,
}


def _matters(kind: str, payload: Json) -> bool:
    """False for what means nothing to the hub, so that nothing is looked up or noted for it: most of what Chatwoot tells."""
    match kind:
        case "message_created":
            return payload.get("private") is not True and payload.get("message_type") in INCOMING + OUTGOING
        case "conversation_updated":
            return not _changed(payload).keys().isdisjoint({"assignee_id", "team_id"})
        case "conversation_status_changed":
            return payload.get("status") in ("resolved", "open")
        case "conversation_typing_on" | "conversation_typing_off":
            return payload.get("is_private") is not True and isinstance(payload.get("user"), dict)
        case _:
            return True


class _Api:
    """Chatwoot's API for one conversation. Raises Unreachable."""

    def __init__(self, account: Account, number: str, caller: Caller) -> None:
        self._base = f"{account.base_url}/api/v1/accounts/{account.account_id}/conversations/{number}"
        self._headers = {"api_access_token": account.api_token, "content-type": "application/json"}
        self._caller = caller

    async def get(self, what: str) -> Answer:
        """Read something of the conversation."""
        return await self._caller.call("GET", f"{self._base}/{what}", headers=self._headers, body=b"")

    async def post(self, what: str, body: Event) -> Answer:
        """Change something of the conversation."""
        return await self._caller.call("POST", f"{self._base}/{what}", headers=self._headers, body=orjson.dumps(body))


def outcome_of(answer: Answer) -> Outcome:
    """What Chatwoot's answer means."""
    status, after = answer.status, answer.headers.get("retry-after", "")
    if 200 <= status < 300:
        return Sent()
    if status == 429 or status == 408 or status >= 500:
        return Later(f"chatwoot_status_{status}", int(after) * 1000 if after.isdecimal() and len(after) < 7 else 0)
    if status in (401, 403):
        return Later("credentials_refused")  # an operator mends these, and then it goes on
    return Failed("unknown_conversation" if status == 404 else f"chatwoot_status_{status}")


def _is_among(mark: str, newest: Answer) -> bool:
    """True where a conversation's newest messages have the one with this `source_id`."""
    messages = _maybe_object(newest.body).get("payload")
    found = messages if isinstance(messages, list) else []
    return any(isinstance(one, dict) and one.get("source_id") == mark for one in found)


def _agent_participant(number: int) -> str:
    return f"cw-agent-{number}"


def _message(payload: Json, message_id: str) -> Event | None:
    """What was said, without who said it; None where there is neither text nor file."""
    text = str(payload.get("content") or "")[:TEXT_CHARS_MAX]
    attachments = list(_attachments(payload.get("attachments")))[:ATTACHMENTS_MAX]
    if not text and not attachments:
        return None
    data: Event = {"message_id": message_id, "text": text}
    return data | {"attachments": attachments} if attachments else data


def _attachments(given: object) -> Iterator[Event]:
    for one in given if isinstance(given, list) else ():
        url = one.get("data_url") if isinstance(one, dict) else None
        if isinstance(url, str) and len(url) <= URL_CHARS_MAX and re.search(URL_PATTERN, url):
            path = urlsplit(url).path
            mime = mimetypes.guess_type(path)[0] or "application/octet-stream"
            yield {"url": url, "name": path.rpartition("/")[2][:LABEL_CHARS_MAX], "mime": mime}


def _changed(payload: Json) -> dict[str, Sequence[Any]]:
    """What a webhook says has changed: name to (before, now)."""
    changed = payload.get("changed_attributes")
    return {
        name: (pair.get("previous_value"), pair.get("current_value"))
        for one in (changed if isinstance(changed, list) else ())
        if isinstance(one, dict)
        for name, pair in one.items()
        if isinstance(pair, dict)
    }


def _customer(about: Json) -> str:
    """The customer's id, of a conversation as Chatwoot shows it."""
    return f"cw-contact-{(_who(about.get('meta'), 'sender') or NOBODY_KNOWN)['id']}"


def _who(meta: object, role: str) -> Event | None:
    """Id and name of somebody whom the conversation's `meta` names, or None."""
    somebody = meta.get(role) if isinstance(meta, dict) else None
    if not isinstance(somebody, dict) or type(somebody.get("id")) is not int:
        return None
    return {"id": somebody["id"], "name": _label(somebody.get("name"))}


def _label(name: object) -> str:
    return _CONTROL.sub(" ", str(name or "")).strip()[:LABEL_CHARS_MAX]


def _object(body: bytes) -> Json:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _wrong("body", "Expected a JSON object, got something else.")
    return value


def _maybe_object(body: bytes) -> Json:
    try:
        return _object(body)
    except Refused:
        return {}


def _wrong(path: str, message: str) -> Refused:
    return Refused("schema_invalid", message, {"path": path})


def _unknown(what: str) -> Refused:
    return Refused("unauthenticated", f"This isn't known to be Chatwoot's webhook: {what} isn't right.")
