"""
Load on a hub by Locust: supervisors who watch, monitor and answer pings, and a platform that makes conversations talk.

    pip install locust websocket-client
    export HUB_TOKEN_SECRET=...        # the hub's; or HUB_TOKENS, a file with a supervisor's token on each line
    locust -f docs/examples/locustfile.py --headless -H http://127.0.0.1:8000 -u 21 -r 10 -t 30s

Locust's table then has `hello`, `view.subscribe`, the first snapshot, `monitor.start`, `monitor.stop`, and as
`message.created` how old messages are on arrival. The platform needs the secret; where it is missing only supervisors
are started, who monitor what is there. Users wait for one answer before they ask again, so this shows what people feel
at a given number of users; for a fixed rate, timed from when each message was due, take `hub load`.

Locust and websocket-client aren't dependencies of this project. The tokens are made with the standard library alone.
"""

# ruff: noqa: S311 - whom a simulated supervisor watches is no secret

import base64
import hashlib
import hmac
import itertools
import json
import os
import random
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gevent
import websocket  # the package websocket-client
from gevent.event import AsyncResult
from locust import HttpUser, User, between, constant_pacing, task
from locust.exception import StopUser

SECRET = os.environ.get("HUB_TOKEN_SECRET", "")
TOKENS = Path(os.environ["HUB_TOKENS"]).read_text().split() if "HUB_TOKENS" in os.environ else []
ORG = os.environ.get("HUB_ORG", f"locust-{os.getpid()}" if SECRET and not TOKENS else "")
CONVERSATIONS = int(os.environ.get("HUB_CONVERSATIONS", "50"))
PATIENCE_S = 10
numbers = itertools.count()


def make_token(role: str, sub: str) -> str:
    """A JWT of the hub's own secret (HS256, RFC 7515)."""
    now = int(time.time())
    claims = {"sub": sub, "name": sub, "org": ORG, "role": role, "queues": ["*"], "divisions": ["*"]}
    claims |= {"iss": "hub", "aud": "hub", "iat": now, "exp": now + 3600}
    claims |= {"permissions": ["view", "monitor"] if role == "supervisor" else []}
    parts = [_base64(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    signed = ".".join(parts)
    return f"{signed}.{_base64(hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).digest())}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Refused(Exception):
    """The hub's error answer."""


class Supervisor(User):
    """A socket that says hello, watches the interactions, and monitors one conversation after the other."""

    wait_time = between(1, 3)

    def on_start(self) -> None:
        """Connect, say hello, subscribe the view, become available."""
        self.number = next(numbers)
        self.answers: dict[int, AsyncResult] = {}
        self.last_id = 0
        self.conversations: list[str] = []
        self.snapshot = AsyncResult()
        parts = urlsplit(self.host or "http://127.0.0.1:8000")
        address = f"{'wss' if parts.scheme in ('https', 'wss') else 'ws'}://{parts.netloc}/v1/supervisor"
        self.socket = websocket.create_connection(address, subprotocols=["hub.v1"], timeout=PATIENCE_S)
        self.socket.settimeout(None)
        self.reader = gevent.spawn(self._read)
        token = TOKENS[self.number % len(TOKENS)] if TOKENS else make_token("supervisor", f"sup-{self.number}")
        if self.command("hello", token=token) is None:
            raise StopUser
        self.command("status.set", status="available")
        began = time.perf_counter()
        self.command("view.subscribe", view="interactions")
        try:
            size = self.snapshot.get(timeout=PATIENCE_S)
            self._report("view.snapshot", began, size)
        except gevent.Timeout as error:
            self._report("view.snapshot", began, 0, error)

    def on_stop(self) -> None:
        """Leave with 1000, which ends the session."""
        self.reader.kill()
        self.socket.close()

    @task
    def monitor(self) -> None:
        """Watch a conversation for a moment; another supervisor's is left alone (`monitor_held` is no failure)."""
        if not self.conversations:
            return
        conversation = random.choice(self.conversations)
        if self.command("monitor.start", fine="monitor_held", conversation_id=conversation) is None:
            return
        gevent.sleep(random.uniform(1, 3))
        self.command("monitor.stop", conversation_id=conversation)

    def command(self, cmd: str, fine: str = "", **arguments: Any) -> dict[str, Any] | None:
        """Send a command and report how long its answer took; None where it was refused, which `fine` may be."""
        self.last_id += 1
        answer = self.answers[self.last_id] = AsyncResult()
        began = time.perf_counter()
        try:
            self.socket.send(json.dumps({"id": self.last_id, "cmd": cmd, **arguments}))
            ok, size = answer.get(timeout=PATIENCE_S)
        except Refused as error:
            self._report(cmd, began, 0, None if fine and str(error) == fine else error)
            return None
        except (OSError, gevent.Timeout, websocket.WebSocketException) as error:
            self._report(cmd, began, 0, error)
            return None
        self._report(cmd, began, size)
        return ok

    def _report(self, name: str, began: float, size: int, error: BaseException | None = None) -> None:
        took_ms = (time.perf_counter() - began) * 1000
        self.environment.events.request.fire(
            request_type="WS", name=name, response_time=took_ms, response_length=size, exception=error, context={}
        )

    def _read(self) -> None:
        while True:
            try:
                frame = self.socket.recv()
            except (OSError, websocket.WebSocketException) as error:
                frame = ""
                self._report("socket", time.perf_counter(), 0, error)
            if not frame:
                return
            for line in filter(None, frame.split("\n")):
                self._take(json.loads(line), len(line))

    def _take(self, taken: dict[str, Any], size: int) -> None:
        event = taken.get("event")
        if event is None:
            self._answered(taken, size)
        elif event == "ping":
            self.socket.send('{"cmd":"pong"}')
        elif event in ("view.snapshot", "view.changed"):
            gone = taken["data"].get("removed", [])
            new = [row["conversation_id"] for row in taken["data"]["rows"] if row["state"] == "active"]
            self.conversations = [*dict.fromkeys(each for each in [*self.conversations, *new] if each not in gone)]
            if event == "view.snapshot" and not taken["data"]["more"]:
                self.snapshot.set(size)
        elif event == "message.created" and taken["data"]["text"].startswith("@"):
            sent_s = int(taken["data"]["text"].split("@", 2)[1]) / 1e9
            self._report("message.created", time.perf_counter() - (time.time() - sent_s), size)

    def _answered(self, taken: dict[str, Any], size: int) -> None:
        answer = self.answers.pop(taken.get("id", 0), None)
        if answer is None:
            return
        if "error" in taken:
            answer.set_exception(Refused(taken["error"]["code"]))
        else:
            answer.set((taken["ok"], size))


class Platform(HttpUser):
    """The messaging platform, once: it begins conversations, then ten of their customers say something each time."""

    abstract = not SECRET
    fixed_count = 1
    wait_time = constant_pacing(0.1)

    def on_start(self) -> None:
        """Begin the conversations, each with its agent."""
        self.client.headers = {
            "authorization": f"Bearer {make_token('connector', 'locust')}",
            "content-type": "application/x-ndjson",
        }
        self.run = format(time.time_ns(), "x")
        self.said = itertools.count()
        for number in range(CONVERSATIONS):
            name = f"{self.run}-{number}"
            started = {"channel": "web", "queue": "support", "customer": {"id": f"cus-{number}", "name": "Dana"}}
            agent = {
                "participant_id": f"{name}:a",
                "purpose": "agent",
                "user_id": f"agent-{number % 10}",
                "name": "Max",
            }
            self._post(
                [
                    self._event(name, "conversation.started", started),
                    self._event(name, "participant.connected", agent),
                ]
            )

    @task
    def customers_speak(self) -> None:
        """Ten messages in one request; each carries when it was sent."""
        chosen = [f"{self.run}-{random.randrange(CONVERSATIONS)}" for _ in range(10)]
        self._post([self._event(name, "message.created", self._message()) for name in chosen])

    def _message(self) -> dict[str, Any]:
        text = f"@{time.time_ns()}@ Where is my parcel?"
        return {"message_id": f"{self.run}-m{next(self.said)}", "purpose": "customer", "text": text}

    def _event(self, conversation: str, kind: str, data: dict[str, Any]) -> dict[str, Any]:
        event_id = f"{self.run}-e{next(self.said)}"
        at = time.time_ns() // 1_000_000
        return {"id": event_id, "type": kind, "conversation_id": conversation, "at": at, "data": data}

    def _post(self, events: list[dict[str, Any]]) -> None:
        body = "\n".join(map(json.dumps, events))
        with self.client.post("/v1/events", data=body, catch_response=True) as response:
            if not response.ok:
                return
            refused = [result["error"]["code"] for result in response.json()["results"] if "error" in result]
            if refused:
                response.failure(f"refused: {', '.join(sorted(set(refused)))}")
