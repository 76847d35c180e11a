"""
`hub erase`: have a customer's conversations erased, and see how far that is.

Asks the store directly, so that it needs no admin's token; the running hubs carry it out.
"""

import argparse
import asyncio
import re
import sys
from typing import IO

import orjson

from hub.protocol.fields import ID_PATTERN
from hub.settings import Settings, SettingsError
from hub.store.erasures import DONE, Erasures
from hub.store.offline import opened

LOOK_S = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the program, besides `--config`."""
    parser.add_argument("--redis-url", metavar="URL", help="the store; default: as for serve")
    parser.add_argument("--data-dir", metavar="DIR", help="folder of the embedded store")
    parser.add_argument("--org", required=True, help="the customer's organization")
    parser.add_argument("--customer", required=True, metavar="ID", help="the customer's id, as platforms give it")
    parser.add_argument("--status", action="store_true", help="erase nothing; say how far it is")
    parser.add_argument("--wait", action="store_true", help="until it is done; needs a running hub")


async def run_erase(args: argparse.Namespace, settings: Settings, out: IO[bytes] | None = None) -> int:
    """
    Print how far it is, as JSON; 0, or 1 where there is no such erasure.

    Raises:
        SettingsError: The store can't be reached, or an id isn't one.
    """
    out = out or sys.stdout.buffer
    for name in ("org", "customer"):
        if not re.match(ID_PATTERN, getattr(args, name)):
            raise SettingsError(f"--{name}: {getattr(args, name)[:64]!r} is no id of 1 to 64 of A-Z, a-z, 0-9, `_.:-`")
    async with opened(settings) as store:
        erasures = Erasures(store, settings.ledger.first)
        id = erasures.id_of(args.org, args.customer)
        one = await erasures.get(id) if args.status else await erasures.ask(args.org, args.customer)
        while args.wait and one is not None and one.state != DONE:
            await asyncio.sleep(LOOK_S)
            one = await erasures.get(id)
        if one is None:
            print("hub: no erasure of this customer is known", file=sys.stderr)
            return 1
        out.write(orjson.dumps(one.wire()) + b"\n")
        return 0
