"""Which drivers, CUDA and guests a GPU takes."""
