"""
The script of a conversation, decided before it begins: pure, and the same for the same seed and number.

A plan holds what people will say and how long they take for it; who is free to say it, and whether a supervisor steps
in, is found out while it is played (`centre`).
"""

import random
from dataclasses import dataclass, field
from typing import Any, Final

from clients.simulate import subjects as words
from clients.simulate.subjects import SUBJECTS, Subject

CHANNELS: Final = ("web", "open", "sms")
CHANNEL_WEIGHTS: Final = (5, 3, 2)
# What a supervisor would react to, and how often among a hundred conversations.
TRAITS: Final = {"ordinary": 70, "angry": 10, "long_wait": 9, "bot_loop": 6, "crowded": 5}
TRANSFER_SHARE: Final = 0.07
CUSTOMER_ENDS_SHARE: Final = 0.25


@dataclass(frozen=True, slots=True)
class Turn:
    """
    Something that one side says.

    `by` is customer, agent or bot; `think_ms` is the silence before it, of which the last `typing_ms` are spent typing;
    `panel` is what the platform shows afterwards (panel's name, content).
    """

    by: str
    text: str
    think_ms: int
    typing_ms: int = 0
    attachments: tuple[dict[str, str], ...] = ()
    panel: tuple[str, dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """
    One conversation to be.

    `trait` is one of `TRAITS`; `bot` says whether a bot begins, `wait_ms` how long the customer waits for an agent,
    `transfer_to` the queue it moves to half-way (empty: none), `agent_ends` who says that it is over; `answers` are the
    customer's words for a supervisor, by what the supervisor's message contains.
    """

    number: int
    conversation_id: str
    channel: str
    queue: str
    subject: str
    trait: str
    customer_id: str
    customer_name: str
    panels: dict[str, Any]
    bot: bool
    wait_ms: int
    bot_turns: tuple[Turn, ...]
    waiting_turns: tuple[Turn, ...]
    turns: tuple[Turn, ...]
    transfer_to: str
    agent_ends: bool
    slots: dict[str, str] = field(default_factory=dict)


def plan_conversation(seed: int, number: int, prefix: str) -> Plan:
    """Conversation `number` of the centre with this seed; its id is `<prefix>-<number>`."""
    chance = random.Random(f"{seed}:{number}")
    subject = chance.choice(SUBJECTS)
    trait = chance.choices(tuple(TRAITS), tuple(TRAITS.values()))[0]
    slots = _slots(chance)
    bot = trait == "bot_loop" or chance.random() < 0.3
    return Plan(
        number=number,
        conversation_id=f"{prefix}-{number:06}",
        channel=chance.choices(CHANNELS, CHANNEL_WEIGHTS)[0],
        queue=subject.queue,
        subject=f"{subject.name}: {slots['product']}" if chance.random() < 0.5 else subject.name,
        trait=trait,
        customer_id=f"cus-{chance.randrange(100_000):05}",
        customer_name=slots["full_name"],
        panels=_panels(chance, subject, slots),
        bot=bot,
        wait_ms=chance.randrange(45_000, 150_000) if trait == "long_wait" else chance.randrange(1_000, 12_000),
        bot_turns=_bot_turns(chance, trait, slots) if bot else (),
        waiting_turns=_waiting_turns(chance) if trait == "long_wait" else (),
        turns=_turns(chance, subject, trait, slots),
        transfer_to=_other_queue(chance, subject.queue) if chance.random() < TRANSFER_SHARE else "",
        agent_ends=chance.random() >= CUSTOMER_ENDS_SHARE,
        slots=slots,
    )


def answer_to(text: str, plan: Plan, nth: int) -> str:
    """What the customer says to a supervisor's `nth` message; the same for the same plan, text and count."""
    lower = text.lower()
    key = next(key for key in words.AFTER_TAKEOVER if key in lower)
    return random.Random(f"{plan.number}:{nth}:{key}").choice(words.AFTER_TAKEOVER[key]).format_map(plan.slots)


def say(text: str, plan: Plan, agent: str) -> str:
    """A scripted line with the name of whoever says it; that is known only when it is played."""
    return text.replace("{agent}", agent)


def _slots(chance: random.Random) -> dict[str, str]:
    first, last = chance.choice(words.FIRST_NAMES), chance.choice(words.LAST_NAMES)
    return {
        "name": first,
        "full_name": f"{first} {last}",
        "agent": "{agent}",  # filled in when somebody has the conversation
        "order": f"A{chance.randrange(10_000, 99_999)}",
        "product": chance.choice(words.PRODUCTS),
        "amount": f"{chance.randrange(9, 400)}.{chance.choice(('00', '50', '90', '95'))} EUR",
        "day": chance.choice(words.DAYS),
        "city": chance.choice(words.CITIES),
    }


def _panels(chance: random.Random, subject: Subject, slots: dict[str, str]) -> dict[str, Any]:
    return {
        "customer": {
            "name": slots["full_name"],
            "tier": chance.choice(("gold", "silver", "basic")),
            "city": slots["city"],
            "since": chance.randrange(2012, 2026),
            "contacts_90d": chance.randrange(0, 9),
        },
        "order": {
            "number": slots["order"],
            "product": slots["product"],
            "total": slots["amount"],
            "status": chance.choice(("in transit", "delivered", "returned", "in preparation")),
        },
        "billing": {
            "last_invoice": slots["amount"],
            "method": chance.choice(("card", "transfer", "wallet")),
            "open": subject.queue == "billing",
        },
    }


def _bot_turns(chance: random.Random, trait: str, slots: dict[str, str]) -> tuple[Turn, ...]:
    turns = [_turn(chance, "bot", chance.choice(words.BOT_HELLO), slots)]
    if trait == "bot_loop":
        for answer in chance.sample(words.BOT_LOOP_ANSWERS, chance.randrange(4, 6)):
            turns += [
                _turn(chance, "bot", words.BOT_LOOP, slots),
                _turn(chance, "customer", answer, slots),
            ]
    return (*turns, _turn(chance, "bot", chance.choice(words.BOT_HANDOVER), slots))


def _waiting_turns(chance: random.Random) -> tuple[Turn, ...]:
    return tuple(Turn("customer", text, chance.randrange(12_000, 30_000)) for text in chance.sample(words.WAITING, 3))


def _turns(chance: random.Random, subject: Subject, trait: str, slots: dict[str, str]) -> tuple[Turn, ...]:
    turns = [
        _turn(chance, "customer", chance.choice(subject.openings), slots),
        _turn(chance, "agent", chance.choice(words.GREETINGS), slots),
    ]
    for place, (agent_lines, customer_lines) in enumerate(subject.exchanges):
        turns.append(_turn(chance, "agent", chance.choice(agent_lines), slots))
        photo = subject.photo if place == 0 else ""
        turns.append(_turn(chance, "customer", chance.choice(customer_lines), slots, photo))
        if trait == "angry":
            turns += [
                _turn(chance, "customer", chance.choice(words.ANGRY), slots),
                _turn(chance, "agent", chance.choice(words.SOOTHING), slots),
            ]
    last_agent, last_customer = subject.ending
    closing = _turn(chance, "agent", chance.choice(last_agent), slots)
    order = {"number": slots["order"], "product": slots["product"], "total": slots["amount"], "status": subject.outcome}
    closing = Turn(closing.by, closing.text, closing.think_ms, closing.typing_ms, panel=("order", order))
    return (*turns, closing, _turn(chance, "customer", chance.choice(last_customer), slots))


def _turn(chance: random.Random, by: str, text: str, slots: dict[str, str], photo: str = "") -> Turn:
    text = text.format_map(slots)
    typing_ms = 0 if by == "bot" else min(6_000, 400 + 35 * len(text))
    think_ms = chance.randrange(300, 900) if by == "bot" else typing_ms + chance.randrange(1_000, 9_000)
    attachments: tuple[dict[str, str], ...] = ()
    if photo:
        url = f"https://files.example.com/{slots['order']}/{photo}"
        attachments = ({"url": url, "name": photo, "mime": "image/jpeg"},)
    return Turn(by, text, think_ms, typing_ms, attachments)


def _other_queue(chance: random.Random, queue: str) -> str:
    return chance.choice(sorted({subject.queue for subject in SUBJECTS} - {queue}))
