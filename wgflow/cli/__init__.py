"""The command `wgflow` and its subcommands, in one module for each kind of object they work on."""
