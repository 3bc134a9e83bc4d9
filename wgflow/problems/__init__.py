"""Problems: data, block and loss; synthetic and real data sets by name."""

from wgflow.problems.problem import Problem

__all__ = ["Problem"]
