"""
Machines of our own: network namespaces with addresses of their own, one cable each to a switch and one to the test.

What runs on them talks to one another over the switch; the test reaches each by its other cable, also one that was cut off.
"""

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence

import pytest


class Machine:
    """
    One of them. `address` is what the others call it, `front` what the test does; `within` is the command that enters it.
    """

    def __init__(self, network: str, number: int, subnet: int) -> None:
        self.name = f"{network}m{number}"
        self.cable = f"{self.name}s"  # the switch's end of it
        self.address = f"10.{subnet}.0.{number}"
        self.front = f"10.{subnet}.{number}.2"
        self.within = ("ip", "netns", "exec", self.name)
        self._network = network
        self._number = number
        self._subnet = subnet

    def build(self) -> None:
        """Make it, with both cables."""
        inside, outside = f"{self.name}i", f"{self.name}f"
        _ip("netns", "add", self.name)
        _ip("link", "add", self.cable, "type", "veth", "peer", "name", inside, "netns", self.name)
        _ip("link", "add", outside, "type", "veth", "peer", "name", f"{outside}i", "netns", self.name)
        _ip("addr", "add", f"10.{self._subnet}.{self._number}.1/24", "dev", outside)
        _ip("link", "set", outside, "up")
        _ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", inside)
        _ip("-n", self.name, "addr", "add", f"{self.front}/24", "dev", f"{outside}i")
        for link in ("lo", inside, f"{outside}i"):
            _ip("-n", self.name, "link", "set", link, "up")
        _ip("link", "set", self.cable, "up")
        self.plug_in()

    def cut_off(self) -> None:
        """Pull its cable out of the switch: what is sent is lost without a word."""
        _ip("link", "set", self.cable, "nomaster")

    def plug_in(self) -> None:
        """Put it back."""
        _ip("link", "set", self.cable, "master", self._network)


@contextlib.contextmanager
def machines(count: int) -> Iterator[Sequence[Machine]]:
    """That many machines; skips the test where they can't be made."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        assert os.environ.get("CI") != "true", (
            "machines of our own need root and the command ip: apt-get install iproute2"
        )
        pytest.skip("machines of our own need root and the command ip: apt-get install iproute2")
    chance = random.SystemRandom()  # other runs on this machine have theirs
    network, subnet = f"h{chance.randrange(16**5):05x}", chance.randrange(64, 250)
    made = [Machine(network, number, subnet) for number in range(1, count + 1)]
    try:
        _ip("link", "add", network, "type", "bridge")
        _ip("link", "set", network, "up")
        for machine in made:
            machine.build()
        yield made
    finally:
        for machine in made:
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "delete", machine.name)  # its cables go with it
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("link", "delete", network)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=10)
