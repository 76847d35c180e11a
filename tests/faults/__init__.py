"""The hub while things break."""
