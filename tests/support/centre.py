"""One organization on a hub: its platform, its people, its conversations."""

import asyncio
import contextlib
import itertools
import json
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import httpx

from tests.support.judge import Frame, Record, judge
from tests.support.plain import plain_client
from tests.support.processes import HubProcess
from tests.support.socket import HubError, Json, Socket, eventually
from tests.support.tokens import token

NAMES = {"ana": "Ana Ortiz", "bo": "Bo Lind", "cy": "Cy Park", "max": "Max Weber", "eva": "Eva Rossi", "dana": "Dana"}


def name_of(user: str) -> str:
    """The display name tests give a user."""
    return NAMES.get(user, user.capitalize())


class Centre:
    """
    An organization of its own, with fixed user and conversation ids in it, so that anything that leaks from one
    organization to another shows. `hubs` are the nodes it may connect to.
    """

    def __init__(self, *hubs: HubProcess, org: str | None = None) -> None:
        self.hubs = hubs
        self.org = org or "org-" + uuid.uuid4().hex[:12]
        self.http = plain_client(timeout=20.0)
        self.opened: list[Socket] = []
        self.platforms: list[Platform] = []
        self.platform = Platform(self, "platform")
        self._numbers = itertools.count(1)

    @property
    def hub(self) -> HubProcess:
        """The first node."""
        return self.hubs[0]

    async def close(self) -> None:
        """Close everything; fails where any frame broke the contract, or a promise of the hub's."""
        for line in self.opened:
            if line.close_code is None:
                with contextlib.suppress(Exception):
                    await line.close()
            line.line.transport.abort()  # one that the hub closed waits for its end of the connection, and the test is over
        await asyncio.sleep(0)
        await self.http.aclose()
        violations = [f"{line.endpoint}: {fault}" for line in self.opened for fault in line.violations]
        violations += map(str, judge(self.records()))
        assert not violations, "\n".join(violations[:10])

    def records(self) -> list[Record]:
        """What everybody here got and sent so far, for the judge."""
        sockets = [line.record(f"{line.endpoint}#{number}") for number, line in enumerate(self.opened)]
        return [*sockets, *(platform.record() for platform in self.platforms)]

    def token(self, sub: str, role: str = "supervisor", **changed: Any) -> str:
        """A token of this organization."""
        return token(sub, role, self.org, **({"name": name_of(sub)} | changed))

    async def raw(self, endpoint: str, *, node: int = 0, **options: Any) -> Socket:
        """A socket that hasn't said hello."""
        line = await Socket.open(self.hubs[node].sockets, endpoint, **options)
        self.opened.append(line)
        return line

    async def connect(
        self, endpoint: str, bearer: str, *, node: int = 0, resume: Json | None = None, **options: Any
    ) -> Socket:
        """A socket that has said hello with that token."""
        line = await self.raw(endpoint, node=node, **options)
        await line.hello(bearer, resume)
        return line

    async def supervisor(
        self,
        sub: str = "ana",
        *,
        status: str | None = "available",
        node: int = 0,
        resume: Json | None = None,
        **changed: Any,
    ) -> Socket:
        """A supervisor with every right, Available unless said otherwise."""
        line = await self.connect("/v1/supervisor", self.token(sub, **changed), node=node, resume=resume)
        if status:
            await line.command("status.set", status=status)
        return line

    async def agent(self, sub: str = "max", *, node: int = 0, resume: Json | None = None, **changed: Any) -> Socket:
        """An agent's desktop."""
        return await self.connect("/v1/agent", self.token(sub, "agent", **changed), node=node, resume=resume)

    async def connector(self, sub: str = "platform", *, node: int = 0) -> "Connector":
        """A platform's socket."""
        return Connector(await self.connect("/v1/connector", self.token(sub, "connector"), node=node))

    async def customer(self, conversation: str, sub: str = "cus_7", *, node: int = 0, **changed: Any) -> Socket:
        """A customer's messenger."""
        bearer = self.token(sub, "customer", conversation=conversation, **changed)
        return await self.connect("/v1/customer", bearer, node=node)

    async def get(self, path: str, *, bearer: str | None = None, node: int = 0, **params: Any) -> httpx.Response:
        """GET as a supervisor with every right, or as whoever `bearer` says."""
        headers = {"authorization": f"Bearer {bearer or self.token('ana')}"}
        return await self.http.get(self.hubs[node].url + path, params=params, headers=headers)

    async def detail(self, conversation: str) -> Json:
        """A conversation's detail."""
        answer = await self.get(f"/v1/conversations/{conversation}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def entries(self, conversation: str, **params: Any) -> list[Json]:
        """Entries of a conversation's transcript."""
        answer = await self.get(f"/v1/conversations/{conversation}/transcript", **params)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["entries"])

    async def messages(self, conversation: str) -> list[Json]:
        """Every message of a conversation's transcript, in order."""
        entries = await self.entries(conversation)
        while entries and (older := await self.entries(conversation, before=entries[0]["offset"])):
            entries = older + entries
        return [entry for entry in entries if entry["kind"] == "message"]

    async def segments(self, conversation: str, kind: str | None = None) -> list[Json]:
        """Segments of a conversation's timeline."""
        answer = await self.get(f"/v1/conversations/{conversation}/timeline")
        assert answer.status_code == 200, answer.text
        return [segment for segment in answer.json()["segments"] if kind in (None, segment["kind"])]

    async def row(self, conversation: str) -> Json:
        """A conversation's row, as its detail has it."""
        return dict((await self.detail(conversation))["conversation"])

    async def row_with(self, conversation: str, **fields: Any) -> Json:
        """Wait until the row has those fields; the row."""
        found: Json = {}

        async def there() -> bool:
            found.update(await self.row(conversation))
            return all(found.get(name, self) == value for name, value in fields.items())

        await eventually(there, wanted=f"{fields} in {found}")
        return found

    async def story(
        self,
        conversation: str | None = None,
        *,
        agents: Iterable[str] = ("max",),
        bots: Iterable[str] = (),
        channel: str = "web",
        queue: str = "support",
        division: str = "home",
        **data: Any,
    ) -> "Story":
        """A conversation that has started, with those agents and bots connected in that order (bots first)."""
        story = self._unbegun(conversation)
        batch = [story.beginning(channel=channel, queue=queue, division=division, **data)]
        batch += [story.connection(user, "bot") for user in bots]
        batch += [story.connection(user, "agent") for user in agents]
        await self.platform.accepted(*batch)
        return story

    async def stories(self, agents: Mapping[str, str | None]) -> list["Story"]:
        """Many conversations, each with one agent connected: by agent its id, or None for any; begun by one request."""
        stories = [self._unbegun(conversation) for conversation in agents.values()]
        pairs = [(story.beginning(), story.connection(user)) for story, user in zip(stories, agents, strict=True)]
        await self.platform.accepted(*itertools.chain.from_iterable(pairs))
        return stories

    def _unbegun(self, conversation: str | None) -> "Story":
        return Story(self, conversation or f"cnv_{next(self._numbers)}")


class Platform:
    """Posts events as one connector."""

    def __init__(self, centre: Centre, sub: str) -> None:
        self.centre = centre
        self.sub = sub
        self._numbers = itertools.count(1)
        self._written: list[Frame] = []
        centre.platforms.append(self)

    def record(self) -> Record:
        """The events that were posted and what became of each, for the judge."""
        org, written = self.centre.org, tuple(self._written)
        return Record(self.sub, "/v1/events", written, org_known=org, user_known=self.sub)

    def _wrote(self, events: Iterable[Any]) -> range:
        """Events that are posted now; the numbers they are written down under."""
        now, first = time.monotonic(), len(self._written) + 1
        asked: list[Json] = [{"cmd": "event", "event": event} for event in events]
        numbers = range(first, first + len(asked))
        self._written += [Frame(now, True, {"id": number} | one) for number, one in zip(numbers, asked, strict=True)]
        return numbers

    def _answered(self, numbers: range, results: Iterable[Json]) -> None:
        now = time.monotonic()
        for number, result in zip(numbers, results, strict=False):
            kind = "error" if result["status"] == "refused" else "ok"
            self._written.append(Frame(now, False, {"id": number, kind: result}))

    def event(self, kind: str, conversation: str, /, **data: Any) -> Json:
        """An event with an id of its own, now."""
        number = next(self._numbers)
        at = int(time.time() * 1000)
        return {"id": f"evt_{number}", "type": kind, "conversation_id": conversation, "at": at, "data": data}

    async def http(
        self, content: str | bytes, kind: str = "application/json", *, node: int = 0, **changed: Any
    ) -> httpx.Response:
        """POST a body as it is."""
        bearer = self.centre.token(self.sub, changed.pop("role", "connector"), **changed)
        headers = {"authorization": f"Bearer {bearer}", "content-type": kind}
        return await self.centre.http.post(self.centre.hubs[node].url + "/v1/events", content=content, headers=headers)

    async def post(self, *events: Any, node: int = 0) -> list[Json]:
        """POST events; the results."""
        numbers = self._wrote(events)
        answer = await self.http(json.dumps({"events": events}), node=node)
        assert answer.status_code == 200, f"{answer.status_code}: {answer.text}"
        results = answer.json()["results"]
        assert len(results) == len(events), answer.text
        self._answered(numbers, results)
        return list(results)

    async def lines(self, *events: Json, node: int = 0) -> list[Json]:
        """POST events as NDJSON; the results."""
        numbers = self._wrote(events)
        answer = await self.http("\n".join(map(json.dumps, events)), "application/x-ndjson", node=node)
        assert answer.status_code == 200, f"{answer.status_code}: {answer.text}"
        results = list(answer.json()["results"])
        self._answered(numbers, results)
        return results

    async def accepted(self, *events: Json, node: int = 0) -> list[str | None]:
        """POST events that must be accepted; their cursors."""
        results = await self.post(*events, node=node)
        for event, result in zip(events, results, strict=True):
            assert (result["id"], result["status"]) == (event["id"], "accepted"), f"{event} -> {result}"
        return [result.get("cursor") for result in results]

    async def refused(self, code: str, event: Json) -> Json:
        """POST an event that must be refused with `code`; the error."""
        [result] = await self.post(event)
        assert result["status"] == "refused", f"{event} -> {result}"
        assert result["error"]["code"] == code, f"{event} -> {result}"
        return dict(result["error"])


class Story:
    """One conversation, told from its platform's side. Participant ids are `p_` and the user's id."""

    def __init__(self, centre: Centre, conversation: str) -> None:
        self.centre = centre
        self.id = conversation
        self._numbers = itertools.count(1)

    def event(self, kind: str, **data: Any) -> Json:
        """An event of this conversation."""
        return self.centre.platform.event(kind, self.id, **data)

    def beginning(self, *, channel: str = "web", queue: str = "support", division: str = "home", **data: Any) -> Json:
        """The event that starts it."""
        customer = {"id": "cus_7", "name": "Dana"}
        about = {"channel": channel, "queue": queue, "division": division, "customer": customer, "subject": "Refund"}
        return self.event("conversation.started", **(about | data))

    def connection(self, user: str, purpose: str = "agent") -> Json:
        """The event that connects an agent or bot."""
        return self.event(
            "participant.connected", participant_id=f"p_{user}", purpose=purpose, user_id=user, name=name_of(user)
        )

    async def tell(self, kind: str, *, node: int = 0, **data: Any) -> str | None:
        """Post one event that must be accepted; its cursor."""
        [cursor] = await self.centre.platform.accepted(self.event(kind, **data), node=node)
        return cursor

    async def join(self, user: str, purpose: str = "agent") -> str:
        """Connect an agent or bot; its participant id."""
        await self.centre.platform.accepted(self.connection(user, purpose))
        return f"p_{user}"

    async def leave(self, user: str, how: str = "client") -> str | None:
        """Disconnect a participant."""
        return await self.tell("participant.disconnected", participant_id=f"p_{user}", disconnect_type=how)

    async def customer_says(self, text: str, *, node: int = 0) -> str:
        """The customer writes; the message's id."""
        message_id = f"c:{next(self._numbers)}"
        await self.tell("message.created", node=node, message_id=message_id, text=text, purpose="customer")
        return message_id

    async def agent_says(self, text: str, user: str = "max") -> str:
        """An agent or bot writes on the platform's own desktop; the message's id."""
        message_id = f"a:{next(self._numbers)}"
        await self.tell("message.created", message_id=message_id, text=text, participant_id=f"p_{user}")
        return message_id

    async def transfer(self, queue: str) -> None:
        """The platform moves the conversation to another queue."""
        await self.tell("conversation.transferred", queue=queue)

    async def end(self, reason: str = "done") -> None:
        """The platform ends the conversation."""
        await self.tell("conversation.ended", reason=reason)

    async def fence(self, *receivers: Socket) -> None:
        """A panel changes, and each receiver sees it: whatever came before has arrived at them."""
        mark = uuid.uuid4().hex
        await self.tell("panel.updated", panel="fence", content={"mark": mark})
        for receiver in receivers:
            await receiver.expect("panel.updated", self.id, content={"mark": mark})

    async def monitored_by(self, line: Socket, **arguments: Any) -> Json:
        """A supervisor starts a monitor; its `monitor.started`."""
        ok = await line.command("monitor.start", conversation_id=self.id, **arguments)
        return await line.expect("monitor.started", self.id, monitor_id=ok["monitor_id"])

    async def prepared_by(self, line: Socket) -> Json:
        """A monitoring supervisor prepares a takeover; the `ok`."""
        return await line.command("takeover.prepare", conversation_id=self.id)

    async def taken_over_by(self, line: Socket, **arguments: Any) -> Json:
        """A supervisor monitors and takes over; the confirmation's `ok`, with `takeover_id`."""
        await self.monitored_by(line, **arguments)
        return await confirm(line, await self.prepared_by(line))


async def confirm(line: Socket, prepared: Json, **arguments: Any) -> Json:
    """Confirm a prepared takeover; the `ok`, with `takeover_id`."""
    takeover_id, confirm_token = prepared["takeover_id"], prepared["confirm_token"]
    ok = await line.command("takeover.confirm", takeover_id=takeover_id, confirm_token=confirm_token, **arguments)
    return ok | {"takeover_id": takeover_id}


class Connector:
    """A platform's socket: takes actions and reports them."""

    ACTIONS = (
        "outbound.message",
        "participant.disconnected",
        "participant.connected",
        "sender.changed",
        "conversation.ended",
    )

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.reported: list[Json] = []

    async def send_event(self, event: Json) -> Json:
        """Send a platform event; the `ok`."""
        return await self.socket.command("event", event=event)

    async def report(self, action: Json, status: str = "sent", **extra: Any) -> Json:
        """Report an action: a message by its id, another one by its action id; the `ok`."""
        data = action["data"]
        self.reported.append(action)
        if action["event"] == "outbound.message":
            return await self.socket.command("delivery.report", message_id=data["message_id"], status=status, **extra)
        return await self.socket.command("action.done", action_id=data["action_id"])

    async def report_all(self) -> None:
        """Report each action once it is there, until this is cancelled; repeats, too."""
        looked = 0

        def fresh() -> list[Json]:
            return self.socket.events[looked:]

        while True:
            await self.socket.until(lambda: bool(fresh()), 60, "something for the platform")
            news = fresh()
            looked += len(news)
            for action in news:
                if action["event"] in self.ACTIONS:
                    with contextlib.suppress(HubError):  # known to nobody any more
                        await self.report(action)

    async def action(self, name: str, conversation: str, timeout: float = 5.0, **fields: Any) -> Json:
        """The next action of that name; not reported yet."""
        return await self.socket.expect(name, conversation, timeout=timeout, **fields)

    async def carry_out(self, name: str, conversation: str, **fields: Any) -> Json:
        """The next action of that name, reported at once."""
        action = await self.action(name, conversation, **fields)
        await self.report(action)
        return action

    def actions(self, conversation: str) -> list[Json]:
        """Every action so far, repeats included."""
        return self.socket.of(conversation, *self.ACTIONS)


def participant(data: Json) -> Json:
    """The participant that an event or action is about."""
    return dict(data["participant"])


def sender_name(data: Json) -> str | None:
    """The sender's name that a message shows, if any."""
    sender = data["sender"]
    return None if sender is None else sender["name"]


def fields(error: HubError) -> Json:
    """What a program reads of a refusal."""
    return {"code": error.code, "retryable": error.retryable, **error.details}
