"""``python -m wgflow.analysis.report`` is ``wgflow report``."""

import sys

from wgflow.cli.runs import report as main

if __name__ == "__main__":
    sys.exit(main())
