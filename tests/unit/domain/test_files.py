"""What a file's name, type and content must be."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.errors import Refused
from hub.domain.files import (
    ACTIVE,
    BY_ENDING,
    NAME_CHARS_MAX,
    TYPES,
    checked_head,
    checked_name,
    checked_package,
    checked_text,
    checked_type,
    is_file_id,
    is_text,
)

ID = "fil_00" + "a" * 20


def reason(raised: pytest.ExceptionInfo[Refused]) -> object:
    """Why a file was refused."""
    assert raised.value.code == "file_refused"
    return raised.value.details["reason"]


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ("a.pdf", "a.pdf"),
        ("  Angebot Mai.pdf ", "Angebot Mai.pdf"),
        ("report.v1.2.PDF", "report.v1.2.PDF"),
        ("Gro\u0308ße.png", "Größe.png"),
        ("what? 12:30 <1>.png", "what_ 12_30 _1_.png"),
        ("می‌روم.jpg", "می‌روم.jpg"),
        ("👩‍👧.png", "👩‍👧.png"),
    ],
)
def test_names_of_people(raw: str, kept: str) -> None:
    """Any language's letters stay; signs that some system can't save are replaced."""
    assert checked_name(raw) == kept


@pytest.mark.parametrize(
    "raw",
    [
        "", "   ", "noending", "dot.", ".pdf", "..pdf", "a..pdf", "a/b.pdf", "a\\b.pdf", "a\0.pdf", "a\r\n.pdf",
        "a\u202egpj.pdf", "a\u200b.pdf", "a\ufeff.pdf", "a\u2028.pdf", "\ud800.pdf", "x" * NAME_CHARS_MAX + ".pdf",
        "CON.pdf", "com1.txt", "LPT9.pdf", "nul .pdf", "a.exe.pdf", "a.Html.png", "a.scr .pdf", "aux.tar.pdf",
    ],
)  # fmt: skip
def test_hostile_names(raw: str) -> None:
    """Paths, hidden characters, devices and hidden endings are refused."""
    with pytest.raises(Refused) as raised:
        checked_name(raw)
    assert reason(raised) == "name"


@given(st.text(max_size=140))
def test_a_kept_name_is_safe(raw: str) -> None:
    """Whatever comes, what is kept is one plain name, and checking it again changes nothing."""
    try:
        name = checked_name(raw)
    except Refused:
        return
    assert not set(name) & set('/\\<>:"|?*\0\r\n')
    assert 3 <= len(name) <= NAME_CHARS_MAX
    assert ".." not in name
    assert unicodedata.is_normalized("NFC", name)
    assert checked_name(name) == name


def test_no_type_is_active() -> None:
    """Nothing of the allowlist is shown or run as a page or program; each type's ending is its own."""
    assert not set(BY_ENDING) & ACTIVE
    assert len(BY_ENDING) == sum(len(one.endings) for one in TYPES.values())


@pytest.mark.parametrize(
    ("name", "claimed", "mime"),
    [
        ("a.JPG", "image/jpeg", "image/jpeg"),
        ("a.jpg", "", "image/jpeg"),
        ("a.pdf", "application/octet-stream", "application/pdf"),
        ("a.csv", "application/vnd.ms-excel", "text/csv"),
        ("a.txt", "text/plain; charset=utf-8", "text/plain"),
    ],
)
def test_types_that_fit(name: str, claimed: str, mime: str) -> None:
    """The ending decides; what browsers call it otherwise, or don't know, is no contradiction."""
    assert checked_type(name, claimed) == mime


@pytest.mark.parametrize(
    ("name", "claimed"), [("a.exe", ""), ("a.html", "text/html"), ("a.png", "text/html"), ("a.png", "image/jpeg")]
)
def test_types_that_dont(name: str, claimed: str) -> None:
    """An ending outside the allowlist, or a claim of another type."""
    with pytest.raises(Refused) as raised:
        checked_type(name, claimed)
    assert reason(raised) == "type"


def test_the_allowlist_can_be_shorter() -> None:
    """What the settings leave out is refused, and the refusal names what is taken."""
    with pytest.raises(Refused) as raised:
        checked_type("a.png", "image/png", ["application/pdf"])
    assert raised.value.details["allowed"] == ["pdf"]


@pytest.mark.parametrize("mime", [mime for mime in TYPES if not is_text(mime)])
def test_each_signature(mime: str) -> None:
    """A content passes by each of its type's signatures, and by none of another place or type."""
    for at, begins in TYPES[mime].signatures:
        checked_head(mime, b"RIFF....."[:at].ljust(at, b".") + begins)
    for head in (b"", b"<html>", b"MZ\x90"):
        with pytest.raises(Refused) as raised:
            checked_head(mime, head)
        assert reason(raised) == "content"


def test_texts() -> None:
    """Letters of any encoding are text; control bytes and UTF-16 are not."""
    for good in ("ä;b\r\n\t1".encode(), "ä".encode("latin-1")):
        checked_text("text/csv", good)
    for bad in (b"\x00", b"a\x1b[0m", "ä".encode("utf-16")):
        with pytest.raises(Refused):
            checked_text("text/csv", bad)


def test_packages() -> None:
    """An office file has its own part, and no macros."""
    mime = checked_type("a.xlsx", "")
    checked_package(mime, ["[Content_Types].xml", "xl/workbook.xml"])
    for parts in ([], ["word/document.xml"], ["xl/workbook.xml", "xl/vbaProject.bin"]):
        with pytest.raises(Refused):
            checked_package(mime, parts)


def test_ids() -> None:
    """Twenty-two signs behind the prefix, the first two a partition."""
    assert is_file_id("fil_3f" + "z" * 20)
    assert not any(map(is_file_id, ("", "fil_40" + "a" * 20, "fil_00" + "A" * 20, "msg_00" + "a" * 20, ID + "\n")))
