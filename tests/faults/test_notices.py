"""An agent who is taken over, absent or on two devices or losing them: told once in each session until they saw it."""

import asyncio
import os
import random

import pytest

from tests.support.centre import Centre, confirm
from tests.support.socket import Socket

TAKEOVERS = int(os.environ.get("SOAK_NOTICES", "300"))
SEED = int(os.environ.get("NOTICE_SEED", "2207"))
LANES = 6


class Device:
    """One desktop of an agent: it comes, goes and loses its socket; `lines` are all its sockets, the last one the present."""

    def __init__(self, centre: Centre, user: str, chance: random.Random) -> None:
        self.centre = centre
        self.user = user
        self.chance = chance
        self.lines: list[Socket] = []

    @property
    def line(self) -> Socket | None:
        """The open socket, if any."""
        return self.lines[-1] if self.lines and self.lines[-1].close_code is None else None

    async def come(self) -> None:
        """Connect on some node: as a new session, or as the one that was lost."""
        last = self.lines[-1] if self.lines else None
        resume = last.resumption() if last is not None and self.chance.random() < 0.5 else None
        self.lines.append(await self.centre.agent(self.user, node=self.chance.randrange(2), resume=resume))

    async def go(self, line: Socket) -> None:
        """Lose the socket, with or without a word."""
        await (line.drop() if self.chance.random() < 0.5 else line.close(1001))

    def told(self, takeover_id: str) -> list[int]:
        """How often each socket was told of that takeover."""
        return [
            sum(
                event["event"] == "takeover.notified" and event["data"]["takeover_id"] == takeover_id
                for event in line.events
            )
            for line in self.lines
        ]


async def one_takeover(centre: Centre, ana: Socket, devices: list[Device], chance: random.Random) -> None:
    """A takeover while each device stays, is absent, or is lost at that moment."""
    story = await centre.story(agents=(devices[0].user,))
    await story.monitored_by(ana)
    prepared = await story.prepared_by(ana)
    lost = []
    for device in devices:
        if device.line is None:
            if chance.random() < 0.6:
                await device.come()
        elif chance.random() < 0.3:
            await device.go(device.line)
        if device.line is not None and chance.random() < 0.4:
            lost.append(device.go(device.line))
    confirming = asyncio.create_task(confirm(ana, prepared))
    await asyncio.gather(*lost)
    takeover_id = str((await confirming)["takeover_id"])
    for device in devices:
        if device.line is None:
            await device.come()
        assert device.line is not None
        await device.line.expect("takeover.notified", story.id, takeover_id=takeover_id)
    seeing = chance.choice(devices).line
    assert seeing is not None
    await seeing.command("takeover.acknowledge", takeover_id=takeover_id)
    before = [device.told(takeover_id) for device in devices]
    for device in devices:
        assert device.line is not None
        if chance.random() < 0.5:
            await device.go(device.line)
            await device.come()
        await device.line.round_trip()
        assert max(device.told(takeover_id)) == 1, f"{device.user} was told {device.told(takeover_id)} times"
    after = [sum(device.told(takeover_id)) for device in devices]
    assert after == [sum(times) for times in before], f"{devices[0].user} was told again after seeing it"
    await ana.command("conversation.end", conversation_id=story.id)


@pytest.mark.timeout(0 if "SOAK_NOTICES" in os.environ else 120)
async def test_told_once_in_each_session_until_acknowledged(pair: Centre) -> None:
    """Present, absent, on two devices, dropping while notified: each session is told once, none after the acknowledgement."""

    async def lane(number: int) -> None:
        chance = random.Random(f"{SEED}/{number}")
        ana = await pair.supervisor(f"s{number}", node=number % 2)
        devices = [Device(pair, f"a{number}", chance) for _ in range(2)]
        for turn in range(TAKEOVERS // LANES):
            try:
                await one_takeover(pair, ana, devices, chance)
            except Exception as error:
                raise AssertionError(f"seed {SEED}, lane {number}, takeover {turn}: {error}") from error

    await asyncio.gather(*(lane(number) for number in range(LANES)))
