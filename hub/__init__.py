"""A supervision hub: live views, silent monitoring and takeover of conversations, for any messaging platform."""
