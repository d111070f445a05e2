"""`python -m respraft`: the same as the `respraft` command."""

import sys

from respraft.cli import main

if __name__ == "__main__":
    sys.exit(main())
