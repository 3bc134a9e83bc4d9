"""What tests with torch share: one thread, and ridge blocks to write a network of the core as a stage."""

import sys

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors here are tiny, and threads of several runs on few cores wait for each other."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 1
    if torch:
        torch.set_num_threads(1)
    yield
    if torch:
        torch.set_num_threads(before)


@pytest.fixture
def ridges():
    """Build branches (1/n) a tanh(w.x + b) from theta (n, 2 D + 1); n gap/n = gap is the core's step."""
    torch = pytest.importorskip("torch")

    class Ridge(torch.nn.Module):
        def __init__(self, theta, scale):
            super().__init__()
            width = (len(theta) - 1) // 2
            parts = np.split(theta, [width, 2 * width])
            self.a, self.w, self.b = (torch.nn.Parameter(torch.tensor(part)) for part in parts)
            self.scale = scale

        def forward(self, x):
            return self.scale * torch.tanh(x @ self.w + self.b)[:, None] * self.a

    return lambda theta: [Ridge(row, 1 / len(theta)) for row in theta]
