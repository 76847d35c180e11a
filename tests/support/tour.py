"""
A tour: everything that a hub can be asked, once, rightly and wrongly, over sockets and HTTP.

Each text, name and secret comes from `say`, so that whoever goes on the tour knows afterwards what was said: what must not
be found elsewhere (`tests/e2e/test_canaries.py`), or which commands the store got (`tests/contract/test_access.py`).
"""

import contextlib
import json
from collections.abc import Callable

import httpx

from tests.support.centre import Centre, Story, confirm
from tests.support.socket import HubError, Json, Socket

Say = Callable[[str], str]


class Tour:
    """One organization's day; `errors` are all refusals over HTTP, `lines` all sockets."""

    def __init__(self, centre: Centre, say: Say) -> None:
        self.centre = centre
        self.say = say
        self.errors: list[str] = []
        self.unused = ""  # a ticket that is still good

    @property
    def lines(self) -> list[Socket]:
        """Every socket that was opened."""
        return self.centre.opened

    async def all(self) -> None:
        """Everything, in an order in which it makes sense."""
        story = await self.platform()
        await self.watched(story)
        await self.taken_over(story)
        await self.customer()
        await self.connector()
        await self.history(story)
        await self.wrong_frames(story)
        await self.wrong_requests(story)
        await self.revoked()

    async def platform(self) -> Story:
        """Events in, of every kind."""
        say, centre = self.say, self.centre
        story = await centre.story(
            "tour",
            queue="billing",
            customer={"id": "cus_7", "name": say("customer's name")},
            subject=say("subject"),
            panels={"customer": {"note": say("panel at the start")}},
            agents=(),
        )
        await story.tell(
            "participant.connected", participant_id="p_max", purpose="agent", user_id="max", name=say("agent's name")
        )
        attachment = {"url": f"https://example.org/{say('file address')}", "name": say("file name"), "mime": "a/b"}
        await story.tell("message.created", message_id="m_1", text=say("customer's text"), purpose="customer",
                         attachments=[attachment])  # fmt: skip
        await story.tell("message.created", message_id="m_2", text=say("agent's text"), participant_id="p_max")
        await story.tell("message.receipt", message_id="m_2", status="failed", reason=say("receipt's reason"))
        await story.tell("typing", on=True, purpose="customer")
        await story.tell("panel.updated", panel="customer", content={"note": say("panel")})
        await story.tell("panel.updated", panel="order", content={"note": say("second panel")})
        again = story.event("message.created", message_id="m_1", text=say("text that came twice"), purpose="customer")
        [result] = await centre.platform.post(again)
        assert result["status"] == "duplicate", result
        await story.tell("conversation.transferred", queue="billing")
        for event in ({"text": say("refused text"), "message_id": "m_3", "participant_id": "p_nobody"},
                      {"text": say("text of a wrong event"), "extra": say("extra field")}):  # fmt: skip
            await centre.platform.post(story.event("message.created", **event))
        return story

    async def watched(self, story: Story) -> None:
        """Views, statuses, monitors, resuming, releasing."""
        say, centre = self.say, self.centre
        ana = await centre.supervisor("ana", name=say("supervisor's name"))
        for view in ("interactions", "queues", "agents", "roster"):
            wanted: Json = {"filter": {"text": say("view's search")}} if view == "interactions" else {}
            held = await ana.command("view.subscribe", view=view, **wanted)
        await ana.command("view.unsubscribe", subscription=held["subscription"])
        await story.monitored_by(ana, req="r_1")
        await ana.drop()
        await story.customer_says(say("text while away"))
        ana = await centre.connect("/v1/supervisor", centre.token("ana"), resume=ana.resumption())
        bo = await centre.supervisor("bo")
        with contextlib.suppress(HubError):
            await bo.command("monitor.start", conversation_id=story.id)
        await bo.command("monitor.release", conversation_id=story.id, reason=say("release's reason"))
        await ana.expect("monitor.ended", story.id)

    async def taken_over(self, story: Story) -> None:
        """A takeover with a draft, answers, wrap-up."""
        say, centre = self.say, self.centre
        agent = await centre.agent("max", name=say("agent's token's name"))
        await agent.command("status.set", status="on_queue")
        await agent.command("view.subscribe", view="roster")
        await agent.command("draft.update", conversation_id=story.id, text=say("draft"))
        await agent.command("message.send", conversation_id=story.id, text=say("agent's own text"),
                            client_message_id="a_1", req="r_a")  # fmt: skip
        cy = await centre.supervisor("cy")
        await story.monitored_by(cy)
        prepared = await story.prepared_by(cy)
        with contextlib.suppress(HubError):
            await cy.command("takeover.confirm", takeover_id=prepared["takeover_id"], confirm_token=say("wrong token"))
        await cy.command("takeover.cancel", takeover_id=prepared["takeover_id"])
        await confirm(cy, await story.prepared_by(cy))
        notice = await agent.expect("takeover.notified", story.id)
        with contextlib.suppress(HubError):
            await agent.command(
                "message.send", conversation_id=story.id, text=say("stale text"), client_message_id="a_2"
            )
        await agent.command("takeover.acknowledge", takeover_id=notice["data"]["takeover_id"])
        await agent.command("wrapup.submit", conversation_id=story.id, code="resolved", notes=say("agent's notes"))
        await cy.command("typing", conversation_id=story.id, on=True)
        await cy.command(
            "message.send", conversation_id=story.id, text=say("supervisor's text"), client_message_id="s_1"
        )
        await cy.command("conversation.end", conversation_id=story.id)
        with contextlib.suppress(HubError):
            await cy.command("wrapup.submit", conversation_id=story.id, code=say("wrong code"), notes=say("notes"))
        await cy.command("wrapup.submit", conversation_id=story.id, code="follow-up", notes=say("supervisor's notes"))
        with contextlib.suppress(HubError):
            await cy.command("message.send", conversation_id=story.id, text=say("late text"), client_message_id="s_2")

    async def customer(self) -> None:
        """A messenger of the hub's own."""
        say = self.say
        line = await self.centre.customer("cnv_own", "cus_9", name=say("customer's token's name"))
        await line.command("conversation.start", queue="support", subject=say("own subject"), name=say("own name"))
        await line.command("typing", on=True)
        await line.command("message.send", text=say("messenger's text"), client_message_id="c_1")
        await line.command("conversation.end")

    async def connector(self) -> None:
        """A platform's socket: actions out, reports in."""
        say, centre = self.say, self.centre
        platform = await centre.connector()
        story = await centre.story("reported")
        ana = await centre.supervisor("ana")
        await story.taken_over_by(ana)
        await ana.command(
            "message.send", conversation_id=story.id, text=say("text to deliver"), client_message_id="d_1"
        )
        for kind in ("participant.disconnected", "participant.connected", "sender.changed"):
            action = await platform.socket.expect(kind, story.id)
            await platform.socket.command("action.done", action_id=action["data"]["action_id"])
        message = await platform.socket.expect("outbound.message", story.id)
        await platform.socket.command("delivery.report", message_id=message["data"]["message_id"], status="failed",
                                    reason=say("report's reason"))  # fmt: skip
        event = story.event("message.created", message_id="m_9", text=say("pushed text"), purpose="customer")
        await platform.socket.command("event", event=event)
        await platform.socket.close(1000)

    async def history(self, story: Story) -> None:
        """What is kept, and by ticket."""
        centre = self.centre
        for path in ("", f"/{story.id}", f"/{story.id}/transcript", f"/{story.id}/timeline"):
            answer = await centre.get(f"/v1/conversations{path}")
            assert answer.status_code == 200, answer.text
        for name, value in {"state": "ended", "queue": "billing", "monitored_by": "ana", "agent": "max"}.items():
            assert (await centre.get(f"/v1/conversations?{name}={value}")).status_code == 200
        headers = {"authorization": f"Bearer {centre.token('ana')}"}
        ticket = (await centre.http.post(centre.hub.url + "/v1/tickets", headers=headers)).json()["ticket"]
        await centre.connect("/v1/supervisor", ticket)
        self.unused = (await centre.http.post(centre.hub.url + "/v1/tickets", headers=headers)).json()["ticket"]
        for path in ("/", "/desk", "/messenger", "/healthz", "/readyz"):
            assert (await centre.http.get(centre.hub.url + path)).status_code == 200

    async def wrong_frames(self, story: Story) -> None:
        """What can't be read, isn't known, or isn't allowed, with secrets and texts in it."""
        say, centre = self.say, self.centre
        ana = await centre.supervisor("ana")
        wrong: list[Json] = [
            {
                "cmd": "message.send",
                "conversation_id": story.id,
                "text": [say("text in a list")],
                "client_message_id": "x",
            },
            {"cmd": "message.send", "conversation_id": say("text as an id"), "text": 1, "client_message_id": "x"},
            {"cmd": "takeover.confirm", "takeover_id": "t", "confirm_token": {"x": say("token in an object")}},
            {"cmd": "wrapup.submit", "conversation_id": story.id, "code": 5, "notes": say("notes of a wrong one")},
            {"cmd": "status.set", "status": say("status")},
            {"cmd": "typing", "conversation_id": story.id, "on": say("sign of typing")},
            {"cmd": "hello", "token": say("second token")},
        ]
        for frame in wrong:
            number = ana.next_id()
            await ana.send({"id": number} | frame)
            assert "error" in await ana.answer(number), frame
        await ana.send('{"id":7,"cmd":"message.send","text":"' + say("broken frame"))
        await ana.closed()
        hellos: list[Json] = [
            {"token": say("token that is none")},
            {"token": "tkt_" + say("ticket that is none")},
            {"token": f"{say('header')}.{say('claims')}.{say('signature')}"},
            {"token": centre.token("ana", secret=say("another secret") + "0" * 32)},
            {"token": {"x": say("token as an object")}},
            {"token": centre.token("ana", name=say("refused name"), role="king")},
            {"token": centre.token("ana"), "resume": {"session": "ses_1", "secret": [say("resume secret in a list")]}},
        ]
        for hello in hellos:
            line = await centre.raw("/v1/supervisor")
            await line.send({"id": 1, "cmd": "hello"} | hello)
            assert "error" in await line.answer(1), hello
        resume = {"session": ana.session["session"], "secret": say("wrong resume secret"), "cursors": {"tour": "a.1-1"}}
        await centre.connect("/v1/supervisor", centre.token("ana"), resume=resume)
        line = await centre.supervisor("ana", status=None)
        await line.send(say("binary frame").encode())
        await line.closed()

    async def wrong_requests(self, story: Story) -> None:
        """The same over HTTP."""
        say, centre = self.say, self.centre
        http, url = centre.http, centre.hub.url
        bearer = {"authorization": f"Bearer {centre.token('ana')}"}
        event = story.event("message.created", message_id="m_8", text=say("text after the end"), purpose="customer")
        asked = [
            http.get(f"{url}/v1/conversations", headers={"authorization": f"Bearer {say('bearer that is none')}"}),
            http.get(f"{url}/v1/conversations", headers={"authorization": f"Basic {say('basic credentials')}"}),
            http.get(f"{url}/v1/conversations", headers={"cookie": f"session={say('cookie')}"}),
            http.get(f"{url}/v1/conversations?token={say('token in the address')}", headers=bearer),
            http.get(f"{url}/v1/conversations/unknown/transcript?before={say('number that is none')}", headers=bearer),
            http.post(f"{url}/v1/tickets", headers={"authorization": f"Bearer {say('bearer for a ticket')}"}),
            http.post(f"{url}/v1/revocations", headers=bearer, content=json.dumps({"sub": say("revoked person")})),
            centre.platform.http(json.dumps({"events": [event]})[:-3]),
            centre.platform.http(json.dumps({"events": [event]}), "text/plain"),
            centre.platform.http(
                "\n".join([json.dumps(event)[:-2], say("line that is no event")]), "application/x-ndjson"
            ),
            centre.platform.http(json.dumps({say("key of a body"): 1})),
        ]
        for each in asked:
            answer: httpx.Response = await each
            if answer.status_code >= 400:
                self.errors.append(answer.text)

    async def revoked(self) -> None:
        """Somebody who may no longer."""
        centre = self.centre
        line = await centre.supervisor("eva")
        admin = {"authorization": f"Bearer {centre.token('root', 'admin')}"}
        answer = await centre.http.post(f"{centre.hub.url}/v1/revocations", headers=admin, json={"sub": "eva"})
        assert answer.status_code == 200, answer.text
        assert await line.closed() == 4401
