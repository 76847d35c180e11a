"""`python -m tests.simulation SEED [--trace]`: replay one seed, and tell its story."""

import argparse
import sys

from tests.simulation.world import World


def main() -> int:
    """0 where every promise held."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--trace", action="store_true", help="one line per thing that happened")
    parser.add_argument("--digest", action="store_true", help="the digest alone")
    options = parser.parse_args()
    world, broken = World(options.seed), None
    try:
        world.run()
    except Exception as error:
        broken = error
    if options.digest:
        print(world.digest())
    else:
        if options.trace:
            print("\n".join(world.told()))
        print(", ".join(f"{what} {count}" for what, count in sorted(world.counts.items())))
        print(f"seed {options.seed}: {broken if broken is not None else 'every promise held'}")
    return 0 if broken is None else 1


if __name__ == "__main__":
    sys.exit(main())
