"""HTTP routes: protocol, sections 1 and 6."""

import time
from collections import defaultdict

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.centre import Centre
from tests.support.refusals import asked_for
from tests.support.socket import Json, Socket
from tests.support.view import View


async def post(centre: Centre, path: str, body: object, bearer: str | None) -> httpx.Response:
    """POST JSON with or without a bearer token."""
    headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
    return await centre.http.post(centre.hub.url + path, json=body, headers=headers)


async def ticket(centre: Centre, bearer: str) -> Json:
    """A ticket for that token."""
    answer = await post(centre, "/v1/tickets", {}, bearer)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of an error, whose shape is checked."""
    body = answer.json()
    assert set(body) == {"error"}, body
    assert set(body["error"]) == {"code", "message", "retryable", "details"}
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["cache-control"] == "no-store"
    assert asked_for(answer.status_code, answer.headers)
    return answer.status_code, body["error"]["code"]


async def test_a_ticket_is_a_token_once(centre: Centre) -> None:
    """A ticket says hello as its owner with all rights; the second time it is 4401."""
    given = await ticket(centre, centre.token("ana"))
    assert set(given) == {"ticket", "expires_at"}
    assert 20_000 < given["expires_at"] - time.time() * 1000 <= 30_500
    line = await centre.connect("/v1/supervisor", given["ticket"])
    assert line.session["user"] == {"id": "ana", "name": "Ana Ortiz"}
    assert "takeover" in line.session["permissions"]
    again = await centre.raw("/v1/supervisor")
    await again.send({"id": 1, "cmd": "hello", "token": given["ticket"]})
    assert (await again.answer(1))["error"]["code"] == "unauthenticated"
    assert await again.closed() == 4401


async def test_two_at_once_with_one_ticket(centre: Centre) -> None:
    """Of two sockets that use one ticket at the same moment exactly one gets in."""
    given = await ticket(centre, centre.token("ana"))
    lines = [await centre.raw("/v1/supervisor") for _ in range(2)]
    for line in lines:
        await line.send({"id": 1, "cmd": "hello", "token": given["ticket"]})
    answers = [await line.answer(1) for line in lines]
    assert sorted("ok" in answer for answer in answers) == [False, True]


async def test_a_ticket_works_on_another_node(pair: Centre) -> None:
    """A ticket given by one node is taken by the other, once."""
    given = await ticket(pair, pair.token("ana"))
    await pair.connect("/v1/supervisor", given["ticket"], node=1)
    again = await pair.raw("/v1/supervisor", node=0)
    await again.send({"id": 1, "cmd": "hello", "token": given["ticket"]})
    assert await again.closed() == 4401


async def test_a_ticket_expires(hasty: Centre) -> None:
    """After its time a ticket is 4401."""
    given, view = await ticket(hasty, hasty.token("ana")), await hasty.supervisor("bo")
    while time.time() * 1000 <= given["expires_at"] + 100:
        await view.expect("ping")
    line = await hasty.raw("/v1/supervisor")
    await line.send({"id": 1, "cmd": "hello", "token": given["ticket"]})
    assert await line.closed() == 4401


async def test_a_ticket_keeps_its_role(centre: Centre) -> None:
    """An agent's ticket opens the agent endpoint only."""
    given = await ticket(centre, centre.token("max", "agent"))
    line = await centre.raw("/v1/supervisor")
    await line.send({"id": 1, "cmd": "hello", "token": given["ticket"]})
    assert await line.closed() == 4403


async def test_tickets_need_a_token(centre: Centre) -> None:
    """Without a token, or with a ticket as one, there is no ticket."""
    assert refusal(await post(centre, "/v1/tickets", {}, None)) == (401, "unauthenticated")
    given = await ticket(centre, centre.token("ana"))
    assert refusal(await post(centre, "/v1/tickets", {}, given["ticket"])) == (401, "unauthenticated")


async def revoke(centre: Centre, body: Json) -> None:
    """Revoke as an administrator."""
    answer = await post(centre, "/v1/revocations", body, centre.token("root", "admin", permissions=["admin"]))
    assert (answer.status_code, answer.json()) == (200, {})


async def ended_within_two_seconds(centre: Centre, line: Socket, view: View, conversation: str) -> None:
    """The socket is closed with 4401, and the row is free."""
    assert await line.closed(timeout=2) == 4401
    await view.row(conversation, monitor=None, timeout=2)
    answer = await centre.get(f"/v1/conversations/{conversation}", bearer=centre.token("bo"))
    [monitor] = answer.json()["monitors"]
    assert monitor["reason"] == "permission_lost"


async def test_a_revoked_person_is_out(centre: Centre) -> None:
    """`{"sub"}`: sockets closed with 4401 and monitors ended in 2 s; the token isn't believed any more."""
    bearer, story = centre.token("ana"), await centre.story()
    line = await centre.connect("/v1/supervisor", bearer)
    view = await View.open(await centre.supervisor("bo"), "interactions")
    await line.command("status.set", status="available")
    await story.monitored_by(line)
    await view.until(lambda rows: rows[story.id]["monitor"] is not None)
    await revoke(centre, {"sub": "ana"})
    await ended_within_two_seconds(centre, line, view, story.id)
    again = await centre.raw("/v1/supervisor")
    await again.send({"id": 1, "cmd": "hello", "token": bearer})
    assert await again.closed() == 4401
    assert refusal(await centre.get("/v1/conversations", bearer=bearer)) == (401, "unauthenticated")


async def test_a_revoked_token_is_out_alone(centre: Centre) -> None:
    """`{"jti"}`: the socket of that token is closed, another token's of the same person stays."""
    story = await centre.story()
    one = await centre.connect("/v1/supervisor", centre.token("ana", jti="jti-1"))
    two = await centre.connect("/v1/supervisor", centre.token("ana", jti="jti-2"))
    await one.command("status.set", status="available")
    view = await View.open(await centre.supervisor("bo"), "interactions")
    await story.monitored_by(one)
    await view.until(lambda rows: rows[story.id]["monitor"] is not None)
    await revoke(centre, {"jti": "jti-1"})
    assert await one.closed(timeout=2) == 4401
    await two.round_trip()
    again = await centre.raw("/v1/supervisor")
    await again.send({"id": 1, "cmd": "hello", "token": centre.token("ana", jti="jti-1")})
    assert await again.closed() == 4401


async def test_revocations_reach_every_node(pair: Centre) -> None:
    """Revoked on one node, closed on the other within 2 s."""
    line = await pair.supervisor(node=1)
    await revoke(pair, {"sub": "ana"})
    assert await line.closed(timeout=2) == 4401


async def test_revocations_stay_in_the_organization(centre: Centre) -> None:
    """The same user id or token id of another organization isn't touched."""
    other = Centre(centre.hub)
    line = await other.connect("/v1/supervisor", other.token("ana", jti="jti-1"))
    await revoke(centre, {"sub": "ana"})
    await revoke(centre, {"jti": "jti-1"})
    gone = await centre.raw("/v1/supervisor")
    await gone.send({"id": 1, "cmd": "hello", "token": centre.token("ana", iat=int(time.time()) - 5)})
    assert await gone.closed() == 4401
    await line.round_trip()
    await other.connect("/v1/supervisor", other.token("ana", jti="jti-1"))
    await other.close()


@pytest.mark.parametrize("role", ["supervisor", "agent", "connector", "customer"])
async def test_only_admins_revoke(centre: Centre, role: str) -> None:
    """Another role, whatever its permissions, gets 403, and nobody is revoked."""
    ana = await centre.supervisor()
    bearer = centre.token("eve", role, permissions=["admin"], conversation="cnv_1")
    assert refusal(await post(centre, "/v1/revocations", {"sub": "ana"}, bearer)) == (403, "not_permitted")
    assert refusal(await post(centre, "/v1/revocations", {"sub": "ana"}, None)) == (401, "unauthenticated")
    await ana.round_trip()


@pytest.mark.parametrize("body", [{}, {"sub": 5}, {"name": "ana"}, [], {"sub": "a b"}, {"jti": None}])
async def test_revocations_of_another_form_are_a_400(centre: Centre, body: object) -> None:
    """Anything but `{"sub"}` or `{"jti"}` is `schema_invalid`."""
    bearer = centre.token("root", "admin", permissions=["admin"])
    assert refusal(await post(centre, "/v1/revocations", body, bearer)) == (400, "schema_invalid")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_needs_no_token(centre: Centre, path: str) -> None:
    """Both are 200 while the hub serves, without a token."""
    assert (await centre.http.get(centre.hub.url + path)).status_code == 200


async def test_metrics_stand_on_their_own_address(centre: Centre) -> None:
    """Prometheus text on the metrics address; on the main one not without a token."""
    answer = await centre.http.get(centre.hub.metrics)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert "# TYPE " in answer.text
    public = await centre.http.get(centre.hub.url + "/metrics")
    assert public.status_code in {401, 403, 404}
    assert "# TYPE" not in public.text


@pytest.mark.parametrize("role", ["supervisor", "agent", "customer", "connector"])
async def test_metrics_on_the_main_address_are_for_admins(centre: Centre, role: str) -> None:
    """A count of monitors is a leak: no other role reads it."""
    answer = await centre.get("/metrics", bearer=centre.token("eve", role, conversation="cnv_1"))
    assert answer.status_code in {403, 404}
    assert "# TYPE" not in answer.text


async def test_metrics_hold_no_names(centre: Centre) -> None:
    """Neither users, nor conversations, nor organizations are labels."""
    ana, story = await centre.supervisor("ana-with-a-name"), await centre.story("cnv_with_a_name")
    await story.monitored_by(ana)
    text = (await centre.http.get(centre.hub.metrics)).text
    for word in ("ana-with-a-name", "cnv_with_a_name", centre.org):
        assert word not in text


@pytest.mark.parametrize("path", ["/", "/desk", "/messenger"])
async def test_pages(centre: Centre, path: str) -> None:
    """Console, desk and messenger are served as HTML under a content security policy."""
    answer = await centre.http.get(centre.hub.url + path, follow_redirects=True)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "/v1/conversations",
        "/v1/conversations/cnv_1",
        "/v1/conversations/cnv_1/transcript",
        "/v1/conversations/cnv_1/timeline",
    ],
)
@pytest.mark.parametrize("header", [None, "Bearer", "Basic YTpi", "bearer nonsense", "nonsense"])
async def test_routes_need_a_token(centre: Centre, path: str, header: str | None) -> None:
    """Without a good bearer token: 401 `unauthenticated`."""
    headers = {"authorization": header} if header else {}
    answer = await centre.http.get(centre.hub.url + path, headers=headers)
    assert refusal(answer) == (401, "unauthenticated")


async def test_events_need_a_token(centre: Centre) -> None:
    """POST /v1/events without a token is 401, also when the body is broken."""
    for body in ('{"events": []}', "{"):
        assert refusal(await centre.http.post(centre.hub.url + "/v1/events", content=body)) == (401, "unauthenticated")


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/conversations/a%20b", "/v1/conversations/%7B%7D/timeline"])
async def test_other_paths_are_errors_of_the_same_shape(centre: Centre, path: str) -> None:
    """A path that isn't there, or an id outside the pattern, is a 404 or 400 in the shape of every error."""
    status, _ = refusal(await centre.get(path))
    assert status in {400, 404}


async def test_another_method_is_an_error(centre: Centre) -> None:
    """GET /v1/events isn't a route."""
    assert (await centre.get("/v1/events")).status_code in {404, 405}


async def test_metrics_count_what_was_done(centre: Centre) -> None:
    """Deliveries, writes, the age of entries, scripts and the loop's lag: each is there, and rises with what happens."""

    async def counted() -> dict[str, float]:
        text = (await centre.http.get(centre.hub.metrics)).text
        sums: defaultdict[str, float] = defaultdict(float)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                sums[sample.name] += sample.value if set(sample.labels) <= {"script"} else 0
        return dict(sums)

    before, ana, story = await counted(), await centre.supervisor(), await centre.story()
    await story.monitored_by(ana)
    for number in range(200):  # ages and scripts are sampled
        await story.customer_says(f"{number}")
    await ana.expect("message.created", story.id, text="199", timeout=20)
    after = await counted()
    rising = [
        *("hub_deliveries_total", "hub_delivered_bytes_total", "hub_socket_writes_total", "hub_board_changes_total"),
        *("hub_follow_age_seconds_count", "hub_script_seconds_count", "hub_pipeline_calls_count"),
        "hub_loop_lag_seconds_count",
    ]
    assert [name for name in rising if not after[name] > before.get(name, 0)] == []
    assert after["hub_deliveries_total"] - before["hub_deliveries_total"] >= 200
    assert after["hub_follow_age_seconds_sum"] / after["hub_follow_age_seconds_count"] < 1.0
