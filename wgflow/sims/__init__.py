"""The runner: workers, forecast and resuming of studies."""
