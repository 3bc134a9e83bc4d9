"""Former name of ``wgflow report``; ``python -m wgflow.analysis.report`` still works."""

import sys

from wgflow.report.page import main

if __name__ == "__main__":
    sys.exit(main())
