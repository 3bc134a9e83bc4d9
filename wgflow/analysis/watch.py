"""Former name of ``wgflow watch``; ``python -m wgflow.analysis.watch`` still works."""

import sys

from wgflow.report.watch import main

if __name__ == "__main__":
    sys.exit(main())
