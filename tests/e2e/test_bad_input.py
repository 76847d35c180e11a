"""Bad input: clear code, nothing changed, closed where the protocol says so. Issue, "What it must stand"; section 1."""

import json
from typing import Any

import jwt
import pytest
from websockets.exceptions import InvalidStatus

from tests.support.centre import Centre
from tests.support.processes import SECRET
from tests.support.socket import Json, Socket
from tests.support.tokens import claims, token

ENDPOINTS = {
    "/v1/supervisor": "supervisor",
    "/v1/agent": "agent",
    "/v1/connector": "connector",
    "/v1/customer": "customer",
}


async def greeted(centre: Centre, endpoint: str) -> Socket:
    """A socket of that endpoint with the right token."""
    bearer = centre.token("ana", ENDPOINTS[endpoint], conversation="cnv_1")
    return await centre.connect(endpoint, bearer)


@pytest.mark.parametrize(
    "frame",
    [
        "{", "nonsense", '{"id":1', "[]", '"text"', "5", "null", "true", "", " ", b'{"id":9,"cmd":"typing"}', b"",
        '{"cmd":"view.subscribe"}', '{"id":null,"cmd":"typing"}', '{"id":0,"cmd":"typing"}', '{"id":-1,"cmd":"typing"}',
        '{"id":1.5,"cmd":"typing"}', '{"id":"7","cmd":"typing"}', '{"id":true,"cmd":"typing"}',
        '{"id":9007199254740992,"cmd":"typing"}', '{"id":[1],"cmd":"typing"}', '{"id":7,"cmd":"typing"}}',
        '{"id":7,"cmd":"typing","on":NaN}', "{'id':7}", '{"id":7,}', "{}", '{"cmd":"hello"}',
        '{"id":99999999999999999999999999,"cmd":"typing"}',
    ],
)  # fmt: skip
async def test_what_is_no_command_closes_with_4400(centre: Centre, frame: str | bytes) -> None:
    """Not JSON, not an object, no id, a binary or an empty frame: `closing` and 4400."""
    line = await centre.supervisor()
    await line.send(frame)
    assert await line.closed() == 4400


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("frame", ["[1]", '{"id":1,"cmd":"typing","conversation_id":"c","on":true}', b"x", ""])
async def test_before_hello_too(centre: Centre, endpoint: str, frame: str | bytes) -> None:
    """A command before hello, or no command at all: 4400, on each endpoint."""
    line = await centre.raw(endpoint)
    await line.send(frame)
    assert await line.closed() == 4400


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_no_hello_closes_with_4408(hasty: Centre, endpoint: str) -> None:
    """Without hello in time: `closing` and 4408."""
    line = await hasty.raw(endpoint)
    assert await line.closed() == 4408


@pytest.mark.parametrize("number", [1, 7, 2**31, 2**53 - 1])
async def test_a_bad_command_with_an_id_is_answered(centre: Centre, number: int) -> None:
    """An object with an id from 1 to 2^53 - 1 gets an error answer under that id, and the socket stays."""
    line = await centre.supervisor()
    for body in ({"cmd": "nonsense"}, {}, {"cmd": 5}, {"cmd": None}, {"cmd": "typing"}, {"cmd": "typing", "x": 1}):
        line.answers.pop(number, None)
        await line.send({"id": number, **body})
        assert (await line.answer(number))["error"]["code"] == "schema_invalid"
    await line.round_trip()


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_second_hello_is_refused(centre: Centre, endpoint: str) -> None:
    """`schema_invalid`; the socket and its session stay."""
    line = await greeted(centre, endpoint)
    bearer = centre.token("ana", ENDPOINTS[endpoint], conversation="cnv_1")
    await line.refused("schema_invalid", "hello", token=bearer)
    await line.round_trip()


async def test_several_objects_in_a_frame(centre: Centre) -> None:
    """A frame of several lines is several commands, answered in order; empty lines are skipped."""
    line, story = await centre.supervisor(status=None), await centre.story()
    one = {"id": 101, "cmd": "status.set", "status": "available"}
    two = {"id": 102, "cmd": "monitor.start", "conversation_id": story.id}
    three = {"id": 103, "cmd": "monitor.stop", "conversation_id": story.id}
    await line.send("\n\n" + "\n\n".join(map(json.dumps, (one, two, three))) + "\n")
    answers = [await line.answer(number) for number in (101, 102, 103)]
    assert all("ok" in answer for answer in answers), answers
    order = [json.loads(text)["id"] for text in line.lines if '"id":10' in text.replace(" ", "")]
    assert order == [101, 102, 103]


async def test_a_hello_may_come_with_commands(centre: Centre) -> None:
    """Hello and the first commands may stand in one frame."""
    line = await centre.raw("/v1/supervisor")
    hello = {"id": 1, "cmd": "hello", "token": centre.token("ana")}
    await line.send(json.dumps(hello) + "\n" + json.dumps({"id": 2, "cmd": "status.set", "status": "busy"}))
    assert "ok" in await line.answer(1)
    assert (await line.answer(2))["ok"] == {}


async def test_the_good_ones_before_a_bad_line_are_done(centre: Centre) -> None:
    """A frame whose second line is broken: the first is answered, then 4400."""
    line = await centre.supervisor(status=None)
    await line.send(json.dumps({"id": 50, "cmd": "status.set", "status": "meal"}) + "\n{broken")
    assert (await line.answer(50))["ok"] == {}
    assert await line.closed() == 4400
    assert (await centre.supervisor(status=None)).session["status"] == "meal"


async def test_a_pong_needs_no_id_and_gets_no_answer(centre: Centre) -> None:
    """`pong` without an id is taken silently."""
    line = await centre.supervisor()
    before = len(line.lines)
    await line.send({"cmd": "pong"})
    await line.round_trip()
    assert [text for text in line.lines[before:] if "unknown_conversation" not in text] == []


@pytest.mark.parametrize("size", [65 * 1024, 65_537, 1 << 20])
async def test_a_frame_beyond_64_kib_closes(centre: Centre, size: int) -> None:
    """`closing` and 4413, or 1009 where the transport refuses first."""
    line = await centre.supervisor()
    head = '{"id":5,"cmd":"typing","conversation_id":"'
    await line.send(head + "x" * (size - len(head) - 2) + '"}')
    assert await line.closed() in {4413, 1009}


async def test_a_frame_of_64_kib_is_taken(centre: Centre) -> None:
    """Exactly 64 KiB is answered."""
    line = await centre.supervisor()
    head = '{"id":5,"cmd":"typing","conversation_id":"'
    await line.send(head + "x" * (65_536 - len(head) - 2) + '"}')
    assert (await line.answer(5))["error"]["code"] == "schema_invalid"


async def test_too_big_before_hello(centre: Centre) -> None:
    """A hello beyond 64 KiB is refused in the same way."""
    line = await centre.raw("/v1/supervisor")
    await line.send({"id": 1, "cmd": "hello", "token": "x" * 70_000})
    assert await line.closed() in {4413, 1009}


@pytest.mark.parametrize("depth", [100, 1024, 30_000])
async def test_nested_arrays_do_no_harm(centre: Centre, depth: int) -> None:
    """Deep nesting is `schema_invalid`, or 4400 where it can't be parsed; the hub goes on."""
    line = await centre.supervisor()
    await line.send('{"id":5,"cmd":"typing","conversation_id":' + "[" * depth + "]" * depth + ',"on":true}')
    await line.until(lambda: 5 in line.answers or line.close_code is not None)
    if 5 in line.answers:
        assert line.answers[5]["error"]["code"] == "schema_invalid"
        await line.round_trip()
    else:
        assert await line.closed() == 4400
    await (await centre.supervisor()).round_trip()


@pytest.mark.parametrize("depth", [1024, 30_000])
async def test_nested_arrays_in_events_do_no_harm(centre: Centre, depth: int) -> None:
    """Deep nesting in a platform's event is refused or a 400, and the next event is accepted."""
    story = await centre.story()
    event = story.event("panel.updated", panel="p", content="CONTENT")
    body = json.dumps({"events": [event]}).replace('"CONTENT"', "[" * depth + "]" * depth)
    answer = await centre.platform.http(body)
    if answer.status_code == 200:
        assert answer.json()["results"][0]["status"] == "refused"
    else:
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "schema_invalid")
    await story.customer_says("still here")


IDS = ["", "{}", "cnv_{1}", "cnv_1\n", "\ncnv_1", "cnv 1", "a" * 65, "cnv\u0000", "cnv\u0007", "ünder", "cnv/1", "*", 5, None,
       [], {}, True, 1.5]  # fmt: skip


@pytest.mark.parametrize("conversation", IDS)
async def test_ids_outside_the_pattern(centre: Centre, conversation: Any) -> None:
    """Each is `schema_invalid` with the path of the field, never anything else."""
    line = await centre.supervisor()
    for cmd in ("monitor.start", "monitor.stop", "takeover.prepare", "conversation.end"):
        error = await line.refused("schema_invalid", cmd, conversation_id=conversation)
        assert "conversation_id" in error.details["path"]


@pytest.mark.parametrize("conversation", [":", ":cnv_1", "cnv_1:", "a" * 64, "-", "..", "0", "cnv.1-x:y_z"])
async def test_ids_inside_the_pattern(centre: Centre, conversation: str) -> None:
    """Colons at the ends, dots and 64 characters are ids: just unknown."""
    await (await centre.supervisor()).refused("unknown_conversation", "monitor.start", conversation_id=conversation)


@pytest.mark.parametrize(
    ("cmd", "arguments", "path"),
    [
        ("monitor.start", {}, "conversation_id"),
        ("monitor.start", {"conversation_id": "c", "participant_id": 5}, "participant_id"),
        ("monitor.start", {"conversation_id": "c", "participant_id": "{x}"}, "participant_id"),
        ("monitor.start", {"conversation_id": "c", "extra": 1}, "extra"),
        ("monitor.start", {"conversation_id": "c", "req": 5}, "req"),
        ("monitor.release", {"conversation_id": "c", "reason": 5}, "reason"),
        ("takeover.confirm", {"takeover_id": "t"}, "confirm_token"),
        ("takeover.confirm", {"takeover_id": 5, "confirm_token": "x"}, "takeover_id"),
        ("takeover.confirm", {"takeover_id": "t", "confirm_token": 5}, "confirm_token"),
        ("message.send", {"conversation_id": "c", "text": 5, "client_message_id": "d"}, "text"),
        ("message.send", {"conversation_id": "c", "text": "x"}, "client_message_id"),
        ("message.send", {"conversation_id": "c", "text": "x", "client_message_id": "{"}, "client_message_id"),
        (
            "message.send",
            {"conversation_id": "c", "text": "x", "client_message_id": "d", "attachments": 5},
            "attachments",
        ),
        ("typing", {"conversation_id": "c", "on": "yes"}, "on"),
        ("typing", {"conversation_id": "c", "on": 1}, "on"),
        ("typing", {"conversation_id": "c"}, "on"),
        ("status.set", {"status": 5}, "status"),
        ("wrapup.submit", {"conversation_id": "c"}, "code"),
        ("wrapup.submit", {"conversation_id": "c", "code": "x", "notes": 5}, "notes"),
        ("view.subscribe", {"view": []}, "view"),
        ("view.unsubscribe", {}, "subscription"),
    ],
)
async def test_wrong_types_and_fields(centre: Centre, cmd: str, arguments: Json, path: str) -> None:
    """A missing, wrong or unknown field is `schema_invalid` and names the field."""
    error = await (await centre.supervisor()).refused("schema_invalid", cmd, **arguments)
    assert path in error.details["path"]
    assert error.retryable is False
    assert len(error.message.split()) > 2


async def test_nothing_changed_by_bad_input(centre: Centre) -> None:
    """After a row of bad commands the conversation is exactly as before."""
    line, story = await centre.supervisor(), await centre.story()
    before = await centre.detail(story.id)
    odd: list[Json] = [{"extra": 1}, {"participant_id": 5}, {"req": []}]
    for arguments in odd:
        await line.refused("schema_invalid", "monitor.start", conversation_id=story.id, **arguments)
    await line.refused("schema_invalid", "monitor.start", conversation_id=story.id + "\n")
    after = await centre.detail(story.id)
    before["metrics"].pop("duration_ms")
    after["metrics"].pop("duration_ms")
    assert after == before


@pytest.mark.parametrize("text", ["\\ud800", "\\udfff x", "a\\u0000b"])
async def test_odd_text_does_no_harm(centre: Centre, text: str) -> None:
    """A lone surrogate or a NUL is taken or refused; what is shown afterwards is whole, and the hub goes on."""
    ana, story = await centre.supervisor(), await centre.story()
    await story.monitored_by(ana)
    event = story.event("message.created", message_id="m_1", text="TEXT", purpose="customer")
    answer = await centre.platform.http(json.dumps({"events": [event]}).replace("TEXT", text))
    assert answer.status_code in {200, 400}, answer.text
    await story.customer_says("after")
    await ana.expect("message.created", story.id, text="after")


# Tokens


def forged(org: str) -> dict[str, str]:
    """Tokens that must not be believed, by what is wrong with them."""
    good = claims("ana", "supervisor", org)
    other = {name: {**good, name: None} for name in ("sub", "org", "role", "exp", "aud", "iss")}
    without = {f"without {name}": {k: v for k, v in body.items() if v is not None} for name, body in other.items()}
    tokens = {name: token_of(body) for name, body in without.items()}
    tokens |= {
        "expired": token("ana", "supervisor", org, ttl=-60),
        "other secret": token("ana", "supervisor", org, secret=SECRET[::-1]),
        "other audience": token("ana", "supervisor", org, aud="other"),
        "other issuer": token("ana", "supervisor", org, iss="https://else.example"),
        "other algorithm": token("ana", "supervisor", org, algorithm="HS512", secret=SECRET * 2),
        "algorithm the secret allows but we don't": token_of(good, "HS384"),
        "no algorithm": unsigned(good),
        "cut": token("ana", "supervisor", org)[:-2],
        "not valid yet": token("ana", "supervisor", org, nbf=4_000_000_000),
        "unknown role": token("ana", "king", org),
        "sub outside the pattern": token("an{a}", "supervisor", org),
        "org outside the pattern": token("ana", "supervisor", org + "/x"),
        "permissions as text": token("ana", "supervisor", org, permissions="monitor"),
        "empty": "",
        "nonsense": "nonsense",
        "dots": "..",
    }
    return tokens


def token_of(body: Json, algorithm: str = "HS256") -> str:
    """A token with exactly these claims."""
    secret = SECRET if algorithm == "HS256" else SECRET * 2
    return jwt.encode(body, secret, algorithm=algorithm)


def unsigned(body: Json) -> str:
    """A token that says it needs no signature."""
    return jwt.encode(body, "", algorithm="none")


@pytest.mark.parametrize("fault", list(forged("org")))
async def test_tokens_that_must_not_be_believed(centre: Centre, fault: str) -> None:
    """A bad token gets its error answer, then `closing`, then 4401; over HTTP a 401."""
    bad = forged(centre.org)[fault]
    line = await centre.raw("/v1/supervisor")
    await line.send({"id": 1, "cmd": "hello", "token": bad})
    assert (await line.answer(1))["error"]["code"] == "unauthenticated"
    assert await line.closed() == 4401
    assert [json.loads(text).get("event") for text in line.lines] == [None, "closing"]
    if bad:
        answer = await centre.get("/v1/conversations", bearer=bad)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")


async def test_a_hello_without_token(centre: Centre) -> None:
    """A missing token is 4401."""
    line = await centre.raw("/v1/supervisor")
    await line.send({"id": 1, "cmd": "hello"})
    assert await line.closed() == 4401
    assert "error" in line.answers[1]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("role", ["supervisor", "admin", "agent", "connector", "customer"])
async def test_roles_have_their_endpoints(centre: Centre, endpoint: str, role: str) -> None:
    """A role that an endpoint isn't for gets `not_permitted`, then `closing`, then 4403."""
    allowed = {ENDPOINTS[endpoint]} | ({"admin"} if endpoint == "/v1/supervisor" else set())
    line = await centre.raw(endpoint)
    await line.send({"id": 1, "cmd": "hello", "token": centre.token("ana", role, conversation="cnv_1")})
    answer = await line.answer(1)
    if role in allowed:
        assert "ok" in answer
    else:
        assert answer["error"]["code"] == "not_permitted"
        assert await line.closed() == 4403


async def test_an_expired_token_ends_the_socket(centre: Centre) -> None:
    """When the token of an open socket expires: `closing` and 4401; with a new token the session resumes."""
    line = await centre.connect("/v1/supervisor", centre.token("ana", ttl=2))
    await line.command("status.set", status="available")
    story = await centre.story()
    await story.monitored_by(line)
    assert await line.closed(timeout=8) == 4401
    back = await centre.connect("/v1/supervisor", centre.token("ana"), resume=line.resumption())
    assert back.session["resumed"] is True
    await story.fence(back)


async def test_other_subprotocols_alone_are_a_400(centre: Centre) -> None:
    """Offering only others is answered by HTTP 400."""
    with pytest.raises(InvalidStatus) as refused:
        await centre.raw("/v1/supervisor", subprotocols=("mqtt", "hub.v2"))
    assert refused.value.response.status_code == 400


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_foreign_origin_is_a_403(centre: Centre, endpoint: str) -> None:
    """An Origin that isn't allowed: HTTP 403 before accepting, or 4403."""
    try:
        line = await centre.raw(endpoint, origin="https://evil.example")
    except InvalidStatus as refused:
        assert refused.response.status_code == 403  # noqa: PT017
    else:
        assert await line.closed() == 4403


async def test_the_own_origin_is_allowed(centre: Centre) -> None:
    """A page of the hub itself may connect."""
    line = await centre.raw("/v1/supervisor", origin=centre.hub.url)
    await line.hello(centre.token("ana"))


async def test_unknown_endpoints(centre: Centre) -> None:
    """A socket on another path is refused with an HTTP status."""
    with pytest.raises(InvalidStatus) as refused:
        await centre.raw("/v1/nothing")
    assert refused.value.response.status_code in {403, 404}


async def test_a_token_in_the_url_is_nothing(centre: Centre) -> None:
    """A token in the query string authenticates nobody."""
    answer = await centre.http.get(f"{centre.hub.url}/v1/conversations?token={centre.token('ana')}")
    assert answer.status_code == 401
