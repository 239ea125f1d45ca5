"""How fast the suite is, beside plain forms of the same work."""
