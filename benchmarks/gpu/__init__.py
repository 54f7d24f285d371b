"""The steps of the GPU suite (``benchmarks/gpu_suite.py``), a file each, and what they share."""
