"""Keys and bytes: one interface, its implementations, and the layers around them."""
