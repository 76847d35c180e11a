"""What one more costs: how it is judged and drawn."""

from clients.load.growth import pictures, within

FOUND = {
    "conversations": {"100": {"us": 150.0, "bytes": 9_000}, "1,000": {"us": 165.0, "bytes": 8_800}},
    "nodes": {"1": {"us": 160.0}, "4": {"us": 200.0}},
}


def test_the_dearest_to_the_cheapest() -> None:
    """Wherever the dearest stands: cost that falls with the number is growth seen from the other end."""
    assert within([150.0, 165.0]) == 1.1
    assert within([200.0, 100.0, 150.0]) == 2.0
    assert within([3.0]) == 1.0


def test_each_figure_has_its_picture() -> None:
    """One picture each, with a bar to each number."""
    drawn = pictures(FOUND)
    assert sorted(drawn) == [
        "p9-engine-by-conversations.svg",
        "p9-messages-by-conversations.svg",
        "p9-messages-by-nodes.svg",
    ]
    assert ">1,000<" in drawn["p9-messages-by-conversations.svg"]
    assert ">165<" in drawn["p9-messages-by-conversations.svg"]
    assert all(svg.count("<rect") == 2 for svg in drawn.values())
