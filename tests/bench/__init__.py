"""Speed: the rungs from decoding to committed rows, each beside other ways to do the same."""
