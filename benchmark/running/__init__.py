"""A run: trained, encoded and scored in a process of its own, and the grid of them."""
