#!/usr/bin/env python3
"""The benchmark's command: parse, build the grid of runs, run it, report."""

import sys

from benchmark.command import main

if __name__ == "__main__":
    sys.exit(main())
