"""What is measured in the virtual host of tests/lab: `python -m benchmarks --lab`."""
