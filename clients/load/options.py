"""The command line of `hub load`, and the plan that it makes; what can't be is refused before anything is started."""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from clients.load.scenarios import DESKS_MAX, Drops
from clients.load.thresholds import Threshold, parse_threshold
from clients.session import CURSORS_MAX
from clients.wire import endpoint_url, is_loopback

# scenario: the option with its number, and the number where the scenario is only named
SCENARIOS: Final[dict[str, tuple[str, Any]]] = {
    "watch": ("supervisors", 10),
    "monitor": ("monitors", 200),
    "agents": ("agents", 50),
    "takeovers": ("takeovers", 10.0),
    "reconnects": ("reconnects", Drops(share=0.2)),
    "readers": ("readers", 20),
}
USUAL: Final = ("watch", "monitor")
NEED_MONITORS: Final = frozenset({"reconnects", "readers"})
NO_DROPS: Final = Drops()


class WrongArguments(Exception):
    """The command line asks for what can't be; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    What a run does, by numbers; 0 leaves a scenario out. Rates are a second, `seconds` is how long.

    `reader_speed` is what each slow reader still reads, `reader_flow` what it is sent, both in bytes a second.

    Raises:
        WrongArguments: The numbers don't fit together.
    """

    conversations: int = 500
    rate: float = 200.0
    batch: int = 10
    connections: int = 8
    seconds: float = 10.0
    supervisors: int = 0
    monitors: int = 0
    agents: int = 0
    answers: float = 0.0
    takeovers: float = 0.0
    reconnects: Drops = NO_DROPS
    readers: int = 0
    reader_speed: float = 0.0
    reader_flow: float = 200_000.0
    seed: int = 1
    queue: str = "support"

    def __post_init__(self) -> None:
        numbers = (
            *(self.conversations, self.rate, self.supervisors, self.monitors, self.agents, self.answers),
            *(self.takeovers, self.readers, self.reader_speed),
        )
        above = (self.batch, self.connections, self.seconds, self.reader_flow)
        _require(
            all(math.isfinite(each) and each >= 0 for each in numbers) and all(0 < each < math.inf for each in above),
            "no number can be negative, and --batch, --connections, --seconds, --reader-flow are above 0",
        )
        _require(self.monitors <= self.conversations, "--monitors can't exceed --conversations")
        _require(self.agents <= self.conversations, "--agents can't exceed --conversations")
        _require(not self.takeovers or self.takeovers_in_all, "--takeovers in --seconds come to less than one")
        measured = bool(self.monitors and self.rate)
        _require(
            not self.readers or measured, "readers are judged by what monitors wait: --monitors and --rate above 0"
        )
        there = bool(self.supervisors or self.monitors or self.agents)
        _require(not self.reconnects or there, "there is no socket to reconnect: add watch, monitor or agents")
        fits = self.conversations <= CURSORS_MAX * self.agents
        _require(
            not (self.reconnects and self.agents) or fits,
            f"an agent can come back with {CURSORS_MAX} conversations at most: more --agents, or fewer --conversations",
        )

    @property
    def takeovers_in_all(self) -> int:
        """How many takeovers there will be."""
        return int(self.takeovers * self.seconds)

    @property
    def desks(self) -> int:
        """How many agents are there to be taken over."""
        return min(DESKS_MAX, self.takeovers_in_all)

    @property
    def begins(self) -> bool:
        """True where conversations of ours are begun, for which a platform's token is needed."""
        return bool(self.conversations or self.takeovers or self.readers)

    def people(self) -> dict[str, int]:
        """How many sockets there are of each role, at most."""
        return {
            "connector": int(self.begins),
            "supervisor": self.supervisors + self.monitors + self.desks,
            "agent": self.agents + self.desks + self.readers,
        }


def plan_of(args: argparse.Namespace) -> Plan:
    """
    The plan that the arguments make.

    A number on the command line counts. Else a named scenario has its default, and where none is named the usual ones
    have theirs; what can't do without monitors brings them. Raises `WrongArguments`.
    """
    named = set(args.scenarios or USUAL)
    if named & NEED_MONITORS:
        named.add("monitor")
    numbers: dict[str, Any] = {}
    for name, (option, default) in SCENARIOS.items():
        typed = getattr(args, option)
        if typed is not None or name in named:
            numbers[option] = default if typed is None else typed
    for option in ("monitors", "agents"):  # defaults make room for a smaller centre
        if option in numbers and getattr(args, option) is None:
            numbers[option] = min(numbers[option], args.conversations)
    if numbers.get("agents"):
        numbers["answers"] = args.rate / 2 if args.answers is None else args.answers
    same = ("conversations", "rate", "batch", "connections", "seconds", "reader_speed", "reader_flow", "seed", "queue")
    return Plan(**numbers, **{name: getattr(args, name) for name in same})


def check_address(args: argparse.Namespace) -> None:
    """Refuse what isn't an address, or isn't this machine's without the user's word for it. Raises `WrongArguments`."""
    if not args.url:
        _require(not args.tokens, "--tokens are for a running hub: give its --url")
        return
    try:
        endpoint_url(args.url, "/v1/supervisor")
    except ValueError as error:
        raise WrongArguments(f"--url: {error}") from None
    _require(
        args.allow_remote or is_loopback(args.url),
        "load is sent to this machine only: give a loopback address, or --allow-remote where the other is your own",
    )


def check_output(args: argparse.Namespace) -> None:
    """Refuse a report's file that can't be written, before the run and not after it. Raises `WrongArguments`."""
    if args.json not in (None, "-"):
        path = Path(args.json)
        _require(path.absolute().parent.is_dir() and not path.is_dir(), f"--json: {path} can't be written")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `hub load`."""
    parser.add_argument(
        "scenarios",
        nargs="*",
        type=_scenario,
        metavar="SCENARIO",
        help=f"any of {', '.join(SCENARIOS)}; a number of another one adds it (default: {' '.join(USUAL)})",
    )
    _add_where(parser.add_argument_group("where"))
    _add_how_much(parser.add_argument_group("how much"))
    out = parser.add_argument_group("what comes out")
    out.add_argument("--json", metavar="FILE", help="write the report to this file; -: to standard output")
    out.add_argument(
        "--fail-if",
        type=_threshold,
        action="append",
        default=[],
        metavar="KEY>NUMBER",
        help="exit status 1 where it is so, like 'monitor_frame_ms.p99>30'; also < >= <=; may be repeated",
    )


def _add_where(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--url", help="a hub on this machine (default: one is started, with an embedded store)")
    group.add_argument("--allow-remote", action="store_true", help="take a --url elsewhere: a hub of your own")
    group.add_argument(
        "--tokens",
        type=Path,
        metavar="FILE",
        help="tokens of an identity provider: a supervisor's on each line, or JSON lines with role and token "
        "(default: made with the environment's HUB_TOKEN_SECRET)",
    )
    group.add_argument("--queue", default="support", help="queue of the conversations (default: %(default)s)")


def _add_how_much(group: "argparse._ArgumentGroup") -> None:
    add = group.add_argument
    add("--conversations", type=int, default=500, help="live conversations (default: %(default)s)")
    add("--rate", type=float, default=200.0, help="customers' messages a second (default: %(default)s)")
    add("--batch", type=int, default=10, help="messages a request (default: %(default)s)")
    add("--connections", type=int, default=8, help="connections for the requests (default: %(default)s)")
    add("--seconds", type=float, default=10.0, help="how long (default: %(default)s)")
    add("--supervisors", type=int, metavar="N", help="watch: who has the view (default: 10)")
    add("--monitors", type=int, metavar="N", help="monitor: monitored conversations (default: 200)")
    add("--agents", type=int, metavar="N", help="agents: connected agents (where named: 50)")
    add("--answers", type=float, metavar="PER_S", help="agents: their answers in all (default: half of --rate)")
    add("--takeovers", type=float, metavar="PER_S", help="takeovers: how many (where named: 10)")
    add(
        "--reconnects",
        type=_drops,
        metavar="SHARE%|PER_S",
        help="reconnects, of the sockets that watch, monitor and answer: 20%% of them at once, halfway (where named), "
        "or 5: so many a second",
    )
    add("--readers", type=int, metavar="N", help="readers: sockets that stop reading halfway (where named: 20)")
    add("--reader-speed", type=float, default=0.0, metavar="BYTES", help="what each still reads a second (default: 0)")
    add(
        "--reader-flow",
        type=float,
        default=200_000.0,
        metavar="BYTES",
        help="what each is sent a second (default: %(default)g)",
    )
    add("--seed", type=int, default=1, help="which sockets are dropped (default: %(default)s)")


def _require(true: object, why: str) -> None:
    if not true:
        raise WrongArguments(why)


def _scenario(text: str) -> str:
    if text not in SCENARIOS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(SCENARIOS)}")
    return text


def _threshold(text: str) -> Threshold:
    try:
        return parse_threshold(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _drops(text: str) -> Drops:
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < 0 or (text.endswith("%") and number > 100):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a share like 20% nor a number a second")
    return Drops(share=number / 100) if text.endswith("%") else Drops(per_s=number)
