"""Speed and memory as ratios to a stated rival in the same run; results are JSON in results/."""
