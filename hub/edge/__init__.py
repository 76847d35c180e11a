"""Sockets and HTTP: what the world connects to."""
