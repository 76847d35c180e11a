"""`python -m tests.support.planted NAME serve …` is `python -m hub serve …` with a bug; see `plants`."""

import sys

from hub.cli import main
from tests.support.plants import MASKING_PLANTS, PLANTS

if __name__ == "__main__":
    {**PLANTS, **MASKING_PLANTS}[sys.argv[1]].grow()
    sys.exit(main(sys.argv[2:]))
