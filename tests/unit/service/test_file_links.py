"""Addresses of files, and links that open one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.files import NAME_CHARS_MAX, FileMeta
from hub.service.file_links import disposition, file_url, sign, signed, split_url

ID = "fil_00" + "a" * 20
SECRET = b"secret"


def meta(name: str) -> FileMeta:
    """A file of that name."""
    return FileMeta(ID, "acme", "cnv_1", name, "image/png", 1, 0, "max", "agent")


@given(st.text(min_size=1, max_size=NAME_CHARS_MAX, alphabet=st.characters(exclude_categories=["Cs"])))
def test_an_address_brings_the_name_back(name: str) -> None:
    """Id and name survive the address, which is ASCII without a sign of its own meaning."""
    url = file_url(meta(name))
    assert split_url(url) == (ID, name)
    assert url.isascii()
    assert not set(url) & set("?#\"'<> \\")
    header = disposition(name)
    assert header.isascii()
    assert not set(header) & set("\r\n")
    assert header.count('"') == 2


@pytest.mark.parametrize(
    "url", ["", "https://a/b", f"/v1/files/{ID}", f"/v1/files/{ID}/", f"/v1/files/{ID}/a?b", f"/v1/files/{ID}/%ff"]
)
def test_no_addresses(url: str) -> None:
    """Anything else is none."""
    assert split_url(url) is None


def test_a_link_opens_one_file_until_a_time() -> None:
    """Another file, time, secret or signature opens nothing, nor does one that is over."""
    signature = sign(SECRET, ID, 1000)
    assert signed(SECRET, ID, "1000", signature, 999)
    assert not signed(SECRET, ID, "1000", signature, 1000)
    assert not signed(SECRET, ID, "1001", signature, 999)
    assert not signed(SECRET, ID[:-1] + "b", "1000", signature, 999)
    assert not signed(b"other", ID, "1000", signature, 999)
    for until, other in (("x", signature), ("-1", signature), ("1" * 20, signature), ("1000", "ä"), ("1000", "")):
        assert not signed(SECRET, ID, until, other, 999)
