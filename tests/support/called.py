"""The program, called in this process."""

from hub.cli import main


def status_of(*arguments: str) -> int:
    """Its exit status, whoever ends it."""
    try:
        return main(arguments)
    except SystemExit as ended:  # what argparse refuses
        return int(str(ended.code))
