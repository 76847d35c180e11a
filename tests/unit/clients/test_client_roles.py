"""Connector, agent and customer clients against a scripted hub; HTTP against a scripted server."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from clients import HubError, connect_agent, connect_connector, connect_customer
from clients.http import HttpClient
from clients.inbox import Inbox
from clients.wire import ConnectionEnded, Event
from tests.unit.clients.scripted import FAST, Line, ScriptedHub


class ScriptedHttp:
    """Answers each request with the next of its raw answers; keeps what came. An empty answer closes unanswered."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.connections = 0
        self.url = ""

    async def __aenter__(self) -> "ScriptedHttp":
        self.server = await asyncio.start_server(self.handle, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *error: object) -> None:
        self.server.close()
        await self.server.wait_closed()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, any number of requests."""
        self.connections += 1
        try:
            while self.answers:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.strip().split("\r\n")
                headers = dict(line.split(": ", 1) for line in lines)
                body = await reader.readexactly(int(headers["content-length"]))
                self.requests.append((first, headers, body))
                answer = self.answers.pop(0)
                writer.write(answer)
                await writer.drain()
                if not answer or b"connection: close" in answer:
                    break
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


def answer(status: int, body: Any, *headers: str) -> bytes:
    """A raw HTTP answer."""
    text = json.dumps(body).encode()
    return "\r\n".join([f"HTTP/1.1 {status} X", f"Content-Length: {len(text)}", *headers, "", ""]).encode() + text


async def test_requests_share_a_connection() -> None:
    """A connection is kept between requests, bodies with a length and in chunks are read whole."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=1\r\nde\r\n0\r\n\r\n"
    async with ScriptedHttp(answer(200, {"a": 1}), chunked) as http:
        client = HttpClient(http.url)
        assert (await client.request("POST", "/x", b"{}", {"h": "v"})).body == b'{"a": 1}'
        assert (await client.request("GET", "/y")).body == b"abcde"
        await client.close()
    assert http.connections == 1
    assert http.requests[0][0] == "POST /x HTTP/1.1"
    assert http.requests[0][1]["h"] == "v"
    assert http.requests[0][2] == b"{}"


async def test_a_connection_that_was_closed_meanwhile_is_replaced() -> None:
    """A kept connection that the server closed between requests is opened again, once."""
    async with ScriptedHttp(answer(200, 1, "connection: close"), answer(200, 2), b"") as http:
        client = HttpClient(http.url)
        assert (await client.request("GET", "/")).body == b"1"
        assert (await client.request("GET", "/")).body == b"2"
        http.answers += [b""]
        with pytest.raises(ConnectionResetError):
            await client.request("GET", "/")
        await client.close()


async def test_nobody_there_is_an_os_error() -> None:
    """A refused connection is an OSError, and the client can be used again."""
    async with ScriptedHttp() as http:
        url = http.url
    client = HttpClient(url)
    for _ in range(2):
        with pytest.raises(OSError, match=r"refused|Connect"):
            await client.request("GET", "/")


async def test_post_events_returns_results_in_order(hub: ScriptedHub) -> None:
    """Events go out as NDJSON with the bearer token; results come back one per event."""
    refused = {"code": "stale_owner", "message": "", "retryable": False, "details": {}}
    results = [
        {"id": "e1", "status": "accepted", "cursor": "k.t-1"},
        {"id": "e2", "status": "duplicate"},
        {"id": None, "status": "refused", "error": refused},
    ]
    async with ScriptedHttp(answer(200, {"results": results})) as http:
        connector = connect_connector(http.url, token="T", options=FAST)
        found = await connector.post_events([{"id": "e1"}, {"id": "e2"}, {"no": "id"}])
        await connector.close()
    assert [each.status for each in found] == ["accepted", "duplicate", "refused"]
    assert found[0].cursor == "k.t-1"
    assert found[2].error == refused
    first, headers, body = http.requests[0]
    assert first == "POST /v1/events HTTP/1.1"
    assert headers["authorization"] == "Bearer T"
    assert headers["content-type"] == "application/x-ndjson"
    assert body == b'{"id":"e1"}\n{"id":"e2"}\n{"no":"id"}'


async def test_an_expired_token_is_replaced_for_http_too() -> None:
    """A 401 asks the callback once more; another refusal is a HubError with the hub's code."""
    tokens = iter(["old", "new"])
    error = {"error": {"code": "too_large", "message": "Too large.", "retryable": False, "details": {}}}
    unauthenticated = {"error": {**error["error"], "code": "unauthenticated"}}
    async with ScriptedHttp(answer(401, unauthenticated), answer(413, error), answer(502, "x")) as http:
        connector = connect_connector(http.url, token=lambda: next(tokens), options=FAST)
        with pytest.raises(HubError, match="too_large"):
            await connector.post_events([])
        with pytest.raises(HubError) as refused:
            await connector.post_events([])
        await connector.close()
    assert refused.value.code == "http_502"
    assert refused.value.retryable
    assert [headers["authorization"] for _, headers, _ in http.requests] == ["Bearer old", "Bearer new", "Bearer new"]


async def test_a_connector_pushes_events_and_reports_actions(hub: ScriptedHub) -> None:
    """Events and reports are commands on the connector's socket, actions are its events."""

    async def script(line: Line) -> None:
        await line.hello()
        event = await line.expect("event")
        assert event["event"] == {"id": "e1"}
        outbound = {"message_id": "msg_1", "text": "hi"}
        await line.send(
            {"id": event["id"], "ok": {"status": "accepted", "cursor": "k.t-4"}},
            {"event": "outbound.message", "conversation_id": "cnv_1", "data": outbound},
        )
        report = await line.expect("delivery.report")
        assert (report["message_id"], report["status"], report["reason"]) == ("msg_1", "failed", "unreachable")
        await line.send({"id": report["id"], "ok": {}})
        done = await line.expect("action.done")
        assert done["action_id"] == "act_1"
        await line.send({"id": done["id"], "ok": {}})
        await line.stay()

    async with connect_connector(hub.play(script), token="T", options=FAST) as connector:
        assert (await connector.push_event({"id": "e1"})).cursor == "k.t-4"
        events = [await connector.recv(), await connector.recv()]
        await connector.delivery_report(events[1].data["message_id"], "failed", "unreachable")
        await connector.action_done("act_1")
    assert hub.paths == ["/v1/connector"]


async def test_a_stale_owner_gets_the_text_back(hub: ScriptedHub) -> None:
    """An agent who lost the conversation finds the unsent text in the error's details."""

    async def script(line: Line) -> None:
        await line.hello()
        sent = await line.expect("message.send")
        details = {"owner": "prt_1", "owner_epoch": 2, "draft": sent["text"]}
        error = {"code": "stale_owner", "message": "Taken over.", "retryable": False, "details": details}
        await line.send({"id": sent["id"], "error": error})
        await line.stay()

    async with connect_agent(hub.play(script), token="T", options=FAST) as agent:
        with pytest.raises(HubError) as refused:
            await agent.message_send("cnv_1", "Hello", "m1")
    assert refused.value.details["draft"] == "Hello"
    assert hub.paths == ["/v1/agent"]


async def answer_all(line: Line) -> None:
    """Say ok to everything, and note it."""
    await line.hello()
    while True:
        taken = await line.receive()
        line.hello_seen = taken
        await line.send({"id": taken["id"], "ok": {"subscription": "s", "message_id": "m", "conversation_id": "c"}})


@pytest.mark.parametrize(
    ("connect", "call", "expected"),
    [
        (connect_agent, lambda c: c.status_set("on_queue"), {"cmd": "status.set", "status": "on_queue"}),
        (connect_agent, lambda c: c.roster_subscribe(), {"cmd": "view.subscribe", "view": "roster"}),
        (connect_agent, lambda c: c.typing("c", True), {"cmd": "typing", "conversation_id": "c", "on": True}),
        (
            connect_agent,
            lambda c: c.draft_update("c", "x"),
            {"cmd": "draft.update", "conversation_id": "c", "text": "x"},
        ),
        (connect_agent, lambda c: c.takeover_acknowledge("t"), {"cmd": "takeover.acknowledge", "takeover_id": "t"}),
        (
            connect_agent,
            lambda c: c.wrapup_submit("c", "ok"),
            {"cmd": "wrapup.submit", "conversation_id": "c", "code": "ok"},
        ),
        (connect_agent, lambda c: c.conversation_end("c"), {"cmd": "conversation.end", "conversation_id": "c"}),
        (connect_customer, lambda c: c.conversation_start("q", "s", "n"), {"queue": "q", "subject": "s", "name": "n"}),
        (connect_customer, lambda c: c.message_send("c", "x", "1"), {"text": "x", "client_message_id": "1"}),
        (connect_customer, lambda c: c.typing("c", False), {"cmd": "typing", "on": False}),
        (connect_customer, lambda c: c.receipt_send("m", "read"), {"message_id": "m", "status": "read"}),
        (connect_customer, lambda c: c.conversation_end("c"), {"cmd": "conversation.end", "conversation_id": "c"}),
    ],
)
async def test_methods_of_agents_and_customers(
    hub: ScriptedHub, connect: Callable[..., Any], call: Callable[[Any], Any], expected: dict[str, Any]
) -> None:
    """Each method is the protocol's command with its arguments."""
    async with connect(hub.play(answer_all), token="T", options=FAST) as client:
        await call(client)
        sent = hub.lines[0].hello_seen
    assert expected.items() <= sent.items()


async def test_an_inbox_keeps_what_no_resume_repeats() -> None:
    """Past its bound an inbox forgets transcript events and views, never the end of a monitor or a notice."""
    asked: list[int] = []
    inbox = Inbox(2, lambda: asked.append(len(inbox)))
    assert [inbox.put(Event("message.created", "c", f"e.t-{n}")) for n in range(4)] == [True, True, False, False]
    assert inbox.put(Event("monitor.ended", "c"))
    assert not inbox.put(Event("view.changed"))
    assert not inbox.put(Event("session.interrupted"))
    assert [(await inbox.get()).event for _ in range(3)] == ["message.created", "message.created", "monitor.ended"]
    assert asked
    inbox.caught_up()
    assert inbox.put(Event("view.changed"))
    inbox.end(ConnectionEnded(4403, "no"))
    assert (await inbox.get()).event == "view.changed"
    with pytest.raises(ConnectionEnded):
        await inbox.get()
