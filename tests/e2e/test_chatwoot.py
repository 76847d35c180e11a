"""Chatwoot through a real hub: its webhooks as it sends them, and a server that behaves like its API."""

import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from tests.support.centre import Centre, confirm
from tests.support.chatwoot import ACCOUNT, API_TOKEN, ChatwootServer, Thread, signed
from tests.support.http_server import Said
from tests.support.processes import CONFIG, HubProcess
from tests.support.socket import Json, Socket, eventually

SECRET, PATH_SECRET = "whsec-for-tests-0123456789", "in-the-address-0123456789"
FIRST, SECOND = f"cw:{ACCOUNT}:207:1", f"cw:{ACCOUNT}:207:2"
LIMITS = "outbound_backoff_ms = 50\noutbound_backoff_max_ms = 200\noutbound_timeout_ms = 2000\n"


@dataclass(slots=True)
class Installation:
    """One Chatwoot and the connector that knows it."""

    connector: str
    server: ChatwootServer = field(default_factory=ChatwootServer)
    org: str = field(default_factory=lambda: "org-" + uuid.uuid4().hex[:12])

    @property
    def config(self) -> str:
        """The connector's tables."""
        host = self.server.url.removeprefix("http://")
        return f"""
[connectors.{self.connector}]
org = "{self.org}"
adapter = "chatwoot"
base_url = "{self.server.url}"
account_id = {ACCOUNT}
api_token = "{API_TOKEN}"
webhook_secret = "{SECRET}"
path_secret = "{PATH_SECRET}"
queue = "support"
allow_private = ["{host}"]
inboxes = {{ "2" = "support" }}
teams = {{ "4" = "abroad" }}
agents = {{ "12" = "max", "7" = "ana" }}
"""


class Side:
    """One installation and its organization on the hub."""

    def __init__(self, centre: Centre, installation: Installation) -> None:
        self.centre = centre
        self.server = installation.server
        self.url = f"{centre.hub.url}/v1/channels/{installation.connector}"

    async def deliver(self) -> None:
        """Everything that Chatwoot has to tell, in order, each once more than needed."""
        for body in self.server.take():
            for _ in range(2):
                headers = signed(SECRET, body, int(time.time() * 1000))
                answer = await self.centre.http.post(f"{self.url}/{PATH_SECRET}", content=body, headers=headers)
                assert answer.status_code == 200, answer.text

    async def texts(self, conversation: str = FIRST) -> list[str]:
        """Who said what, as the transcript has it."""
        return [f"{one['purpose']}: {one['text']}" for one in await self.centre.messages(conversation)]

    async def taken_over(self) -> tuple[Thread, Socket, Socket]:
        """Max answers Dana, Ana takes over; Max's and Ana's sockets."""
        thread = self.server.opens(assignee=12)
        self.server.customer_says(thread, "Hi")
        self.server.agent_says(thread, 12, "Max here.")
        await self.deliver()
        agent, ana = await self.centre.agent("max"), await self.centre.supervisor("ana")
        ok = await ana.command("monitor.start", conversation_id=FIRST)
        await ana.expect("monitor.started", FIRST, monitor_id=ok["monitor_id"])
        assert self.server.provider.asked == []  # silence: nothing so far was Chatwoot's business
        await confirm(ana, await ana.command("takeover.prepare", conversation_id=FIRST))
        await self.until(thread, assignee=7)
        return thread, agent, ana

    async def until(self, thread: Thread, **wanted: object) -> None:
        """Wait until Chatwoot's conversation is so."""

        async def so() -> bool:
            return all(getattr(thread, name) == value for name, value in wanted.items())

        await eventually(so, wanted=f"{wanted}")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HubProcess, Iterator[Installation]]]:
    """One hub that knows several installations: each test takes the next."""
    installations = [Installation(f"desk{number}") for number in range(6)]
    tables = "".join(one.config for one in installations)
    hub = HubProcess(tmp_path_factory.mktemp("desk"), config=tables + CONFIG + LIMITS)
    try:
        hub.start()
        yield hub, iter(installations)
    finally:
        hub.kill()
        for one in installations:
            one.server.close()


@pytest_asyncio.fixture
async def side(house: tuple[HubProcess, Iterator[Installation]]) -> AsyncIterator[Side]:
    """A Chatwoot of this test's own."""
    installation = next(house[1])
    centre = Centre(house[0], org=installation.org)
    yield Side(centre, installation)
    await centre.close()


async def test_a_conversation_of_chatwoots_is_seen(side: Side) -> None:
    """With its people and words, each once; private notes don't show."""
    thread = side.server.opens(assignee=12)
    side.server.customer_says(thread, "Hi")
    side.server.agent_says(thread, 12, "Max here.")
    side.server.agent_says(thread, 12, "A difficult one.", private=True)
    side.server.agent_says(thread, 13, "Eva, too.")
    side.server.move(thread, 4)
    await side.deliver()
    assert await side.texts() == ["customer: Hi", "agent: Max here.", "agent: Eva, too."]
    row = await side.centre.row(FIRST)
    assert (row["channel"], row["queue"], row["customer"]["name"]) == ("open", "abroad", "Dana")
    assert [(one["user_id"], one["name"]) for one in row["agents"]] == [
        ("max", "Max Weber"),
        ("chatwoot-13", "Eva Rossi"),
    ]
    side.server.assign(thread, 13)
    await side.deliver()
    assert [one["user_id"] for one in (await side.centre.row(FIRST))["agents"]] == ["chatwoot-13"]


async def test_a_takeover_reaches_chatwoot_and_nothing_is_doubled(side: Side) -> None:
    """Assigned to the supervisor; what she writes is one outgoing message; who was taken over is refused."""
    thread, agent, ana = await side.taken_over()
    await agent.expect("participant.disconnected", FIRST, disconnect_type="takeover")
    ok = await ana.command("message.send", conversation_id=FIRST, text="Ana here.", client_message_id="a-1")
    await ana.expect("message.receipt", FIRST, message_id=ok["message_id"], status="sent")
    assert [one["content"] for one in thread.messages] == ["Hi", "Max here.", "Ana here."]
    side.server.agent_says(thread, 12, "But I was answering.")
    side.server.agent_says(thread, 7, "Ana, from Chatwoot.")
    side.server.customer_says(thread, "Thank you")
    await side.deliver()
    wanted = ["customer: Hi", "agent: Max here.", "supervisor: Ana here.", "supervisor: Ana, from Chatwoot."]
    assert await side.texts() == [*wanted, "customer: Thank you"]
    assert [one["purpose"] for one in (await side.centre.row(FIRST))["agents"]] == ["supervisor"]


async def test_an_end_in_the_hub_resolves_and_the_customer_begins_again(side: Side) -> None:
    """The end that Chatwoot tells back ends nothing else; the next message is the next conversation."""
    thread, _, ana = await side.taken_over()
    await ana.command("conversation.end", conversation_id=FIRST)
    await side.until(thread, status="resolved")
    await side.deliver()
    side.server.customer_says(thread, "One more thing")
    await side.deliver()
    assert await side.texts(SECOND) == ["customer: One more thing"]
    assert (await side.centre.row(SECOND))["state"] != "ended"


async def test_an_end_in_chatwoot_ends_it_here(side: Side) -> None:
    """And what comes after it begins the next, also a reopening by hand."""
    thread = side.server.opens(assignee=12)
    side.server.customer_says(thread, "Hi")
    side.server.becomes(thread, "resolved")
    await side.deliver()
    assert (await side.centre.row(FIRST))["state"] == "ended"
    side.server.becomes(thread, "open")
    await side.deliver()
    row = await side.centre.row(SECOND)
    assert [one["user_id"] for one in row["agents"]] == ["max"]
    side.server.customer_says(thread, "Again")
    await side.deliver()
    assert await side.texts(SECOND) == ["customer: Again"]


async def test_a_message_whose_answer_was_lost_is_sent_once(side: Side) -> None:
    """Tried again, found there, and told as sent."""
    thread, _, ana = await side.taken_over()
    side.server.failing = [None, Said(502)]
    ok = await ana.command("message.send", conversation_id=FIRST, text="Ana here.", client_message_id="a-1")
    await ana.expect("message.receipt", FIRST, message_id=ok["message_id"], status="sent")
    assert [one["content"] for one in thread.messages].count("Ana here.") == 1


async def test_what_isnt_chatwoots_is_refused(side: Side) -> None:
    """No signature, no secret in the address."""
    body = b'{"event":"conversation_created","id":207}'
    headers = signed(SECRET, body, int(time.time() * 1000))
    for path, told in (("", headers), ("/wrong", headers), (f"/{PATH_SECRET}", {"content-type": "application/json"})):
        answer = await side.centre.http.post(side.url + path, content=body, headers=told)
        assert answer.status_code == 401
    seen: Json = {"status": (await side.centre.get(f"/v1/conversations/{FIRST}")).status_code}
    assert seen == {"status": 404}
    assert SECRET not in side.centre.hub.tail()
    assert PATH_SECRET not in side.centre.hub.tail()
