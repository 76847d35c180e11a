"""Text messages through a real hub: forms signed by the provider's own library, and a server that stands where it stands."""

import asyncio
import os
import random
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import chain

import httpx
import pytest
import pytest_asyncio
from twilio.request_validator import RequestValidator

from tests.support.centre import Centre, Platform
from tests.support.files import fetched, png, uploaded
from tests.support.http_server import Asked, HttpServer, Said
from tests.support.processes import CONFIG, HubProcess, StoreProcess
from tests.support.socket import Json, Socket, eventually

SID, TOKEN = "AC" + "0" * 31 + "1", "a-token-for-tests-0123456789"
OURS, THEIRS = "+15005550006", "+15005550101"
FIRST, SECOND = "sms:15005550006:15005550101:1", "sms:15005550006:15005550101:2"
PUBLIC = "https://hub.example.org"
SOAK_TEXTS = int(os.environ.get("SOAK_TEXTS", "60"))
LIMITS = "outbound_backoff_ms = 50\noutbound_backoff_max_ms = 200\noutbound_timeout_ms = 2000\n"


class Texts:
    """One account of the provider's and its customers, at the hubs of one organization."""

    def __init__(self, centre: Centre, account: "Account") -> None:
        self.centre = centre
        self.account = account
        self.router = Platform(centre, account.connector)
        self.route = f"/v1/channels/{account.connector}"

    async def post(self, form: dict[str, str], url: str = "", *, node: int = 0) -> httpx.Response:
        """A form to one of the hubs, signed for the address that the provider knows."""
        form, url = form | {"AccountSid": SID}, url or PUBLIC + self.route
        headers = {"x-twilio-signature": RequestValidator(TOKEN).compute_signature(url, form)}
        target = self.centre.hubs[node].url + url.removeprefix(PUBLIC)
        return await self.centre.http.post(target, data=form, headers=headers)

    async def text(self, body: str, sid: str = "", *, node: int = 0, **more: str) -> str:
        """The customer writes; the message's id."""
        sid = sid or "SM" + uuid.uuid4().hex
        form = {"MessageSid": sid, "From": THEIRS, "To": OURS, "Body": body, "NumMedia": "0"} | more
        answer = await self.post(form, node=node)
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/xml")
        return sid

    async def joined(self, conversation: str = FIRST, user: str = "max") -> Socket:
        """Whoever routes connects an agent, with a token of the connector's; the agent's desktop."""
        agent = await self.centre.agent(user)
        event = {"participant_id": f"p_{user}", "purpose": "agent", "user_id": user, "name": "Max Weber"}
        await self.router.accepted(self.router.event("participant.connected", conversation, **event))
        await agent.expect("conversation.snapshot", conversation)
        return agent

    async def said(self, agent: Socket, text: str, conversation: str = FIRST) -> str:
        """An agent writes; the message's id."""
        ok = await agent.command(
            "message.send", conversation_id=conversation, text=text, client_message_id=uuid.uuid4().hex
        )
        return str(ok["message_id"])

    async def tried(self) -> None:
        """Wait until the provider has been asked."""

        async def asked() -> bool:
            return bool(self.account.asked)

        await eventually(asked, wanted="a try to send")

    def forms(self) -> list[dict[str, str]]:
        """What the provider was asked to send."""
        return [dict(asked.form) for asked in self.account.asked]

    async def texts_of(self, conversation: str) -> list[Json]:
        """The conversation's messages."""
        return [{"text": one["text"], "purpose": one["purpose"]} for one in await self.centre.messages(conversation)]


@dataclass(slots=True)
class Account:
    """One account at the provider's server, under a path of its own."""

    connector: str
    org: str = field(default_factory=lambda: "org-" + uuid.uuid4().hex[:12])
    answer: Said = field(default_factory=lambda: Said(201, {"sid": "SM7"}))
    asked: list[Asked] = field(default_factory=list)


class House:
    """The provider's server with several accounts, for hubs that know all of them: each test takes the next."""

    def __init__(self, accounts: int) -> None:
        self.accounts = [Account(f"texts{number}") for number in range(accounts)]
        self.server = HttpServer(self._answer)
        self.free = iter(self.accounts)

    def _answer(self, asked: Asked) -> Said:
        account = next(one for one in self.accounts if asked.path.startswith(f"/{one.connector}/"))
        account.asked.append(asked)
        return account.answer

    @property
    def tables(self) -> str:
        """A connector for each account, and where the provider finds the hub: what a configuration begins with."""
        host = self.server.url.removeprefix("http://")
        tables = [
            f"""
[connectors.{one.connector}]
org = "{one.org}"
adapter = "sms"
account_sid = "{SID}"
auth_token = "{TOKEN}"
api_base = "{self.server.url}/{one.connector}"
allow_private = ["{host}"]
numbers = {{ "{OURS}" = "support" }}
"""
            for one in self.accounts
        ]
        return f'public_url = "{PUBLIC}"\n' + "".join(tables)

    @property
    def config(self) -> str:
        """Of a hub with these connectors."""
        return self.tables + CONFIG + LIMITS


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, HubProcess]]:
    """One hub for all tests here."""
    house = House(8)
    hub = HubProcess(tmp_path_factory.mktemp("texts"), config=house.config)
    with house.server:
        hub.start()
        yield house, hub
        hub.kill()


@pytest_asyncio.fixture
async def texts(house: tuple[House, HubProcess]) -> AsyncIterator[Texts]:
    """An organization with text messages."""
    account = next(house[0].free)
    centre = Centre(house[1], org=account.org)
    yield Texts(centre, account)
    await centre.close()


@pytest.fixture(scope="module")
def two(store: StoreProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, list[HubProcess]]]:
    """Two nodes over one store."""
    house = House(2)
    names = ("east", "west")
    hubs = [HubProcess(tmp_path_factory.mktemp(name), redis_url=store.url, config=house.config) for name in names]
    with house.server:
        for hub in hubs:
            hub.start()
        yield house, hubs
        for hub in hubs:
            hub.kill()


@pytest_asyncio.fixture
async def texts_of_two(two: tuple[House, list[HubProcess]]) -> AsyncIterator[Texts]:
    """An organization with text messages on both."""
    account = next(two[0].free)
    centre = Centre(*two[1], org=account.org)
    yield Texts(centre, account)
    await centre.close()


async def test_a_text_becomes_a_conversation_and_its_answer_a_text(texts: Texts) -> None:
    """There and back: the customer's text, the agent's answer, what became of it, and a form that comes twice."""
    sid = await texts.text("Where is my order?")
    await texts.text("Where is my order?", sid)
    agent = await texts.joined()
    message = await texts.said(agent, "On its way.")
    await agent.expect("message.receipt", FIRST, message_id=message, status="sent")
    [form] = texts.forms()
    assert (form["To"], form["From"], form["Body"]) == (THEIRS, OURS, "On its way.")
    report = {"MessageSid": "SM7", "MessageStatus": "delivered"}
    assert (await texts.post(report, form["StatusCallback"])).status_code == 200
    await agent.expect("message.receipt", FIRST, message_id=message, status="delivered")
    await texts.post(report | {"MessageStatus": "sent"}, form["StatusCallback"])
    assert await texts.texts_of(FIRST) == [
        {"text": "Where is my order?", "purpose": "customer"},
        {"text": "On its way.", "purpose": "agent"},
    ]
    row = await texts.centre.row(FIRST)
    assert (row["channel"], row["queue"], row["customer"]["name"]) == ("sms", "support", THEIRS)


async def test_an_uploaded_picture_goes_with_a_link_that_opens_it(texts: Texts) -> None:
    """The provider has no token of the hub's: the address that it is sent opens this one file."""
    await texts.text("What does it look like?")
    agent = await texts.joined()
    picture = png()
    file = await uploaded(texts.centre, texts.centre.token("max", "agent"), FIRST, "look.png", picture)
    ok = await agent.command(
        "message.send", conversation_id=FIRST, text="Like this", client_message_id="a-1", attachments=[file]
    )
    await agent.expect("message.receipt", FIRST, message_id=ok["message_id"], status="sent")
    [form] = texts.forms()
    link = form["MediaUrl"]
    assert link.startswith(f"{PUBLIC}{file['url']}?")
    assert (await fetched(texts.centre, link.removeprefix(PUBLIC))).content == picture
    assert (await fetched(texts.centre, file["url"])).status_code == 401


async def test_what_isnt_the_providers_is_refused(texts: Texts) -> None:
    """A wrong signature is 401 and has no effect; a number that isn't configured is 400."""
    form = {"MessageSid": "SM1", "From": THEIRS, "To": OURS, "Body": "Hi", "AccountSid": SID}
    forged = await texts.centre.http.post(
        texts.centre.hub.url + texts.route, data=form, headers={"x-twilio-signature": "x"}
    )
    assert forged.status_code == 401
    assert forged.json()["error"]["code"] == "unauthenticated"
    answer = await texts.post(form | {"To": "+15005550009"})
    assert (answer.status_code, answer.json()["error"]["details"]["path"]) == (400, "To")
    assert (await texts.centre.get(f"/v1/conversations/{FIRST}")).status_code == 404
    assert TOKEN not in texts.centre.hub.tail()


async def test_a_text_after_the_end_begins_the_next_conversation(texts: Texts) -> None:
    """Also while the end hasn't reached the provider's side, because the provider can't be reached."""
    await texts.text("Hi")
    agent = await texts.joined()
    texts.account.answer = Said(503)
    await texts.said(agent, "Hello")
    await texts.tried()
    await agent.command("conversation.end", conversation_id=FIRST)
    await texts.text("One more thing", "SMnext")
    await texts.text("One more thing", "SMnext")
    assert await texts.texts_of(SECOND) == [{"text": "One more thing", "purpose": "customer"}]
    assert [one["text"] for one in await texts.texts_of(FIRST)] == ["Hi", "Hello"]
    texts.account.answer = Said(201)
    await texts.text("Are you there?")
    assert [one["text"] for one in await texts.texts_of(SECOND)] == ["One more thing", "Are you there?"]


async def test_after_stop_nothing_is_sent_and_the_agent_sees_why(texts: Texts) -> None:
    """The customer's word and the panel show; a message fails with the reason; START undoes it."""
    await texts.text("Hi")
    agent = await texts.joined()
    await texts.text("STOP")
    await agent.expect("panel.updated", FIRST, panel="sms", content={"our_number": OURS, "opted_out": True})
    message = await texts.said(agent, "Sorry to see you go")
    await agent.expect("message.receipt", FIRST, message_id=message, status="failed", reason="opted_out")
    assert texts.forms() == []
    await texts.text("START")
    message = await texts.said(agent, "Welcome back")
    await agent.expect("message.receipt", FIRST, message_id=message, status="sent")
    assert [form["Body"] for form in texts.forms()] == ["Welcome back"]


async def test_a_stop_begins_no_conversation(texts: Texts) -> None:
    """Nobody has to look at it."""
    await texts.text("STOP")
    assert (await texts.centre.get(f"/v1/conversations/{FIRST}")).status_code == 404


async def test_the_provider_notices_no_monitor(texts: Texts) -> None:
    """Between a monitor's start and end it is asked nothing, and a takeover is no text."""
    await texts.text("Hi")
    await texts.joined()
    ana = await texts.centre.supervisor()
    ok = await ana.command("monitor.start", conversation_id=FIRST)
    await texts.text("Hello?")
    await ana.expect("message.created", FIRST, text="Hello?")
    prepared = await ana.command("takeover.prepare", conversation_id=FIRST)
    token = {name: prepared[name] for name in ("takeover_id", "confirm_token")}
    await ana.command("takeover.confirm", **token)
    message = await texts.said(ana, "This is Ana")
    await ana.expect("message.receipt", FIRST, message_id=message, status="sent")
    assert [form["Body"] for form in texts.forms()] == ["This is Ana"]
    assert ok["monitor_id"]


async def test_two_nodes_take_the_same_text_at_once(texts_of_two: Texts) -> None:
    """One conversation, one message, whichever node has which copy; and one text for an answer."""
    texts = texts_of_two
    await asyncio.gather(*(texts.text("Hi", "SM1", node=node) for node in (0, 1, 0, 1)))
    await asyncio.gather(*(texts.text("And", f"SM{2 + node}", node=node) for node in (0, 1)))
    assert [one["text"] for one in await texts.texts_of(FIRST)] == ["Hi", "And", "And"]
    agent = await texts.joined()
    message = await texts.said(agent, "Hello")
    await agent.expect("message.receipt", FIRST, message_id=message, status="sent")
    assert len(texts.forms()) == 1


async def test_no_text_is_lost_between_conversations(texts_of_two: Texts) -> None:
    """
    While conversations end all the time, from both nodes, each text is in one conversation, once, and those are 1, 2, 3, ...

    Ends come by a platform's event, which tells the adapter nothing: it finds out by what is refused.
    """
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    texts = texts_of_two
    sids = [f"SM{number}" for number in range(SOAK_TEXTS)]
    ends = 0

    async def write(mine: list[str], node: int) -> None:
        for sid in mine:
            await texts.text(sid, sid, node=node)
            before = mine[: mine.index(sid) + 1]
            if chance.random() < 0.3:  # the provider sends one again, at once or much later
                again = chance.choice([sid, *before])
                await texts.text(again, again, node=1 - node)

    async def end() -> None:
        nonlocal ends
        running_one = texts.router.event("conversation.ended", f"{FIRST[:-1]}{ends + 1}", reason="done")
        [result] = await texts.router.post(running_one, node=chance.randrange(2))
        ends += result["status"] == "accepted"

    writers = [asyncio.create_task(write(sids[turn::4], turn % 2)) for turn in range(4)]
    while not all(writer.done() for writer in writers):
        await end()
    await asyncio.gather(*writers)
    print(f"{ends} ends")
    found = [
        [one["text"] for one in await texts.texts_of(f"{FIRST[:-1]}{number + 1}")]
        for number in range(ends + 1)
        if (await texts.centre.get(f"/v1/conversations/{FIRST[:-1]}{number + 1}")).status_code == 200
    ]
    assert sorted(chain.from_iterable(found)) == sorted(sids)
    assert ends > 2
    assert len(found) >= ends
