"""A whole run: the scenarios of a plan, opened, played together, and summed up."""

import asyncio
from typing import Any, TextIO

from clients.load.credentials import Credentials
from clients.load.measure import settle
from clients.load.options import Plan
from clients.load.platform import Platform
from clients.load.progress import progress_of
from clients.load.scenarios import (
    Agents,
    Monitoring,
    Postman,
    Readers,
    Reconnects,
    Scenario,
    Scene,
    Takeovers,
    Traffic,
    Watch,
)
from clients.load.schedule import together
from clients.wire import ClientError

ACTIONS_A_TAKEOVER = 3  # the platform is told who left, who came, and their name


class Play:
    """One run of a plan. `report` may be asked for at any time; before the run it has every key already."""

    def __init__(self, plan: Plan, credentials: Credentials, url: str) -> None:
        self.plan = plan
        self._closed = 0
        connector = credentials.next_person("connector") if plan.begins else None
        platform = Platform(url, connector.token if connector else "", plan.connections)
        self.scene = scene = Scene(url, credentials, connector, platform, plan.queue)
        self.traffic = Traffic(scene, plan.conversations, plan.rate, plan.batch)
        self.watch = Watch(scene, plan.supervisors)
        self.monitoring = Monitoring(scene, self.traffic, plan.monitors)
        self.postman = Postman(scene, plan.answers + ACTIONS_A_TAKEOVER * plan.takeovers)
        self.agents = Agents(scene, self.traffic, self.monitoring, self.postman, plan.agents, plan.answers)
        self.takeovers = Takeovers(scene, plan.takeovers, plan.takeovers_in_all, plan.desks)
        self.reconnects = Reconnects(scene, plan.reconnects, plan.seed)
        self.readers = Readers(scene, self.monitoring, plan.readers, plan.reader_speed, plan.reader_flow)

    def _parts(self) -> list[Scenario]:
        """Those that are played, in the order in which they are opened: agents before what is said to them."""
        plan = self.plan
        parts: list[tuple[Scenario, object]] = [
            (self.postman, plan.agents or plan.takeovers),
            (self.agents, plan.agents),
            (self.traffic, plan.conversations),
            (self.takeovers, plan.takeovers),
            (self.readers, plan.readers),
            (self.watch, plan.supervisors),
            (self.monitoring, plan.monitors),
            (self.reconnects, plan.reconnects),
        ]
        return [part for part, wanted in parts if wanted]

    async def run(self, progress: TextIO, *, clean_up: bool) -> None:
        """
        Open, play, wait for what is on its way, leave; `clean_up`: end the conversations, where the hub lives on.

        Raises `ClientError`, `CredentialsError` or `OSError` where it can't be opened.
        """
        parts = self._parts()
        for part in parts:
            print(f"{part.name} ...", file=progress, flush=True)
            await part.open()
        self.reconnects.candidates = [*self.watch.seats, *self.monitoring.seats, *self.agents.seats]
        async with progress_of(self.scene, progress):
            async with together() as group:
                group.create_task(asyncio.sleep(self.plan.seconds))
                for part in parts:
                    group.create_task(part.play(self.plan.seconds))
            await settle(lambda: all(part.complete() for part in parts))
        for part in parts:
            await part.close()
        self._closed = sum(seat.closed for seat in self.scene.seats)
        for seat in self.scene.seats:
            seat.close()
        if clean_up:
            try:
                await self.scene.clean_up()
            except (ClientError, OSError) as error:
                print(f"The conversations of this run could not be ended: {error}", file=progress, flush=True)
        await self.scene.platform.close()

    def report(self) -> dict[str, Any]:
        """Everything that was measured; a scenario that isn't played has no section."""
        seats, results = self.scene.seats, self.traffic.results()
        report = {
            "sent": self.traffic.sent,
            "expected_at_monitors": self.monitoring.expected,
            "lost": self.monitoring.expected - len(self.monitoring.ages.ms),
            "monitor_frame_ms": self.monitoring.ages.spread(),
            "request_ms": self.traffic.requests.spread(),
            "snapshot_ms": self.watch.snapshots.spread(),
            "view_frames": sum(seat.frames for seat in self.watch.seats),
            "view_bytes": sum(seat.bytes for seat in self.watch.seats),
            "results": results,
            "refused": sum(count for name, count in results.items() if name != "accepted"),
            "errors": dict(self.scene.errors),
            "sockets": len(seats) + len(self.readers.seats),
            "closed": self._closed,
            "gaps": sum(seat.gaps for seat in seats),
            "repeats": sum(seat.repeats for seat in seats),
            "resets": sum(seat.resets for seat in seats),
        }
        sections = (self.agents, self.takeovers, self.reconnects, self.readers)
        return report | {part.name: part.report() for part in self._parts() if part in sections}
