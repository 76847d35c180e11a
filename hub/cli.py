"""
The command line: `hub serve | demo | token | tail | load | outbox | connector-check | doctor | config show`.

Each program is one function from the parsed arguments to an exit status: 0 it did what it was asked, 1 it could not,
2 the configuration or the command line is wrong, 130 after Ctrl-C. Programs of `clients` bring their own arguments and
are imported only when they are chosen, so that `hub token` starts fast.
"""

import argparse
import asyncio
import importlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

from hub.settings import (
    HOW_TO_MAKE_ONE,
    PersonSettings,
    Settings,
    SettingsError,
    describe,
    load,
    parse_duration_ms,
    unknown_variables,
)

# program: (module, function); the module also has `add_arguments(parser)`
CLIENT_PROGRAMS: Final = {
    "demo": ("clients.simulate.demo", "run_demo"),
    "tail": ("clients.tail", "run_tail"),
    "load": ("clients.load", "run_load"),
    "outbox": ("clients.outbox", "run_outbox"),
    "connector-check": ("hub.connector_check", "run_check"),
}
SERVE_FLAGS: Final = {
    "host": "address to listen on",
    "port": "port to listen on; 0: any free one",
    "redis_url": "the store; without it an embedded one is started in the data directory",
    "data_dir": "folder of the embedded store",
    "metrics_listen": "HOST:PORT of /metrics; empty: none",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one program; returns its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        args = _parser(words).parse_args(words)
        status: int = args.run(args)
        sys.stdout.flush()  # here, where it is handled that whoever reads it has gone
        return status
    except SettingsError as error:
        return _complain(str(error), 2)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain again when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hub", description="Live views, silent monitoring and takeover.")
    programs = parser.add_subparsers(metavar="PROGRAM", required=True)
    chosen = next((word for word in words if not word.startswith("-")), None)

    def add(name: str, purpose: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        added = programs.add_parser(name, help=purpose, description=purpose)
        added.set_defaults(run=run, program=name)
        return added

    demo = add("demo", "Run a hub with a simulated contact centre.", _run_client)
    _add_serve_flags(add("serve", "Run the hub.", _serve))
    _add_token_flags(add("token", "Print a token made with the hub's secret.", _token))
    tail = add("tail", "Supervise in the terminal.", _run_client)
    measure = add("load", "Put load on a hub and say what people would have felt.", _run_client)
    outbox = add("outbox", "What waits for providers, and what was given up.", _run_client)
    check = add(
        "connector-check", "Play the hub against a receiver of its webhooks, and say what is missing.", _run_client
    )
    _add_config_flag(add("doctor", "Look at what a hub needs, and say what is wrong.", _doctor))
    _add_ledger(add("ledger", "Check, export or show the ledger.", _ledger), chosen)
    erase = add("erase", "Erase a customer's conversations.", _erase)
    _add_config_flag(erase)
    if chosen == "erase":
        from hub.erase import add_arguments

        add_arguments(erase)
    config = add("config", "Show the configuration.", _config_show).add_subparsers(metavar="ACTION", required=True)
    show = config.add_parser("show", help="Print each value with its origin.")
    _add_serve_flags(show)
    show.add_argument("--explain", action="store_true", help="say what each value means")
    chosen_by = {"demo": demo, "tail": tail, "load": measure, "outbox": outbox, "connector-check": check}
    for name, program in chosen_by.items():
        if name == chosen:
            importlib.import_module(CLIENT_PROGRAMS[name][0]).add_arguments(program)
    return parser


def _add_config_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="default: $HUB_CONFIG, else hub.toml if it exists")


def _add_serve_flags(parser: argparse.ArgumentParser) -> None:
    _add_config_flag(parser)
    for name, meaning in SERVE_FLAGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", metavar=name.rpartition("_")[2].upper(), help=meaning)


def _add_token_flags(parser: argparse.ArgumentParser) -> None:
    _add_config_flag(parser)
    parser.add_argument("--person", metavar="ID", help="one of the configuration's [people]; flags override")
    parser.add_argument("--role", help="supervisor, admin, agent, connector or customer")
    parser.add_argument("--sub", help="the person's id")
    parser.add_argument("--name", help="the person's name; default: the id")
    parser.add_argument("--org", help="the organization's id")
    parser.add_argument("--queues", type=_listed, metavar="IDS", help="ids with commas, or '*'; default: none")
    parser.add_argument("--divisions", type=_listed, metavar="IDS", help="ids with commas, or '*'; default: none")
    parser.add_argument("--permissions", type=_listed, metavar="NAMES", help="names with commas; default: none")
    parser.add_argument("--conversation", metavar="ID", help="the conversation of a customer's token")
    parser.add_argument("--ttl", type=_duration, default="8h", metavar="TIME", help="like 8h, 30m or 90s; default: 8h")


def _add_ledger(parser: argparse.ArgumentParser, chosen: str | None) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    if chosen == "ledger":
        from hub.ledger import add_arguments

        add_arguments(actions, _add_config_flag)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _duration(text: str) -> int:
    try:
        return parse_duration_ms(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not {error}") from None


# The programs.


def _serve(args: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, _end_at_once)  # until the running hub puts its own, gentler handler there
    settings = settings_of(args)
    settings.require_identity()
    from hub.logs import configure

    configure(settings.log_level)
    for warning in unknown_variables(os.environ):
        logging.getLogger("hub").warning("%s", warning)
    if "FORWARDED_ALLOW_IPS" in os.environ and not settings.trusted_proxies:
        logging.getLogger("hub").warning("FORWARDED_ALLOW_IPS isn't read any more; set trusted_proxies")
    from hub.app import serve
    from hub.store.embedded import DataDirLocked, EmbeddedError

    try:
        return run(serve(settings, announce=_announce), settings.loop_engine)
    except DataDirLocked as error:
        return _complain(str(error), 2)
    except EmbeddedError as error:
        return _complain(str(error), 1)


def _end_at_once(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)


def _announce(line: str) -> None:
    print(line, flush=True)


def _run_client(args: argparse.Namespace) -> int:
    module, function = CLIENT_PROGRAMS[args.program]
    return run(getattr(importlib.import_module(module), function)(args), "auto")


def _token(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    if settings.token_secret is None:
        raise SettingsError(f"no token secret is configured; make one with: {HOW_TO_MAKE_ONE}")
    from hub.edge.auth import issue_token, now_ms

    person = _person(args, settings)
    try:
        token = issue_token(
            settings.token_secret,
            sub=person.sub,
            name=person.name,
            org=person.org,
            role=person.role,
            permissions=person.permissions,
            queues=person.queues,
            divisions=person.divisions,
            ttl_ms=args.ttl,
            now_ms=now_ms(),
            conversation=args.conversation,
        )
    except ValueError as error:
        return _complain(str(error), 2)
    print(token)
    return 0


def _person(args: argparse.Namespace, settings: Settings) -> PersonSettings:
    """Who the token is for: what was typed, else what the configuration says about `--person`."""
    known = PersonSettings(sub="", name="", org="", role="")
    if args.person is not None:
        if args.person not in settings.people:
            there = ", ".join(sorted(settings.people)) or "none"
            raise SettingsError(f"--person: {args.person!r} is not in the configuration; there are: {there}")
        known = settings.people[args.person]
    typed = {name: getattr(args, name) for name in ("sub", "org", "role")}
    for name in typed:
        typed[name] = typed[name] or getattr(known, name)
        if not typed[name]:
            raise SettingsError(f"--{name} is needed, or --person with a person of the configuration")
    lists = {
        name: getattr(known, name) if getattr(args, name) is None else getattr(args, name)
        for name in ("permissions", "queues", "divisions")
    }
    return PersonSettings(name=args.name or known.name or typed["sub"], **typed, **lists)


def _doctor(args: argparse.Namespace) -> int:
    from hub.doctor import examine
    from hub.findings import Finding

    try:
        settings = settings_of(args)
    except SettingsError as error:
        print(Finding("fail", "settings", str(error)))
        return 1
    for warning in unknown_variables(os.environ):
        print(Finding("warn", "settings", warning))

    async def report() -> int:
        failed = 0
        async for finding in examine(settings):
            print(finding, flush=True)
            failed += finding.level == "fail"
        return 1 if failed else 0

    return run(report(), "asyncio")


def _ledger(args: argparse.Namespace) -> int:
    from hub.domain.errors import Refused
    from hub.ledger import run_ledger
    from hub.store.embedded import EmbeddedError

    try:
        return run(run_ledger(args, settings_of(args)), "asyncio")
    except EmbeddedError as error:
        return _complain(str(error), 1)
    except Refused as refused:
        return _complain(f"the store does not answer: {refused.message}", 1)


def _erase(args: argparse.Namespace) -> int:
    from hub.domain.errors import Refused
    from hub.erase import run_erase
    from hub.store.embedded import EmbeddedError

    try:
        return run(run_erase(args, settings_of(args)), "asyncio")
    except EmbeddedError as error:
        return _complain(str(error), 1)
    except Refused as refused:
        return _complain(f"the store does not answer: {refused.message}", 1)


def _config_show(args: argparse.Namespace) -> int:
    rows = list(describe(settings_of(args)))
    widths = [min(60, max(len(row[column]) for row in rows)) for column in (0, 1)]
    for name, value, origin, meaning in rows:
        explained = f"  ({meaning})" if args.explain and meaning else ""
        print(f"{name:<{widths[0]}} = {value:<{widths[1]}}  # {origin}{explained}")
    for warning in unknown_variables(os.environ):
        print(f"warning: {warning}", file=sys.stderr)
    return 0


# What they share.


def settings_of(args: argparse.Namespace) -> Settings:
    """The settings that arguments and environment make; flags that a program doesn't have count as left out."""
    flags = {name: getattr(args, name, None) for name in SERVE_FLAGS}
    return load(config=args.config, env=os.environ, flags=flags)


def run(main: Coroutine[Any, Any, int], engine: str) -> int:
    """Run a program on the event loop that `loop_engine` names; Ctrl-C cancels it and is raised again."""
    with asyncio.Runner(loop_factory=_loop_factory(engine)) as runner:
        return runner.run(main)


def _loop_factory(engine: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if engine == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        if engine == "auto":
            return None
        raise SettingsError("loop_engine is uvloop, but uvloop isn't installed; allowed: auto, asyncio") from None
    return uvloop.new_event_loop


def _complain(sentence: str, status: int) -> int:
    print(f"hub: {sentence}", file=sys.stderr)
    return status
