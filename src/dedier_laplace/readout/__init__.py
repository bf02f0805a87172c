"""The readout: an auxiliary head on early layers of the student, and what it tells.

Frozen, pooled hidden states -> MAP fit and Laplace posterior -> predictive -> difficulty, of one
layer or of several exits (mixture, nested prediction sets). After DeDiER (2310.18590, the auxiliary
network), Meronen et al. 2023 (2302.06359, Laplace at early exits), Jazbec et al. 2024 (2311.05931,
nested sets) and 2505.01070. Takes plain tensors; may import `config.readout`, nothing else of ours.
"""
