"""Looks over a controller's shoulder, for tests and for pictures of a run."""

from rta_service.simulation.wind_tunnel.controller import Asked, Controller, Wins
from rta_service.simulation.wind_tunnel.curves import Floats
from rta_service.simulation.wind_tunnel.postbacks import Postbacks


class Witness:
    """Passes everything on to a controller, and keeps what it was asked, answered and told."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self.asked: list[Asked] = []
        self.answers: list[Floats] = []
        self.wins: list[Wins] = []
        self.postbacks: list[Postbacks] = []
        self.learnt_at: list[float] = []

    def bid(self, asked: Asked) -> Floats:
        """Ask the controller."""
        answers = self._controller.bid(asked)
        self.asked.append(asked)
        self.answers.append(answers)
        return answers

    def learn(self, wins: Wins, postbacks: Postbacks, now: float, /) -> None:
        """Tell the controller."""
        self.wins.append(wins)
        self.postbacks.append(postbacks)
        self.learnt_at.append(now)
        self._controller.learn(wins, postbacks, now)
