"""A server that behaves like Chatwoot: its API for one account, and the webhooks that each change makes it send."""

import itertools
import json
import re
import threading
import uuid
from dataclasses import dataclass, field
from typing import Any

from hub.channels.chatwoot import signature_of
from tests.support.http_server import Asked, HttpServer, Said

Json = dict[str, Any]
ACCOUNT = 3
API_TOKEN = "an-api-token-of-chatwoot"
AGENTS = {0: None, 7: "Ana Ortiz", 12: "Max Weber", 13: "Eva Rossi", 99: "Hub"}
API_USER = 99  # whose token the hub uses


@dataclass(slots=True)
class Thread:
    """One conversation."""

    number: int
    status: str = "open"
    assignee: int = 0
    team: Json | None = None
    messages: list[Json] = field(default_factory=list)


class ChatwootServer:
    """
    One account. `webhooks` has the bodies of what was sent, in order; whoever plays takes them to the hub.

    Shapes are those of Chatwoot 4: `Conversations::EventDataPresenter`, `Message#webhook_data`, `WebhookListener`.
    """

    def __init__(self, *, keeps_source_id: bool = True) -> None:
        self.webhooks: list[bytes] = []
        self.threads: dict[int, Thread] = {}
        self.keeps_source_id = keeps_source_id
        self.failing: list[Said | None] = []  # the next answers: None cuts the line after the work was done
        self._numbers = itertools.count(501)
        self._lock = threading.Lock()
        self.provider = HttpServer(self._answer)

    @property
    def url(self) -> str:
        """Where it is."""
        return self.provider.url

    def close(self) -> None:
        """Stop."""
        self.provider.close()

    def __enter__(self) -> "ChatwootServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self) -> list[bytes]:
        """The webhooks since the last time."""
        with self._lock:
            taken, self.webhooks = self.webhooks, []
        return taken

    # What people do.

    def opens(self, number: int = 207, *, status: str = "open", assignee: int = 0) -> Thread:
        """A contact opens a conversation."""
        thread = self.threads[number] = Thread(number, status, assignee)
        self._tell("conversation_created", self._about(thread))
        return thread

    def customer_says(self, thread: Thread, text: str | None, **more: Any) -> int:
        """A contact writes; a resolved conversation is opened again."""
        if thread.status == "resolved":
            self.becomes(thread, "open")
        sender = {"id": 41, "name": "Dana", "email": "dana@example.org"}
        return self._message(thread, "incoming", text, sender, **more)

    def agent_says(self, thread: Thread, agent: int, text: str, **more: Any) -> int:
        """An agent writes on Chatwoot's own page."""
        sender = {"id": agent, "name": AGENTS[agent], "email": "a@example.org", "type": "user"}
        return self._message(thread, "outgoing", text, sender, **more)

    def bot_says(self, thread: Thread, text: str) -> int:
        """A bot answers."""
        return self._message(thread, "outgoing", text, {"id": 5, "name": "Helper", "type": "agent_bot"})

    def assign(self, thread: Thread, agent: int) -> None:
        """Somebody else answers; 0: nobody."""
        before, thread.assignee = thread.assignee, agent
        if before != agent:
            changed = [{"assignee_id": {"previous_value": before or None, "current_value": agent or None}}]
            self._tell("conversation_updated", self._about(thread) | {"changed_attributes": changed})

    def move(self, thread: Thread, team: int) -> None:
        """Another team answers."""
        before, thread.team = thread.team, {"id": team, "name": "Team"}
        changed = [{"team_id": {"previous_value": before and before["id"], "current_value": team}}]
        self._tell("conversation_updated", self._about(thread) | {"changed_attributes": changed})

    def becomes(self, thread: Thread, status: str) -> None:
        """Another status."""
        before, thread.status = thread.status, status
        if before != status:
            changed = [{"status": {"previous_value": before, "current_value": status}}]
            self._tell("conversation_status_changed", self._about(thread) | {"changed_attributes": changed})

    def types(self, thread: Thread, user: Json, *, on: bool = True, private: bool = False) -> None:
        """Somebody types."""
        told = {"user": user, "conversation": self._about(thread), "is_private": private}
        self._tell(f"conversation_typing_{'on' if on else 'off'}", told)

    # What its API does.

    def _answer(self, asked: Asked) -> Said:
        with self._lock:
            failing = self.failing.pop(0) if self.failing else Said(200)
        if failing is not None and failing.status != 200:
            return failing
        said = self._carry_out(asked)
        if failing is None:
            raise ConnectionResetError
        return said

    def _carry_out(self, asked: Asked) -> Said:
        if asked.headers.get("api_access_token") != API_TOKEN:
            return Said(401, {"error": "Invalid Access Token"})
        found = re.fullmatch(rf"/api/v1/accounts/{ACCOUNT}/conversations/(\d+)/(\w+)", asked.path)
        thread = self.threads.get(int(found[1])) if found else None
        if thread is None or found is None:
            return Said(404, {"error": "Resource could not be found"})
        match asked.method, found[2]:
            case "GET", "messages":
                return Said(200, {"meta": {}, "payload": thread.messages[-20:]})
            case "POST", "messages":
                return self._posted(thread, asked.json)
            case "POST", "assignments":
                agent = asked.json["assignee_id"]
                self.assign(thread, agent if AGENTS.get(agent) else 0)
                return Said(200, {"id": agent} if agent else None)
            case "POST", "toggle_status":
                self.becomes(thread, asked.json["status"])
                return Said(200, {"payload": {"success": True, "current_status": thread.status}})
        return Said(404, {"error": "no such route"})

    def _posted(self, thread: Thread, body: Json) -> Said:
        if not body.get("content"):
            return Said(422, {"error": "Content can't be blank"})
        sender = {"id": API_USER, "name": AGENTS[API_USER], "type": "user"}
        source = body.get("source_id") if self.keeps_source_id else None
        number = self._message(thread, body["message_type"], body["content"], sender, source_id=source)
        return Said(200, {"id": number, "content": body["content"], "source_id": source})

    # Webhooks.

    def _message(self, thread: Thread, kind: str, text: str | None, sender: Json, **more: Any) -> int:
        number = next(self._numbers)
        told: Json = {
            "account": {"id": ACCOUNT, "name": "Acme"},
            "additional_attributes": {},
            "content_attributes": {},
            "content_type": "text",
            "content": text,
            "created_at": "2026-11-24T12:00:00.000Z",
            "id": number,
            "inbox": {"id": 2, "name": "Website"},
            "message_type": kind,
            "private": False,
            "sender": sender,
            "source_id": None,
        }
        told |= more
        thread.messages.append({"id": number, "content": text, "source_id": told["source_id"]})
        self._tell("message_created", told | {"conversation": self._about(thread)})
        return number

    def _about(self, thread: Thread) -> Json:
        assignee = {"id": thread.assignee, "name": AGENTS[thread.assignee], "type": "user"} if thread.assignee else None
        return {
            "additional_attributes": {},
            "can_reply": True,
            "channel": "Channel::WebWidget",
            "contact_inbox": {"id": 1, "source_id": "s"},
            "id": thread.number,
            "inbox_id": 2,
            "messages": [],
            "labels": [],
            "meta": {
                "sender": {"id": 41, "name": "Dana", "email": "dana@example.org", "type": "contact"},
                "assignee": assignee,
                "assignee_type": "User" if assignee else None,
                "team": thread.team,
                "hmac_verified": False,
            },
            "status": thread.status,
            "unread_count": 0,
            "timestamp": 1_795_377_600,
            "updated_at": 1_795_377_600.0 + len(self.webhooks) / 1000,
        }

    def _tell(self, event: str, payload: Json) -> None:
        told = json.dumps(payload | {"event": event, "nonce": uuid.uuid4().hex}).encode()  # no two bodies are equal
        with self._lock:
            self.webhooks.append(told)


def signed(secret: str, body: bytes, at_ms: int) -> dict[str, str]:
    """The headers of a webhook."""
    timestamp = str(at_ms // 1000)
    return {
        "content-type": "application/json",
        "x-chatwoot-timestamp": timestamp,
        "x-chatwoot-signature": signature_of(secret, timestamp, body),
        "x-chatwoot-delivery": uuid.uuid4().hex,
    }
