"""`hub connector-check --listen`: a good connector passes in each way, and each wrong one is found by what it does wrong."""

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from hub.channels.delivery import ROUTE
from hub.connector_check import Verdict
from hub.connector_hub import Seat, Standing, lead, settings_for, standing
from hub.connector_story import CHECKS, judged
from hub.settings import ConnectorSettings, bind
from tests.support.connectors import Connector, Json, OnSocket
from tests.support.http_server import Asked, HttpServer, Said

KEY = b"a-key-of-a-connector-for-tests!!"
SECRET = "whsec_YS1rZXktb2YtYS1jb25uZWN0b3ItZm9yLXRlc3RzISE="
WAIT_S = 2.5  # long enough for what a good one does on a busy machine, and waited out by most wrong ones
BUSY_MS = 600


class Misspelt(Connector):
    """Sends to an address that isn't there."""

    async def open(self) -> None:
        self.path = "/v1/event"


class Stranger(Connector):
    """Has somebody else's token."""

    async def open(self) -> None:
        self.token = "nobody's"
        await super().open()


class Forger(Connector):
    """Signs with another key."""

    async def open(self) -> None:
        self.key = b"another-key-of-another-connector"


class Silent(Connector):
    """Tells nothing."""

    async def begin(self) -> None:
        return


class Misshapen(Connector):
    """Adds a member of its own."""

    async def begin(self) -> None:
        await super().begin()
        await self.tell(self.event("typing", participant_id="prt-max", on=True, colour="red"))


class Wordless(Connector):
    """Sends what isn't JSON at all."""

    async def begin(self) -> None:
        await self.http.post("/v1/events", content=b"hello", headers=self.headers(b"hello"))
        await super().begin()


class Agentless(Connector):
    """Never says who answers."""

    async def begin(self) -> None:
        await self.tell(self.start(), self.event("message.created", purpose="customer", text="Hello?"))


class StartsTwice(Connector):
    """Tells the start of a conversation again, as another event."""

    async def begin(self) -> None:
        await super().begin()
        await self.tell(self.start())


class MessagesFirst(Connector):
    """Tells what was said before it tells of the conversation."""

    async def begin(self) -> None:
        await self.tell(self.event("message.created", purpose="customer", text="Is anybody there?"))
        await super().begin()


class SpeaksFirst(Connector):
    """Tells what an agent said before it tells of the agent."""

    async def begin(self) -> None:
        await self.tell(self.start(), self.event("message.created", participant_id="prt-max", text="Hi!"))
        await super().begin()

    def start(self) -> Json:
        return super().start() | {"id": f"start-{self.conversation}"}


class Hasty(Connector):
    """Doesn't hold up the next event while one must be sent again."""

    async def tell(self, *events: Json) -> None:
        for attempt in itertools.count(1):
            status, wait_s = await self.send([self.written(event, attempt) for event in events])
            if self.closed or not self.again(status):
                return
            await asyncio.sleep(wait_s or 0.2)

    async def write_on(self) -> None:
        self.do(super().write_on())
        await asyncio.sleep(0.1)  # a person's next word
        if not self.told_to_wait:
            await self.customer_says("And so on.")

    told_to_wait = False

    def wait_of(self, said_s: float) -> float:
        self.told_to_wait = self.told_to_wait or said_s > 0
        return said_s


class NewIds(Connector):
    """Makes an id for each try."""

    def written(self, event: Json, attempt: int) -> Json:
        return event | {"id": f"{event['id']}-{attempt}"}


class NewMessageIds(Connector):
    """Makes an id of the message for each try."""

    def written(self, event: Json, attempt: int) -> Json:
        data = event["data"]
        return event | {"data": data | {"message_id": f"{data['message_id']}-{attempt}"}} if "text" in data else event


class NoIds(NewIds, NewMessageIds):
    """Keeps no id at all."""

    def written(self, event: Json, attempt: int) -> Json:
        return NewIds.written(self, NewMessageIds.written(self, event, attempt), attempt)


class OneId(Connector):
    """Gives all messages the same id."""

    def event(self, kind: str, **data: object) -> Json:
        return super().event(kind, **({"message_id": "m"} if kind == "message.created" else {}), **data)


class GivesUp(Connector):
    """Takes 503 for a refusal."""

    def again(self, status: int) -> bool:
        return status == 429


class GivesUpWhenBusy(Connector):
    """Takes 429 for a refusal."""

    def again(self, status: int) -> bool:
        return status == 503


class Impatient(Connector):
    """Tries again at once, whatever it was told."""

    def wait_of(self, said_s: float) -> float:
        return 0.0


class ImpatientSocket(OnSocket):
    """The same, on a socket."""

    def wait_of(self, said_s: float) -> float:
        return 0.0


class Deaf(Connector):
    """Has no socket for actions."""

    async def open(self) -> None:
        return


class Unreported(Connector):
    """Doesn't say that it has done something."""

    def report(self, kind: str, data: Json) -> Json | None:
        return super().report(kind, data) if kind == "outbound.message" else None


class Receiptless(Connector):
    """Doesn't say what became of a message."""

    def report(self, kind: str, data: Json) -> Json | None:
        return None if kind == "outbound.message" else super().report(kind, data)


class Failing(Connector):
    """Says that it can't."""

    def report(self, kind: str, data: Json) -> Json | None:
        failed = {"status": "failed", "reason": "no way"} if kind == "outbound.message" else {}
        return (super().report(kind, data) or {}) | failed


class Refusing(Connector):
    """Answers webhooks with a refusal."""

    def hook(self, loop: asyncio.AbstractEventLoop) -> Callable[[Asked], Said]:
        carried_out = super().hook(loop)
        return lambda asked: Said(422) if asked.json["type"] == "outbound.message" else carried_out(asked)


class Hiding(Connector):
    """Shows no one but the agent to the customer."""

    def show(self, text: str) -> None:
        return


class Echoing(Connector):
    """Tells the hub what the hub said."""

    def show(self, text: str) -> None:
        self.do(self.customer_says(text))
        super().show(text)


class Clinging(Connector):
    """Lets the agent write on."""

    async def try_to_write(self) -> None:
        self.removed.clear()
        await super().try_to_write()


class Rejoining(Connector):
    """Puts the agent back in."""

    async def try_to_write(self) -> None:
        await self.tell(self.joined())
        await super().try_to_write()


class Endless(Connector):
    """Doesn't report the end."""

    def report(self, kind: str, data: Json) -> Json | None:
        return None if kind == "conversation.ended" else super().report(kind, data)


class SameConversation(Connector):
    """Goes on in a conversation that has ended."""

    async def come_back(self) -> None:
        await self.customer_says("One more thing.")


class NeverBack(Connector):
    """Has no next conversation."""

    async def come_back(self) -> None:
        return


EVERYTHING = {check.name for check in CHECKS}
IN_PEACE = {"address", "token", "signature"}
AFTER_NOTHING = EVERYTHING - IN_PEACE - {"connected"}
NEXT = {"end", "next-conversation"}
AFTER_MESSAGE = {"shown", "no-echo", "agent-removed"} | NEXT
AFTER_TAKEOVER = {"receipts"} | AFTER_MESSAGE
TROUBLE = {"away", "lost", "busy"}
# What fails, and what is left out then.
WRONG: list[tuple[type[Connector], set[str], set[str]]] = [
    (Misspelt, {"address", "connected"}, AFTER_NOTHING),
    (Stranger, {"token", "connected"}, AFTER_NOTHING),
    (Silent, {"connected"}, AFTER_NOTHING),
    (Misshapen, {"shapes"}, set()),
    (Wordless, {"shapes"}, set()),
    (Agentless, {"conversation"}, TROUBLE | {"actions"} | AFTER_TAKEOVER),
    (StartsTwice, {"refusals"}, set()),
    (MessagesFirst, {"order"}, set()),
    (SpeaksFirst, {"order"}, set()),
    (Hasty, {"order"}, set()),
    (NewIds, {"event-ids"}, set()),
    (NewMessageIds, {"message-ids"}, set()),
    (NoIds, {"event-ids", "message-ids"}, set()),
    (GivesUp, {"away", "lost"}, set()),
    (GivesUpWhenBusy, {"busy"}, set()),
    (Impatient, {"busy"}, set()),
    (ImpatientSocket, {"busy"}, set()),
    (Deaf, {"actions"}, AFTER_TAKEOVER),
    (Unreported, {"actions"}, AFTER_TAKEOVER),
    (Receiptless, {"receipts"}, AFTER_MESSAGE),
    (Failing, {"receipts"}, set()),
    (Hiding, {"shown"}, set()),
    (Echoing, {"no-echo"}, set()),
    (Clinging, {"agent-removed"}, set()),
    (Rejoining, {"agent-removed"}, set()),
    (Endless, {"end"}, set()),
    (SameConversation, {"next-conversation"}, set()),
    (NeverBack, {"next-conversation"}, set()),
]
BY_WEBHOOKS: list[tuple[type[Connector], set[str], set[str]]] = [
    (Forger, {"signature", "connected"}, AFTER_NOTHING),
    (Refusing, {"receipts", "shown"}, set()),
    (GivesUp, {"away", "lost"}, set()),
]
Found = dict[str, list[Verdict]]


async def seated(
    hub: Standing, made: type[Connector], name: str, receiver: HttpServer | None
) -> tuple[Seat, Connector]:
    """A connector, ready, in an organization of its own; with a receiver it has signed webhooks."""
    seat = await hub.seat(bind("127.0.0.1", 0), f"org-{name}", f"c-{name}", wait_s=WAIT_S, busy_ms=BUSY_MS)
    key, path = (b"", "") if receiver is None else (KEY, f"{ROUTE}c-{name}")
    connector = made(seat.url, seat.token, key=key, path=path)
    if receiver is not None:
        receiver.answers = connector.hook(asyncio.get_running_loop())
    await connector.open()
    return seat, connector


async def story(seat: Seat, connector: Connector) -> list[Verdict]:
    """What the check says of it."""
    try:
        await lead(seat, connector.say)
    finally:
        await connector.close()
    assert connector.failed == [], connector.failed
    return list(judged(seat.record))


async def stories() -> Found:
    """Those of all connectors, at the same time, at one hub."""
    hooked: list[type[Connector]] = [Connector, *(one for one, _, _ in BY_WEBHOOKS)]
    plain: list[type[Connector]] = [Connector, OnSocket, *(one for one, _, _ in WRONG)]
    by_hooks = {f"{one.__name__}-hooks": one for one in hooked}
    others = {one.__name__: one for one in plain}
    connectors: dict[str, ConnectorSettings] = {}
    with contextlib.ExitStack() as standing_by:
        receivers = {name: standing_by.enter_context(HttpServer()) for name in by_hooks}
        for name, server in receivers.items():
            connectors |= settings_for(server.url, SECRET, org=f"org-{name}", connector=f"c-{name}").connectors
        async with standing(replace(settings_for(None, SECRET), connectors=connectors)) as hub:
            made = by_hooks | others
            # All are there before the first one begins, so that no story waits for another one's start.
            seats = [await seated(hub, made[name], name, receivers.get(name)) for name in made]
            told = await asyncio.gather(*(story(*one) for one in seats))
    return dict(zip(made, told, strict=True))


@pytest.fixture(scope="module")
def found() -> Found:
    """What the check says of each."""
    return asyncio.run(stories(), debug=False)


def names(verdicts: list[Verdict], level: str) -> set[str]:
    """The checks that ended so."""
    return {one.name for one in verdicts if one.level == level}


@pytest.mark.parametrize("name", ["Connector", "OnSocket", "Connector-hooks"])
def test_a_good_connector_passes(found: Found, name: str) -> None:
    """By HTTP and a socket, by the socket alone, and by signed webhooks: every check is made, and none has anything to mend."""
    assert [one.name for one in found[name]] == [check.name for check in CHECKS]
    assert {(one.name, one.level, one.got) for one in found[name]} == {
        (check.name, "ok", "as wanted") for check in CHECKS
    }


CASES = [(made.__name__, fails, left) for made, fails, left in WRONG]
CASES += [(f"{made.__name__}-hooks", fails, left) for made, fails, left in BY_WEBHOOKS]


@pytest.mark.parametrize(("name", "fails", "left"), CASES, ids=[name for name, _, _ in CASES])
def test_a_wrong_connector_is_found_by_what_it_does_wrong(
    found: Found, name: str, fails: set[str], left: set[str]
) -> None:
    """Those checks fail and no other, each with what was got and what to do; what it didn't come to is left out."""
    assert (names(found[name], "fail"), names(found[name], "left out")) == (fails, left), "\n".join(
        map(str, found[name])
    )
    for one in found[name]:
        assert one.got
        assert one.wanted
        assert one.mend or one.level != "fail"


def test_every_check_is_failed_by_some_wrong_connector() -> None:
    """No check that can't fail."""
    assert set().union(*(fails for _, fails, _ in WRONG + BY_WEBHOOKS)) == EVERYTHING
