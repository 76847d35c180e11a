"""
What each version of the hub leaves in the store, and tells other nodes, as files.

`python -m tests.golden.make` writes the folder of the present version; `tests/contract/test_golden.py` reads them all.
"""
