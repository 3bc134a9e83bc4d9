"""The command line: one command, a module for each subcommand."""
