"""``python -m wgflow`` is the command ``wgflow``."""

import sys

from wgflow.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
