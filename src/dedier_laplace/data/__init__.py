"""Corpora: where rows come from, their splits and group attributes, and tokens.

A corpus is a recipe: rows + which columns are text and label + which attribute makes the groups.
May import `config` and `errors`. Groups after Sagawa et al. 2020 (arXiv 1911.08731).
"""
