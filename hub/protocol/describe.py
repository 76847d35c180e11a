"""
Documents made from the protocol's types: `docs/asyncapi.json` (AsyncAPI 3.0) and `docs/openapi.json` (OpenAPI 3.1).

    python -m hub.protocol.describe [--check] [--docs DIRECTORY]

Without `--check` the files are written; with it nothing is, and the exit status is 1 where a file differs. This is the
package's one module that touches files, and only as a program.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import orjson

from hub.protocol import platform, types
from hub.protocol.close import CLOSE_REASONS, HTTP_STATUS
from hub.protocol.commands import ENDPOINT_COMMANDS, Pong, tag_of
from hub.protocol.types import ENDPOINT_EVENTS, OK_SHAPES

VERSION = "1"
REF = "#/components/schemas/{name}"
DOCS = Path("docs")
Json = dict[str, Any]

_WHO = {
    "supervisor": "supervisor browsers (roles supervisor, admin)",
    "agent": "agent desktops, and bots that answer customers (role agent)",
    "connector": "messaging platforms (role connector)",
    "customer": "the web messenger (role customer)",
}
_LICENSE = {"name": "Apache-2.0", "identifier": "Apache-2.0"}


def schemas(kinds: Iterable[Any]) -> Json:
    """JSON Schemas of `kinds` and all they are made of, by name; patterns as ECMA-262 spells them."""
    _, components = msgspec.json.schema_components(tuple(kinds), ref_template=REF)
    portable: Json = _portable(components)
    if "EventPush" in portable:
        portable["EventPush"]["properties"]["event"] = {"anyOf": [_ref(kind) for kind in _PLATFORM_EVENTS]}
    return dict(sorted(portable.items()))


def _portable(value: Any) -> Any:
    """`value` with Python's `\\Z` as `$`, which means the same there."""
    if isinstance(value, dict):
        return {key: _pattern(one) if key == "pattern" else _portable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_portable(one) for one in value]
    return value


def _pattern(value: Any) -> Any:
    return re.sub(r"\\Z$", "$", value) if isinstance(value, str) else _portable(value)


_PLATFORM_EVENTS: tuple[type[platform.PlatformEvent], ...] = (
    platform.Started,
    platform.Connected,
    platform.Disconnected,
    platform.Message,
    platform.Receipt,
    platform.TypingEvent,
    platform.Panel,
    platform.Transferred,
    platform.Ended,
)


def _ref(kind: Any) -> Json:
    return {"$ref": REF.format(name=kind.__name__)}


def _camel(text: str) -> str:
    return "".join(part.capitalize() for part in re.split(r"[._]", text))


# --- AsyncAPI ---------------------------------------------------------------------------------------------------------


def asyncapi() -> Json:
    """The four sockets as an AsyncAPI 3.0 document: one channel per endpoint, what it takes and what it sends."""
    channels: Json = {}
    operations: Json = {}
    messages: Json = {}
    used: list[Any] = [types.ErrorBody, types.QueueRow, types.AgentRow, types.RosterRow, *_PLATFORM_EVENTS]
    for endpoint, kinds in ENDPOINT_COMMANDS.items():
        taken = _command_messages(endpoint, messages, used)
        sent = _event_messages(endpoint, messages, used)
        named = {name: {"$ref": f"#/components/messages/{name}"} for name in (*taken, *sent)}
        channels[endpoint] = {
            "address": f"/v1/{endpoint}",
            "description": f"For {_WHO[endpoint]}.",
            "bindings": {"ws": {"method": "GET"}},
            "messages": named,
        }
        operations |= _operations(endpoint, taken, sent)
        used += kinds
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Supervision hub, sockets",
            "version": VERSION,
            "description": _ASYNC_INTRODUCTION + "\n\n" + _close_table(),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": dict(sorted(messages.items())), "schemas": schemas(used)},
    }


_ASYNC_INTRODUCTION = (
    "WebSocket subprotocol `hub.v1`. Text frames of JSON: one object, or several separated by newlines. A command has "
    "an `id` that its answer repeats, as `ok` or as `error`. Clients ignore what they don't know; the hub refuses "
    "unknown fields. `docs/protocol.md` tells the rules."
)


def _close_table() -> str:
    return "Close codes: " + "; ".join(f"{int(code)} {reason}" for code, reason in CLOSE_REASONS.items()) + "."


def _command_messages(endpoint: str, messages: Json, used: list[Any]) -> list[str]:
    """Add what the endpoint takes, and return the names."""
    names: list[str] = []
    for kind in ENDPOINT_COMMANDS[endpoint]:
        name = f"{kind.__name__}Command"
        messages[name] = {"name": tag_of(kind), "summary": _summary(kind), "payload": _ref(kind)}
        names.append(name)
    return names


def _event_messages(endpoint: str, messages: Json, used: list[Any]) -> list[str]:
    """Add what the endpoint sends (events, then answers), and return the names."""
    names: list[str] = []
    for event, shape in ENDPOINT_EVENTS[endpoint].items():
        name = f"{_camel(endpoint)}{_camel(event)}Event"
        messages[name] = {"name": event, "payload": _event_schema(event, shape)}
        if shape.data is not None:
            messages[name]["summary"] = _summary(shape.data)
            used.append(shape.data)
        names.append(name)
    for kind in ENDPOINT_COMMANDS[endpoint]:
        if kind is not Pong:
            shape_of_ok = OK_SHAPES.get(tag_of(kind), types.Nothing)
            used.append(shape_of_ok)
            name = f"{kind.__name__}Ok"
            messages[name] = {"name": f"{tag_of(kind)} ok", "payload": _answer_schema("ok", shape_of_ok)}
            names.append(name)
    messages["Error"] = {"name": "error", "payload": _answer_schema("error", types.ErrorBody)}
    return [*names, "Error"]


def _event_schema(event: str, shape: types.EventShape) -> Json:
    properties: Json = {"event": {"const": event}, "at": {"type": "integer", "minimum": 0}}
    required = ["event"]
    if shape.conversation:
        properties["conversation_id"] = {"type": "string"}
        required.append("conversation_id")
    if shape.cursor:
        properties["cursor"] = {"type": "string"}
        required.append("cursor")
    if shape.data is not None:
        properties["data"] = _ref(shape.data)
        required.append("data")
    return {"type": "object", "properties": properties, "required": required}


def _answer_schema(member: str, shape: Any) -> Json:
    return {
        "type": "object",
        "properties": {"id": {"type": "integer", "minimum": 1}, member: _ref(shape)},
        "required": ["id", member],
    }


def _operations(endpoint: str, taken: Sequence[str], sent: Sequence[str]) -> Json:
    """What the hub does with the channel: receives commands, sends answers and events."""
    channel = {"$ref": f"#/channels/{endpoint}"}

    def listed(names: Sequence[str]) -> list[Json]:
        return [{"$ref": f"#/channels/{endpoint}/messages/{name}"} for name in names]

    return {
        f"{endpoint}Commands": {"action": "receive", "channel": channel, "messages": listed(taken)},
        f"{endpoint}Events": {"action": "send", "channel": channel, "messages": listed(sent)},
    }


def _summary(kind: Any) -> str:
    return str(kind.__doc__).strip().splitlines()[0]


# --- OpenAPI ----------------------------------------------------------------------------------------------------------


def openapi() -> Json:
    """The HTTP routes as an OpenAPI 3.1 document."""
    used = [
        *_PLATFORM_EVENTS,
        types.EventResults,
        types.TicketAnswer,
        types.SessionAnswer,
        types.SignOutAnswer,
        types.RevocationRequest,
        types.ErasureRequest,
        types.ErasureAnswer,
        types.Nothing,
        types.OutboxAction,
        types.OutboxList,
        types.ConversationList,
        types.ConversationDetail,
        types.Transcript,
        types.Timeline,
        types.FileKept,
        types.FileLimits,
        types.FileLink,
        types.ErrorAnswer,
    ]
    components = schemas(used)
    components["PlatformEvent"] = {"oneOf": [_ref(kind) for kind in _PLATFORM_EVENTS]}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Supervision hub, HTTP",
            "version": VERSION,
            "description": "Every error has the same shape; `docs/protocol.md` tells the rules and the sockets.",
            "license": _LICENSE,
        },
        "security": [{"token": []}],
        "paths": _paths(),
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _paths() -> Json:
    identified = [_parameter("id", "the conversation's id", "path")]
    return {
        "/v1/events": {"post": _post_events()},
        "/v1/tickets": {
            "post": _operation("createTicket", "A single-use ticket (30 s) for a browser's hello.", types.TicketAnswer)
        },
        "/v1/session": {
            "get": _operation(
                "getSession", "Who has signed in with this browser; only with `[sign_in]`.", types.SessionAnswer
            )
        },
        "/v1/sign-out": {
            "post": _operation("signOut", "End this browser's session; only with `[sign_in]`.", types.SignOutAnswer)
        },
        "/v1/revocations": {
            "post": _operation("revoke", "Close the sockets of a person or a token (role admin).", types.Nothing)
            | {"requestBody": _body(_ref(types.RevocationRequest))}
        },
        **_channel_paths(),
        "/v1/erasures": {
            "post": _operation("erase", "Erase a customer's conversations (role admin).", types.ErasureAnswer)
            | {"requestBody": _body(_ref(types.ErasureRequest))}
        },
        "/v1/erasures/{id}": {
            "get": _operation("getErasure", "How far an erasure is (role admin).", types.ErasureAnswer)
            | {"parameters": [_parameter("id", "the erasure's id", "path")]}
        },
        "/v1/conversations": {
            "get": _operation(
                "listConversations", "Conversations that the token's queues allow.", types.ConversationList
            )
            | {"parameters": [_parameter(name, words, "query") for name, words in _LIST_FILTERS.items()]}
        },
        "/v1/conversations/{id}": {
            "get": _operation("getConversation", "One conversation's detail.", types.ConversationDetail)
            | {"parameters": identified}
        },
        "/v1/conversations/{id}/transcript": {
            "get": _operation("getTranscript", "Messages and marks, oldest first.", types.Transcript)
            | {
                "parameters": [
                    *identified,
                    _parameter("before", "entries before this offset", "query", {"type": "integer", "minimum": 0}),
                ]
            }
        },
        "/v1/conversations/{id}/timeline": {
            "get": _operation("getTimeline", "Who did what when, as segments.", types.Timeline)
            | {"parameters": identified}
        },
        **_file_paths(),
        "/healthz": {"get": _plain("health", "The process is alive.", "application/json")},
        "/readyz": {
            "get": _plain("ready", "The store is reachable and the node isn't draining.", "application/json", 503)
        },
        "/metrics": {
            "get": _plain("metrics", "Figures for Prometheus; role admin, or its own address.", "text/plain")
            | {"security": [{"token": []}, {}]}
            | {
                "responses": {
                    "200": {"description": "Yes.", "content": {"text/plain": {}}},
                    **_refusals(401, 403, 429, 503),
                }
            }
        },
        "/": {"get": _page("console", "The supervisor console.")},
        "/desk": {"get": _page("desk", "The agent desk.")},
        "/messenger": {"get": _page("messenger", "The web messenger.")},
    }


def _file_paths() -> Json:
    file_id = _parameter("id", "the file's id", "path")
    sent = [
        _parameter("conversation_id", "where the file belongs; a customer's is their token's", "query"),
        _parameter("x-file-name", "the file's name, percent-encoded UTF-8", "header") | {"required": True},
    ]
    upload = _operation("uploadFile", "Keep a file for a message of this conversation.", types.FileKept)
    until = _parameter("until", "when a link is over", "query", {"type": "integer"})
    opened = [
        file_id,
        _parameter("name", "the file's name", "path"),
        until,
        _parameter("sign", "a link's proof", "query"),
    ]
    fetch = _operation("getFile", "The file as a download, by token or by link.", types.ErrorAnswer)
    fetch["responses"]["200"] = {"description": "The file.", "content": {"*/*": {}}}
    return {
        "/v1/files": {
            "get": _operation("fileLimits", "What may be uploaded.", types.FileLimits),
            "post": upload | {"parameters": sent, "requestBody": {"required": True, "content": {"*/*": {}}}},
        },
        "/v1/files/{id}/link": {
            "post": _operation("linkFile", "An address that opens the file for a minute.", types.FileLink)
            | {"parameters": [file_id]}
        },
        "/v1/files/{id}/{name}": {"get": fetch | {"parameters": opened, "security": [{"token": []}, {}]}},
    }


def _channel_paths() -> Json:
    """Providers' own requests, and what waits for them or was given up."""
    named = [_parameter("id", "the action's id", "path")]
    connector = _parameter("connector", "id of a configured connector", "path")
    receive = _operation("receive", "A provider's request, as its adapter understands it.", types.EventResults)
    received = {"parameters": [connector], "security": []}
    filters = {
        "connector": "id of a configured connector",
        "state": "waiting or dead",
        "limit": "1 to 1,000; default 100",
    }
    listed = {"parameters": [_parameter(name, words, "query") for name, words in filters.items()]}
    one = _operation("getOutboxAction", "One action that waits or was given up.", types.OutboxAction)
    return {
        "/v1/channels/{connector}": {"post": receive | received},
        "/v1/outbox": {
            "get": _operation("listOutbox", "Actions that wait, or were given up (role admin).", types.OutboxList)
            | listed
        },
        "/v1/outbox/{id}": {
            "get": one | {"parameters": named},
            "delete": _operation("dropOutboxAction", "Give it up now; of a dead letter: forget it.", types.Nothing)
            | {"parameters": named},
        },
        "/v1/outbox/{id}/retry": {
            "post": _operation("retryOutboxAction", "Try it now; a dead letter: once more, at the end.", types.Nothing)
            | {"parameters": named}
        },
    }


_LIST_FILTERS = {
    "state": "queued, active, wrapup or ended",
    "queue": "a queue's id",
    "channel": "web, open or sms",
    "agent": "user id of one who takes or took part",
    "monitored_by": "user id of a supervisor who monitors or monitored it",
    "taken_over": "true or false",
    "since": "started at or after, Unix milliseconds",
    "until": "started before, Unix milliseconds",
    "cursor": "the last page's cursor",
}


def _post_events() -> Json:
    event = {"$ref": REF.format(name="PlatformEvent")}
    batch = {
        "type": "object",
        "properties": {"events": {"type": "array", "items": event, "maxItems": platform.EVENTS_MAX}},
        "required": ["events"],
        "additionalProperties": False,
    }
    operation = _operation("pushEvents", "Events of a platform, in order (role connector).", types.EventResults)
    content = {"application/json": {"schema": batch}, "application/x-ndjson": {"schema": event}}
    return operation | {"requestBody": {"required": True, "content": content}}


def _operation(name: str, summary: str, answer: Any) -> Json:
    errors = sorted({400, *HTTP_STATUS.values()} - {409})
    responses: Json = {"200": {"description": "Done.", "content": {"application/json": {"schema": _ref(answer)}}}}
    return {"operationId": name, "summary": summary, "responses": responses | _refusals(*errors)}


def _refusals(*statuses: int) -> Json:
    refused: Json = {}
    for status in statuses:
        codes = sorted(code for code, its in HTTP_STATUS.items() if its == status)
        content = {"application/json": {"schema": _ref(types.ErrorAnswer)}}
        refused[str(status)] = {"description": f"Refused: {', '.join(codes)}.", "content": content}
    return refused


def _page(name: str, summary: str) -> Json:
    page = _plain(name, summary, "text/html")
    return page | {"responses": page["responses"] | _refusals(429)}


def _plain(name: str, summary: str, media_type: str, other: int | None = None) -> Json:
    content: Json = {media_type: {}}
    responses: Json = {"200": {"description": "Yes.", "content": content}}
    if other is not None:
        responses[str(other)] = {"description": "Not now.", "content": content}
    return {"operationId": name, "summary": summary, "security": [], "responses": responses}


def _body(schema: Json) -> Json:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _parameter(name: str, words: str, place: str, schema: Json | None = None) -> Json:
    return {
        "name": name,
        "in": place,
        "description": words,
        "required": place == "path",
        "schema": schema or {"type": "string"},
    }


# --- the program ------------------------------------------------------------------------------------------------------


def documents() -> dict[str, bytes]:
    """Both documents by file name, as they stand in the repository."""
    return {"asyncapi.json": _encode(asyncapi()), "openapi.json": _encode(openapi())}


def _encode(document: Mapping[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the documents; exit status 1 where `--check` finds a difference."""
    parser = argparse.ArgumentParser(prog="python -m hub.protocol.describe", description="AsyncAPI and OpenAPI files.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is out of date")
    parser.add_argument("--docs", type=Path, default=DOCS, help="the directory of the files (default: %(default)s)")
    options = parser.parse_args(arguments)
    stale = 0
    for name, content in documents().items():
        path: Path = options.docs / name
        if not options.check:
            path.write_bytes(content)
        elif not path.exists() or path.read_bytes() != content:
            sys.stderr.write(f"{path} is out of date; run python -m hub.protocol.describe\n")
            stale = 1
    return stale


if __name__ == "__main__":
    raise SystemExit(main())
