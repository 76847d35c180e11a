"""
What a load test can do to a hub, each scenario by itself and all of them at once.

    watch        supervisors with the interactions view
    monitor      monitored conversations, up to 100 at a socket
    agents       agents' sockets that receive what customers say and answer it
    takeovers    takeovers at a constant rate, prepared and confirmed
    reconnects   sockets that are dropped and resume their sessions
    readers      sockets that stop reading, or read slowly, for the second half of the run

Each opens what it needs, then plays its part on an open-loop schedule: whatever is timed is timed from when it was due.
A message carries that time in its text (`@<ns>@` what customers say, `=<ns>=` what agents answer), so that its age at
any screen counts from the schedule and not from when the generator got round to it.
"""

import asyncio
import random
import secrets
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from clients.load.credentials import Credentials, Person
from clients.load.figures import spread
from clients.load.line import OnEvent
from clients.load.measure import MONITORS_A_SESSION
from clients.load.platform import EVENTS_A_REQUEST, TEXT, Platform, bodies_of, ending, message
from clients.load.schedule import at_rate, sleep_until, together
from clients.load.seats import Seat
from clients.wire import ClientError, HubError

CONFIRM_AFTER_NS: Final = 200_000_000  # a person reads what a takeover will do, then confirms
OPENING_AT_ONCE: Final = 20
REPORTS_A_SOCKET: Final = 100  # a second: half of what the hub takes from a connector's socket
LARGE: Final = "x" * 16_000
LARGE_A_REQUEST_MAX: Final = 50  # below the 1 MiB of a request
READER_BUFFER: Final = 32_768
SOCKETLESS_AGENTS: Final = 50  # whose conversations these are where no agents are connected
DESKS_MAX: Final = 20  # agents who are taken over


class Times:
    """Times in ms from when something was due, 8 bytes each."""

    def __init__(self) -> None:
        self.ms = array("d")

    def add(self, due_ns: int, now_ns: int | None = None) -> None:
        """Note that what was due then has happened (now, unless said otherwise)."""
        self.ms.append(((time.monotonic_ns() if now_ns is None else now_ns) - due_ns) / 1e6)

    def spread(self) -> dict[str, float]:
        """Count, percentiles, maximum."""
        return spread(self.ms)


def due_in(event: dict[str, Any], mark: str) -> int | None:
    """When the message in an event was due, where it has this mark; monotonic ns."""
    text = event["data"].get("text")
    return int(text.split(mark, 2)[1]) if isinstance(text, str) and text.startswith(mark) else None


@dataclass
class Scene:
    """What all scenarios of a run share: where it goes, who is there, what was counted."""

    url: str
    credentials: Credentials
    connector: Person | None  # None: nothing is begun
    platform: Platform
    queue: str = "support"
    run: str = field(default_factory=lambda: secrets.token_hex(3))
    seats: list[Seat] = field(default_factory=list)
    conversations: list[str] = field(default_factory=list)  # all that were begun
    errors: Counter[str] = field(default_factory=Counter)  # requests that failed as a whole
    sent: int = 0
    delivered: int = 0
    fresh: list[float] = field(default_factory=list)  # ages since the last look at the progress, in ms

    def arrived(self, due_ns: int, now_ns: int) -> None:
        """Count a message at a socket, for the progress."""
        self.delivered += 1
        self.fresh.append((now_ns - due_ns) / 1e6)

    async def sit(
        self, role: str, person: Person, on_event: OnEvent | None = None, *, status: str = "", receive_buffer: int = 0
    ) -> Seat:
        """Open a person's seat."""
        seat = await Seat(self.url, f"/v1/{role}", person, on_event, receive_buffer=receive_buffer).open()
        self.seats.append(seat)
        if status:
            await seat.ask("status.set", status=status)
        return seat

    async def begin(self, kind: str, count: int, agents: Sequence[str]) -> list[str]:
        """Start conversations, each with one of the agents in turn; returns their ids."""
        names = [f"{self.run}-{kind}{number:06}" for number in range(count)]
        await self.platform.begin(names, agents, self.queue)
        self.conversations += names
        return names

    async def post(self, body: bytes) -> bool:
        """Send events; a request that fails as a whole is counted, and the run goes on. True where it was answered."""
        try:
            await self.platform.post(body)
        except HubError as refusal:
            self.errors[refusal.code] += 1
        except OSError as error:
            self.errors[type(error).__name__] += 1
        else:
            return True
        return False

    async def clean_up(self) -> None:
        """End the conversations."""
        events = [ending(name) for name in self.conversations]
        await self.platform.post_all(bodies_of(events, EVENTS_A_REQUEST))


class Scenario:
    """A part of a run. `report` may be asked for at any time; before anything happened it has every key already."""

    name = ""

    async def open(self) -> None:
        """Connect whatever is needed, before the clock starts."""

    async def play(self, seconds: float) -> None:
        """Do it, for so long."""

    def complete(self) -> bool:
        """True where nothing more is expected to arrive."""
        return True

    async def close(self) -> None:
        """What is to be done after everything has arrived."""

    def report(self) -> dict[str, Any]:
        """This scenario's figures."""
        return {}


class Traffic(Scenario):
    """What customers say, at a constant rate, over all conversations; always there."""

    name = "traffic"

    def __init__(self, scene: Scene, conversations: int, rate: float, batch: int) -> None:
        self.scene, self.count, self.rate, self.batch = scene, conversations, rate, batch
        self.names: list[str] = []
        self.agents = [f"agent-{n}" for n in range(SOCKETLESS_AGENTS)]
        self.audiences: list[Callable[[int], None]] = []  # told each conversation's number before a message is sent
        self.sent = 0
        self.requests = Times()

    async def open(self) -> None:
        self.names = await self.scene.begin("c", self.count, self.agents)

    async def play(self, seconds: float) -> None:
        if self.names:
            await at_rate(self.rate / self.batch, seconds, self._post)

    def results(self) -> dict[str, int]:
        """What the hub said to each event, of all scenarios."""
        return dict(self.scene.platform.results)

    async def _post(self, number: int, due_ns: int) -> None:
        at = number * self.batch
        chosen = [(at + i) * 7919 % self.count for i in range(self.batch)]
        events = [message(self.names[n], f"l{at + i}", f"@{due_ns}@ {TEXT}") for i, n in enumerate(chosen)]
        for audience in self.audiences:
            for n in chosen:
                audience(n)
        self.sent += self.batch
        self.scene.sent += self.batch
        if await self.scene.post(bodies_of(events, self.batch)[0]):
            self.requests.add(due_ns)


class Watch(Scenario):
    """Supervisors with an interactions view."""

    name = "watch"

    def __init__(self, scene: Scene, count: int) -> None:
        self.scene, self.count = scene, count
        self.seats: list[Seat] = []
        self.snapshots = Times()

    async def open(self) -> None:
        for _ in range(self.count):  # one after the other: a snapshot is timed with nobody beside it
            done: asyncio.Future[int] = asyncio.get_running_loop().create_future()

            def watch(event: dict[str, Any], now_ns: int, done: "asyncio.Future[int]" = done) -> None:
                if event["event"] == "view.snapshot" and not event["data"]["more"] and not done.done():
                    done.set_result(now_ns)

            seat = await self.scene.sit(
                "supervisor", self.scene.credentials.next_person("supervisor"), watch, status="available"
            )
            began_ns = time.monotonic_ns()
            await seat.ask("view.subscribe", view="interactions")
            async with asyncio.timeout(30):
                self.snapshots.add(began_ns, await done)
            seat.on_event = None
            self.seats.append(seat)


class Monitoring(Scenario):
    """Supervisors who monitor the first `count` conversations, 100 at a socket."""

    name = "monitor"

    def __init__(self, scene: Scene, traffic: Traffic, count: int) -> None:
        self.scene, self.traffic, self.count = scene, traffic, count
        self.seats: list[Seat] = []
        self.expected = 0
        self.ages, self.answer_ages = Times(), Times()
        self.answers: set[str] = set()  # ids of agents' messages
        self.split_ns: int | None = None
        self.before, self.after = Times(), Times()  # `ages` again, by whether they were due before `split_ns`
        traffic.audiences.append(self._said)

    def monitors(self, number: int) -> bool:
        """True where the conversation of that number is monitored."""
        return number < self.count

    async def open(self) -> None:
        count = -(-self.count // MONITORS_A_SESSION)
        people = [self.scene.credentials.next_person("supervisor") for _ in range(count)]
        self.seats = [await self.scene.sit("supervisor", each, self._take, status="available") for each in people]
        await monitor_each(self.seats, self.traffic.names[: self.count])

    def complete(self) -> bool:
        return len(self.ages.ms) >= self.expected

    def _said(self, number: int) -> None:
        self.expected += self.monitors(number)

    def _take(self, event: dict[str, Any], now_ns: int) -> None:
        if event["event"] != "message.created":
            return
        if (due_ns := due_in(event, "@")) is not None:
            self.ages.add(due_ns, now_ns)
            if self.split_ns is not None:
                (self.before if due_ns < self.split_ns else self.after).add(due_ns, now_ns)
            self.scene.arrived(due_ns, now_ns)
        elif (due_ns := due_in(event, "=")) is not None:
            self.answer_ages.add(due_ns, now_ns)
            self.answers.add(event["data"]["message_id"])
            self.scene.arrived(due_ns, now_ns)


class Agents(Scenario):
    """Agents at their desks: they get what their customers say, and answer at a constant rate."""

    name = "agents"

    def __init__(
        self, scene: Scene, traffic: Traffic, monitoring: Monitoring, postman: "Postman", count: int, per_s: float
    ) -> None:
        self.scene, self.traffic, self.monitoring, self.postman = scene, traffic, monitoring, postman
        self.count, self.per_s = count, per_s
        self.seats: list[Seat] = []
        self.expected = self.refused = 0
        self.answered: set[str] = set()  # ids of messages that the hub has taken
        self.monitored: set[str] = set()  # those of them that a monitor must see
        self.shown: set[str] = set()  # those that came back to the agents
        self.ages, self.answers, self.own = Times(), Times(), Times()

    async def open(self) -> None:
        people = [self.scene.credentials.next_person("agent") for _ in range(self.count)]
        self.seats = await seats_of(self.scene, "agent", people, lambda _: self._take, status="on_queue")
        self.traffic.agents = [person.user_id for person in people]
        self.traffic.audiences.append(self._said)

    async def play(self, seconds: float) -> None:
        if self.traffic.names:
            await at_rate(self.per_s, seconds, self._answer)

    async def _answer(self, number: int, due_ns: int) -> None:
        conversation = number * 7919 % len(self.traffic.names)
        seat = self.seats[conversation % self.count]
        self.scene.sent += 1
        try:
            ok = await seat.ask(
                "message.send",
                conversation_id=self.traffic.names[conversation],
                text=f"={due_ns}= I am looking into it, one moment please.",
                client_message_id=f"a{number}",
            )
        except (ClientError, TimeoutError):
            self.refused += 1
            return
        self.answers.add(due_ns)
        self.answered.add(ok["message_id"])
        if self.monitoring.monitors(conversation):
            self.monitored.add(ok["message_id"])

    def complete(self) -> bool:
        return self._missing() == (0, 0, 0)

    def _said(self, _number: int) -> None:
        self.expected += 1

    def report(self) -> dict[str, Any]:
        lost, answers_lost, undelivered = self._missing()
        return {
            "sockets": len(self.seats),
            "expected": self.expected,
            "lost": lost,
            "frame_ms": self.ages.spread(),
            "answers": len(self.answered),
            "answers_refused": self.refused,
            "answers_lost": answers_lost,
            "undelivered": undelivered,
            "answer_ms": self.answers.spread(),
            "own_frame_ms": self.own.spread(),
            "monitor_frame_ms": self.monitoring.answer_ages.spread(),
            "platform_ms": self.postman.ages.spread(),
        }

    def _missing(self) -> tuple[int, int, int]:
        """Customers' messages, agents' answers at the screens, agents' answers at the platform."""
        return (
            max(0, self.expected - len(self.ages.ms)),
            len(self.answered - self.shown) + len(self.monitored - self.monitoring.answers),
            len(self.answered - self.postman.had),
        )

    def _take(self, event: dict[str, Any], now_ns: int) -> None:
        if event["event"] != "message.created":
            return
        if (due_ns := due_in(event, "@")) is not None:
            self.ages.add(due_ns, now_ns)
            self.scene.arrived(due_ns, now_ns)
        elif (due_ns := due_in(event, "=")) is not None:
            self.own.add(due_ns, now_ns)
            self.shown.add(event["data"]["message_id"])
            self.scene.arrived(due_ns, now_ns)


class Postman(Scenario):
    """
    The platform's sockets: they take what goes to customers and report it, or the hub would keep the next action back.

    The hub sends all actions to the socket that came last; the reports go over all of them, to keep each within its
    allowance.
    """

    name = "postman"

    def __init__(self, scene: Scene, actions_per_s: float) -> None:
        self.scene = scene
        self.count = max(1, -(-int(actions_per_s) // REPORTS_A_SOCKET))
        self.seats: list[Seat] = []
        self.ages = Times()
        self.had: set[str] = set()
        self._reported = 0

    async def open(self) -> None:
        assert self.scene.connector is not None
        for _ in range(self.count):
            self.seats.append(await self.scene.sit("connector", self.scene.connector, self._take))

    def _take(self, event: dict[str, Any], now_ns: int) -> None:
        data = event["data"]
        if event["event"] == "outbound.message":
            name = data["message_id"]
            due_ns = due_in(event, "=")
            if due_ns is not None and name not in self.had:
                self.ages.add(due_ns, now_ns)
            self.had.add(name)
            self._tell("delivery.report", message_id=name, status="sent")
        elif "action_id" in data:
            self._tell("action.done", action_id=data["action_id"])

    def _tell(self, cmd: str, **arguments: Any) -> None:
        self._reported += 1
        self.seats[self._reported % len(self.seats)].line.tell(cmd, **arguments).add_done_callback(self._told)

    def _told(self, answer: "asyncio.Future[dict[str, Any]]") -> None:
        error = None if answer.cancelled() else answer.exception()
        if isinstance(error, HubError):
            self.scene.errors[error.code] += 1


class Takeovers(Scenario):
    """A storm of takeovers: each on a conversation of its own, prepared, and confirmed a moment later."""

    name = "takeovers"

    def __init__(self, scene: Scene, per_s: float, count: int, desks: int) -> None:
        self.scene, self.per_s, self.count, self.desks_needed = scene, per_s, count, desks
        self.desks: list[Seat] = []
        self.bosses: list[Seat] = []
        self.names: list[str] = []
        self.due: dict[str, int] = {}
        self.seen: set[str] = set()
        self.confirmed: set[str] = set()
        self.refused = 0
        self.prepares, self.answers, self.notices = Times(), Times(), Times()

    async def open(self) -> None:
        people = [self.scene.credentials.next_person("agent") for _ in range(self.desks_needed)]
        self.desks = await seats_of(self.scene, "agent", people, self._desk, status="on_queue")
        self.names = await self.scene.begin("t", self.count, [person.user_id for person in people])
        for _ in range(-(-self.count // MONITORS_A_SESSION)):
            person = self.scene.credentials.next_person("supervisor")
            self.bosses.append(await self.scene.sit("supervisor", person, status="available"))
        await monitor_each(self.bosses, self.names)

    async def play(self, seconds: float) -> None:
        await at_rate(self.per_s, seconds, self._take_over)

    async def _take_over(self, number: int, due_ns: int) -> None:
        boss = self.bosses[number % len(self.bosses)]
        try:
            plan = await boss.ask("takeover.prepare", conversation_id=self.names[number])
            self.prepares.add(due_ns)
            confirm_ns = due_ns + CONFIRM_AFTER_NS
            await sleep_until(confirm_ns)
            self.due[plan["takeover_id"]] = confirm_ns
            await boss.ask(
                "takeover.confirm",
                takeover_id=plan["takeover_id"],
                confirm_token=plan["confirm_token"],
                req=f"t{number}",
            )
        except (ClientError, TimeoutError):
            self.refused += 1
            return
        self.confirmed.add(plan["takeover_id"])
        self.answers.add(confirm_ns)

    def complete(self) -> bool:
        return self.confirmed <= self.seen

    def report(self) -> dict[str, Any]:
        return {
            "takeovers": len(self.confirmed),
            "refused": self.refused,
            "unseen": len(self.confirmed - self.seen),
            "prepare_ms": self.prepares.spread(),
            "answer_ms": self.answers.spread(),
            "notice_ms": self.notices.spread(),
        }

    def _desk(self, seat: Seat) -> OnEvent:
        """An agent who sees the notice and acknowledges it."""

        def take(event: dict[str, Any], now_ns: int) -> None:
            if event["event"] != "takeover.notified":
                return
            name = event["data"]["takeover_id"]
            if name in self.due and name not in self.seen:
                self.seen.add(name)
                self.notices.add(self.due[name], now_ns)
                self.scene.arrived(self.due[name], now_ns)
            seat.line.tell("takeover.acknowledge", takeover_id=name)

        return take


@dataclass(frozen=True, slots=True)
class Drops:
    """Which sockets are dropped: a `share` of all (0 to 1) at once halfway, or so many `per_s` all the time."""

    share: float = 0.0
    per_s: float = 0.0

    def __bool__(self) -> bool:
        return self.share > 0 or self.per_s > 0


class Reconnects(Scenario):
    """Sockets of the other scenarios are dropped without a close, and resume with their cursors."""

    name = "reconnects"

    def __init__(self, scene: Scene, drops: Drops, seed: int) -> None:
        self.scene, self.drops = scene, drops
        self.candidates: list[Seat] = []
        self.seed = seed
        self.dropped = self.resumed = 0
        self.times = Times()

    async def play(self, seconds: float) -> None:
        order = list(self.candidates)
        random.Random(self.seed).shuffle(order)

        async def one(number: int, due_ns: int) -> None:
            self.dropped += 1
            if await order[number % len(order)].come_back():
                self.resumed += 1
                self.times.add(due_ns)

        if self.drops.per_s:
            await at_rate(self.drops.per_s, seconds, one)
            return
        due_ns = time.monotonic_ns() + int(seconds / 2 * 1e9)
        await sleep_until(due_ns)
        async with together() as group:
            for number in range(max(1, round(self.drops.share * len(order)))):
                group.create_task(one(number, due_ns))

    def report(self) -> dict[str, Any]:
        return {
            "dropped": self.dropped,
            "resumed": self.resumed,
            "not_resumed": self.dropped - self.resumed,
            "resume_ms": self.times.spread(),
        }


class Readers(Scenario):
    """
    Desks that get large messages and, in the second half, read `speed` bytes a second each, or nothing at all.

    The first half is the same with everybody reading: what the monitors wait in each half is compared.
    """

    name = "readers"

    def __init__(self, scene: Scene, monitoring: Monitoring, count: int, speed: float, flow: float) -> None:
        self.scene, self.monitoring, self.count = scene, monitoring, count
        self.speed, self.flow = speed, flow
        self.seats: list[Seat] = []
        self.names: list[str] = []
        self.dropped = 0

    async def open(self) -> None:
        people = [self.scene.credentials.next_person("agent") for _ in range(self.count)]
        self.seats = await seats_of(
            self.scene, "agent", people, lambda _: None, status="on_queue", receive_buffer=READER_BUFFER
        )
        for seat in self.seats:
            self.scene.seats.remove(seat)  # the hub may close these
        self.names = await self.scene.begin("r", self.count, [person.user_id for person in people])

    async def play(self, seconds: float) -> None:
        per_s = self.count * self.flow / len(LARGE)
        batch = max(1, min(LARGE_A_REQUEST_MAX, int(per_s / 20)))

        async def post(number: int, due_ns: int) -> None:
            at = number * batch
            events = [message(self.names[(at + i) % self.count], f"b{at + i}", LARGE) for i in range(batch)]
            self.scene.sent += batch
            await self.scene.post(bodies_of(events, batch)[0])

        half_ns = time.monotonic_ns() + int(seconds / 2 * 1e9)
        self.monitoring.split_ns = half_ns
        async with together() as group:
            group.create_task(at_rate(per_s / batch, seconds, post))
            group.create_task(self._slow_down(half_ns))

    async def _slow_down(self, at_ns: int) -> None:
        await sleep_until(at_ns)
        for seat in self.seats:
            seat.line.slow_down(self.speed)

    async def close(self) -> None:
        """Read on, and ask each: who was dropped doesn't answer."""
        for seat in self.seats:
            seat.line.resume()
        answers = await asyncio.gather(*(self._there(seat) for seat in self.seats))
        self.dropped = answers.count(False)
        for seat in self.seats:
            seat.close()

    @staticmethod
    async def _there(seat: Seat) -> bool:
        try:
            async with asyncio.timeout(5):
                await seat.line.tell("status.set", status="away")
        except (ClientError, TimeoutError):
            return False
        return True

    def report(self) -> dict[str, Any]:
        quiet, beside = self.monitoring.before.spread(), self.monitoring.after.spread()
        compared = quiet["count"] and beside["count"]
        return {
            "slow": self.count,
            "dropped": self.dropped,
            "quiet_ms": quiet,
            "beside_ms": beside,
            "ratio": round(beside["p99"] / quiet["p99"], 3) if compared else None,
        }


# What they share


async def seats_of(
    scene: Scene,
    role: str,
    people: Iterable[Person],
    hears: Callable[[Seat], OnEvent | None],
    *,
    status: str,
    receive_buffer: int = 0,
) -> list[Seat]:
    """Seats of people, in their order, a few opened at a time; `hears` makes what each one does with an event."""
    slots = asyncio.Semaphore(OPENING_AT_ONCE)

    async def one(person: Person) -> Seat:
        async with slots:
            seat = Seat(scene.url, f"/v1/{role}", person, receive_buffer=receive_buffer)
            seat.on_event = hears(seat)
            await seat.open()
            await seat.ask("status.set", status=status)
        scene.seats.append(seat)
        return seat

    async with together() as group:
        tasks = [group.create_task(one(person)) for person in people]
    return [task.result() for task in tasks]


async def monitor_each(seats: Sequence[Seat], conversations: Sequence[str]) -> None:
    """Monitor the conversations, an equal share of them at each socket."""
    for at, seat in enumerate(seats):
        waiting: list[Awaitable[Any]] = [
            seat.ask("monitor.start", conversation_id=name) for name in conversations[at :: len(seats)]
        ]
        await asyncio.gather(*waiting)
