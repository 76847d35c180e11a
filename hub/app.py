"""The one place that picks real parts and wires them; and the life of a serving process."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from typing import Any

import uvicorn

from hub.channels.delivery import Configured, Delivery, make_channels
from hub.channels.outbox import Outbox
from hub.domain.errors import Refused
from hub.edge.arrivals import Arrivals
from hub.edge.auth import Authenticator
from hub.edge.guard import guarded
from hub.edge.http import make_http, make_metrics
from hub.edge.openid import require_extra
from hub.edge.parts import Parts
from hub.edge.socket import Door, serve_socket
from hub.edge.transport import HttpFront, Lobby
from hub.edge.turn import Turn
from hub.edge.web_sessions import WebSessions
from hub.fanout.node import Node
from hub.logs import watch
from hub.protocol.close import Close
from hub.service.conversations import Conversations
from hub.service.files import Files
from hub.service.history import History
from hub.service.ingest import Ingest
from hub.service.masking import Maskers, answers
from hub.service.messaging import Messaging
from hub.settings import Settings, SettingsError, bind
from hub.store.bucket import BucketBlobs, MissingExtra
from hub.store.connection import Unavailable
from hub.store.embedded import Embedded
from hub.store.file_folder import FolderBlobs
from hub.store.file_index import RedisFileIndex
from hub.store.file_sweep import FileSweep
from hub.store.intake import Intake
from hub.store.keys import new_id
from hub.store.outbound import OUTBOUND_SCRIPTS
from hub.store.redis_store import SCRIPTS, RandomIds, RedisStore
from hub.store.signed_in import SignedIn
from hub.store.topology import Primaries

log = logging.getLogger(__name__)

SPREAD_MS_PER_SOCKET = 20  # a small node drains quickly; a large one over the whole of `drain_ms`
SEND_BUFFER_BYTES = 256 * 1024  # the kernel's own choice grows to 4 MB, in which a slow reader hides
# Young objects that are looked at together, and how often the older ones are with them: next to nothing of what a frame
# needs is in a cycle, and a run takes a millisecond for some 20,000.
COLLECTOR = (20_000, 20, 50)
PLAIN_DRIVER = "websockets-sansio"
WS_BYTES_MAX = 1 << 20  # past this the transport refuses by itself (1009); below, we say 4413


@contextlib.asynccontextmanager
async def running(
    settings: Settings, url: str, channels: Mapping[str, Configured] | None = None
) -> AsyncIterator[Parts]:
    """
    All parts of a node, started, on the store at `url`; `channels` are the settings' own, where they are made already.

    Raises:
        SettingsError: An adapter can't work with its options.
    """
    channels = make_channels(settings) if channels is None else channels
    primaries = await Primaries.connect(
        url,
        scripts=(*SCRIPTS, *OUTBOUND_SCRIPTS),
        timeout_s=settings.store_timeout_ms / 1000,
        replicas=settings.store_replicas,
    )
    store = RedisStore(primaries, settings)
    ids = RandomIds()
    conversations = Conversations(store, settings, ids.new, ids.tag)
    ingest = Ingest(store, conversations, settings, ids)
    node = Node(settings, store, conversations, ingest, ids, new_id("nod", 0))
    history = History(store, conversations, settings.list_rows_max)
    files, intake, sweep = await make_files(settings, store, history, ids, node.maskers)
    node.records.on_erased.append(files.forget)
    messaging = Messaging(store, conversations, ids, files)
    delivery = Delivery(node, messaging, channels, files)
    parts = Parts(
        settings=settings,
        store=store,
        node=node,
        conversations=conversations,
        ingest=ingest,
        messaging=messaging,
        history=history,
        outbox=Outbox(node, delivery.keys),
        ids=ids,
        authenticator=Authenticator(settings),
        turn=Turn(node.meter, settings.hub_frame_bytes_max),
        web=WebSessions(settings, SignedIn(store), node) if settings.sign_in is not None else None,
        files=files,
        intake=intake,
        delivery=delivery,
    )
    sweeping: asyncio.Task[None] | None = None
    try:
        await primaries.believed()
        await node.start()
        await parts.authenticator.start()
        parts.outbox.start()
        delivery.start()
        sweeping = asyncio.create_task(sweep.run(lambda: node.prefers(0)))
        yield parts
    finally:
        if sweeping is not None:
            sweeping.cancel()
        await parts.authenticator.stop()
        parts.outbox.stop()
        await delivery.stop()
        await node.stop()
        await primaries.aclose()


async def make_files(
    settings: Settings, store: RedisStore, history: History, ids: RandomIds, maskers: Maskers
) -> tuple[Files, Intake, FileSweep]:
    """
    Where files are kept, how they come in, and what removes those that nobody names.

    Raises:
        SettingsError: The folder can't be used, there is no such scanner, or the library for buckets is missing.
    """
    try:
        blobs = BucketBlobs(settings.files) if settings.files.s3_bucket else FolderBlobs(settings.files_dir)
    except MissingExtra as error:
        raise SettingsError(f"{settings.source('files')}: {error}") from None
    intake = Intake(
        settings.files_dir,
        bytes_max=settings.file_bytes_max,
        upload_ms=settings.file_transfer_ms,
        scan_command=settings.files.scan_command,
        scan_ms=settings.file_scan_ms,
    )
    try:
        await asyncio.to_thread(intake.check_scanner)
    except OSError as error:
        raise SettingsError(f"{settings.source('files')}: files can't be scanned: {error}") from None
    if settings.files.dir is not None:  # the default folder may never be needed, and its disk be read-only
        try:
            await asyncio.to_thread(intake.prepare)
        except OSError as error:
            raise SettingsError(f"{settings.source('files')}: files can't be kept there: {error}") from None
    index = RedisFileIndex(store)
    files = Files(
        index,
        blobs,
        history,
        ids,
        count_max=settings.files_per_conversation,
        org_bytes_max=settings.files_org_bytes_max,
        link_ms=settings.file_link_ms,
        masked=lambda person, one: maskers.of(one.queue) is not None and not answers(person, one),
    )
    sweep = FileSweep(index, blobs, settings.file_orphan_ms, settings.file_sweep_max, settings.file_sweep_ms)
    return files, intake, sweep


def make_app(parts: Parts, door: Door) -> Any:
    """The ASGI application: sockets by the plain driver, everything else by Starlette."""
    http = guarded(make_http(parts), door)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await serve_socket(door, scope, receive, send)
        else:
            await http(scope, receive, send)

    return app


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: a hub drains first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def serve(settings: Settings, *, announce: Callable[[str], None]) -> int:
    """
    Serve until a signal: 0 after a drained end; 1 where the embedded store ended by itself, for whoever starts us again.

    Raises:
        SettingsError: An address is in use, or the store's can't be reached.
        EmbeddedError: The embedded store can't be started.
    """
    require_extra(settings)
    channels = make_channels(settings)  # what is wrong with them is said before anything is started
    public = bind(settings.host, settings.port)
    try:
        listen = settings.metrics_address
        metrics = bind(*listen, flag="--metrics-listen") if listen is not None else None
    except SettingsError:
        public.close()
        raise
    embedded: Embedded | None = None
    try:
        if settings.redis_url is None:
            embedded = await Embedded.start(settings.data_dir)
        url = settings.redis_url or (embedded.url if embedded is not None else "")
        try:
            async with running(settings, url, channels) as parts:
                ended_well = await _serve(parts, public, metrics, announce, embedded)
        except (Unavailable, Refused, ValueError) as error:
            raise SettingsError(f"the store can't be reached: {error}") from None
    finally:
        public.close()
        if metrics is not None:
            metrics.close()
        if embedded is not None:
            await embedded.stop()
    return 0 if ended_well else 1


async def _serve(
    parts: Parts,
    public: socket.socket,
    metrics: socket.socket | None,
    announce: Callable[[str], None],
    embedded: Embedded | None,
) -> bool:
    stop = asyncio.Event()
    hurry = asyncio.Event()
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        hurry.set()
        stop.set()

    watch(loop)
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, interrupted)
    public.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)  # inherited by what it accepts
    door = Door(parts)
    arrivals = Arrivals(parts.settings, parts.quotas, door.proxies)
    server = make_server(make_app(parts, door), door if parts.settings.socket_driver == "lean" else None, arrivals)
    servers = [(server, asyncio.create_task(server.serve(sockets=[public])))]
    if metrics is not None:
        beside = make_server(make_metrics(parts))
        servers.append((beside, asyncio.create_task(beside.serve(sockets=[metrics]))))
    while not all(one.started for one, _ in servers):  # noqa: ASYNC110 - uvicorn has a flag, no event
        await asyncio.sleep(0.01)
    gc.collect()
    gc.freeze()  # what lives as long as the process need not be looked at again
    gc.set_threshold(*COLLECTOR)
    unwatch = parts.node.meter.watch_collector()
    host, port = public.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    announce(f"ready http://{shown}:{port}")
    ended_well = await _until_stopped(stop, embedded)
    if not ended_well:
        hurry.set()
    await drain(parts, server, hurry)
    for one, task in servers:
        one.should_exit = True
        await task
    unwatch()
    return ended_well


async def _until_stopped(stop: asyncio.Event, embedded: Embedded | None) -> bool:
    """True when a signal came; False where the embedded store has died: without it nothing here is of use."""
    while embedded is None or embedded.alive:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 1.0)
            return True
    log.error("the embedded store has ended by itself")
    return False


def make_server(app: Any, door: Door | None = None, arrivals: Arrivals | None = None) -> uvicorn.Server:
    """
    A server for the application; with a `door` its sockets have the lean driver and the application never sees them.

    Without `arrivals` the default limits hold for connections that don't ask; the metrics' own address has those.
    """
    ws: Any = PLAIN_DRIVER if door is None else Lobby(door, WS_BYTES_MAX)
    front: Any = functools.partial(HttpFront, arrivals=arrivals or Arrivals(Settings()))
    config = uvicorn.Config(
        app,
        ws=ws,
        http=front,
        proxy_headers=False,  # `Door.address` says whose request it is
        lifespan="off",
        log_config=None,
        access_log=False,
        log_level="warning",
        ws_max_size=WS_BYTES_MAX,
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        backlog=2048,
    )
    return _Server(config)


async def drain(parts: Parts, server: uvicorn.Server, hurry: asyncio.Event) -> None:
    """Not ready, no new connections; each socket is told its own delay, and the closes are spread."""
    node = parts.node
    node.draining = True
    for listening in server.servers:
        listening.close()
    ending = asyncio.create_task(parts.delivery.stop())
    sessions = list(node.sessions)
    log.info("draining %d sockets", len(sessions))
    spread_ms = min(parts.settings.drain_ms, SPREAD_MS_PER_SOCKET * len(sessions))
    start = asyncio.get_running_loop().time()
    for index, session in enumerate(sessions):
        at_ms = spread_ms * index // max(1, len(sessions))
        wait = start + at_ms / 1000 - asyncio.get_running_loop().time()
        if wait > 0 and not hurry.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(hurry.wait(), wait)
        session.close(Close.DRAINING, "this node is going away", 200 + at_ms % 1000)
    parts.outbox.stop()
    await ending
    await node.settle(seconds=1.0)
    deadline = asyncio.get_running_loop().time() + 1.0
    while parts.addresses and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - bounded, at the end
        await asyncio.sleep(0.02)
