"""Evaluation: group metrics with their intervals, as pure functions over arrays.

May import `data`. Groups after Sagawa et al. 2020 (1911.08731); intervals after Wilson 1927.
"""
