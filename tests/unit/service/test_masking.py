"""Masks over what goes out: which texts they reach, which they leave, and that nothing changes where there is none."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.masking import Masker
from hub.protocol.fields import PANEL_BYTES_MAX
from hub.service.masking import answers, masked_content, masked_data, masked_event, masked_message, masked_panels
from tests.unit.domain.words import BOB, person, situation

CARD, MAIL = "4111 1111 1111 1111", "dana@example.com"
MASKER = Masker(card=True, iban=True, email=True, phone=True)


def event(name: str, /, **data: Any) -> bytes:
    """An encoded event."""
    return orjson.dumps({"event": name, "conversation_id": "cnv_1", "at": 1, "data": data})


def data_of(body: bytes) -> Any:
    """An encoded event's data."""
    return orjson.loads(body)["data"]


@pytest.mark.parametrize(
    "body",
    [
        event("message.created", message_id="m_1", text="hello", attachments=[], purpose="customer"),
        event("panel.updated", panel=CARD, content=None),
        event("panel.updated", panel="p", content={"a": [1, 2.5, True, None, "x"]}),
        event("participant.connected", participant={"purpose": "agent", "user_id": MAIL, "name": MAIL}),
        event("conversation.transferred", queue="4111111111111111"),
        event("takeover.completed", takeover_id="4111111111111111", **{"from": ["4111111111111111"]}, to="x"),
    ],
)
def test_without_anything_to_mask_it_is_the_same_object(body: bytes) -> None:
    """Ids, fixed words and names of staff are no finds, whatever they look like."""
    assert masked_event(body, MASKER) is body


def test_every_other_text_is_masked() -> None:
    """Text, attachments, the customer's name, a receipt's reason, and any field that somebody adds later."""
    attachment = {"url": f"https://x.example/{MAIL}/0151123456", "name": f"{CARD}.pdf", "mime": "text/plain"}
    body = event("message.created", message_id="m", text=CARD, attachments=[attachment], name=MAIL, later={"a": [CARD]})
    assert data_of(masked_event(body, MASKER)) == {
        "message_id": "m",
        "text": "[card ••••1111]",
        "attachments": [
            {"url": "https://x.example/[e-mail ••••]/0151123456", "name": "[card ••••1111].pdf", "mime": "text/plain"}
        ],
        "name": "[e-mail ••••]",
        "later": {"a": ["[card ••••1111]"]},
        "masked": True,
    }
    ended = masked_event(event("conversation.ended", reason=MAIL), MASKER)
    assert data_of(ended) == {"reason": "[e-mail ••••]", "masked": True}


def test_names_of_staff_stay() -> None:
    """Agents, bots and supervisors may be called by a mail address, in every shape that history tells of them."""
    customer = {"user_id": "cus", "name": MAIL}
    told = {
        "participants": [
            {"user_id": "max", "name": MAIL, "purpose": "agent"},
            {"user_id": "cus", "name": MAIL, "purpose": "customer"},
        ],
        "wrapups": [{"user_id": "max", "name": MAIL, "notes": CARD, "prompt": "optional", "code": MAIL}],
        "monitors": [{"user_id": "ana", "name": MAIL}],
        "segments": [
            {"kind": "interact", "purpose": "customer", "user": customer},
            {"kind": "interact", "purpose": "agent", "user": {"user_id": "max", "name": MAIL}},
            {"kind": "monitoring", "user": {"user_id": "ana", "name": MAIL}},
        ],
    }
    shown = masked_data(told, MASKER)
    assert [one["name"] for one in shown["participants"]] == [MAIL, "[e-mail ••••]"]
    wrapup = {"user_id": "max", "name": MAIL, "notes": "[card ••••1111]", "prompt": "optional", "code": MAIL}
    assert shown["wrapups"] == [wrapup]
    assert shown["monitors"] == told["monitors"]
    assert [one["user"]["name"] for one in shown["segments"]] == ["[e-mail ••••]", MAIL, MAIL]


def test_a_panels_keys_and_numbers_are_masked() -> None:
    """A platform may put a card's number there as a number, or as a name; two that look the same both stay."""
    content = {
        CARD: 1,
        "4111111111111111": 2,
        "n": 4111111111111111,
        "at": 1795377600000,
        "f": [4.5, -4111111111111111],
    }
    card = "[card ••••1111]"
    shown = {card: 1, f"{card} (2)": 2, "n": card, "at": 1795377600000, "f": [4.5, card]}
    assert masked_content(content, MASKER) == shown
    assert masked_panels({"p": orjson.dumps(content)}, MASKER) == {"p": shown}


@pytest.mark.parametrize(
    "content",
    [
        ["a@b.de"] * 1_800,
        {f"{number}@b.de": number for number in range(1_000)},
        "a@b.de " * 2_300,
        [[["a@b.de"] * 900], {"x": ["a@b.de"] * 800}],
    ],
)
def test_a_masked_panel_is_no_bigger_than_a_panel(content: Any) -> None:
    """Placeholders are longer than what they stand for: a panel's bound holds all the same, and nothing shows."""
    assert len(orjson.dumps(content)) <= PANEL_BYTES_MAX
    shown = orjson.dumps(masked_content(content, MASKER))
    assert len(shown) <= PANEL_BYTES_MAX
    assert b"b.de" not in shown


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(0, 2**63), st.text("0123456789 @.ab-", max_size=40)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text("text0123@.", max_size=20), inner)),
    max_leaves=12,
)


@given(JSON)
def test_masking_panels_again_changes_nothing(content: Any) -> None:
    """Once masked, a panel stays as it is; where nothing is masked it is the very same object."""
    once = masked_content(content, MASKER)
    assert masked_content(once, MASKER) == once
    if orjson.dumps(once) == orjson.dumps(content):
        assert once is content


def test_a_message_says_that_it_is_masked() -> None:
    """And says nothing where it isn't."""
    assert masked_message({"text": CARD}, MASKER) == {"text": "[card ••••1111]", "masked": True}
    assert masked_message({"text": "hello"}, MASKER) == {"text": "hello"}


def test_who_reads_everything() -> None:
    """Agents, customers and platforms; a supervisor only while they are connected to the conversation as one."""
    ana = replace(BOB, participant_id="prt_ana", user_id="ana", purpose="supervisor")
    plain, owned = situation(BOB).existing, situation(ana).existing
    for role in ("agent", "customer", "connector"):
        assert answers(person("ana", role=role), plain)
    for role in ("supervisor", "admin"):
        assert not answers(person("ana", role=role), plain)
        assert answers(person("ana", role=role), owned)
        assert not answers(person("bo", role=role), owned)
        assert not answers(person("bob", role=role), plain)  # as an agent, not as a supervisor
