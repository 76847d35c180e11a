"""
`hub ledger verify | export | show | key`: for whoever has to rely on the ledger.

    verify        the store's ledger, or an exported file, line by line; 1 where anything isn't as it was written
    export        NDJSON on standard output: a first line that says what was asked, the lines and seals in the order in which
                  they are checked, and a last line with a code over the whole file
    show          the lines of one conversation, for people
    key           the key that codes are made with, to be kept before the token secret is changed

All but `key` take bounded memory however much there is. None of them changes anything.
"""

import argparse
import hmac
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import msgspec
import orjson

from hub.domain.ledger import CODE_CHARS, Finding, LedgerKeys, Report, Row, Verifier, file_code, key_id, parsed
from hub.settings import Settings, SettingsError
from hub.store.keys import PARTITIONS, partition
from hub.store.ledger import DiskHeads, Ledger, feed
from hub.store.offline import opened

FORMAT = 1
SEAL_PATIENCE = 3  # times `ledger_seal_ms` after which a line should have been sealed
NO_KEY = "no ledger key and no token secret is configured: codes find accidents, but nobody who means to forge them"


def add_arguments(programs: Any, config_flags: Callable[[argparse.ArgumentParser], None]) -> None:
    """The programs of `hub ledger`, each with `run_<name>`."""

    def add(name: str, purpose: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = programs.add_parser(name, help=purpose, description=purpose)
        config_flags(parser)
        parser.add_argument("--redis-url", metavar="URL", help="the store; default: as for serve")
        parser.add_argument("--data-dir", metavar="DIR", help="folder of the embedded store")
        parser.set_defaults(ledger=name)
        return parser

    verify = add("verify", "Check that the ledger is as it was written.")
    verify.add_argument("file", nargs="?", type=Path, help="an exported file; default: the store")
    verify.add_argument("--seal", metavar="N:CODE", help="a seal that was noted earlier and must still be there")
    verify.add_argument("--upgraded", type=_time, metavar="TIME", help="until when hubs wrote lines without codes")
    export = add("export", "Write the ledger as NDJSON.")
    _add_choice(export)
    show = add("show", "The lines of one conversation.")
    show.add_argument("conversation", help="its id")
    show.add_argument("--org", help="its organization; default: any")
    add("key", "Print the key that codes are made with. It is a secret.")


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--since", type=_time, metavar="TIME", help="ISO date or time, or Unix ms; from then on")
    parser.add_argument("--until", type=_time, metavar="TIME", help="up to then")
    parser.add_argument("--org", help="lines of this organization only")
    parser.add_argument("--conversation", metavar="ID", help="lines of this conversation only")
    parser.add_argument("--user", metavar="ID", help="lines that name this user only")


def _time(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) > 8:
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no ISO date or time like 2026-01-31T12:00, nor Unix ms"
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


async def run_ledger(args: argparse.Namespace, settings: Settings, out: IO[bytes] | None = None) -> int:
    """
    Run the program that `args.ledger` names; its exit status: 0, or 1 where something was found.

    Raises:
        SettingsError: The store can't be reached, or the file can't be read.
    """
    out = out or sys.stdout.buffer
    if args.ledger == "key":
        return _key(settings, out)
    if args.ledger == "verify" and args.file is not None:
        return verify_file(args.file, settings.ledger, out, noted=args.seal, upgraded=args.upgraded or 0)
    async with opened(settings) as store:
        ledger = Ledger(store, settings.ledger, settings.ledger_entries_max)
        if args.ledger == "verify":
            return await verify_store(ledger, settings, out, noted=args.seal, upgraded=args.upgraded or 0)
        if args.ledger == "export":
            return await _export(ledger, args, out)
        return await _show(ledger, args, out)


def _key(settings: Settings, out: IO[bytes]) -> int:
    key = settings.ledger.first
    if not key:
        raise SettingsError(NO_KEY)
    out.write(key + b"\n")
    return 0


# -- verify ----------------------------------------------------------------------------------------------------------


async def verify_store(
    ledger: Ledger, settings: Settings, out: IO[bytes], *, noted: str | None = None, upgraded: int = 0
) -> int:
    """Check the store's ledger and say what was found; 1 where anything was."""
    report = Report()
    with closing(DiskHeads()) as heads:
        begin = await ledger.begin()
        verifier = Verifier(ledger.keys, heads, report.add, floors=begin.floors, unchained_until_ms=upgraded)
        watch = _Noted(noted)
        await feed(verifier, watch.passing(ledger.told(begin)))
        verifier.end(now_ms=await ledger.store.now_ms(), patience_ms=SEAL_PATIENCE * settings.ledger_seal_ms)
        await ledger.compare_records(heads, report.add)
    watch.settle(report.add)
    return _said(verifier, report, ledger.keys, out)


def verify_file(path: Path, keys: LedgerKeys, out: IO[bytes], *, noted: str | None = None, upgraded: int = 0) -> int:
    """
    Check an exported file and say what was found; 1 where anything was.

    Raises:
        SettingsError: The file can't be read, or is no export.
    """
    report = Report()
    try:
        file = path.open("rb")
    except OSError as error:
        raise SettingsError(f"{path} can't be read: {error.strerror}") from None
    with file, closing(DiskHeads()) as heads:
        exported = _File(file, keys, str(path))
        about = exported.about
        floors = {int(p): str(id) for p, id in about.get("floors", {}).items()}
        gaps = about.get("user") is None
        verifier = Verifier(keys, heads, report.add, floors=floors, gaps=gaps, unchained_until_ms=upgraded)
        watch = _Noted(noted)
        for one in exported.told(report.add):
            watch.see(one)
            if isinstance(one, Row):
                verifier.line(one)
            else:
                verifier.seal(one)
        verifier.end()
    watch.settle(report.add)
    return _said(verifier, report, keys, out, about)


class _Noted:
    """A seal that somebody noted: is it among those that pass?"""

    def __init__(self, noted: str | None) -> None:
        self._wanted = noted
        self._seen = noted is None

    def see(self, one: Row | bytes) -> None:
        """Look at one."""
        if not self._seen and not isinstance(one, Row):
            about = parsed(one) or {}
            self._seen = f"{about.get('seal')}:{about.get('mac')}" == self._wanted

    async def passing(self, told: AsyncIterator[Row | bytes]) -> AsyncIterator[Row | bytes]:
        """The same, looked at."""
        async for one in told:
            self.see(one)
            yield one

    def settle(self, tell: Callable[[Finding], None]) -> None:
        """Tell where it never passed."""
        if not self._seen:
            tell(Finding("seal_gone", f"seal {self._wanted}", "no such seal"))


def _said(
    verifier: Verifier, report: Report, keys: LedgerKeys, out: IO[bytes], about: dict[str, Any] | None = None
) -> int:
    counts = verifier.counts
    lines = [f"{counts.lines} lines, {counts.seals} seals, {counts.unsealed} lines not sealed yet"]
    if counts.unchained:
        lines.append(f"{counts.unchained} lines without a code, of hubs before the upgrade")
    if counts.trimmed:
        lines.append(f"{counts.trimmed} sealed lines have made room for newer ones, or are older than was asked for")
    if about is not None and any(about.get(name) for name in ("org", "conversation", "user")):
        lines.append("this file has chosen lines: what it leaves out can't be seen from it")
    if not keys.secret:
        lines.append(f"warning: {NO_KEY}")
    if counts.last_seal:
        lines.append(
            f"last seal {counts.last_seal} of {_clock(counts.last_sealed_at)}; note it to compare later (--seal)"
        )
    lines += report.sentences() or ["nothing was found"]
    out.write("\n".join(lines).encode() + b"\n")
    return 1 if report.first else 0


# -- export ----------------------------------------------------------------------------------------------------------


class _Choice:
    """Which lines are wanted."""

    def __init__(self, args: argparse.Namespace, keys: LedgerKeys) -> None:
        self.org: str | None = args.org
        self.conversation: str | None = args.conversation
        self.user: str | None = getattr(args, "user", None)
        self._keys = keys

    @property
    def all(self) -> bool:
        """True where every line is."""
        return self.org is None and self.conversation is None and self.user is None

    def partitions(self) -> range:
        """Where they may be."""
        if self.org is None or self.conversation is None:
            return range(PARTITIONS)
        p = partition(self.org, self.conversation)
        return range(p, p + 1)

    def has(self, row: Row) -> bool:
        """True where this one is wanted."""
        if self.all:
            return True
        about = parsed(row.line)
        if about is None:
            return False
        if self.org is not None and about.get("org") != self.org:
            return False
        if self.user is not None and self.user not in (about.get("user_id"), about.get("by")):
            return False
        if self.conversation is None:
            return True
        if "conversation_id" in about:
            return bool(about["conversation_id"] == self.conversation)
        return about.get("conversation") in self._keys.names(str(about.get("org")), self.conversation)


class _Writer:
    """Lines of a file, and the code over them."""

    def __init__(self, out: IO[bytes], key: bytes) -> None:
        self._out, self._key = out, key
        self._made = file_code(key)
        self.lines = 0

    def write(self, line: bytes) -> None:
        """One line."""
        self._made.update(line + b"\n")
        self._out.write(line + b"\n")
        self.lines += 1

    def end(self) -> None:
        """The last line."""
        about = {"end": True, "lines": self.lines, "key": key_id(self._key), "mac": self._made.hexdigest()[:CODE_CHARS]}
        self._out.write(orjson.dumps(about) + b"\n")
        self._out.flush()


async def _export(ledger: Ledger, args: argparse.Namespace, out: IO[bytes]) -> int:
    choice = _Choice(args, ledger.keys)
    begin = await ledger.begin(args.since)
    writer = _Writer(out, ledger.keys.first)
    about = {
        "ledger": FORMAT,
        "at": int(time.time() * 1000),
        "since": args.since,
        "until": args.until,
        "org": choice.org,
        "conversation": choice.conversation,
        "user": choice.user,
        "floors": {str(p): id for p, id in begin.floors.items()},
    }
    writer.write(orjson.dumps(about))
    rows: list[Row] = []
    async for one in ledger.told(begin, since_ms=args.since, until_ms=args.until):
        if isinstance(one, Row):
            if choice.has(one):
                rows.append(one)
            if len(rows) >= 200:
                await _write_rows(ledger, rows, writer)
        elif choice.all:  # a seal covers all lines: without them it says nothing
            await _write_rows(ledger, rows, writer)
            writer.write(b'{"seal":%b}' % one)
    await _write_rows(ledger, rows, writer)
    writer.end()
    return 0


async def _write_rows(ledger: Ledger, rows: list[Row], writer: _Writer) -> None:
    known = await _known(ledger, rows)
    for row in rows:
        id = known.get((row.p, _name(row)))
        about = orjson.dumps({"p": row.p, "id": row.id, "t": row.top, "conversation_id": id})
        writer.write(about[:-1] + b',"line":' + row.line + b"}")
    rows.clear()


def _name(row: Row) -> str:
    return str((parsed(row.line) or {}).get("conversation", ""))


async def _known(ledger: Ledger, rows: list[Row]) -> dict[tuple[int, str], str]:
    """Ids of conversations by partition and name; without those of erased customers."""
    wanted: dict[int, list[str]] = {}
    for row in rows:
        wanted.setdefault(row.p, []).append(_name(row))
    found = {}
    for p, names in wanted.items():
        for name, (_, conversation_id) in (await ledger.names(p, names)).items():
            found[p, name] = conversation_id
    return found


class _Exported(msgspec.Struct):
    """One line of an exported file; all members but those of its kind are unset."""

    p: int = -1
    id: str = ""
    t: str = ""
    line: msgspec.Raw = msgspec.Raw()
    seal: msgspec.Raw = msgspec.Raw()
    end: bool = False
    lines: int = -1
    key: str = ""
    mac: str = ""


class _File:
    """An exported file, read line by line."""

    def __init__(self, file: IO[bytes], keys: LedgerKeys, name: str) -> None:
        self._file, self._keys = file, keys
        self._first = file.readline()
        about = parsed(self._first)
        if about is None or about.get("ledger") != FORMAT:
            raise SettingsError(f"{name} is no export of a ledger of format {FORMAT}")
        self.about = about

    def told(self, tell: Callable[[Finding], None]) -> Iterator[Row | bytes]:
        """What it has, for a verifier; tells where it isn't whole."""
        sums = {id: file_code(key) for id, key in self._keys.all()}
        count, whole = 0, False
        line, number = self._first, 1
        while line:
            ended = None
            if number > 1:
                read = _exported(line)
                if read is None or whole:
                    tell(
                        Finding(
                            "file_cut", f"line {number}", "no line of an export" if read is None else "behind the end"
                        )
                    )
                elif read.end:
                    ended = read
                elif bytes(read.line):
                    yield Row(read.p, read.id, read.t, bytes(read.line))
                elif bytes(read.seal):
                    yield bytes(read.seal)
            if ended is not None:
                whole = True
                self._compare(ended, count, sums, number, tell)
            else:
                count += 1
                for one in sums.values():
                    one.update(line)
            line, number = self._file.readline(), number + 1
        if not whole:
            tell(Finding("file_cut", f"line {number}", "the last line is missing"))

    def _compare(
        self, ended: _Exported, count: int, sums: dict[str, "hmac.HMAC"], number: int, tell: Callable[[Finding], None]
    ) -> None:
        made = sums.get(ended.key)
        where = f"line {number}"
        if made is None:
            tell(Finding("unknown_key", where, f"key {ended.key}"))
        elif ended.lines != count or not hmac.compare_digest(made.hexdigest()[:CODE_CHARS], ended.mac):
            tell(Finding("file_cut", where, f"{count} lines of {ended.lines}, or others"))


def _exported(line: bytes) -> _Exported | None:
    try:
        return msgspec.json.decode(line, type=_Exported)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


# -- show ------------------------------------------------------------------------------------------------------------


async def _show(ledger: Ledger, args: argparse.Namespace, out: IO[bytes]) -> int:
    choice = _Choice(args, ledger.keys)
    found = 0
    for p in choice.partitions():
        after = ""
        while rows := await ledger.page(p, after):
            after = rows[-1].id
            for row in filter(choice.has, rows):
                found += 1
                out.write(_sentence(row).encode() + b"\n")
    if not found:
        print(f"hub: the ledger has no line of the conversation {args.conversation}", file=sys.stderr)
    return 0 if found else 1


_SHOWN = ("user_id", "by", "target", "participant_id", "removed", "queue", "reason", "why", "message_id")


def _sentence(row: Row) -> str:
    """Time, what, by whom, up to which entry of the transcript."""
    about = parsed(row.line) or {}
    words = [f"{name}={_shown(about[name])}" for name in _SHOWN if about.get(name) not in (None, [])]
    if about.get("what") == "monitor.ended" and about.get("from_offset") is not None:
        words.append(f"saw={about['from_offset']}..{row.top}")
    elif row.top != "-":
        words.append(f"transcript={row.top}")
    return f"{_clock(int(about.get('at', 0)))}  {about.get('what', '?'):<24} {' '.join(words)}"


def _shown(value: object) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if text.isprintable() else repr(text)


def _clock(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at_ms % 1000:03d}Z"
