"""The kernel on other kinds of CPU, under emulation: make cross."""
