"""The readout: an auxiliary linear head on an early layer of the student, and what it tells.

Frozen, pooled hidden states -> MAP fit and Laplace posterior -> predictive -> difficulty.
After DeDiER (2310.18590, the auxiliary network), Meronen et al. 2023 (2302.06359, Laplace at early
exits) and 2505.01070. May import `data`, `models` and what lies left of them.
"""
