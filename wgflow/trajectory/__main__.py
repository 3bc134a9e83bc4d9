"""``python -m wgflow.trajectory`` is ``wgflow check, repair, export or schema``."""

import sys

from wgflow.cli.trajectory import main

if __name__ == "__main__":
    sys.exit(main())
