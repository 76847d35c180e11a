"""Files in memory, what a browser may have compressed, and how often an address may ask."""

import gzip
from pathlib import Path

import pytest

from hub.edge.pages import AddressLimit, StaticFile, accepts_gzip, read_files


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("gzip, deflate, br", True),
        ("br;q=1.0, gzip;q=0.8", True),
        ("*", True),
        ("", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
        ("xgzip", False),
    ],
)
def test_gzip_only_for_who_takes_it(header: str, wanted: bool) -> None:
    """A browser gets compressed bytes only where its `Accept-Encoding` allows them."""
    assert accepts_gzip(header) is wanted


def test_files_are_read_once_with_type_and_tag(tmp_path: Path) -> None:
    """A file has its media type, a tag of its content, and the same bytes compressed where that gains."""
    (tmp_path / "desk.js").write_bytes(b"let a = 1;\n" * 200)
    (tmp_path / "icon.svg").write_bytes(b"<svg/>")
    files = read_files(tmp_path)
    assert files["desk.js"].media_type.startswith("text/javascript")
    assert gzip.decompress(files["desk.js"].compressed or b"") == files["desk.js"].content
    assert files["icon.svg"].compressed is None
    assert files["desk.js"].etag != files["icon.svg"].etag
    assert StaticFile.of("desk.js", files["desk.js"].content) == files["desk.js"]


def test_no_build_is_no_files(tmp_path: Path) -> None:
    """Where nothing was built there is nothing to serve, and no error."""
    assert read_files(tmp_path / "nowhere") == {}


def test_an_address_has_ten_a_minute() -> None:
    """Ten at once, then one every six seconds; another address has its own ten."""
    limit = AddressLimit(per_minute=10)
    assert [limit.take("a", 0.0) for _ in range(10)] == [0] * 10
    assert 0 < limit.take("a", 0.0) <= 6001
    assert limit.take("b", 0.0) == 0
    assert limit.take("a", 5.9) > 0
    assert limit.take("a", 6.1) == 0
    assert limit.take("a", 6.2) > 0


def test_the_table_of_addresses_is_bounded() -> None:
    """The address that was silent longest is forgotten first."""
    limit = AddressLimit(per_minute=1, addresses_max=2)
    assert limit.take("a", 0.0) == 0
    assert limit.take("b", 0.0) == 0
    assert limit.take("c", 0.0) == 0
    assert limit.take("b", 0.0) > 0
    assert limit.take("a", 0.0) == 0
