"""
`hub connector-check URL`: plays the hub against a receiver of its webhooks, and says what is right and what isn't.

With `--listen` it is the other way round (`connector_hub`): a connector connects to the check and is led through a story.

    examine(line)     each verdict, one after another
    CHECKS            what is looked at, by name, with what to do where it is missing
    run_check(args)   the program

The receiver is a connector of open messaging under development or in front of its users (docs/connect.md): the checks
send it messages, so it should stand where nobody is reached by them. They go out through the hub's own `Caller` with the
hub's own signature; each check is independent of the others, and none of them can be met by a receiver that takes, or
refuses, everything. That a repeat has no effect can't be seen from here: the report names the message to look for.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, Literal, TypeVar

import httpx

from hub.channels.open import PREFIX, SECRET_BYTES, TOLERANCE_S, payload, sign
from hub.channels.outward import Outward
from hub.channels.port import Action, Answer, Unreachable
from hub.settings import Settings, SettingsError

SECRET_VARIABLE: Final = "HUB_CONNECTOR_SECRET"  # noqa: S105 - a name
IN_A_ROW: Final = 10  # messages of one conversation, one after the other
AT_ONCE: Final = 5  # conversations at the same time
LONG_CHARS: Final = 65_536  # as much as a message may have (protocol, section 3)
FILES: Final = 10
WAIT_S: Final = 120  # with `--listen`: people click
WAIT_S_MAX: Final = 86_400
SLOW_PART: Final = 0.5  # of the time-out: slower answers are told
ANY_TEXT: Final = 'Grüße \u202eabc\u202c 漢字 👩🏽‍🚀 "quoted" \\ \u2028 \t tab\nand a new line \u0007'

Level = Literal["ok", "warn", "fail", "left out"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one check found; `mend` is empty unless something is to be done."""

    name: str
    level: Level
    got: str
    wanted: str
    mend: str = ""

    def __str__(self) -> str:
        line = f"{self.level:<8}  {self.name:<20} {self.got}"
        return line if not self.mend else f"{line}\n{'':30} wanted: {self.wanted}\n{'':30} {self.mend}"


LookT = TypeVar("LookT")


@dataclass(frozen=True, slots=True)
class Check(Generic[LookT]):
    """What is wanted, how to mend what isn't so, and `look`, which returns None where all is well, else what was got."""

    name: str
    wanted: str
    mend: str
    look: LookT

    def found(self, got: str | None) -> Verdict:
        """The verdict after a look."""
        if got is None:
            return Verdict(self.name, "ok", "as wanted", self.wanted)
        return Verdict(self.name, "fail", got, self.wanted, self.mend)

    def left_out(self, why: str) -> Verdict:
        """The verdict where nothing could be looked at."""
        return Verdict(self.name, "left out", why, self.wanted)


@dataclass(slots=True)
class Line:
    """
    The way to one receiver: `key` signs, `caller` calls, `run` is a word by which its author knows this run's messages.

    `now_s` is Unix seconds; `took_ms` has what each answered call took.
    """

    url: str
    key: bytes
    caller: Outward
    timeout_ms: int
    run: str = field(default_factory=lambda: secrets.token_hex(4))
    now_s: Callable[[], int] = lambda: int(time.time())
    took_ms: list[float] = field(default_factory=list)
    _made: int = 0

    def action(self, kind: str = "outbound.message", conversation: str = "1", **data: Any) -> Action:
        """An action as the outbox would have it."""
        self._made += 1
        id = f"act_{self.run}_{self._made}"
        whole: dict[str, Any] = {"action_id": id} | data
        if kind == "outbound.message":
            said = {"message_id": f"msg_{self.run}_{self._made}", "text": "Connector check", "attachments": []}
            whole = said | {"sender": {"name": "Connector Check"}, "owner_epoch": 1} | data
            id = str(whole["message_id"])
        return Action(
            id=id,
            type=kind,
            org="check",
            conversation_id=f"check-{self.run}-{conversation}",
            customer_id="check-customer",
            at=self.now_s() * 1000,
            attempt=1,
            data=whole,
        )

    async def post(
        self,
        body: bytes,
        id: str,
        *,
        at_s: int | None = None,
        key: bytes | None = None,
        signature: str | None = None,
        without: str = "",
    ) -> Answer:
        """One request as the hub makes it, or with one thing changed. Raises Unreachable."""
        seconds = self.now_s() if at_s is None else at_s
        headers = {
            "content-type": "application/json",
            "webhook-id": id,
            "webhook-timestamp": str(seconds),
            "webhook-signature": sign(key or self.key, id, seconds, body) if signature is None else signature,
        }
        headers.pop(without, None)
        began = time.monotonic()
        answer = await self.caller.call("POST", self.url, headers=headers, body=body)
        self.took_ms.append((time.monotonic() - began) * 1000)
        return answer

    async def send(self, action: Action) -> Answer:
        """An action, as it is."""
        return await self.post(payload(action), action.id)


# How a check judges the answers that it got.


def _taken(*answers: Answer) -> str | None:
    """None where all were taken, else what came instead."""
    other = next((answer.status for answer in answers if not 200 <= answer.status < 300), None)
    return None if other is None else f"{other} to a request that the hub would make"


def _turned_away(answer: Answer) -> str | None:
    """None where it was refused for good, else what came instead."""
    if 400 <= answer.status < 500:
        return None
    return f"{answer.status}: the request was taken" if answer.status < 300 else f"{answer.status}, no refusal"


async def _takes_message(line: Line) -> str | None:
    return _taken(await line.send(line.action()))


async def _takes_attachments(line: Line) -> str | None:
    files = [{"url": f"https://example.org/{n}.png", "name": f"{n}.png", "mime": "image/png"} for n in range(FILES)]
    return _taken(await line.send(line.action(text="", attachments=files)))


async def _takes_actions(line: Line) -> str | None:
    who = {"participant_id": "prt_1", "user_id": "max", "name": "Max Weber", "purpose": "agent"}
    by = {"participant_id": "prt_2", "user_id": "ana", "purpose": "supervisor"}  # no name: the channel shows none
    for action in (
        line.action("participant.disconnected", participant_id="prt_1", participant=who, disconnect_type="takeover"),
        line.action("participant.connected", participant_id="prt_2", participant=by),
        line.action("sender.changed", name=None),
        line.action("conversation.ended", reason="supervisor"),
    ):
        got = _taken(await line.send(action))
        if got is not None:
            return f"{got} ({action.type})"
    return None


async def _takes_unknown(line: Line) -> str | None:
    grown = line.action(something_new={"of": ["a", "later", "version"]})
    return _taken(await line.send(line.action("something.new")), await line.send(grown))


async def _takes_any_text(line: Line) -> str | None:
    return _taken(await line.send(line.action(text=ANY_TEXT)), await line.send(line.action(sender={"name": None})))


async def _takes_long_text(line: Line) -> str | None:
    return _taken(await line.send(line.action(text="long " * (LONG_CHARS // 5))))


async def _signs_bytes(line: Line) -> str | None:
    """The same object in other bytes: the signature is over what came, not over what it means."""
    action = line.action(text="ä / 1.0")
    body = json.dumps(json.loads(payload(action)), indent=1, ensure_ascii=True).replace("/", "\\/").encode()
    return _taken(await line.post(body, action.id))


async def _takes_repeat(line: Line) -> str | None:
    action = line.action(text="Connector check: this must be shown once")
    body, now_s = payload(action), line.now_s()
    first = await line.post(body, action.id, at_s=now_s - 10)
    again = await line.post(body, action.id, at_s=now_s)
    if _taken(first):
        return _taken(first)
    return None if 200 <= again.status < 300 else f"{again.status} to a message that was taken before"


async def _takes_two_signatures(line: Line) -> str | None:
    answers, now_s = [], line.now_s()
    for order in (1, -1):
        action = line.action()
        body = payload(action)
        both = [sign(key, action.id, now_s, body) for key in (secrets.token_bytes(32), line.key)]
        answers.append(await line.post(body, action.id, at_s=now_s, signature=" ".join(both[::order])))
    return _taken(*answers)


async def _takes_unknown_signature(line: Line) -> str | None:
    action = line.action()
    body, now_s = payload(action), line.now_s()
    right = sign(line.key, action.id, now_s, body)
    return _taken(await line.post(body, action.id, at_s=now_s, signature=f"v2,bm9uZQ== {right}"))


async def _refuses_wrong_key(line: Line) -> str | None:
    """Also under an id that was taken: who knows it doesn't need to look at the signature, some think."""
    fresh, known = line.action(), line.action()
    await line.send(known)
    for action in (fresh, known):
        got = _turned_away(await line.post(payload(action), action.id, key=secrets.token_bytes(len(line.key))))
        if got is not None:
            return got
    return None


async def _refuses_no_signature(line: Line) -> str | None:
    action, empty, bare = (line.action() for _ in range(3))
    answers = (
        await line.post(payload(action), action.id, without="webhook-signature"),
        await line.post(payload(empty), empty.id, signature=""),
        await line.post(payload(bare), bare.id, signature="v1,"),
    )
    return next((got for got in map(_turned_away, answers) if got is not None), None)


async def _refuses_changed_body(line: Line) -> str | None:
    action, now_s = line.action(), line.now_s()
    signature = sign(line.key, action.id, now_s, payload(action))
    other = payload(line.action(text="Somebody else wrote this"))
    return _turned_away(await line.post(other, action.id, at_s=now_s, signature=signature))


async def _refuses_changed_head(line: Line) -> str | None:
    """The same body and signature under another id, or another time."""
    action, now_s = line.action(), line.now_s()
    body = payload(action)
    signature = sign(line.key, action.id, now_s, body)
    for id, at_s in ((action.id + "x", now_s), (action.id, now_s - 1)):
        got = _turned_away(await line.post(body, id, at_s=at_s, signature=signature))
        if got is not None:
            return got
    return None


async def _refuses_old(line: Line) -> str | None:
    action = line.action()
    return _turned_away(await line.post(payload(action), action.id, at_s=line.now_s() - 2 * TOLERANCE_S))


async def _refuses_future(line: Line) -> str | None:
    action = line.action()
    return _turned_away(await line.post(payload(action), action.id, at_s=line.now_s() + 2 * TOLERANCE_S))


async def _refuses_no_time(line: Line) -> str | None:
    action = line.action()
    return _turned_away(await line.post(payload(action), action.id, without="webhook-timestamp"))


async def _refuses_unreadable(line: Line) -> str | None:
    answer = await line.post(b'{"type": "outbound.mess', line.action().id)
    if answer.status >= 500:
        return f"{answer.status}: the hub would send it again and again"
    return _turned_away(answer)


async def _in_a_row(line: Line) -> str | None:
    for _ in range(IN_A_ROW):
        got = _taken(await line.send(line.action()))
        if got is not None:
            return got
    return None


async def _at_once(line: Line) -> str | None:
    actions = [line.action(conversation=str(number)) for number in range(AT_ONCE)]
    return _taken(*await asyncio.gather(*map(line.send, actions)))


_REFUSE: Final = "an answer of 4xx, best 401"
_TAKE: Final = "an answer of 2xx"
_COMPARE: Final = (
    "Compute HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>` with the key behind whsec_ (base64), compare it in "
    "constant time with each `v1,` of webhook-signature, and refuse the request where none is equal."
)
_AGE: Final = (
    f"Compare webhook-timestamp (Unix seconds) with the clock; refuse more than {TOLERANCE_S} s in either direction."
)

Look = Callable[[Line], Awaitable[str | None]]
CHECKS: Final[tuple[Check[Look], ...]] = (
    Check(
        "message",
        _TAKE,
        "Is it the right address and secret? Is the signature over the bytes as they came, with the key decoded from base64? "
        "Redirects aren't followed: give the last address.",
        _takes_message,
    ),
    Check(
        "attachments",
        _TAKE,
        "A message may have no text but up to 10 attachments [{url, name, mime}].",
        _takes_attachments,
    ),
    Check(
        "other-actions",
        _TAKE,
        "Besides outbound.message there are participant.disconnected, participant.connected, sender.changed and "
        "conversation.ended. Answer 2xx also to those that you don't need. `name` may be missing or null.",
        _takes_actions,
    ),
    Check(
        "unknown", _TAKE, "The protocol grows: ignore types and members that you don't know, with 2xx.", _takes_unknown
    ),
    Check("any-text", _TAKE, "Take any character as UTF-8, and a sender without a name.", _takes_any_text),
    Check("long-text", _TAKE, f"Texts have up to {LONG_CHARS} characters: allow bodies of 1 MiB.", _takes_long_text),
    Check("signed-bytes", _TAKE, "Check the signature over the body as it came, before it is parsed.", _signs_bytes),
    Check(
        "repeat",
        f"{_TAKE}, and no effect",
        "The hub sends again where it got no answer: know a message_id (or action_id) that you have, and answer 2xx again.",
        _takes_repeat,
    ),
    Check(
        "two-signatures",
        _TAKE,
        "While keys are changed there are several signatures, with spaces between: one that is right is enough.",
        _takes_two_signatures,
    ),
    Check("unknown-signature", _TAKE, "Skip signatures that don't begin with `v1,`.", _takes_unknown_signature),
    Check("wrong-key", _REFUSE, _COMPARE, _refuses_wrong_key),
    Check("no-signature", _REFUSE, _COMPARE, _refuses_no_signature),
    Check("changed-body", _REFUSE, _COMPARE, _refuses_changed_body),
    Check("changed-head", _REFUSE, "Id and time are signed, too. " + _COMPARE, _refuses_changed_head),
    Check("old", _REFUSE, _AGE, _refuses_old),
    Check("future", _REFUSE, _AGE, _refuses_future),
    Check("no-time", _REFUSE, "A request without webhook-timestamp is none of the hub's.", _refuses_no_time),
    Check(
        "unreadable",
        "an answer of 4xx",
        "Answer 400 to a body that isn't JSON. 5xx asks for it again, and holds up what comes behind it.",
        _refuses_unreadable,
    ),
    Check(
        "in-a-row", _TAKE, "Messages of one conversation come one after the other; take them at that pace.", _in_a_row
    ),
    Check("at-once", _TAKE, f"Conversations don't wait for each other: take {AT_ONCE} requests at once.", _at_once),
)


async def examine(line: Line) -> AsyncIterator[Verdict]:
    """Every check's verdict, in order, then what the times say; where the first one fails the others are left out."""
    for number, check in enumerate(CHECKS):
        verdict = await _judged(check, line)
        yield verdict
        if number == 0 and verdict.level == "fail":
            for other in CHECKS[1:]:
                yield other.left_out("nothing can be said while a plain message isn't taken")
            return
    yield _pace(line)


async def _judged(check: Check[Look], line: Line) -> Verdict:
    try:
        got = await check.look(line)
    except Unreachable as error:
        got = f"no answer ({error})"
    return check.found(got)


def _pace(line: Line) -> Verdict:
    """How long the answers took."""
    slowest = max(line.took_ms, default=0.0)
    wanted = f"answers within {line.timeout_ms} ms, better half of it"
    got = f"the slowest answer took {slowest:.0f} ms"
    if slowest <= line.timeout_ms * SLOW_PART:
        return Verdict("pace", "ok", got, wanted)
    mend = "Answer when the message is kept, and pass it on afterwards: after the time-out the hub sends it again."
    return Verdict("pace", "warn", got, wanted, mend)


# The program.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `hub connector-check`."""
    parser.add_argument("url", metavar="URL", nargs="?", help="where the connector takes the hub's webhooks")
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help="stand as a hub there (port 0: any free one) for a connector to connect to; with URL it has signed webhooks",
    )
    parser.add_argument(
        "--secret-file",
        type=Path,
        metavar="FILE",
        help=f"its secret, whsec_...; else ${SECRET_VARIABLE}; never an argument",
    )
    parser.add_argument(
        "--timeout-ms", type=_ms, metavar="MS", help="longest wait for an answer; default: the hub's own"
    )
    parser.add_argument(
        "--wait-s", type=_seconds, default=WAIT_S, metavar="S", help=f"with --listen: longest wait for a step; {WAIT_S}"
    )
    parser.add_argument("--json", action="store_true", help="JSON instead of lines; with --listen a document a line")


async def run_check(args: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> int:
    """
    Check the receiver at `args.url`, or who connects to `args.listen`: 0 where all is well, 1 where something is missing.

    Raises:
        SettingsError: The address or the secret can't be one (exit status 2).
    """
    if args.listen is not None:
        return await _listen(args, environment)
    if args.url is None:
        raise SettingsError("URL or --listen is needed: a receiver to check, or where to wait for a connector")
    usual = Settings()
    timeout_ms = args.timeout_ms or usual.outbound_timeout_ms
    bytes_max = usual.outbound_answer_bytes_max
    key = _key(_secret(args.secret_file, environment) or _missing_secret())
    caller = Outward(timeout_ms=timeout_ms, answer_bytes_max=bytes_max, allowed=hosts_of(args.url))
    line = Line(args.url, key, caller, timeout_ms)
    verdicts = []
    try:
        async for verdict in examine(line):
            verdicts.append(verdict)
            if not args.json:
                print(verdict, flush=True)
    finally:
        await caller.aclose()
    for text in _summary(line, verdicts, as_json=args.json):
        print(text)
    return 1 if any(one.level in ("fail", "left out") for one in verdicts) else 0


def _summary(line: Line, verdicts: list[Verdict], *, as_json: bool) -> Iterator[str]:
    passed = sum(one.level in ("ok", "warn") for one in verdicts)
    if as_json:
        counted = {"url": line.url, "run": line.run, "passed": passed, "missing": len(verdicts) - passed}
        yield json.dumps(counted | {"checks": [asdict(one) for one in verdicts]}, indent=2)
        return
    yield f"{passed} passed, {len(verdicts) - passed} missing"
    if not any(one.name == "repeat" and one.level == "ok" for one in verdicts):
        return
    yield (
        f"What can't be seen from here: of the conversations check-{line.run}-... the message that says 'this must be shown "
        "once' must have been passed on once."
    )


def _ms(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} isn't a whole number of milliseconds from 1 on")
    return int(text)


async def _listen(args: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from hub.connector_hub import run_listening  # a whole hub, which the other direction doesn't need

    secret = _secret(args.secret_file, environment)
    if secret:
        _key(secret)
    return await run_listening(args, secret)


def _seconds(text: str) -> float:
    if not text.isdecimal() or not 1 <= int(text) <= WAIT_S_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} isn't a whole number of seconds from 1 to {WAIT_S_MAX}")
    return float(text)


def _missing_secret() -> str:
    raise SettingsError(f"--secret-file or ${SECRET_VARIABLE} is needed: the connector's secret, whsec_...")


def _secret(file: Path | None, environment: Mapping[str, str]) -> str:
    """What a file or the environment has, never the command line, which others can see; empty where there is none."""
    if file is None:
        return environment.get(SECRET_VARIABLE, "").strip()
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"--secret-file: {error.strerror}: {file}") from None


def _key(text: str) -> bytes:
    """The key behind a secret. Raises SettingsError where it can't be one."""
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise SettingsError(f"the connector's secret isn't base64 (behind {PREFIX})") from None
    least, most = SECRET_BYTES
    if not least <= len(key) <= most:
        raise SettingsError(f"the connector's secret has {len(key)} bytes; allowed: {least} to {most}")
    return key


def hosts_of(url: str) -> list[str]:
    """The address whose connections may go anywhere: whoever types it knows where it leads."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise SettingsError(f"URL is {url!r}; allowed: https://..., or http://... for one on this machine")
    port = parsed.port or (443 if parsed.scheme == "https" else 80)
    return [f"[{parsed.host}]:{port}" if ":" in parsed.host else f"{parsed.host}:{port}"]
