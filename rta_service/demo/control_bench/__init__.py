"""Measures the cost controller in the wind tunnel against the baselines of its targets.

`bidder` adapts the controller, `lineup` names its rivals, `playing` runs campaigns in processes,
`verdict` sums up and compares with the targets, `tables` and `page` show it.
"""
