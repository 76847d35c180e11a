"""Two hubs on a Cluster of three: the whole line from a platform's event to an agent's notice."""

import asyncio
from pathlib import Path

from tests.support.centre import Centre
from tests.support.engines import Engines
from tests.support.processes import HubProcess


async def test_a_takeover_across_two_nodes_of_a_cluster(tmp_path: Path) -> None:
    """Monitoring on one node, the agent on another, the store in three parts: each is told what is theirs."""
    engines = await asyncio.to_thread(Engines("cluster").start)
    nodes = [HubProcess(tmp_path / name, redis_url=engines.url) for name in ("one", "two")]
    centre = Centre(*nodes)
    try:
        await asyncio.gather(*(asyncio.to_thread(node.start) for node in nodes))
        stories = [await centre.story(f"cnv_{number}") for number in range(6)]
        ana, agent = await centre.supervisor(node=0), await centre.agent(node=1)
        for story in stories:
            await agent.expect("conversation.snapshot", story.id)
            await story.customer_says("Hello?")
            await agent.expect("message.created", story.id, text="Hello?")
        for story in stories:
            await story.taken_over_by(ana)
            await agent.expect("participant.disconnected", story.id, disconnect_type="takeover")
            await agent.expect("takeover.notified", story.id)
    finally:
        await centre.close()
        for node in nodes:
            await asyncio.to_thread(node.kill)
        await asyncio.to_thread(engines.remove)
