"""What training costs in time and memory (``python -m benchmarks --help``)."""
