"""Seeds of the simulation: every promise holds in each, and each is the same again."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.world import World

SEEDS = int(os.environ.get("SOAK_SEEDS", "1000"))
FIRST = int(os.environ.get("SIM_SEED", "0"))
# What must have happened in a thousand seeds, for them to show anything.
WANTED = {
    "monitors": 1000,
    "takeovers": 300,
    "confirms refused": 90,
    "given to monitors": 2000,
    "messages": 5000,
    "conflict": 60,
    "repeats": 1000,
    "repeated": 20,
    "duplicates": 500,
    "unknown resolved": 2000,
    "kills": 300,
    "pauses": 300,
    "lapsed": 15,
    "forgotten": 200,
    "resets": 50,
    "repairs": 200,
    "caught up": 4,
    "histories": 400,
}


def replay(seed: int) -> str:
    """The command that tells a seed's story."""
    return f"{Path(sys.executable).name} -m tests.simulation {seed} --trace"


@pytest.mark.timeout(300 + SEEDS)
def test_every_promise_holds() -> None:
    """Takeovers, locks, messages, notices and positions keep their promises, whatever happens to nodes and network."""
    counts: Counter[str] = Counter()
    for seed in range(FIRST, FIRST + SEEDS):
        world = World(seed)
        try:
            world.run()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}\n{replay(seed)}") from error
        counts += world.counts
    print(dict(sorted(counts.items())))
    missing = {what: counts[what] for what, count in WANTED.items() if counts[what] < count * SEEDS / 1000}
    assert SEEDS < 1000 or not missing, f"too little of this happened: {missing}"


def test_a_seed_is_the_same_again() -> None:
    """The same seed gives the same story twice; another one gives another."""
    first, again, other = (World(seed).run() for seed in (FIRST, FIRST, FIRST + 1))
    assert first.told() == again.told()
    assert first.digest() == again.digest() != other.digest()


def test_no_chance_but_the_seeds() -> None:
    """Another process, whose strings hash to something else, has the same story."""
    for hash_seed in ("1", "2"):
        line = [sys.executable, "-m", "tests.simulation", str(FIRST), "--digest"]
        there = subprocess.run(
            line,
            cwd=Path(__file__).parents[2],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
        assert there.stdout.strip() == World(FIRST).run().digest()
