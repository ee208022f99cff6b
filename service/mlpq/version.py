"""The version of mlpq."""

VERSION = "0.1.0"
