"""`[files]`: where files of conversations are kept."""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

from hub.domain.files import TYPES
from hub.tables.document import Document, TablePath, one_of, texts_of, wrong


@dataclass(frozen=True, slots=True)
class FilesSettings:
    """
    Files of conversations: the folder (None: `files` in `data_dir`) or S3 bucket they are kept in, the media types that are
    taken, and the scanner's argv (empty: none).

    `s3_bucket` empty: the folder; `s3_endpoint` empty: Amazon's own. Credentials come from the environment (`AWS_*`) alone.
    """

    dir: Path | None = None
    s3_bucket: str = ""
    s3_prefix: str = "hub"
    s3_endpoint: str = ""
    s3_region: str = ""
    types: tuple[str, ...] = tuple(TYPES)
    scan_command: tuple[str, ...] = ()


def files_of(document: Document) -> FilesSettings:
    """`[files]`"""
    path: TablePath = ("files",)
    table = document.entry(path, [f.name for f in dataclasses.fields(FilesSettings)])
    types = texts_of(table.get("types", list(TYPES)), "types", document.at((*path, "types")))
    stranger = next((one for one in types if one not in TYPES), None)
    if stranger is not None or not types:
        raise wrong(document.at((*path, "types")), "types", stranger or types, one_of(list(TYPES)))
    if "s3_endpoint" in table and not re.match(r"https?://[^/\s]", document.text(path, "s3_endpoint")):
        at = document.at((*path, "s3_endpoint"))
        raise wrong(at, "s3_endpoint", table["s3_endpoint"], "an address that begins with https://")
    texts = {
        name: document.text(path, name)
        for name in ("s3_bucket", "s3_prefix", "s3_endpoint", "s3_region")
        if name in table
    }
    return FilesSettings(
        dir=document.beside(document.text(path, "dir")) if "dir" in table else None,
        types=types,
        scan_command=texts_of(table.get("scan_command", []), "scan_command", document.at((*path, "scan_command"))),
        **texts,
    )
