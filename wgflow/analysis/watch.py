"""``python -m wgflow.analysis.watch`` is ``wgflow watch``."""

import sys

from wgflow.cli.watch import main

if __name__ == "__main__":
    sys.exit(main())
