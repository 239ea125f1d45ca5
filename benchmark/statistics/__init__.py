"""Pure functions on the long table of scores: intervals, dead runs, tests, agreement."""
