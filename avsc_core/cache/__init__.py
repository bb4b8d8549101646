"""The cache: arrays with one row a clip, computed once for all, and hashes of the clips' files."""
