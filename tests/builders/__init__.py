"""What tests build their cases from: configurations, studies, records, media, weights, commands.

A helper that two test modules need stands here and never in a test module, so that no test module
imports another one.
"""
