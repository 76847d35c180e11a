"""
`python -m tests.golden.make`: write the golden of the present version (its number is pyproject's).

Once a version is released its folder stays as it is: the nodes of that version write so. What is changed before the
release is made again, and the difference is part of the change.
"""

import asyncio
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from tests.golden import frames
from tests.golden.state import FOLDER, dump, text
from tests.golden.story import told
from tests.support.processes import ROOT, StoreProcess


def version() -> str:
    """The present one."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


async def made(folder: Path) -> dict[str, Any]:
    """The present version's golden, by file name; `folder` is for the engine's log."""
    store = StoreProcess(folder).start()
    try:
        async with told(store) as golden:
            state = await dump(store)
    finally:
        store.kill()
    return {
        "state.json": state,
        "published.json": golden.published,
        "known.json": golden.known,
        "frames.json": frames.shapes(),
    }


def main() -> None:
    """Write the files."""
    with tempfile.TemporaryDirectory() as folder:
        files = asyncio.run(made(Path(folder)))
    own = FOLDER / version()
    own.mkdir(exist_ok=True)
    for name, value in files.items():
        (own / name).write_text(text(value))
        print(f"{own.name}/{name}: {len(value)} entries")


if __name__ == "__main__":
    main()
