"""A wind tunnel for bid controllers: markets, funnels and platforms, drawn by seed.

    >>> from rta_service.simulation.wind_tunnel.controller import brief_of
    >>> from rta_service.simulation.wind_tunnel.baselines import SingleMultiplier
    >>> from rta_service.simulation.wind_tunnel.run import run
    >>> from rta_service.simulation.wind_tunnel.scenario import load_scenario
    >>> from rta_service.simulation.wind_tunnel.world import make_world
    >>> campaign = next(load_scenario("daily").draw(seed=1))
    >>> world = make_world(campaign, seed=1)
    >>> run(world, SingleMultiplier(brief_of(world))).cost > 0
    True

A world draws all chance beforehand, so every controller meets the same requests, prices and
conversions, and two runs differ by their bids alone.
"""
