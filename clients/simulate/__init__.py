"""A contact centre in a box: seeded customers, agents and bots on the hub's public interface only."""

from clients.simulate.centre import Centre, Tally
from clients.simulate.script import Plan, Turn, plan_conversation

__all__ = ["Centre", "Plan", "Tally", "Turn", "plan_conversation"]
