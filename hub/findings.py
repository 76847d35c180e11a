"""What `hub doctor` says: one line for each thing that it looked at."""

import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `fail` makes the program end with 1."""

    level: Level
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:<4}  {self.subject:<11} {self.text}"


def private_file(subject: str, path: Path) -> Finding:
    """Whether a file with a secret in it is readable by its owner alone."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return Finding("fail", subject, f"{path} can be read by others (mode {mode:o}): chmod 600 {path}")
    return Finding("ok", subject, f"{path} is ours alone (mode {mode:o})")


def private_folder(subject: str, path: Path, *, otherwise: Level = "fail") -> Finding:
    """Whether a folder is there or can be made, and can be written by us alone; `otherwise`: what it is where it can't."""
    there = _nearest(path)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Finding(otherwise, subject, f"{path} can't be written: {there} isn't a folder of ours")
    mode = stat.S_IMODE(there.stat().st_mode)
    if there == path and mode & 0o002:
        return Finding("fail", subject, f"{path} can be written by everybody (mode {mode:o}): chmod 700 {path}")
    return Finding("ok", subject, f"{path}" + ("" if path.exists() else " (will be made)"))


def free_bytes(path: Path) -> int:
    """How much more the disk of a folder holds, whether the folder has been made or not."""
    return shutil.disk_usage(_nearest(path)).free


def gib(size: int) -> str:
    """Bytes for a person: a small quota isn't rounded to nothing."""
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 30 else f"{size / (1 << 20):.1f} MiB"


def _nearest(path: Path) -> Path:
    """The folder itself, else the closest one above it: what must be writable for it to be made."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())
