"""
The judge: were the promises I1 to I8 of the design kept, by what everybody saw and by what the store has?

    records     what each socket got and sent (tests/support/socket.py writes it down)
    walks       where each session stood at each of its frames, and by what right
    frames      rules that frames alone can break
    stored      the store's own word, read past the hub
    truth       rules that need it

Pure functions, but for `read_truth`. What a rule can't know it doesn't judge: an order between two sockets is taken for
one only where an answer came in between.
"""

from collections.abc import Sequence

from tests.support.judge.frames import judge_frames
from tests.support.judge.records import Frame, Record, Violation, sessions_of
from tests.support.judge.stored import Kept, Truth, Written, read_truth
from tests.support.judge.truth import AT_REST_S, judge_truth
from tests.support.judge.walks import walks_of

__all__ = ["AT_REST_S", "Frame", "Kept", "Record", "Truth", "Violation", "Written", "judge", "read_truth"]


def judge(records: Sequence[Record], truth: Truth | None = None) -> list[Violation]:
    """Every promise that was broken."""
    sessions = sessions_of(records)
    walks = walks_of(sessions)
    found = judge_frames(records, sessions, walks)
    if truth is not None:
        found += judge_truth(records, walks, truth)
    return found
