"""GPU backend: CUDA kernels, their launches, and the diagnosis of a machine."""
