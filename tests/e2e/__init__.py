"""The hub as others see it: a real process, real sockets, a real store."""
