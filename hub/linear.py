"""
Regular expressions that take linear time, whatever the text: RE2, an optional part (`supervision-hub[masking]`).

Decision record 0029 says why no other engine reads what customers write.
"""

from collections.abc import Callable, Iterable, Iterator

PATTERN_CHARS_MAX = 1_000
PROGRAM_BYTES_MAX = 1 << 20  # of one compiled pattern: `(a{1000}){1000}` is refused instead of filling the memory


class NoEngine(Exception):
    """RE2 isn't installed; the message says how to install it."""


def finder(pattern: str) -> Callable[[str], Iterable[tuple[int, int]]]:
    """
    A function that finds the pattern's (start, end) in a text, from left to right, none empty; linear in the text.

    Raises:
        NoEngine: RE2 isn't there.
        ValueError: RE2 can't take the pattern (look-around, back-references), it is too big, or matches nothing at all.
    """
    try:
        import re2
    except ImportError:
        raise NoEngine("patterns need RE2: pip install 'supervision-hub[masking]'") from None
    if len(pattern) > PATTERN_CHARS_MAX:
        raise ValueError(f"a pattern of at most {PATTERN_CHARS_MAX} characters")
    options = re2.Options()
    options.max_mem = PROGRAM_BYTES_MAX
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "it can't be read"
        said = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"a pattern that RE2 takes ({said})") from None
    if compiled.search("") is not None:
        raise ValueError("a pattern that doesn't match the empty text")

    def find(text: str) -> Iterator[tuple[int, int]]:
        for found in compiled.finditer(text):
            start, end = found.span()
            if end > start:
                yield start, end

    return find
