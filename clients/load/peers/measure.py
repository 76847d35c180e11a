"""
What is measured, and how: one server at a time on a core of its own, hub and peer in turn, each in a fresh process.

    P1  a queue's view with 1,000 supervisors, 100 changes a second. The hub merges changes per tick of 100 ms; a peer
        without views sends each one to everybody.
    P2  the same with a tick of 0, one event under way: nothing can be put together.
    P3  ... 16 events under way: what can be put together may be.
    P4  2,000 supervisors monitor one conversation each; a peer has a channel for each socket. Judged at the same rate
        for all, the hub's pings to monitors (one every 2 s each) included. With 16 under way each one runs at its own
        rate, the hub at that of its ingest on the other core, which checks and stores each event.
    P9  growth: what a delivery and a socket cost the hub with 100, 1,000 and 10,000 sockets.

Ages reach from the moment an event is sent to the arrival of the frame that tells of it: the hub's contain the ingest of
another node, which checks, stores and publishes the event; a peer's contain a PUBLISH of Redis.

Before a command counts, it runs for half a second, so that nobody is measured cold.
"""

import asyncio
import resource
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from clients.load.peers.driver import Answer, Client, Speech, client
from clients.load.peers.figures import Line, Pair, Question, Range
from clients.load.peers.hubs import Hubs, Organization, hubs, port_of
from clients.load.peers.others import OTHERS, Other
from clients.load.peers.programs import BenchError, Cores, cpu_s, look, on_core, rss_bytes, store, taken_by_others

WARM_S: Final = 0.5
SETTLE_S: Final = 0.5
SPARE_FILES: Final = 500
GROWTH: Final = (100, 1_000, 10_000)
FIRST_OF_THEIR_KIND: Final = 20  # sockets before growth is measured: what the first ones load isn't theirs
TICK_MS: Final = 100
OTHERS_PERCENT: Final = "others_percent"  # of the two cores, by programs that aren't ours, while it was measured


@dataclass(frozen=True, slots=True)
class Command:
    """What the load client is asked, and the prefix of its figures' names."""

    name: str
    words: str


@dataclass(frozen=True, slots=True)
class Scenario:
    """Commands on servers of one kind; `sockets` is in thousands, `peers` are those that are asked the same."""

    name: str
    one_each: bool
    tick_ms: int
    sockets: int
    peers: tuple[str, ...]
    commands: tuple[Command, ...]


SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (
        Scenario("P1", False, TICK_MS, 1, ("uws", "nchan"), (Command("P1", "open 100"),)),
        Scenario("P2", False, 0, 1, ("uws", "nchan", "socketio"), (Command("P2", "closed 1"),)),
        Scenario("P3", False, 0, 1, ("uws", "nchan", "socketio"), (Command("P3", "closed 16"),)),
        Scenario("P4", True, TICK_MS, 2, ("uws", "socketio"), (Command("P4", "open 500"), Command("P4w", "closed 16"))),
    )
}
QUESTIONS: Final = (
    Question("P1", "P1.percent", "processor, 100 changes a second", "% of a core", {"uws": 0.35, "nchan": 0.25}),
    Question("P1", "P1.p50_ms", "age of a change when it arrives, median", "ms", {}),
    Question("P1", "P1.p99_ms", "age of a change when it arrives, p99", "ms", {}, at_most=TICK_MS + 40),
    Question(
        "P2",
        "P2.cpu_us",
        "processor for a delivery, one event under way",
        "us",
        {"uws": 1.4, "nchan": 1.1, "socketio": 0.7},
    ),
    Question(
        "P3",
        "P3.per_s",
        "deliveries, 16 events under way",
        "a second",
        {"uws": 0.7, "nchan": 6, "socketio": 6},
        more=True,
    ),
    Question("P3", "P3.cpu_us", "processor for a delivery, 16 events under way", "us", {}),
    Question(
        "P3", "P3.percent", "processor meanwhile (far below 100: the load client was the limit)", "% of a core", {}
    ),
    Question("P4", "P4.cpu_us", "processor for an event, 500 a second", "us", {"uws": 2.0, "socketio": 0.9}),
    Question("P4", "P4.p50_ms", "age of an event at its monitor, 500 a second, median", "ms", {}),
    Question("P4", "P4.p99_ms", "age of an event at its monitor, 500 a second, p99", "ms", {}, at_most=5),
    Question("P4", "P4w.cpu_us", "processor for an event, 16 under way", "us", {}),
    Question("P4", "P4w.per_s", "events, 16 under way", "a second", {}, more=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where and how long: the load client's binary, the scratch folder, cores, rounds, seconds, sockets."""

    binary: Path
    scratch: Path
    cores: Cores
    rounds: int = 3
    seconds: float = 2
    thousand: int = 1_000  # sockets that count as a thousand, less for a quick look


def plans(chosen: Sequence[str]) -> list[list[Scenario]]:
    """Scenarios in groups that share a server: same sockets, same tick, same peers."""
    groups: dict[tuple[object, ...], list[Scenario]] = {}
    for name in chosen:
        one = SCENARIOS[name]
        groups.setdefault((one.one_each, one.tick_ms, one.sockets, one.peers), []).append(one)
    return list(groups.values())


def figures_of(command: Command, answer: Answer, cpu: float, seconds: float) -> dict[str, float]:
    """
    Figures by name: `percent` of a core for what `seconds` of events caused, microseconds a delivery, deliveries a
    second, ages in milliseconds.
    """
    delivered = answer["delivered"]
    found = {
        "percent": 100 * cpu / seconds,
        "cpu_us": 1e6 * cpu / delivered,
        "per_s": delivered / answer["seconds"],
        "p50_ms": answer["p50_us"] / 1000,
        "p99_ms": answer["p99_us"] / 1000,
    }
    return {f"{command.name}.{name}": value for name, value in found.items()}


def check(answer: Answer, sockets: int, whose: str) -> None:
    """
    See that an answer can be believed.

    Raises:
        BenchError: Events were refused or got stuck, or sockets were lost.
    """
    if answer["ready"] != sockets:
        raise BenchError(f"{whose} lost {sockets - answer['ready']} of {sockets} sockets")
    if answer["refused"]:
        raise BenchError(f"{whose}: {answer['refused']} events were not taken")
    if answer["stalled"] or not answer["delivered"]:
        raise BenchError(f"{whose}: events got stuck, {answer['delivered']} of {answer['expected']} arrived")


def say(text: str) -> None:
    """Tell whoever waits."""
    print(text, file=sys.stderr, flush=True)


def allow_files(count: int) -> None:
    """
    Let this process and its children open that many files.

    Raises:
        BenchError: The system doesn't allow it.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < count + SPARE_FILES:
        raise BenchError(f"{count} sockets need more open files than the {hard} allowed here (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Measurer:
    """Servers one after the other, with the store and the ingesting hub beside them."""

    def __init__(self, bench: Bench, folder: Path, store_port: int, crowd: Hubs) -> None:
        self._bench = bench
        self._folder = folder
        self._store_port = store_port
        self._hubs = crowd

    async def compare(self, group: Sequence[Scenario], names: Sequence[str]) -> list[Pair]:
        """
        Rounds of hub and peer in turn; of the hub alone where no peer is there. A peer that fails is left out from
        there on, and said.

        Raises:
            BenchError: The hub can't be measured.
        """
        first = group[0]
        waiting = [OTHERS[name](self._bench.scratch) for name in first.peers if name in names]
        pairs: list[Pair] = []
        for number in range(self._bench.rounds):
            if not waiting:
                pairs.append(Pair("", await self.of_hub(group), {}))
            for other in tuple(waiting):
                say(f"{'+'.join(one.name for one in group)} round {number + 1}: hub, {other.name} ...")
                own = await self.of_hub(group)
                try:
                    pairs.append(Pair(other.name, own, await self.of_other(group, other)))
                except BenchError as error:
                    say(f"{other.title} is left out: {error}")
                    pairs.append(Pair(other.name, own, {}))
                    waiting.remove(other)
        return pairs

    async def of_hub(self, group: Sequence[Scenario]) -> dict[str, float]:
        """A round of a fresh hub."""
        first = group[0]
        sockets = first.sockets * self._bench.thousand
        people = await self._hubs.organization(first.one_each, sockets)
        async with self._hubs.measured(self._bench.cores.server, first.tick_ms) as hub:
            pid = hub.process.pid
            async with self._client(people.speech(), sockets, port_of(hub)) as load:
                return await self._ask(group, load, pid, sockets, "the hub", people)

    async def of_other(self, group: Sequence[Scenario], other: Other) -> dict[str, float]:
        """A round of a fresh server of a peer."""
        first = group[0]
        sockets = first.sockets * self._bench.thousand
        async with other.serving(self._bench.cores.server, self._store_port) as (process, port):
            speech = other.speech(first.one_each, self._store_port, port, sockets if first.one_each else 1)
            async with self._client(speech, sockets, port) as load:
                return await self._ask(group, load, process.pid, sockets, other.title)

    @asynccontextmanager
    async def _client(self, speech: Speech, sockets: int, port: int) -> AsyncIterator[Client]:
        bench = self._bench
        log = self._folder / "wsload.log"
        async with client(bench.binary, speech, sockets, port, bench.cores.rest, log) as load:
            await asyncio.sleep(SETTLE_S)
            yield load

    async def _ask(
        self,
        group: Sequence[Scenario],
        load: Client,
        pid: int,
        sockets: int,
        whose: str,
        people: Organization | None = None,
    ) -> dict[str, float]:
        found: dict[str, float] = {}
        for command in (command for scenario in group for command in scenario.commands):
            for seconds in (WARM_S, self._bench.seconds):
                before, start = cpu_s(pid), look(self._bench.cores)
                answer = await load.tell(f"{command.words} {seconds:g}", seconds)
                spent, end = cpu_s(pid) - before, look(self._bench.cores)
                if people is not None:
                    people.serial += answer["sent"]
                check(answer, sockets, whose)
            if command.words.startswith("open") and answer["delivered"] < answer["expected"]:
                say(f"{whose}: {answer['delivered']} of {answer['expected']} deliveries arrived ({command.name})")
            found |= figures_of(command, answer, spent, self._bench.seconds)
            found[f"{command.name}.{OTHERS_PERCENT}"] = taken_by_others(start, end)
        return found

    async def growth(self, counts: Sequence[int] = GROWTH) -> list[Line]:
        """What a delivery and a socket cost the hub alone, by the number of sockets."""
        lines: list[list[Line]] = [[], []]
        asked = (
            Question("P9", "cpu_us", "processor for a delivery, one event under way", "us", {}),
            Question("P9", "kib", "memory of a socket with its view", "KiB", {}),
        )
        for sockets in counts:
            say(f"P9: {sockets} sockets ...")
            rounds = [await self._grown(sockets) for _ in range(self._bench.rounds)]
            for number, question in enumerate(asked):
                value = Range.of([one[number] for one in rounds])
                lines[number].append(Line(question, f"{sockets:,}", value, None, None, None))
        return lines[0] + lines[1]

    async def _grown(self, sockets: int) -> tuple[float, float]:
        people = await self._hubs.organization(False, sockets)
        async with self._hubs.measured(self._bench.cores.server, 0) as hub:
            pid, port = hub.process.pid, port_of(hub)
            async with self._client(people.speech(), FIRST_OF_THEIR_KIND, port) as load:
                people.serial += (await load.tell(f"closed 1 {WARM_S:g}", WARM_S))["sent"]
            before = rss_bytes(pid)
            async with self._client(people.speech(), sockets, port) as load:
                memory = rss_bytes(pid) - before
                group = [Scenario("P9", False, 0, 1, (), (Command("P9", "closed 1"),))]
                found = await self._ask(group, load, pid, sockets, "the hub", people)
        return found["P9.cpu_us"], memory / sockets / 1024


@asynccontextmanager
async def measurer(bench: Bench, sockets: int) -> AsyncIterator[Measurer]:
    """Start what stands beside the measured servers; `sockets` is the most that will be opened."""
    allow_files(sockets)
    core = bench.cores.rest
    with on_core(core), TemporaryDirectory(prefix="run-", dir=bench.scratch, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        async with store(folder, core) as port, hubs(folder, core, port) as crowd:
            yield Measurer(bench, folder, port, crowd)


def disturbance(pairs: Sequence[Pair]) -> Range | None:
    """Percent of the two cores that others took during the measurements; None where nothing was measured."""
    seen = [
        value for pair in pairs for one in (pair.hub, pair.other) for name, value in one.items() if _of_others(name)
    ]
    return Range.of(seen) if seen else None


def _of_others(name: str) -> bool:
    return name.endswith(f".{OTHERS_PERCENT}")


def most_sockets(chosen: Sequence[str], thousand: int, growth: bool) -> int:
    """The most sockets that any chosen measurement opens."""
    counts = [SCENARIOS[name].sockets * thousand for name in chosen]
    return max([*counts, *(GROWTH if growth else ())], default=0)


def report(bench: Bench, pairs: Sequence[Pair]) -> dict[str, Any]:
    """What was measured, round by round, for the JSON file."""
    return {
        "rounds": bench.rounds,
        "seconds": bench.seconds,
        "thousand": bench.thousand,
        "pairs": [{"peer": pair.peer, "hub": pair.hub, "other": pair.other} for pair in pairs],
    }
