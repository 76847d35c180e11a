"""
A simulated contact centre, on the hub's public interface only.

The centre is a messaging platform (connector socket for actions, NDJSON requests for events) with customers on three
channels, bots, and agents of whom the first ones have sockets of their own. What people say and how long they take is
scripted (`script`, by seed); the hub decides who may say it. When a supervisor takes a conversation over, the agent is
refused, acknowledges the notice and wraps up, and the customer goes on with the supervisor.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from clients.connector import Connector, connect_connector
from clients.session import Options
from clients.simulate import subjects as words
from clients.simulate.feed import Feed
from clients.simulate.people import QUEUES, Seat, Staff, TokenFactory
from clients.simulate.script import Plan, Turn, answer_to, plan_conversation, say
from clients.tokens import make_token
from clients.wire import ClientError, Event, HubError

PATIENCE_MS: Final = 120_000  # a customer whom nobody answers asks again after this, and leaves after twice that
ARRIVAL_S: Final = 30.0
SMS_FAILED_SHARE: Final = 0.02


@dataclass
class Tally:
    """What happened so far; `said` counts messages by who said them, `refused` commands and events by error code."""

    started: int = 0
    ended: int = 0
    takeovers: int = 0
    said: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)


class Live:
    """A conversation that is being played: its plan, and what has happened to it meanwhile."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.stage = "queued"  # queued, bot, agent, supervisor
        self.seat: Seat | None = None
        self.taken = False
        self.over = False
        self.events = 0
        self.messages = 0
        self.turned = asyncio.Event()  # set when taken or over: whoever pauses looks up
        self.heard: asyncio.Queue[str] = asyncio.Queue()  # what a supervisor said to the customer

    @property
    def id(self) -> str:
        """The conversation's id."""
        return self.plan.conversation_id

    def turn(self, *, taken: bool = False, over: bool = False) -> None:
        """Whoever pauses looks up: it was taken over, or is over. Other refusals turn nothing."""
        self.taken, self.over = self.taken or taken, self.over or over
        if taken or over:
            self.turned.set()
        if over:
            self.heard.put_nowait("")


class Centre:
    """
    A contact centre; `run` plays it until `total` conversations are over (None: until cancelled).

    `token` is the hub's secret, or a function `(role, user id, name) -> JWT`. At most `conversations` are live at a
    time, at most `rate` begin in a second of real time; `time_scale` 10 makes people ten times as quick as real ones.
    The same `seed` gives the same people and the same lines. Ids begin with `prefix`, which must be new to the hub for
    conversations to begin.
    """

    def __init__(
        self,
        url: str,
        token: str | TokenFactory,
        *,
        seed: int = 1,
        conversations: int = 20,
        rate: float = 1.0,
        time_scale: float = 1.0,
        total: int | None = None,
        org: str = "demo",
        prefix: str | None = None,
        agents: int | None = None,
        sockets_max: int = 40,
    ) -> None:
        self.url = url
        self.seed = seed
        self.conversations = conversations
        self.rate = rate
        self.time_scale = time_scale
        self.total = total
        self.prefix = prefix or f"sim{seed}"
        self.tally = Tally()
        self.live: dict[str, Live] = {}
        self._token = _factory(token, org) if isinstance(token, str) else token
        self._options = Options(seed=seed, open_timeout_s=60)
        count = agents or max(4, math.ceil(conversations / 2.5))
        self.staff = Staff(count, sockets_max, seed, time_scale)
        self._tasks: set[asyncio.Task[None]] = set()
        self._connector: Connector | None = None
        self._feed: Feed | None = None

    async def run(self) -> None:
        """
        Play. Cancelling leaves within moments; conversations stay as they are at the hub.

        Raises:
            ExceptionGroup: A socket or the way in was refused for good.
        """
        name = "Simulated platform"
        connector = connect_connector(
            self.url, token=lambda: self._token("connector", f"{self.prefix}-platform", name), options=self._options
        )
        async with connector:
            self._connector, self._feed = connector, Feed(connector)
            try:
                async with asyncio.TaskGroup() as group:
                    helpers = [
                        group.create_task(self._feed.run()),
                        group.create_task(self._take_actions(connector)),
                        group.create_task(self.staff.run(self.url, self._token, self._options)),
                    ]
                    await self._open_conversations()
                    for helper in helpers:
                        helper.cancel()
            finally:
                await self._cancel_all()

    async def _open_conversations(self) -> None:
        number, loop = 0, asyncio.get_running_loop()
        due = loop.time()
        while self.total is None or number < self.total:
            due = max(due, loop.time() - 1) + 1 / self.rate  # a pause isn't made up for by a crowd
            await asyncio.sleep(due - loop.time())
            if len(self.live) >= self.conversations:
                continue
            number += 1
            live = Live(plan_conversation(self.seed, number, self.prefix))
            self.live[live.id] = live
            self._spawn(self._play(live))
        while self.live or self._feed_length():  # noqa: ASYNC110 - the end of a finite run; nothing waits for it
            await asyncio.sleep(0.02)

    def _feed_length(self) -> int:
        return len(self._feed) if self._feed is not None else 0

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _cancel_all(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def stages(self) -> Counter[str]:
        """How many live conversations are queued, with a bot, an agent, a supervisor."""
        return Counter(live.stage for live in self.live.values())

    @property
    def refused(self) -> Counter[str]:
        """Everything that the hub refused so far, by error code, of sockets and requests alike."""
        return self.tally.refused + (self._feed.refused if self._feed is not None else Counter())

    # One conversation

    async def _play(self, live: Live) -> None:
        try:
            await self._acts(live)
        except (ClientError, TimeoutError) as error:
            self.tally.refused[getattr(error, "code", "timeout")] += 1
        finally:
            self._leave(live)
            self.tally.ended += 1
            del self.live[live.id]

    async def _acts(self, live: Live) -> None:
        self._begin(live)
        first, *rest = live.plan.turns
        await self._take(live, first)
        if live.plan.bot:
            await self._with_bot(live)
        await self._wait_for_agent(live)
        await self._with_agent(live, rest)
        if live.taken and not live.over:
            await self._with_supervisor(live)
        await self._end(live)

    def _begin(self, live: Live) -> None:
        plan = live.plan
        self.tally.started += 1
        self._push(
            live,
            "conversation.started",
            channel=plan.channel,
            queue=plan.queue,
            customer={"id": plan.customer_id, "name": plan.customer_name},
            subject=plan.subject,
            panels=plan.panels,
        )

    async def _with_bot(self, live: Live) -> None:
        bot = f"{live.id}:robbie"
        live.stage = "bot"
        self._push(
            live, "participant.connected", participant_id=bot, purpose="bot", user_id="robbie", name="Robbie (bot)"
        )
        for turn in live.plan.bot_turns:
            await self._take(live, turn, speaker=bot)
        if not live.turned.is_set():
            self._push(live, "participant.disconnected", participant_id=bot, disconnect_type="transfer")
            live.stage = "queued"

    async def _wait_for_agent(self, live: Live) -> None:
        waiting = list(live.plan.waiting_turns)
        await self._pause(live, 0 if waiting else live.plan.wait_ms)
        for turn in waiting:
            await self._take(live, turn)
        while not live.turned.is_set():
            seat = self.staff.pick(crowded=live.plan.trait == "crowded")
            if seat is not None:
                self._join(live, seat)
                return
            await self._pause(live, 1_000)

    def _join(self, live: Live, seat: Seat) -> None:
        live.seat, live.stage = seat, "agent"
        participant, name = seat.join(live.id), seat.name
        self._push(
            live, "participant.connected", participant_id=participant, purpose="agent", user_id=seat.user_id, name=name
        )

    def _leave(self, live: Live) -> str:
        seat, live.seat = live.seat, None
        return seat.leave(live.id) if seat is not None else ""

    async def _with_agent(self, live: Live, turns: list[Turn]) -> None:
        for place, turn in enumerate(turns):
            if live.turned.is_set():
                return
            if live.plan.transfer_to and place == len(turns) // 2:
                await self._transfer(live)
            await self._take(live, turn)

    async def _transfer(self, live: Live) -> None:
        seat = live.seat
        self._push(live, "conversation.transferred", queue=live.plan.transfer_to)
        if left := self._leave(live):
            self._push(live, "participant.disconnected", participant_id=left, disconnect_type="transfer")
        live.stage = "queued"
        await self._pause(live, live.plan.wait_ms)
        while not live.turned.is_set():
            others = [each for each in self.staff.seats if each is not seat and each.is_free(crowded=False)]
            if others:
                self._join(live, min(others, key=lambda each: len(each.participants)))
                return
            await self._pause(live, 1_000)

    async def _end(self, live: Live) -> None:
        await self._pause(live, 2_000)
        client = live.seat.client if live.seat is not None else None
        if client is not None and live.plan.agent_ends and not live.turned.is_set():
            try:
                await client.conversation_end(live.id)
            except HubError as refusal:  # a supervisor, or the customer, was faster
                self._refused(live, refusal)
            else:
                return
        if live.taken and live.stage != "supervisor":
            await self._with_supervisor(live)
        if not live.over:
            reason = "agent" if live.stage == "agent" and live.plan.agent_ends else "customer"
            self._push(live, "conversation.ended", reason=reason)

    def _refused(self, live: Live, refusal: HubError) -> None:
        self.tally.refused[refusal.code] += 1
        live.turn(taken=refusal.code == "stale_owner", over=refusal.code == "conversation_ended")

    # Turns

    async def _take(self, live: Live, turn: Turn, speaker: str = "") -> None:
        if live.turned.is_set():
            return
        await self._pause(live, turn.think_ms - turn.typing_ms)
        if turn.by == "agent":
            await self._agent_says(live, turn)
        else:
            await self._platform_says(live, turn, speaker if turn.by == "bot" else "")

    async def _platform_says(self, live: Live, turn: Turn, participant: str) -> None:
        """A customer, a bot, or an agent whose desk is the platform's."""
        who = {"participant_id": participant} if participant else {"purpose": "customer"}
        if turn.typing_ms and not live.over:
            self._push(live, "typing", on=True, **who)
            await self._pause(live, turn.typing_ms)
        if live.over or (participant and live.turned.is_set()):
            return
        live.messages += 1
        text = say(turn.text, live.plan, live.seat.first_name if live.seat else "you")
        extra = {"attachments": list(turn.attachments)} if turn.attachments else {}
        self._push(live, "message.created", message_id=f"{live.id}:m{live.messages}", text=text, **who, **extra)
        self.tally.said[turn.by] += 1
        self._show(live, turn)

    async def _agent_says(self, live: Live, turn: Turn) -> None:
        seat = live.seat
        if seat is None or live.turned.is_set():
            return
        if seat.client is None:
            await self._platform_says(live, turn, seat.participants[live.id])
            return
        async with asyncio.timeout(ARRIVAL_S):
            await seat.arrived[live.id].wait()  # the desk can't answer what it doesn't show yet
        try:
            await seat.client.typing(live.id, True)
            await self._pause(live, turn.typing_ms)
            live.messages += 1
            text = say(turn.text, live.plan, seat.first_name)
            await seat.client.message_send(live.id, text, f"{live.id}:m{live.messages}")
        except HubError as refusal:
            self._refused(live, refusal)
            return
        self.tally.said["agent"] += 1
        self._show(live, turn)

    def _show(self, live: Live, turn: Turn) -> None:
        if turn.panel is not None:
            name, content = turn.panel
            self._push(live, "panel.updated", panel=name, content=content)

    async def _with_supervisor(self, live: Live) -> None:
        """The customer answers whatever a supervisor says; left alone, asks once more and then goes."""
        self._leave(live)
        live.stage = "supervisor"
        self.tally.takeovers += 1
        answered = ignored = 0
        while not live.over and ignored < 2:
            live.turned.clear()  # from here on only the end cuts a pause short
            try:
                async with asyncio.timeout(PATIENCE_MS / 1000 / self.time_scale):
                    text = await live.heard.get()
            except TimeoutError:
                ignored += 1
                text = words.WAITING[0] if ignored == 1 else ""
            else:
                ignored = 0
                text = answer_to(text, live.plan, answered) if text else ""  # empty: it is over
            if text:
                answered += 1
                await self._platform_says(live, Turn("customer", text, 0, 400 + 35 * len(text)), "")

    # The platform's socket

    async def _take_actions(self, connector: Connector) -> None:
        async for event in connector:
            live = self.live.get(event.conversation_id or "")
            if event.event == "outbound.message":
                self._spawn(self._deliver(connector, live, event))
            elif "action_id" in event.data:
                self._note(live, event)
                self._spawn(self._quietly(connector.action_done(event.data["action_id"])))

    def _note(self, live: Live | None, event: Event) -> None:
        if live is None:
            return
        participant = event.data.get("participant") or event.data
        if event.event == "conversation.ended":
            live.turn(over=True)
        elif event.event == "participant.connected" and participant.get("purpose") == "supervisor":
            live.turn(taken=True)

    async def _deliver(self, connector: Connector, live: Live | None, event: Event) -> None:
        """Bring a message to the customer: sent, a moment later delivered, and read where the channel tells."""
        message = event.data["message_id"]
        luck = (live.plan.number * 31 + live.events) % 100 / 100 if live else 0.5
        if live is not None and live.plan.channel == "sms" and luck < SMS_FAILED_SHARE:
            await self._quietly(connector.delivery_report(message, "failed", "unreachable"))
            return
        await self._quietly(connector.delivery_report(message, "sent"))
        if live is not None and live.taken:
            self.tally.said["supervisor"] += 1
            live.heard.put_nowait(str(event.data.get("text", "")))
        await asyncio.sleep(0.4 / self.time_scale)
        await self._quietly(connector.delivery_report(message, "delivered"))
        if live is not None and live.plan.channel != "sms":
            await asyncio.sleep(1.5 / self.time_scale)
            await self._quietly(connector.delivery_report(message, "read"))

    async def _quietly(self, report: Coroutine[Any, Any, None]) -> None:
        try:
            await report
        except (ClientError, TimeoutError) as error:
            self.tally.refused[str(getattr(error, "code", "timeout"))] += 1

    def _push(self, live: Live, kind: str, **data: Any) -> None:
        assert self._feed is not None
        live.events += 1
        self._feed.push(
            {
                "id": f"{live.id}:e{live.events}",
                "type": kind,
                "conversation_id": live.id,
                "at": int(time.time() * 1000),
                "data": data,
            }
        )

    async def _pause(self, live: Live, milliseconds: float) -> None:
        """Wait in the script's time; ends early when the conversation is taken over or over."""
        if milliseconds <= 0 or live.turned.is_set():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(milliseconds / 1000 / self.time_scale):
                await live.turned.wait()


def _factory(secret: str, org: str) -> TokenFactory:
    def make(role: str, sub: str, name: str) -> str:
        return make_token(secret, role, sub, name, org=org, queues=QUEUES if role == "agent" else ("*",))

    return make
