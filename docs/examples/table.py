"""Writes table.csv: 5,000 rows with 20 features and three kinds, which no straight line separates."""

import numpy as np

random = np.random.default_rng(0)
features = random.normal(size=(5000, 20))
hidden = np.maximum(features @ random.normal(size=(20, 8)), 0)  # a network that a model has to find
kinds = np.argmax(hidden @ random.normal(size=(8, 3)) + random.normal(size=(5000, 3)), axis=1)
names = ",".join([*(f"feature{i}" for i in range(20)), "kind"])
rows = np.column_stack([features, kinds])
np.savetxt("table.csv", rows, fmt=["%.6f"] * 20 + ["%d"], delimiter=",", header=names, comments="")
