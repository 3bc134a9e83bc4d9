"""``python -m wgflow.doctor`` is ``wgflow doctor``."""

import sys

from wgflow.cli.doctor import main

if __name__ == "__main__":
    sys.exit(main())
