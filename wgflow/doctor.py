"""Former name of ``wgflow doctor``; ``python -m wgflow.doctor`` still works."""

import sys

from wgflow.cli.doctor import main

if __name__ == "__main__":
    sys.exit(main())
