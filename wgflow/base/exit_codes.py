"""Exit codes of every command, defined once."""

from typing import Final

DONE: Final = 0
INTERNAL: Final = 1  # an error of wgflow itself; --debug shows where
BAD_INPUT: Final = 2  # one line a problem on stderr, nothing written
DIVERGED: Final = 3  # some run diverged; its last finite frame is kept, the others finish
DISK: Final = 4  # disk, permission, memory or a process lost while running
REQUEUE: Final = 75  # stopped by SIGTERM or --walltime; the same command resumes
INTERRUPTED: Final = 130  # stopped by Ctrl-C; likewise

WORDS: Final = {
    DONE: "done",
    INTERNAL: "internal error",
    BAD_INPUT: "bad input",
    DIVERGED: "a member diverged",
    DISK: "disk, permission, memory or a process lost",
    REQUEUE: "stopped (requeue)",
    INTERRUPTED: "Ctrl-C",
}
