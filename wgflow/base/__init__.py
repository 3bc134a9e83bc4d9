"""What every room rests on: errors, validation, types, random numbers, files, terminal text."""
