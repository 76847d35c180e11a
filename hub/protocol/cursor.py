"""
Cursors: a reader's place in a conversation's log, `<epoch>.<tag>-<offset>`.

Clients keep a cursor as it is and may only read the offset behind the last `-`; so epoch and tag hold no dot, and the
tag no dash.
"""

import re

OFFSET_DIGITS_MAX = 16
_CURSOR = re.compile(rf"([A-Za-z0-9_:-]{{1,64}})\.([A-Za-z0-9_:]{{1,64}})-(0|[1-9][0-9]{{0,{OFFSET_DIGITS_MAX - 1}}})")


def format_cursor(epoch: str, tag: str, offset: int) -> str:
    """Cursor of the entry at `offset` (0: before the first) with the random `tag` in the log's `epoch`."""
    return f"{epoch}.{tag}-{offset}"


def parse_cursor(text: str) -> tuple[str, str, int] | None:
    """Epoch, tag and offset of a cursor, or None where `text` can't be one of ours."""
    match = _CURSOR.fullmatch(text)
    return (match[1], match[2], int(match[3])) if match else None
