"""Topics, views and the sessions that listen to them."""
