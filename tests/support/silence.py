"""A supervisor's line that goes silent without a word to either end, and the next supervisor who waits for the lock."""

import asyncio

from tests.support.centre import Centre, Story
from tests.support.proxy import Proxy
from tests.support.socket import HubError, Socket, eventually

TIMER_S = 0.5  # how often a hub looks at each of its sockets


async def passed(seconds: float) -> None:
    """Wait for the clock alone: nothing can be asked of a process that is stopped, or of a line that is silent."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds

    async def over() -> bool:
        return loop.time() > until

    await eventually(over, seconds + 20)


async def let_in(line: Socket, story: Story, timeout: float = 20.0) -> None:
    """Wait until this supervisor may monitor, asking again while another one does."""

    async def mine() -> bool:
        try:
            await line.command("monitor.start", conversation_id=story.id)
        except HubError as error:
            if error.code != "monitor_held":
                raise
            return False
        return True

    await eventually(mine, timeout, "the next supervisor let in", pause=0.1)
    await line.expect("monitor.started", story.id)


async def goes_silent(centre: Centre, *, silence_s: float, within_s: float) -> float:
    """
    Half-open: what is said later than `silence_s` after the line's last frame isn't sent on it, nor is anything since.

    The next supervisor, on the other node, is let in within `within_s` of the fault; how many seconds that took.
    """
    loop = asyncio.get_running_loop()
    proxy = await Proxy(centre.hubs[0].port).start()
    ana = await Socket.open(proxy.sockets, "/v1/supervisor")
    try:
        await ana.hello(centre.token("ana"))
        await ana.command("status.set", status="available")
        story, bo = await centre.story(), await centre.supervisor("bo", node=1)
        await story.monitored_by(ana)
        [pair] = proxy.half_open()
        began, hushed_from = loop.time(), pair.heard_at + silence_s + TIMER_S
        in_time, late = ["said 0"], list[str]()
        await story.customer_says("said 0")
        while len(late) < 3:
            await passed(silence_s / 20)
            said = late if loop.time() > hushed_from else in_time
            said.append(f"said {len(in_time) + len(late)}")
            await story.customer_says(said[-1], node=len(said) % 2)
        await let_in(bo, story, within_s - (loop.time() - began))
        took = loop.time() - began
        await story.customer_says("for bo")
        await bo.expect("message.created", story.id, text="for bo")
        sent = b"".join(pair.lost)
        assert b'"said 0"' in sent, "what was said at once should still have been sent: is the hub deaf by itself?"
        for text in (*late, "for bo"):
            assert f'"{text}"'.encode() not in sent, f"{text!r} was sent on a line that was silent"
        return took
    finally:
        ana.line.transport.abort()
        await proxy.stop()
