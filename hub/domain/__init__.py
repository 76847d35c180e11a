"""Pure rules of supervision: standard library and this package only."""
