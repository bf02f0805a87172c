"""Evaluation: group metrics with their intervals, early exits, as pure functions over arrays.

May import `data` and `readout`. Groups after Sagawa et al. 2020 (1911.08731); intervals after
Wilson 1927; early exits after Meronen et al. 2023 (2302.06359).
"""
