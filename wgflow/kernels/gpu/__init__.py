"""CUDA kernels of the GPU backend and the checks it needs."""
