"""``python -m wgflow.analysis.report`` is ``wgflow report``."""

import sys

from wgflow.cli.report import main

if __name__ == "__main__":
    sys.exit(main())
