"""A deployed flow's whole life: deploying it, starting it, looking at it, mending it, removing it.

These are the only effects that lokki has on an AWS account, and `client` is their one door to it.
"""
