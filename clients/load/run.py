"""
`hub load`: drives any hub through its sockets, with as many people, messages and faults as asked for.

Without words it watches and monitors as a contact centre does; scenarios are added by their names or numbers (see
`scenarios`). Printed are the progress, then a table of times and counts; the same as JSON where asked for. Traffic goes
to this machine only, unless `--allow-remote` says that the other one is the user's own.
"""

import argparse
import asyncio
import json
import os
import resource
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final

from clients.launch import NotStarted, start_hub
from clients.load.credentials import Credentials, CredentialsError, read_tokens
from clients.load.figures import machine
from clients.load.measure import memory
from clients.load.options import Plan, WrongArguments, add_arguments, check_address, check_output, plan_of
from clients.load.play import Play
from clients.load.report import losses, table_of
from clients.load.thresholds import Threshold, UnknownKey, judge, look_up
from clients.wire import ClientError

__all__ = ["add_arguments", "run_load"]

OWN_HUB: Final = "[limits]\nsockets_per_address = 1000000\n"  # all of ours come from one address
NO_MEMORY: Final = {"node_mib": 0.0, "store_mib": 0.0}


async def run_load(args: argparse.Namespace) -> int:
    """
    Run a load test; returns the exit status.

    0: all well. 1: something was lost, a threshold was passed, or the hub failed. 2: wrong arguments.
    """
    try:
        check_address(args)
        check_output(args)
        plan = plan_of(args)
        credentials = _credentials(args, plan)
        _check_thresholds(args, plan)
    except (WrongArguments, CredentialsError) as error:
        print(f"hub load: {error}", file=sys.stderr)
        return 2
    _raise_file_limit()
    try:
        async with AsyncExitStack() as stack:
            report = await _run(args, plan, credentials, stack)
    except (NotStarted, ClientError, CredentialsError, OSError) as error:
        print(f"The load test failed: {str(error) or type(error).__name__}", file=sys.stderr)
        return 1
    return await _tell(report, args.fail_if, args.json)


def _credentials(args: argparse.Namespace, plan: Plan) -> Credentials | None:
    """Who the sockets will be; None where a hub of our own will have its own secret."""
    if not args.url:
        return None
    secret = os.environ.get("HUB_TOKEN_SECRET", "")
    if not args.tokens:
        if not secret:
            raise WrongArguments(
                "set HUB_TOKEN_SECRET to the hub's secret, so that tokens can be made; or give --tokens"
            )
        return Credentials(secret)
    credentials = read_tokens(args.tokens, secret)
    for role, count in plan.people().items():
        if count and not credentials.has(role, count):
            least = count if role == "agent" else 1
            raise WrongArguments(f"--tokens: {least} of role {role} needed, or HUB_TOKEN_SECRET to make them")
    return credentials


def _check_thresholds(args: argparse.Namespace, plan: Plan) -> None:
    """Refuse a key that the report of this plan won't have."""
    report = Play(plan, Credentials("-" * 32), "http://127.0.0.1").report()
    if not args.url:
        report["memory"] = NO_MEMORY
    for threshold in args.fail_if:
        try:
            look_up(report, threshold.path)
        except UnknownKey as error:
            raise WrongArguments(f"--fail-if: {error}") from None


async def _run(
    args: argparse.Namespace, plan: Plan, credentials: Credentials | None, stack: AsyncExitStack
) -> dict[str, Any]:
    url, hub = args.url, None
    if credentials is None:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="hub-load-", ignore_cleanup_errors=True))
        config = Path(directory) / "hub.toml"
        await asyncio.to_thread(config.write_text, OWN_HUB)
        hub = await stack.enter_async_context(start_hub(Path(directory) / "data", config=config))
        url, credentials = hub.url, Credentials(hub.secret)
    play = Play(plan, credentials, url)
    await play.run(sys.stderr, clean_up=hub is None)
    return play.report() | ({"memory": memory(hub)} if hub else {}) | {"machine": machine()}


async def _tell(report: dict[str, Any], thresholds: Sequence[Threshold], file: str | None) -> int:
    """Print what came out; the exit status."""
    verdicts = [judge(threshold, report) for threshold in thresholds]
    failures = losses(report) + [str(verdict) for verdict in verdicts if verdict.failed]
    text = json.dumps(report | {"failures": failures}, indent=2)
    print(table_of(report, verdicts), file=sys.stderr if file == "-" else sys.stdout)
    if file == "-":
        print(text)
    elif file:
        await asyncio.to_thread(Path(file).write_text, text + "\n", encoding="utf-8")
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _raise_file_limit() -> None:
    """As many sockets as the system lets us have; a hub of our own inherits it."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError, OSError):  # macOS says "unlimited" and means less
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
