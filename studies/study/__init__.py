"""A study: what is asked. A study file -> a checked study -> a plan of trials and searches."""
