"""Redis behind the ports of the service layer."""
