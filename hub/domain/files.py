"""
What a file must be to be kept: its name, its type by name and by content.

    checked_name(raw)              a name that is safe on every system that will save it
    checked_type(name, claimed)    the type, from an allowlist; the name's ending decides
    checked_head(mime, head)       the content begins as that type must
    checked_package(mime, names)   an office file holds what it must, and no macros

A file is never shown by the hub as a page of its own: whatever it claims to be, it is sent as a download. The allowlist is
the second wall, for those who open what they have saved.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from hub.domain.errors import Refused

NAME_CHARS_MAX: Final = 120
HEAD_BYTES: Final = 512  # of a file's beginning; every signature below lies in it
FILE_ID: Final = r"fil_[0-3][0-9a-f][0-9a-z]{20}"

_FILE_ID = re.compile(FILE_ID)


@dataclass(frozen=True, slots=True)
class FileMeta:
    """A kept file: `at` is when it was uploaded (Unix ms), `by` the user id and `role` the role of who did."""

    file_id: str
    org: str
    conversation_id: str
    name: str
    mime: str
    bytes: int
    at: int
    by: str
    role: str


@dataclass(frozen=True, slots=True)
class FileType:
    """
    A type of the allowlist: the endings of its names, what else browsers call it, and how its content begins.

    `signatures` are pairs (offset, bytes), of which one must fit; none means text. `package`: a ZIP that must hold a part
    of this name.
    """

    endings: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    signatures: tuple[tuple[int, bytes], ...] = ()
    package: str = ""


_ZIP = ((0, b"PK\x03\x04"),)
_OFFICE = "application/vnd.openxmlformats-officedocument."
TYPES: Final[Mapping[str, FileType]] = MappingProxyType(
    {
        "image/png": FileType(("png",), (), ((0, b"\x89PNG\r\n\x1a\n"),)),
        "image/jpeg": FileType(("jpg", "jpeg"), ("image/jpg", "image/pjpeg"), ((0, b"\xff\xd8\xff"),)),
        "image/gif": FileType(("gif",), (), ((0, b"GIF87a"), (0, b"GIF89a"))),
        "image/webp": FileType(("webp",), (), ((8, b"WEBPVP8"),)),
        "image/heic": FileType(
            ("heic", "heif"),
            ("image/heif",),
            tuple((4, b"ftyp" + brand) for brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1")),
        ),
        "application/pdf": FileType(("pdf",), ("application/x-pdf",), ((0, b"%PDF-"),)),
        "text/plain": FileType(("txt", "log")),
        "text/csv": FileType(("csv",), ("text/plain", "application/csv", "application/vnd.ms-excel")),
        "audio/mpeg": FileType(("mp3",), ("audio/mp3",), ((0, b"ID3"), (0, b"\xff\xfb"), (0, b"\xff\xf3"))),
        "audio/ogg": FileType(("ogg", "oga", "opus"), ("audio/opus",), ((0, b"OggS"),)),
        "audio/mp4": FileType(("m4a",), ("audio/x-m4a", "audio/m4a"), ((4, b"ftyp"),)),
        "video/mp4": FileType(("mp4",), (), ((4, b"ftyp"),)),
        f"{_OFFICE}wordprocessingml.document": FileType(("docx",), (), _ZIP, "word/document.xml"),
        f"{_OFFICE}spreadsheetml.sheet": FileType(("xlsx",), (), _ZIP, "xl/workbook.xml"),
        f"{_OFFICE}presentationml.presentation": FileType(("pptx",), (), _ZIP, "ppt/presentation.xml"),
        "application/vnd.oasis.opendocument.text": FileType(("odt",), (), _ZIP, "content.xml"),
        "application/vnd.oasis.opendocument.spreadsheet": FileType(("ods",), (), _ZIP, "content.xml"),
    }
)
BY_ENDING: Final[Mapping[str, str]] = MappingProxyType(
    {ending: mime for mime, kind in TYPES.items() for ending in kind.endings}
)
# What a browser says where it doesn't know; then the name alone decides.
UNSAID: Final = frozenset({"", "application/octet-stream", "binary/octet-stream"})
# Endings that some system runs or shows as a page: in the middle of a name they are there to deceive.
# fmt: off
ACTIVE: Final = frozenset({
    "app", "appref-ms", "bat", "chm", "cmd", "com", "cpl", "dll", "dmg", "exe", "gadget", "hta", "htm", "html",
    "iso", "jar", "js", "jse", "lnk", "mht", "mhtml", "msc", "msi", "msp", "mjs", "pif", "php", "pkg", "ps1", "py",
    "reg", "scf", "scr", "sh", "shtml", "svg", "svgz", "swf", "url", "vb", "vbe", "vbs", "ws", "wsc", "wsf", "wsh",
    "xhtml", "xml", "xht", "xsl", "docm", "xlsm", "pptm",
})
# fmt: on
WINDOWS_NAMES: Final = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$", *(f"{n}{d}" for n in ("com", "lpt") for d in "0123456789¹²³")]
)
# Control, format (direction, invisible), surrogate, private and line-separating characters; Persian and emoji need joiners.
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")
_RESERVED = str.maketrans(dict.fromkeys('<>:"|?*', "_"))  # Windows can't save these; nothing is lost by another sign


def refused(reason: str, message: str, **details: object) -> Refused:
    """A file that isn't taken. `reason` is `name`, `type`, `content`, `scan`, `count`, `space` or `slow`."""
    return Refused("file_refused", message, {"reason": reason, **details})


def unknown_file() -> Refused:
    """There is no such file, or none for whoever asks: both are answered alike."""
    return Refused("unknown_file", "There is no such file.")


def checked_name(raw: str) -> str:
    """
    The name as it is kept: in Unicode's composed form, without spaces at its ends, reserved signs replaced by `_`.

    Raises:
        Refused: `file_refused`, reason `name`: parts of a path, control or direction characters, a name or ending that
            a system gives a meaning of its own, too long, or without an ending.
    """
    name = unicodedata.normalize("NFC", raw).strip(" ")
    if not name:
        raise refused("name", "The file has no name.")
    if any(unicodedata.category(char) in _HIDDEN_CATEGORIES and char not in _JOINERS for char in name):
        raise refused("name", "The file's name has control, invisible or direction characters; rename it.")
    if "/" in name or "\\" in name or name.startswith(".") or ".." in name:
        raise refused("name", "The file's name must not be a path, begin with a dot or have two dots in a row.")
    if len(name) > NAME_CHARS_MAX:
        message = f"The file's name has {len(name)} characters; at most {NAME_CHARS_MAX} are allowed."
        raise refused("name", message, chars_max=NAME_CHARS_MAX)
    parts = [part.strip().casefold() for part in name.split(".")]
    if len(parts) < 2 or not parts[-1]:
        raise refused("name", "The file's name needs an ending like .pdf.")
    if parts[0] in WINDOWS_NAMES:
        raise refused("name", f"{parts[0].upper()} is a device's name on some systems; rename the file.")
    active = next((part for part in parts[1:-1] if part in ACTIVE), None)
    if active is not None:
        raise refused("name", f"The file's name has a second ending, .{active}, that hides what it is; rename it.")
    return name.translate(_RESERVED)


def ending_of(name: str) -> str:
    """What follows the last dot, in small letters."""
    return name.rpartition(".")[2].casefold()


def checked_type(name: str, claimed: str, allowed: Iterable[str] = TYPES) -> str:
    """
    The media type of a file of that (checked) name; what the sender claims must fit it.

    Raises:
        Refused: `file_refused`, reason `type`, with the endings that are `allowed`.
    """
    ending, types = ending_of(name), frozenset(allowed)
    mime = BY_ENDING.get(ending)
    if mime is None or mime not in types:
        endings = sorted(one for one, its in BY_ENDING.items() if its in types)
        message = f"Files that end in .{ending[:16]} are not taken here; these are: {', '.join(endings)}."
        raise refused("type", message, got=ending[:16], allowed=endings)
    said = claimed.partition(";")[0].strip().casefold()
    if said not in UNSAID and said != mime and said not in TYPES[mime].aliases:
        message = f"The file's name ends in .{ending}, but it is said to be {said[:64]!r}."
        raise refused("type", message, got=said[:64], allowed=[mime])
    return mime


def checked_head(mime: str, head: bytes) -> None:
    """
    The content, of which `head` is the beginning, can be of that type.

    Raises:
        Refused: `file_refused`, reason `content`.
    """
    if not head:
        raise refused("content", "The file is empty.")
    signatures = TYPES[mime].signatures
    if signatures and not any(head[at : at + len(bytes_)] == bytes_ for at, bytes_ in signatures):
        raise _not_what_it_says(mime)


def checked_text(mime: str, part: bytes) -> None:
    """
    A part of a text file holds no control bytes; any encoding whose letters stand alone is a text.

    Raises:
        Refused: `file_refused`, reason `content`.
    """
    if part.translate(None, _TEXT_BYTES):
        raise _not_what_it_says(mime)


_TEXT_BYTES: Final = bytes([9, 10, 12, 13, *range(32, 127), *range(128, 256)])


def is_text(mime: str) -> bool:
    """True where a type has no signature, and its content is looked through instead."""
    return not TYPES[mime].signatures


def checked_package(mime: str, names: Iterable[str]) -> None:
    """
    The parts of a ZIP are those of this office type, and none is a macro.

    Raises:
        Refused: `file_refused`, reason `content`.
    """
    parts = frozenset(names)
    if TYPES[mime].package not in parts:
        raise _not_what_it_says(mime)
    if any(part.casefold().endswith("vbaproject.bin") for part in parts):
        raise refused("content", "The file holds macros; save it without them.")


def _not_what_it_says(mime: str) -> Refused:
    ending = TYPES[mime].endings[0]
    return refused("content", f"The file's content is not what its name says (.{ending}).", wanted=mime)


def is_file_id(text: str) -> bool:
    """True where a text has the shape of a file's id."""
    return _FILE_ID.fullmatch(text) is not None
