"""The channels through which customers write, and the delivery of actions to platforms."""
