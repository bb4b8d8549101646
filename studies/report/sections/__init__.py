"""The sections of a report: each module makes the words and tables of one or two of them."""
