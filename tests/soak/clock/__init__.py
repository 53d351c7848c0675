"""A folder for PYTHONPATH: whoever starts with it has a clock that the soak can set."""
