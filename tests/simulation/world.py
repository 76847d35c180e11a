"""
One seed's story: the network between people and nodes, the trouble that comes, and the calm in which all is judged.

Everything that happens is a line of `story` (time, who, what, …); its digest is that of the run. Nothing here may depend
on anything but the seed: no clock, no hash of a string, no identity of an object.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from tests.simulation.clockwork import NOBODY, Clockwork, Process
from tests.simulation.histories import check_histories
from tests.simulation.judge import Judge
from tests.simulation.node import Ask, Feed, Node, Screen
from tests.simulation.people import (
    AgentTab,
    Call,
    Messenger,
    Platform,
    SupervisorTab,
    Tab,
    agent,
    customer,
    supervisor,
)
from tests.simulation.store import ModelStore, Replica

BUSY_S, CALM_S, LAST_S = 25.0, 20.0, 4.0


class Ids:
    """Ids by number, tags and versions by chance."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._next = 0

    def new(self, prefix: str, org: str, conversation_id: str) -> str:
        """A fresh one."""
        self._next += 1
        return f"{prefix}_{self._next}"

    def stable(self, prefix: str, org: str, conversation_id: str, *parts: str) -> str:
        """The same id for the same parts."""
        return f"{prefix}_{'.'.join((conversation_id, *parts))}"

    def tag(self) -> str:
        """Decimal digits, never `0`."""
        return str(self._chance.getrandbits(31) | 1)

    def req(self, of: str) -> str:
        """What makes a command, an event or a message one of a kind."""
        self._next += 1
        return f"{of.partition('/')[0]}-{self._next}"


@dataclass
class Faults:
    """How bad this world is. Chances are between 0 and 1 per message; rates of trouble per second."""

    think_s: float
    lost: float
    repeated: float
    slow: float
    questions_lost: float
    answers_lost: float
    pauses: float
    kills: float
    cuts: float
    deafness: float
    silences: float
    forgetful: bool

    @classmethod
    def drawn(cls, chance: random.Random) -> "Faults":
        """As this seed has it: some worlds are nearly whole, some are terrible."""
        bad = chance.choice((0.2, 1.0, 1.0, 2.0))
        return cls(
            think_s=chance.choice((1.5, 2.5, 4.0)),
            lost=0.03 * bad,
            repeated=0.06 * bad,
            slow=0.04 * bad,
            questions_lost=0.006 * bad,
            answers_lost=0.012 * bad,
            pauses=0.04 * bad,
            kills=0.04 * bad,
            cuts=0.04 * bad,
            deafness=0.05 * bad,
            silences=0.05 * bad,
            forgetful=chance.random() < 0.4,
        )

    def heal(self) -> None:
        """Nothing goes wrong from here on."""
        self.lost = self.repeated = self.slow = self.questions_lost = self.answers_lost = 0.0
        self.pauses = self.kills = self.cuts = self.deafness = self.silences = 0.0


class World:
    """See the module."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.loop = Clockwork()
        self.ids = Ids(self.chance)
        self.faults = Faults.drawn(self.chance)
        self.counts: Counter[str] = Counter()
        self.story: list[tuple[object, ...]] = []
        self.calls: list[Call] = []
        self.judge = Judge(self)
        self.store = ModelStore(self)
        self.failed_over_at = -1.0
        self.busy = True
        self.conversations = [f"cnv_{number}" for number in range(self.chance.choice((1, 1, 2)))]
        self.graves: list[Node] = []
        self.lives: Counter[str] = Counter()
        self.nodes: dict[str, Node] = {}
        for name in ("east", "west", "north")[: self.chance.choice((2, 2, 3))]:
            self.boot(name)
        people = [supervisor("ana"), supervisor("ana"), supervisor("bo"), supervisor("cy")]
        self.supervisors = [SupervisorTab(self, one, f"ses{n}/{one.user_id}") for n, one in enumerate(people)]
        self.agents = [AgentTab(self, agent(name), f"desk/{name}") for name in ("max", "eva")]
        self.messengers = [Messenger(self, customer(name), f"web/{name}") for name in self.conversations]
        self.platforms = [Platform(self, name) for name in self.conversations]
        self.tabs: dict[str, Tab] = {one.session: one for one in (*self.supervisors, *self.agents, *self.messengers)}

    # -- telling -------------------------------------------------------------------------------------------------------

    def say(self, who: object, what: str, *more: object) -> None:
        """A line of the story."""
        self.story.append((self.loop.time(), who.process.name if isinstance(who, Node) else who, what, *more))

    def count(self, what: str) -> None:
        """One more of these."""
        self.counts[what] += 1

    def told(self) -> list[str]:
        """The story, for people."""
        return [f"{at:9.4f}  {' '.join(map(str, rest))}" for at, *rest in self.story]

    def digest(self) -> str:
        """Of everything that happened, and of what is stored at the end."""
        hash_ = hashlib.blake2b(digest_size=16)
        for line in self.story:
            hash_.update(repr(line).encode() + b"\n")
        for key, record in sorted(self.store.records.items()):
            hash_.update(repr((key, sorted(record.fields.items()), record.transcript, record.ledger)).encode())
        hash_.update(repr(sorted(self.counts.items())).encode())
        return hash_.hexdigest()

    # -- the network -----------------------------------------------------------------------------------------------------

    def travel_s(self) -> float:
        """How long a message is on its way: mostly little, sometimes so long that others overtake it."""
        chance = self.chance
        return chance.uniform(0.2, 6.0) if chance.random() < self.faults.slow else chance.uniform(0.002, 0.05)

    def travel_to_store(self) -> float:
        """The same, between a node and the store."""
        chance = self.chance
        return chance.uniform(0.05, 2.5) if chance.random() < self.faults.slow / 4 else chance.uniform(0.001, 0.03)

    def some_node(self) -> Node:
        """Whoever a client's address leads to, dead or alive."""
        return self.chance.choice(list(self.nodes.values()))

    async def exchange(self, node: Node, ask: Ask) -> object:
        """The first answer to come back, or None in time; the question may get there not at all, or twice."""
        answer = self.loop.create_future()
        if self.chance.random() >= self.faults.lost:
            self._send(node, ask, answer)
        if self.chance.random() < self.faults.repeated and ask.cmd != "hello":
            self.count("repeats")
            self._send(node, ask, answer)
        patience = self.loop.call_later(self.chance.uniform(2.0, 5.0), _give_up, answer)
        result = await answer
        patience.cancel()
        if result is None:
            self.count("no answer")
        return result

    def _send(self, node: Node, ask: Ask, answer: Any) -> None:
        def reply(result: object) -> None:
            if self.chance.random() >= self.faults.lost:
                self.loop.call_later(self.travel_s(), _answered, answer, result, context=NOBODY)

        def arrive() -> None:
            if not node.process.dead:
                node.spawn(node.carry_out(ask, reply))

        self.loop.call_later(self.travel_s(), arrive, context=NOBODY)

    def to_client(self, screen: Screen, frame: bytes) -> None:
        """A frame on a socket: in order, and lost only with the socket."""
        screen.sent_until = max(screen.sent_until, self.loop.time() + self.chance.uniform(0.001, 0.05))
        tab = self.tabs[screen.session]
        self.loop.call_at(screen.sent_until, tab.receive, screen.line, frame, context=NOBODY)

    def publish(self, name: str, payload: bytes, conversation_id: str = "") -> None:
        """From the store to every node's subscription."""
        for node in self.nodes.values():
            if self.loop.time() < node.feed.deaf_until or self.chance.random() < self.faults.lost / 4:
                continue
            if name == "board":
                if node.screens:
                    self.through_channel(node.feed, node.board_changed, conversation_id, payload)
            elif name.encode() in node.feed.names:
                self.through_channel(node.feed, node.feed.message, name.encode(), payload)

    def through_channel(self, feed: Feed, callback: Callable[..., object], *args: object) -> None:
        """In the order in which it was sent."""
        feed.last = max(feed.last, self.loop.time() + self.chance.uniform(0.001, 0.02))
        self.loop.call_at(feed.last, callback, *args, context=feed.node.process.context)

    # -- trouble ---------------------------------------------------------------------------------------------------------

    def boot(self, name: str) -> None:
        """A node starts, or starts again."""
        self.lives[name] += 1
        self.nodes[name] = Node(self, name, self.lives[name])
        self.say(self.nodes[name], "starts")

    def kill(self, process: Process) -> None:
        """It is gone in the middle of whatever it did."""
        if process.dead:
            return
        process.dead = True
        process.parked.clear()
        self.count("kills")
        node = next(one for one in self.nodes.values() if one.process is process)
        self.graves.append(node)  # nothing of it may be collected while the story goes on
        self.say(node, "is killed")
        for tab in self.tabs.values():
            if tab.where is node and self.chance.random() < 0.7:  # the others find out when nothing answers
                tab.where = None
        self.loop.call_later(self.chance.uniform(0.5, 6.0), self.boot, node.name, context=NOBODY)

    def trouble(self) -> None:
        """Plan what will go wrong."""
        chance, faults = self.chance, self.faults
        plans: list[tuple[float, Callable[[], None]]] = [
            (faults.pauses, self._pause),
            (faults.kills, self._light_fuse),
            (faults.cuts, self._cut),
            (faults.deafness, self._deafen),
            (faults.silences, self._silence),
        ]
        for rate, act in plans:
            at = chance.expovariate(rate)
            while at < BUSY_S:
                self.loop.call_at(at, act, context=NOBODY)
                at += chance.expovariate(rate)
        if faults.forgetful:
            for _ in range(chance.choice((1, 1, 2))):
                self._plan_failover(chance.uniform(6.0, BUSY_S))

    def _pause(self) -> None:
        node = self.some_node()
        if node.process.dead or node.process.paused:
            return
        node.process.paused = True
        seconds = self.chance.choice((0.5, 3.0, 13.0, 18.0))
        self.count("pauses")
        self.say(node, "stands still", seconds)
        self.loop.call_later(seconds, self._go_on, node, context=NOBODY)

    def _go_on(self, node: Node) -> None:
        if node.process.paused and not node.process.dead:
            self.say(node, "goes on")
            self.loop.go_on(node.process)

    def _light_fuse(self) -> None:
        node = self.some_node()
        node.process.fuse = self.chance.randint(1, 8)

    def _cut(self) -> None:
        node = self.some_node()
        node.store.cut_until = self.loop.time() + self.chance.uniform(0.2, 5.0)
        self.count("cuts")
        self.say(node, "loses the store", node.store.cut_until)

    def _deafen(self) -> None:
        node = self.some_node()
        seconds = self.chance.uniform(0.2, 6.0)
        node.feed.deaf_until = self.loop.time() + seconds
        self.say(node, "loses its subscription", seconds)
        self.loop.call_later(seconds + 0.01, self._hears_again, node, context=NOBODY)

    def _silence(self) -> None:
        tab = self.chance.choice(self.supervisors)
        if tab.silent_from > self.loop.time():
            tab.silent_from = self.loop.time()
            self.count("silences")
            self.say(tab.session, "falls silent")
            self.loop.call_later(
                self.chance.choice((3.0, 8.0, 13.0, 16.0, 18.0)), self._heard_again, tab, context=NOBODY
            )

    def _heard_again(self, tab: Tab) -> None:
        if tab.silent_from > self.loop.time():
            return
        tab.silent_from = float("inf")
        if tab.where is not None:
            process = tab.where.process
            self.loop.call_soon(tab.where.hear, tab.session, tab.line, context=process.context)

    def _hears_again(self, node: Node) -> None:
        if not node.process.dead:
            node.spawn(node.feed.compare())

    def _plan_failover(self, at: float) -> None:
        lag = self.chance.choice((0.05, 0.5, 2.0, 4.0))
        replicas: list[Replica] = []
        self.loop.call_at(at - lag, lambda: replicas.append(self.store.replica()), context=NOBODY)
        self.loop.call_at(at, lambda: self._fail_over(replicas[0], lag), context=NOBODY)

    def _fail_over(self, replica: Replica, lag: float) -> None:
        if self.failed_over_at >= self.loop.time() - lag:
            return  # that replica is of a history that has been given up itself
        self.failed_over_at = self.loop.time()
        self.store.fail_over(replica)
        self.judge.failed_over(replica.writes)
        self.count("failovers")
        self.say("store", "fails over", f"to {replica.writes} of {self.judge.writes} writes")
        for node in self.nodes.values():
            self.loop.call_later(self.chance.uniform(0.1, 2.0), self._hears_again, node, context=NOBODY)

    # -- the story -------------------------------------------------------------------------------------------------------

    def run(self) -> "World":
        """
        Busy, then calm, then judged.

        Raises:
            Violation: A promise was broken.
        """
        for one in (*self.tabs.values(), *self.platforms):
            self.loop.start(one.live())
        self.trouble()
        try:
            self.loop.run_to(BUSY_S)
            self._heal()
            self.loop.run_to(BUSY_S + CALM_S)
            self._come_back()
            self.loop.run_to(BUSY_S + CALM_S + LAST_S)
            self._everybody_was_told()
            self.judge.at_end()
            self._count_lapses()
            if not self.forgetful:
                check_histories(self)
                self.count("histories")
            if self.loop.failure is not None:
                raise self.loop.failure
        finally:
            self.loop.close()
        return self

    def _heal(self) -> None:
        """All nodes live and hear, and nobody begins anything new."""
        self.busy = False
        self.faults.heal()
        for node in self.nodes.values():
            node.process.fuse = None
            node.store.cut_until = 0.0
            node.feed.deaf_until = 0.0
            self._go_on(node)
        for tab in self.supervisors:
            self._heard_again(tab)

    def _come_back(self) -> None:
        """Everybody with a screen opens it anew."""
        for tab in (*self.supervisors, *self.agents):
            tab.where = None
            tab.told.clear()
            self.loop.start(tab.sit_down())

    def _everybody_was_told(self) -> None:
        """I4: a fresh session shows each notice that isn't acknowledged, once, and no other."""
        for tab in (*self.supervisors, *self.agents):
            owed = [
                one.takeover_id
                for name in self.conversations
                if (conversation := self.store.now("acme", name).situation.conversation) is not None
                for one in conversation.notices
                if one.user_id == tab.person.user_id
            ]
            self.judge.holds("I4", sorted(tab.told) == sorted(owed), f"{tab.session} was told {tab.told}, owed {owed}")

    def _count_lapses(self) -> None:
        for name in self.conversations:
            for line in self.store.record("acme", name).ledger:
                if orjson.loads(line).get("reason") == "lease_expired":
                    self.count("lapsed")

    @property
    def forgetful(self) -> bool:
        """True where a failover may have forgotten anything: if no write, then a lease that was extended."""
        return bool(self.counts["failovers"])


def _give_up(answer: Any) -> None:
    if not answer.done():
        answer.set_result(None)


def _answered(answer: Any, result: object) -> None:
    if not answer.done():
        answer.set_result(result)


def run(seed: int) -> World:
    """One seed's story, judged. Raises Violation."""
    return World(seed).run()
