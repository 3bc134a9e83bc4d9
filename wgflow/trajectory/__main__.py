"""Former name of ``wgflow check, repair, export``; ``python -m wgflow.trajectory`` still works."""

import sys

from wgflow.cli.trajectory import main

if __name__ == "__main__":
    sys.exit(main())
