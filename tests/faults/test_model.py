"""Spin looks at every run of the models in docs/models: none breaks a promise, and with anything taken out one does."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

MODELS = Path(__file__).parents[2] / "docs" / "models"
SOAK = os.environ.get("SOAK_MODEL") == "1"
TOOL_S = 1800 if SOAK else 100  # of one step: Spin, the compiler, the search
MEMORY_MB = 6000
DEPTH_WHOLE = 2_000_000
DEPTH_BROKEN = 400  # a broken promise is looked for in runs of this length

# What makes the models larger than their defaults, and smaller.
WHOLE = {"monitor": ("EPOCHS=5",), "failover": ("BELIEF=5",)} if SOAK else {"monitor": ("ONE_SIDE",), "failover": ()}
SMALL: dict[str, tuple[str, ...]] = {"monitor": (), "failover": ("BELIEF=2",)}  # where a promise breaks anyway
SIZES = {"EPOCHS", "ONE_SIDE", "BELIEF"}

# What is taken out, and the promise that breaks.
BROKEN = {
    "monitor": {
        "NO_FENCE": "I1_one_monitor",
        "NO_MONITOR_FENCE": "I1_one_monitor",
        "NO_ENTRY_FENCE": "I1_shown_to_its_holder",
        "NO_OWNER_FENCE": "I2_owner_answers",
        "BARE_VERSIONS": "I1_one_monitor",
        "BARE_MONITOR_IDS": "I1_shown_to_its_holder",
        "BARE_OWNERS": "I2_owner_answers",
        "BARE_NUMBERS": "I1_shown_to_its_holder",
        "EARLY_EXPIRY": "I1_ended_when_over",
        "NO_OWNER_CHECK": "I2_owner_that_was_shown",
        "NO_TAKEOVER_ID": "I2_owner_that_was_shown",
        "NO_MONITOR_CHECK": "I2_held_since_prepared",
        "STALE_TAKEOVER": "I2_held_since_prepared",
        "SPLIT_COMMIT": "I2_never_without_owner",
        "NO_REPEAT_CHECK": "I3_once",
    },
    "failover": dict.fromkeys(
        ("NO_BELIEF", "ONE_SENTINEL", "FROM_THE_ANSWER", "NO_DOUBT", "NO_DOUBT_AT_START"),
        "I1_one_is_shown",
    ),
}
EACH = [(model, switch) for model, switches in BROKEN.items() for switch in switches]


@dataclass(frozen=True)
class Found:
    """
    What a search said: the broken promise ('' for none), and the lines of the model that no run reached.

    `whole` is False where some run was too long to be followed to its end.
    """

    text: str
    broken: str
    unreached: list[str]
    states: int
    whole: bool


@pytest.fixture(scope="module")
def compiler() -> str:
    """The C compiler, where that and Spin are there."""
    found = shutil.which("gcc") or shutil.which("cc")
    if found is not None and shutil.which("spin") is not None:
        return found
    how = "Spin or a C compiler is missing, so the models aren't checked: apt-get install spin gcc"
    print(how)
    if os.environ.get("CI") == "true":
        pytest.fail(how)
    pytest.skip(how)


def ran(folder: Path, *command: str) -> str:
    """The output of a program that must succeed."""
    done = subprocess.run(
        command, cwd=folder, timeout=TOOL_S, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
    return done.stdout


def searched(folder: Path, compiler: str, model: str, defines: tuple[str, ...], depth: int, optimize: str) -> Found:
    """All states up to `depth` steps from the start, or up to the first broken promise."""
    ran(folder, "spin", *(f"-D{one}" for one in defines), "-a", str(MODELS / f"{model}.pml"))
    # Safety only, each state kept in full. Partial order reduction has nothing to reduce: all steps touch the store.
    flags = ("-w", optimize, "-DSAFETY", "-DNOREDUCE", f"-DMEMLIM={MEMORY_MB}")
    ran(folder, compiler, *flags, "-o", "pan", "pan.c")
    text = ran(folder, "./pan", f"-m{depth}", "-w24")
    broken = re.search(r"assertion violated .*?\b(I\d_\w+)", text)
    states = re.search(r"(\d+) states, stored", text)
    assert states is not None, text
    return Found(
        text=text,
        broken=broken[1] if broken else "",
        unreached=re.findall(r"\.pml:\d+, state \d+, \"(?!-end-)(.*)\"", text),
        states=int(states[1]),
        whole="errors: 0" in text and "max search depth too small" not in text and "out of memory" not in text,
    )


def names(pattern: str, model: str) -> set[str]:
    """What the model's text has of that pattern."""
    return set(re.findall(pattern, (MODELS / f"{model}.pml").read_text()))


@pytest.mark.timeout(0 if SOAK else 120)
@pytest.mark.parametrize("model", list(BROKEN))
def test_no_run_breaks_a_promise(compiler: str, tmp_path: Path, model: str) -> None:
    """Every state that the model can reach keeps every promise, and no line of it is out of reach."""
    found = searched(tmp_path, compiler, model, WHOLE[model], DEPTH_WHOLE, "-O2")
    print(f"{model}: {found.states} states")
    assert not found.broken, found.text
    assert found.whole, found.text
    assert found.unreached == [], found.text


@pytest.mark.parametrize(("model", "switch"), EACH)
def test_each_fence_is_needed(compiler: str, tmp_path: Path, model: str, switch: str) -> None:
    """With that one thing taken out there is a run that breaks the promise it was there for."""
    found = searched(tmp_path, compiler, model, (switch, *SMALL[model]), DEPTH_BROKEN, "-O0")
    assert found.broken == BROKEN[model][switch], found.text


@pytest.mark.parametrize("model", list(BROKEN))
def test_each_promise_is_broken_by_something(model: str) -> None:
    """No promise is one that can't fail: for each of the model's there is a switch, and no switch goes untried."""
    assert names(r"\bassert\((I\d_\w+)", model) == set(BROKEN[model].values())
    switches = names(r"#ifn?def (\w+)", model) | names(r"defined\((\w+)\)", model)
    assert switches - SIZES == set(BROKEN[model])


def test_the_page_tells_what_is_found() -> None:
    """docs/models/README.md has each switch with the promise that breaks, and quotes each promise as the models state it."""
    page = (MODELS / "README.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|.*\| `(I\d_\w+)` \|$", page, re.MULTILINE)
    assert dict(rows) == {switch: promise for switches in BROKEN.values() for switch, promise in switches.items()}
    quoted = {one.replace("\\|", "|") for one in re.findall(r"`(assert\(.*?\))`", page)}
    assert quoted == {one for model in BROKEN for one in names(r"assert\(I\d.*\)(?=;|$| *\n)", model)}
