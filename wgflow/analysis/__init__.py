"""Former place of the commands watch, report and export, whose names still work."""
