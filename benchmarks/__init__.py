"""Speed and memory as ratios against a stated rival in the same run; results are kept as JSON in benchmarks/results."""
