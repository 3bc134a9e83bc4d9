"""The command `wgflow`: its subcommands, by what they work on."""
