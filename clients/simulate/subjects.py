"""
What customers and agents talk about: the words of the simulation, nothing else.

A subject is an opening of the customer, exchanges (the agent asks or says, the customer answers), and an ending. Each
place has variants; `{name}`, `{agent}`, `{order}`, `{product}`, `{amount}`, `{day}`, `{city}` are filled in per
conversation.
"""

from typing import Final, NamedTuple

Lines = tuple[str, ...]


class Subject(NamedTuple):
    """A kind of conversation; `photo` names the picture that the customer sends, empty for none."""

    name: str
    queue: str
    openings: Lines
    exchanges: tuple[tuple[Lines, Lines], ...]
    ending: tuple[Lines, Lines]
    photo: str = ""
    outcome: str = ""  # what the order panel says when it is done


_BYE: Final = (
    (
        "Is there anything else I can do for you today?",
        "You're all set. Anything else I can help with?",
        "Happy to help. Do you have another question?",
    ),
    ("No, that's all. Thanks, {agent}.", "That was everything, thank you!", "All good now. Have a nice day!"),
)
GREETINGS: Final = (
    "Hello {name}, this is {agent}. I'm looking into it right now.",
    "Hi {name}, {agent} here. Thanks for waiting.",
    "Good day {name}, my name is {agent}. Let me see what I can do.",
)

SUBJECTS: Final = (
    Subject(
        "Refund",
        "billing",
        (
            "Hi, I sent back the {product} from order {order} on {day} and still have no refund.",
            "Where is my money? I returned order {order} two weeks ago.",
            "I'd like to ask about the refund for order {order}, {amount} in total.",
        ),
        (
            (
                ("Could you tell me how you sent it back?", "Do you still have the return receipt?"),
                ("With the label that was in the box.", "Yes, the receipt says it arrived on {day}."),
            ),
            (
                (
                    "I see the parcel in our warehouse. It was booked in, but the refund wasn't started.",
                    "The return is registered. The payment of {amount} was stuck in review.",
                ),
                ("So when do I get it?", "OK. How long does that take?", "Why did nobody tell me?"),
            ),
            (
                (
                    "I've started it just now. You'll have {amount} on your card within three working days.",
                    "It's released. Your bank should show {amount} by the end of the week.",
                ),
                ("Great, thank you.", "Finally. Thanks for sorting it out."),
            ),
        ),
        _BYE,
        outcome="refund issued",
    ),
    Subject(
        "Late delivery",
        "support",
        (
            "My order {order} was supposed to be here on {day}. Where is it?",
            "Hello, tracking for {order} hasn't moved in five days.",
            "Can you check order {order}? It still says 'in transit'.",
        ),
        (
            (
                ("Let me check with the carrier. Is the address in {city} still right?", "Which address did you use?"),
                ("Yes, {city}, same as on the order.", "The one in {city}. Nothing has changed."),
            ),
            (
                (
                    "The parcel was left at the depot because the label got damaged.",
                    "It went to the wrong hub, I'm afraid. It's on a truck again since this morning.",
                ),
                ("And when will it arrive?", "I need the {product} for the weekend!", "That's annoying."),
            ),
            (
                (
                    "Delivery is booked for tomorrow between 9 and 12, and I've refunded the shipping.",
                    "You'll get it tomorrow. I've added a note so that the driver calls first.",
                ),
                ("OK, I'll be at home.", "Thanks, that works for me."),
            ),
        ),
        _BYE,
        outcome="rescheduled",
    ),
    Subject(
        "Broken product",
        "support",
        (
            "The {product} arrived broken. I'm attaching a picture.",
            "Hi, I unpacked the {product} and there is a crack on the side.",
            "My new {product} doesn't switch on, order {order}.",
        ),
        (
            (
                (
                    "I'm sorry about that. Could you send me a photo of the damage?",
                    "Oh no. Was the box damaged as well?",
                ),
                ("Here it is.", "The box looked fine. Here's a photo.", "See the picture."),
            ),
            (
                (
                    "Thank you, I can see it. Would you like a replacement or your money back?",
                    "That's clearly a defect. Replacement or refund?",
                ),
                ("A replacement, please.", "I'd rather have my {amount} back.", "Replacement if it comes this week."),
            ),
            (
                (
                    "Done. The return label is in your mailbox.",
                    "It's arranged, and you don't need to send the broken one back.",
                ),
                ("Perfect.", "That was quick, thank you."),
            ),
        ),
        _BYE,
        photo="damage.jpg",
        outcome="replacement sent",
    ),
    Subject(
        "Billing error",
        "billing",
        (
            "You charged me twice for order {order}!",
            "My invoice says {amount}, but the price in the shop was lower.",
            "There's a charge of {amount} from you on my card that I don't know.",
        ),
        (
            (
                ("Let me look at the invoice. What are the last four digits of the card?", "On which day was that?"),
                ("It ends in 4471.", "The statement says {day}."),
            ),
            (
                (
                    "I see two authorisations. Only one of them was booked, the other one expires on its own.",
                    "You're right, the discount was not applied.",
                ),
                ("My bank shows both as booked though.", "I don't want to wait for that.", "So you owe me money?"),
            ),
            (
                (
                    "I have asked our bank to release {amount} right away; I'll send you the confirmation.",
                    "I've corrected the invoice, the difference goes back to your card today.",
                ),
                ("OK, please do.", "Thanks for fixing it."),
            ),
        ),
        _BYE,
        outcome="invoice corrected",
    ),
    Subject(
        "Cancellation",
        "sales",
        (
            "I want to cancel my subscription.",
            "How do I cancel order {order}? I don't need the {product} any more.",
            "Please cancel everything as of {day}.",
        ),
        (
            (
                ("I'm sorry to hear that. May I ask why?", "Sure, I can do that. Was anything wrong with it?"),
                ("It's too expensive for me.", "I found a better offer.", "I just don't use it."),
            ),
            (
                (
                    "I could offer you two months at half the price, {amount} saved. Would that help?",
                    "Would a smaller plan be of interest?",
                ),
                ("No, please just cancel it.", "Hmm. No, thank you.", "How much would that be?"),
            ),
            (
                ("It's cancelled as of {day}. You'll get a confirmation by mail.", "Done, the cancellation is booked."),
                ("Thank you.", "OK, got the mail."),
            ),
        ),
        _BYE,
        outcome="cancelled",
    ),
    Subject(
        "Login trouble",
        "support",
        (
            "I can't log in any more. It says my account is locked.",
            "The reset mail for my password never arrives.",
            "Your app keeps asking for a code that I don't get.",
        ),
        (
            (
                ("Which mail address do you use to log in?", "Are you on the app or on the website?"),
                ("The one you write to me at.", "On the app, newest version.", "Website. I tried two browsers."),
            ),
            (
                (
                    "I see several failed attempts, that's why it was locked. I've unlocked it.",
                    "The reset mails bounced. I've corrected a typo in the address.",
                ),
                ("Let me try.", "Still the same!", "One moment..."),
            ),
            (
                ("Could you close the app once and try again?", "Please use the newest mail, older ones are void."),
                ("It works now!", "OK, I'm in. Thanks."),
            ),
        ),
        _BYE,
        outcome="account unlocked",
    ),
    Subject(
        "Appointment",
        "sales",
        (
            "I'd like to move my appointment on {day}.",
            "Is a technician available this week in {city}?",
            "Can I still get an appointment for the installation of the {product}?",
        ),
        (
            (
                ("Of course. What would suit you?", "Let me see the calendar for {city}. Morning or afternoon?"),
                ("Afternoon would be better.", "Any day after {day}.", "As early as possible."),
            ),
            (
                ("I have {day} at 14:30 or the day after at 9:00.", "There's one slot left, {day} at 16:00."),
                ("I take the first one.", "{day} is fine.", "Hmm, nothing earlier?"),
            ),
            (
                (
                    "It's booked. The technician calls half an hour before.",
                    "Booked, you'll get a reminder the evening before.",
                ),
                ("Wonderful, thanks.", "Great."),
            ),
        ),
        _BYE,
        outcome="appointment booked",
    ),
    Subject(
        "Praise",
        "support",
        (
            "I just wanted to say that your driver in {city} was fantastic.",
            "Hi! The {product} is great. Who do I tell?",
            "Your colleague helped me so nicely on {day}, I'd like to say thanks.",
        ),
        (
            (
                ("That's lovely to hear! May I pass it on?", "Thank you so much! What did you like most?"),
                ("Please do.", "How quick it was.", "That somebody really listened."),
            ),
            (
                ("I've told the team, they are smiling.", "I've put it on our wall. May I send you a voucher?"),
                ("Haha, great.", "That's not necessary, but thank you!"),
            ),
        ),
        _BYE,
        outcome="praise noted",
    ),
    Subject(
        "Address change",
        "support",
        (
            "I'm moving to {city}. Can you change the address of order {order}?",
            "I entered the wrong house number for order {order}.",
            "Please send the {product} to my office instead.",
        ),
        (
            (
                ("What is the new address?", "Sure. Could you write it down for me once more?"),
                ("14 Mill Lane, {city}.", "7 Harbour Street, {city}, second floor."),
            ),
            (
                (
                    "The parcel hasn't left yet, so that's no problem.",
                    "It is with the carrier already, I'll have it redirected.",
                ),
                ("Does that cost anything?", "Will it still come on {day}?", "Great."),
            ),
            (
                ("No charge, and the day stays the same.", "It's changed. You'll get a new tracking link."),
                ("Thanks a lot!", "Got it."),
            ),
        ),
        _BYE,
        outcome="address changed",
    ),
    Subject(
        "Product advice",
        "sales",
        (
            "Which {product} would you recommend for a small flat?",
            "Does the {product} work with the older model, too?",
            "I'm not sure which size of the {product} I need.",
        ),
        (
            (
                ("Happy to help. What will you use it for?", "How many people are in the household?"),
                ("Just for the two of us.", "Every day, mostly in the evening.", "It's a present."),
            ),
            (
                (
                    "Then I'd take the compact one, it's {amount} at the moment.",
                    "The standard model is enough, and it fits the older parts.",
                ),
                ("Is it quiet?", "And the warranty?", "Do you have it in black?"),
            ),
            (
                ("Yes, and you can return it for 30 days.", "Three years. Shall I reserve one for you?"),
                ("Yes, please.", "I'll think about it. Thanks."),
            ),
        ),
        _BYE,
        outcome="offer sent",
    ),
)

ANGRY: Final = (
    "Are you even reading what I write?",
    "This is the THIRD time I explain this!!",
    "I want to speak to your supervisor. Now.",
    "This is ridiculous. I've been a customer for nine years.",
    "If this isn't solved today I'm going to post it everywhere.",
    "You are wasting my time.",
)
SOOTHING: Final = (
    "I understand that this is frustrating.",
    "I'm sorry. I'm doing what I can.",
    "Please bear with me for a moment.",
    "Let me read it once more.",
)
WAITING: Final = ("Hello?", "Is anybody there?", "I've been waiting for quite a while now.", "???", "Anyone?")
BOT_HELLO: Final = (
    "Hi {name}, I'm Robbie, the digital assistant. What can I do for you?",
    "Welcome! I'm Robbie. Please describe your question in a few words.",
)
BOT_HANDOVER: Final = (
    "I'll connect you with a colleague.",
    "That needs a human. One moment, I'm handing you over.",
)
BOT_LOOP: Final = "I didn't quite get that. Did you mean: 'opening hours'?"
BOT_LOOP_ANSWERS: Final = (
    "No. I mean what I wrote.",
    "Agent please",
    "AGENT",
    "no!!",
    "I want to talk to a human",
    "This is hopeless.",
)
AFTER_TAKEOVER: Final = {
    "sorry": ("Thank you for saying that.", "It's been a long day. I appreciate it."),
    "refund": ("That would be fair. How long will it take?", "OK, to the same card please."),
    "replace": ("A replacement would be great.", "Can it come this week?"),
    "help": ("Yes please. Order {order}, it's all in there.", "Please read the last messages, I explained it twice."),
    "bye": ("Thank you, goodbye!", "Bye, and thanks for stepping in."),
    "?": ("Yes, that's right.", "Order {order}, from {day}.", "I think so. What happens next?"),
    "": ("OK.", "I see. And then?", "Thanks for taking care of it.", "Alright, I'll wait for that."),
}

# fmt: off
FIRST_NAMES: Final = (
    "Dana", "Noah", "Mia", "Liam", "Zoe", "Omar", "Ida", "Hugo", "Lena", "Ravi", "Nina", "Felix", "Amara", "Jonas",
    "Priya", "Theo", "Carla", "Musa", "Elif", "Otto", "Grace", "Ivan", "Sofia", "Kofi", "Anna", "Milo", "Vera",
    "Hassan", "Ruth", "Pablo",
)
LAST_NAMES: Final = (
    "Keller", "Moreau", "Haddad", "Silva", "Novak", "Lindqvist", "Okafor", "Petrov", "Rossi", "Nakamura", "Byrne",
    "Fischer", "Costa", "Patel", "Yilmaz", "Larsen", "Dubois", "Walker", "Santos", "Meyer", "Jensen", "Cruz",
    "Horvat", "Klein",
)
# fmt: on
AGENT_NAMES: Final = (
    "Max Weber",
    "Eva Rossi",
    "Tom Hale",
    "Lin Chen",
    "Sara Blom",
    "Jon Arno",
    "Mei Tan",
    "Ben Okoro",
    "Ines Vidal",
    "Paul Stern",
    "Aya Sato",
    "Leo Brandt",
)
PRODUCTS: Final = ("coffee machine", "desk lamp", "headphones", "blender", "router", "backpack", "air fryer", "monitor")
CITIES: Final = ("Lisbon", "Hamburg", "Lyon", "Leeds", "Graz", "Turin", "Malmo", "Porto", "Ghent", "Brno")
DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
