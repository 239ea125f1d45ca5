"""`python -m benchmark.evidence.evidence`."""

import sys

from benchmark.evidence.evidence import main

if __name__ == "__main__":
    sys.exit(main())
