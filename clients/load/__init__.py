"""Load tests through sockets: schedules that don't omit delays, percentiles, JSON reports."""

from clients.load.run import add_arguments, run_load

__all__ = ["add_arguments", "run_load"]
