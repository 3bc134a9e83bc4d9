"""``python -m wgflow.analysis.export`` is ``wgflow export``."""

import sys

from wgflow.cli.runs import export as main

if __name__ == "__main__":
    sys.exit(main())
