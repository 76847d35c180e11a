"""
`python -m tests.faults.beside REV`: a hub of that git revision and one of this tree on one store, and people on both.

What a rolling update does for some minutes: each crosses from the one to the other and back in the midst of a takeover.
The revision is checked out into a temporary folder and runs in this virtual environment; it says at each step what was
done, ends with status 1 where something wasn't as it should be, and leaves nothing behind.
"""

import asyncio
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.centre import Centre, confirm
from tests.support.processes import CONFIG, ROOT, HubProcess, StoreProcess
from tests.support.socket import Json, Socket
from tests.support.view import View

# `-m hub` would find the package of this tree: a hub is started here.
START = "import os, runpy, sys; os.chdir(sys.argv.pop(1)); runpy.run_module('hub', run_name='__main__', alter_sys=True)"
WHERE = "import os, sys; os.chdir(sys.argv[1]); import hub; print(hub.__file__)"


class HubOf(HubProcess):
    """A hub from another tree."""

    def __init__(self, tree: Path, folder: Path, redis_url: str) -> None:
        super().__init__(folder, redis_url=redis_url, config=CONFIG)
        self.tree = tree

    def command(self) -> list[str]:
        """The same command line, in that tree."""
        python, _, _, *rest = super().command()
        return [python, "-c", START, str(self.tree), *rest]


@contextlib.contextmanager
def tree_of(revision: str, folder: Path) -> Iterator[Path]:
    """That revision's files in `folder`, for as long as this lasts."""
    tree = folder / "tree"
    git = ["git", "-C", str(ROOT), "worktree"]
    if subprocess.run([*git, "add", "--quiet", "--detach", str(tree), revision]).returncode:
        sys.exit(2)  # git has said why
    try:
        found = subprocess.run([sys.executable, "-c", WHERE, str(tree)], check=True, capture_output=True, text=True)
        assert found.stdout.startswith(str(tree)), f"it would run {found.stdout}"
        yield tree
    finally:
        subprocess.run([*git, "remove", "--force", str(tree)], check=True)


class Crossing:
    """One takeover: `here` is where its supervisor begins, `there` where the agent is, and the platform listens."""

    def __init__(self, centre: Centre, names: tuple[str, str], here: int) -> None:
        self.centre = centre
        self.names = names
        self.here, self.there = here, 1 - here
        self.number = 0

    def did(self, what: str) -> None:
        """Say so."""
        self.number += 1
        print(f"  {self.number:2} {what}")

    async def back(self, line: Socket, bearer: str, node: int) -> Socket:
        """Somebody loses their line, and resumes on that node."""
        await line.drop()
        back = await self.centre.connect(line.endpoint, bearer, node=node, resume=line.resumption())
        assert back.session["resumed"] is True, "the session was not given back"
        return back

    async def run(self) -> None:
        """The whole story."""
        centre, here, there = self.centre, self.here, self.there
        print(f"supervisor of {self.names[here]}, agent of {self.names[there]}:")
        story = await centre.story(agents=("max",), bots=("robo",), queue="billing")
        ana, bo = await centre.supervisor("ana", node=here), await centre.supervisor("bo", node=there)
        agent, platform = await centre.agent("max", node=there), await centre.connector(node=there)
        customer = await centre.customer(story.id, node=here)
        view = await View.open(bo, "interactions")
        await agent.expect("conversation.snapshot", story.id)
        self.did("a conversation, both see it")
        await story.monitored_by(ana, participant_id="p_max")
        await view.row(story.id, monitor=(await centre.row(story.id))["monitor"])
        await bo.refused("monitor_held", "monitor.start", conversation_id=story.id, participant_id="p_max")
        self.did("one monitors it, the other sees who, and is refused")
        said: Json = {"conversation_id": story.id}
        await customer.command("message.send", **said, text="Hello?", client_message_id="c1")
        for line in (ana, agent):
            await line.expect("message.created", story.id, text="Hello?")
        self.did("what the customer says arrives on both")
        await agent.command("draft.update", **said, text="I was about to")
        prepared = await story.prepared_by(ana)
        ana = await self.back(ana, centre.token("ana"), there)
        agent = await self.back(agent, centre.token("max", "agent"), here)
        self.did("supervisor and agent change places, with monitor and prepared takeover")
        ok = await confirm(ana, prepared, req=f"r{here}")
        notice = await agent.expect("takeover.notified", story.id)
        assert notice["data"]["returned_draft"] == "I was about to", notice
        await agent.expect("wrapup.requested", story.id)
        await view.row(story.id, taken_over=True, owner=ok["participant_id"])
        self.did("the takeover is confirmed there; the agent is told here, with the draft")
        ana = await self.back(ana, centre.token("ana"), here)
        assert await confirm(ana, prepared, req=f"r{here}") == ok
        await ana.command("message.send", **said, text="Ana here", client_message_id="s1")
        await customer.expect("message.created", story.id, text="Ana here")
        for action in ("participant.disconnected", "participant.disconnected", "participant.connected"):
            await platform.carry_out(action, story.id)
        await platform.carry_out("sender.changed", story.id)
        await platform.carry_out("outbound.message", story.id, text="Ana here")
        self.did("the same confirmation again gives the same answer; the platform is told all of it, in order")
        agent = await self.back(agent, centre.token("max", "agent"), there)
        await agent.command("takeover.acknowledge", takeover_id=prepared["takeover_id"])
        await agent.command("wrapup.submit", **said, code="resolved")
        await ana.command("conversation.end", **said)
        await ana.command("wrapup.submit", **said, code="resolved")
        await platform.carry_out("conversation.ended", story.id)
        await customer.expect("conversation.ended", story.id)
        self.did("acknowledged, wrapped up, ended")
        for route in ("", "/transcript", "/timeline"):
            one, other = [
                (await centre.get(f"/v1/conversations/{story.id}{route}", node=node)).json() for node in (0, 1)
            ]
            assert one == other, f"{route}: {one} and {other}"
        self.did("both tell the same history")
        for line in (ana, bo, agent, customer, platform.socket):
            await line.close()


async def beside(revision: str, folder: Path) -> None:
    """Both ways."""
    with tree_of(revision, folder) as tree:
        store = StoreProcess(folder / "store").start()
        hubs = [HubOf(tree, folder / "old", store.url), HubProcess(folder / "new", redis_url=store.url)]
        try:
            await asyncio.gather(*(asyncio.to_thread(hub.start) for hub in hubs))
            centre = Centre(*hubs)
            for here in (0, 1):
                await Crossing(centre, (revision, "this tree"), here).run()
            await centre.close()
            for name, hub in zip((revision, "this tree"), hubs, strict=True):
                assert "Traceback" not in hub.log.read_text(), f"the log of {name}:\n{hub.tail()}"
        finally:
            for hub in hubs:
                if hub.process is not None:
                    hub.kill()
            store.kill()


def main() -> None:
    """From the command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.faults.beside REV")
    with tempfile.TemporaryDirectory(prefix="beside") as folder:
        asyncio.run(beside(sys.argv[1], Path(folder)))
    print(f"{sys.argv[1]} and this tree go on from each other")


if __name__ == "__main__":
    main()
