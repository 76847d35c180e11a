"""A connector as docs/connect.md describes it, and its little platform: customers, agents, what they see."""

import asyncio
import base64
import contextlib
import hmac
import itertools
import json
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.http_server import TLS, Asked, Said

Json = dict[str, Any]
RETRY_S = 0.05  # a little below what people would wait


class Connector:
    """
    Tells a hub what happens at its platform, and does what the hub wants done.

    `events` and `actions` over HTTP and a socket, or by signed webhooks where there is a `key`. What `say` is told are the
    steps of a check: the people of the platform do as they are asked.
    """

    def __init__(self, url: str, token: str, *, key: bytes = b"", path: str = "") -> None:
        self.url = url
        self.token = token
        self.key = key
        self.path = path
        self.http = httpx.AsyncClient(trust_env=False, timeout=10.0, base_url=url, verify=TLS)
        self.lock = asyncio.Lock()
        self.numbers = itertools.count(2)  # 1 is hello's
        self.conversation = "c-1"
        self.removed: set[str] = set()
        self.done: dict[str, Json] = {}
        self.shown: list[str] = []  # to the customer
        self.work: set[asyncio.Task[None]] = set()
        self.socket: ClientConnection | None = None
        self.closed = False
        self.failed: list[BaseException] = []

    # -- life ----------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Ready for actions."""
        if not self.key:
            self.socket = await connect(self.url.replace("http", "ws") + "/v1/connector", proxy=None)
            await self.socket.send(json.dumps({"id": 1, "cmd": "hello", "token": self.token}))
            self.do(self.listen(self.socket))

    async def close(self) -> None:
        """Let go."""
        self.closed = True
        for task in self.work:
            task.cancel()
        await asyncio.gather(*self.work, return_exceptions=True)
        if self.socket is not None:
            await self.socket.close()
        await self.http.aclose()

    def do(self, what: Any) -> None:
        """Beside everything else."""
        task = asyncio.create_task(what)
        self.work.add(task)
        task.add_done_callback(self.ended)

    def ended(self, task: asyncio.Task[None]) -> None:
        """Nothing that went wrong is lost."""
        self.work.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self.closed:
            self.failed.append(error)

    # -- events in -----------------------------------------------------------------------------------------------------

    def event(self, kind: str, **data: Any) -> Json:
        """One event of the conversation, as it is kept until it is taken."""
        number = next(self.numbers)
        if kind == "message.created":
            data = {"message_id": f"m-{number}"} | data
        return {
            "id": f"e-{number}",
            "type": kind,
            "conversation_id": self.conversation,
            "at": int(time.time() * 1000),
            "data": data,
        }

    async def tell(self, *events: Json) -> None:
        """Bring events to the hub: in order, each again until it is taken."""
        async with self.lock:
            tries = itertools.count(1)
            while not self.closed:
                status, wait_s = await self.send([self.written(event, next(tries)) for event in events])
                if not self.again(status):
                    return
                await asyncio.sleep(wait_s or RETRY_S)

    def written(self, event: Json, attempt: int) -> Json:
        """An event as it is sent in one try."""
        return event

    def again(self, status: int) -> bool:
        """True where it must be sent once more."""
        return status in (429, 503)

    async def send(self, events: list[Json]) -> tuple[int, float]:
        """One try: the status, and how many seconds the hub said to wait."""
        body = json.dumps({"events": events}).encode()
        path, headers = self.path or "/v1/events", self.headers(body)
        answer = await self.http.post(path, content=body, headers=headers)
        return answer.status_code, self.wait_of(float(answer.headers.get("retry-after", 0)))

    def wait_of(self, said_s: float) -> float:
        """How long to wait where the hub said so."""
        return said_s

    def headers(self, body: bytes) -> dict[str, str]:
        """Who sends it."""
        if not self.key:
            return {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        id, seconds = f"r-{next(self.numbers)}", str(int(time.time()))
        signature = hmac.new(self.key, f"{id}.{seconds}.".encode() + body, sha256).digest()
        return {
            "webhook-id": id,
            "webhook-timestamp": seconds,
            "webhook-signature": "v1," + base64.b64encode(signature).decode(),
        }

    # -- actions out ---------------------------------------------------------------------------------------------------

    async def listen(self, socket: ClientConnection) -> None:
        """Do what comes on the socket, and report it."""
        with contextlib.suppress(ConnectionClosed):
            async for frame in socket:
                for thing in map(json.loads, str(frame).splitlines()):
                    if "event" not in thing:
                        self.answered(thing)
                    elif thing["event"] == "ping":
                        await socket.send('{"cmd":"pong"}')
                    elif thing["event"] != "closing":
                        self.act(thing["event"], thing["data"])
                        report = self.report(thing["event"], thing["data"])
                        if report is not None:
                            await socket.send(json.dumps({"id": next(self.numbers)} | report))

    def answered(self, answer: Json) -> None:
        """The hub's answer to a command."""

    def report(self, kind: str, data: Json) -> Json | None:
        """What is answered to an action on the socket."""
        if kind == "outbound.message":
            return {"cmd": "delivery.report", "message_id": data["message_id"], "status": "delivered"}
        return {"cmd": "action.done", "action_id": data["action_id"]}

    def hook(self, loop: asyncio.AbstractEventLoop) -> Callable[[Asked], Said]:
        """What answers the hub's webhooks."""

        def answer(asked: Asked) -> Said:
            action = asked.json
            loop.call_soon_threadsafe(self.act, action["type"], action["data"])
            return Said(204, b"")

        return answer

    def act(self, kind: str, data: Json) -> None:
        """Carry an action out, once."""
        id = data.get("message_id") or data["action_id"]
        if id in self.done:
            return
        self.done[id] = data
        if kind == "participant.disconnected":
            self.removed.add(data["participant_id"])
        elif kind == "outbound.message":
            self.show(data["text"])

    def show(self, text: str) -> None:
        """To the customer, who does as they are asked."""
        self.shown.append(text)
        self.do(self.customer_says(text.rpartition(" ")[2]))

    # -- people --------------------------------------------------------------------------------------------------------

    def say(self, step: str, _: str) -> None:
        """A step of the check."""
        steps = {"begin": self.begin, "trouble": self.write_on, "removed": self.try_to_write, "end": self.come_back}
        if step in steps:
            self.do(steps[step]())

    def start(self) -> Json:
        """A customer is there."""
        return self.event(
            "conversation.started", channel="open", queue="support", customer={"id": "k-1", "name": "Dana"}
        )

    async def begin(self) -> None:
        """A conversation with everything."""
        opening = [self.start(), self.event("message.created", purpose="customer", text="Hello?")]
        opening.append(self.joined())
        opening.append(self.event("message.created", participant_id="prt-max", text="Hello, this is Max."))
        await self.tell(*opening)

    def joined(self) -> Json:
        """An agent answers."""
        return self.event("participant.connected", participant_id="prt-max", purpose="agent", user_id="max", name="Max")

    async def customer_says(self, text: str) -> None:
        """A message of the customer's."""
        await self.tell(self.event("message.created", purpose="customer", text=text))

    async def agent_says(self, text: str) -> None:
        """A message of the agent's, who can write only while they are in the conversation."""
        if "prt-max" not in self.removed:
            await self.tell(self.event("message.created", participant_id="prt-max", text=text))

    async def write_on(self) -> None:
        """One more message, that nobody has written before."""
        await self.customer_says(f"And {next(self.numbers)}?")

    async def try_to_write(self) -> None:
        """The agent who was removed, then the customer."""
        await self.agent_says("Still me!")
        await self.customer_says("Thanks.")

    async def come_back(self) -> None:
        """The customer again, after the end."""
        self.conversation = "c-2"
        await self.tell(self.start(), self.event("message.created", purpose="customer", text="One more thing."))


class OnSocket(Connector):
    """Brings its events by the socket, too."""

    def __init__(self, url: str, token: str, *, key: bytes = b"", path: str = "") -> None:
        super().__init__(url, token, key=key, path=path)
        self.waiting: dict[int, asyncio.Future[Json]] = {}

    async def send(self, events: list[Json]) -> tuple[int, float]:
        """One try, all at once; see `Connector`."""
        assert self.socket is not None
        numbers = [next(self.numbers) for _ in events]
        self.waiting |= {number: asyncio.get_running_loop().create_future() for number in numbers}
        lines = (
            json.dumps({"id": id, "cmd": "event", "event": event}) for id, event in zip(numbers, events, strict=True)
        )
        await self.socket.send("\n".join(lines))
        answers = [await self.waiting[number] for number in numbers]
        errors = [answer["error"] for answer in answers if "error" in answer and answer["error"]["retryable"]]
        if not errors:
            return 200, 0.0
        status = 429 if errors[0]["code"] == "rate_limited" else 503
        return status, self.wait_of(errors[0]["details"].get("retry_ms", 0) / 1000)

    def answered(self, answer: Json) -> None:
        """To an event, or a report."""
        if answer["id"] in self.waiting:
            self.waiting[answer["id"]].set_result(answer)
