"""
`hub outbox`: what waits for providers, and what was given up; for operators, with a token of role `admin`.

It asks a running hub over HTTP, not the store: an embedded store belongs to its hub alone, and whoever looks after
messages needs no access to everything that is stored.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, urlencode

from clients.http import HttpClient
from clients.wire import HubError, http_path

Json = dict[str, Any]
COLUMNS: Final = ("id", "state", "connector", "conversation", "type", "age", "tries", "next", "reason")
PAGE: Final = 1_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `hub outbox`."""
    actions = parser.add_subparsers(metavar="ACTION", required=True, dest="action")
    listing = actions.add_parser("list", help="what waits, then what was given up")
    _add_filters(listing, "at most so many")
    listing.add_argument("--state", choices=("waiting", "dead"), help="only these")
    show = actions.add_parser("show", help="all about one of them")
    show.add_argument("ids", nargs=1, metavar="ID")
    for name, purpose in (
        ("retry", "try it now; what was given up goes to the end of its conversation's queue"),
        ("drop", "give it up now (its message is reported failed); what was given up is forgotten"),
    ):
        one = actions.add_parser(name, help=purpose)
        one.add_argument("ids", nargs="*", metavar="ID")
        one.add_argument("--all-dead", action="store_true", help="every one that was given up, of --connector if given")
        _add_filters(one, "with --all-dead: at most so many")
    for one in actions.choices.values():
        one.add_argument("--json", action="store_true", help="JSON instead of a table")
        one.add_argument("--url", default=os.environ.get("HUB_URL", "http://127.0.0.1:8000"), help="the hub's address")
        one.add_argument("--token", help="a token of role admin (default: the environment's HUB_TOKEN)")


def _add_filters(parser: argparse.ArgumentParser, limit: str) -> None:
    parser.add_argument("--connector", metavar="ID", help="only this one's")
    parser.add_argument(
        "--limit", type=int, default=PAGE, metavar="N", help=f"{limit}, 1 to {PAGE} (default: %(default)s)"
    )


async def run_outbox(args: argparse.Namespace) -> int:
    """Do it; the exit status: 0 all of it was done, 1 the hub refused or isn't there, 2 something is missing."""
    token = args.token or os.environ.get("HUB_TOKEN", "")
    if not token:
        print("Give an admin's token: --token, or the environment variable HUB_TOKEN.", file=sys.stderr)
        return 2
    if args.action in ("retry", "drop") and bool(args.ids) == args.all_dead:
        print("Name ids, or give --all-dead.", file=sys.stderr)
        return 2
    line = Line(args.url, token)
    try:
        return await _ACTIONS[args.action](line, args)
    except HubError as error:
        print(error, file=sys.stderr)
    except NoHubError:
        print(f"No hub answers at {args.url}.", file=sys.stderr)
    finally:
        await line.http.close()
    return 1


class NoHubError(Exception):
    """
    Nobody answers at the address. It isn't an OSError, so that no failure of our own output (a pipe whose reader has
    gone) is taken for it.
    """


class Line:
    """The hub's routes for the outbox. Raises HubError for what it refuses, NoHubError where none is there."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.http = HttpClient(url)
        self._headers = {"authorization": f"Bearer {token}"}

    async def ask(self, method: str, route: str, **query: object) -> Json:
        """One request; what it is answered."""
        given = {name: str(value) for name, value in query.items() if value is not None}
        path = http_path(self.url, route) + (f"?{urlencode(given)}" if given else "")
        try:
            answer = await self.http.request(method, path, headers=self._headers)
        except (OSError, TimeoutError) as error:
            raise NoHubError from error
        if answer.status != 200:
            raise answer.refusal()
        return dict(json.loads(answer.body))


async def _list(line: Line, args: argparse.Namespace) -> int:
    found = await line.ask("GET", "/v1/outbox", connector=args.connector, state=args.state, limit=args.limit)
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    for row in table(found["actions"], int(time.time() * 1000)):
        print(row)
    if found["more"]:
        print(f"There are more than {args.limit}.", file=sys.stderr)
    return 0


async def _show(line: Line, args: argparse.Namespace) -> int:
    found = await line.ask("GET", f"/v1/outbox/{quote(args.ids[0], safe='')}")
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    for name, value in found.items():
        print(f"{name:<16} {shown(name, value)}".rstrip())
    return 0


async def _each(line: Line, args: argparse.Namespace) -> int:
    """`retry` and `drop`: each by itself, so that one that is refused stops no other."""
    ids: Sequence[str] = args.ids
    if args.all_dead:
        found = await line.ask("GET", "/v1/outbox", connector=args.connector, state="dead", limit=args.limit)
        ids = [one["id"] for one in reversed(found["actions"])]  # the oldest first, as they were written
    done: list[Json] = []
    for id in ids:
        route = f"/v1/outbox/{quote(id, safe='')}"
        try:
            await line.ask(*(("POST", f"{route}/retry") if args.action == "retry" else ("DELETE", route)))
            done.append({"id": id, "done": True})
        except HubError as error:
            done.append({"id": id, "done": False, "error": {"code": error.code, "message": error.message}})
    if args.json:
        print(json.dumps(done, indent=2))
    else:
        if not done:
            print("Nothing was given up.", file=sys.stderr)
        for one in done:
            print(f"{one['id']}  {'done' if one['done'] else one['error']['message']}")
    return 0 if all(one["done"] for one in done) else 1


_ACTIONS: Final = {"list": _list, "show": _show, "retry": _each, "drop": _each}


def table(actions: Iterable[Json], now_ms: int) -> list[str]:
    """The actions as lines under a heading, columns as wide as they need."""
    rows = [COLUMNS, *(_row(one, now_ms) for one in actions)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(one: Json, now_ms: int) -> tuple[str, ...]:
    next_at = one["next_at"]
    due = "" if next_at is None else "now" if next_at <= now_ms else f"in {duration(next_at - now_ms)}"
    cells = (one["id"], one["state"], one["connector"], one["conversation_id"], one["type"])
    return (*cells, duration(now_ms - one["at"]), str(one["tries"]), due, one["reason"])


def shown(name: str, value: object) -> str:
    """One member of an action for people: a time (`at` and `..._at`, Unix ms) as ISO 8601 in UTC, nothing for null."""
    if value is None:
        return ""
    if isinstance(value, int) and (name == "at" or name.endswith("_at")):
        return datetime.fromtimestamp(value / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return str(value)


def duration(ms: int) -> str:
    """`45 s`, `12 min`, `3 h`, `2 d`: the largest unit that isn't nothing."""
    seconds = max(ms, 0) // 1000
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
