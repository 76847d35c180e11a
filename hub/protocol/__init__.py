"""Wire types, decoding, encoding and close codes of the protocol; no I/O."""
