"""A machine as a tarball: taken, and read as a tree of its own."""
