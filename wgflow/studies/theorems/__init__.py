"""The theorems along one run; drawn for any study by a command."""
