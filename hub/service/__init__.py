"""One command: load, authorize, decide, commit; one subscription: buffer, snapshot, merge, live."""
