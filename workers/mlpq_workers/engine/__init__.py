"""The training of networks. Imports torch, the spec and the records of figures; nothing of workers or databases."""
