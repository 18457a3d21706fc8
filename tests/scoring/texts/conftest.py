"""Model texts: a small one written by hand, and really trained ones of every objective."""

from collections.abc import Callable, Mapping
from typing import Any

import lightgbm
import numpy as np
import pytest
from numpy.typing import NDArray

from rta_service.simulation.hostile_models import resize

COLUMNS = 8
CATEGORIES = [5, 6]

Train = Callable[..., Any]

_BY_HAND = b"""tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=2
objective=binary sigmoid:1
feature_names=age city spend
feature_infos=[0:99] -1:2:0:40 [-inf:inf]
tree_sizes=

Tree=0
num_leaves=4
num_cat=1
split_feature=0 1 2
split_gain=10 5 2.5
threshold=30.5 0 1.0000000180025095e-35
decision_type=10 9 2
left_child=1 -1 -2
right_child=2 -3 -4
leaf_value=-1.5 0.25 0.5 1e-05
leaf_weight=10 20 30 40
leaf_count=10 20 30 40
internal_value=0 -1.25 0
internal_weight=0 40 60
internal_count=100 40 60
cat_boundaries=0 2
cat_threshold=5 256
is_linear=0
shrinkage=1


Tree=1
num_leaves=3
num_cat=0
split_feature=2 0
split_gain=1 1
threshold=inf -7.25
decision_type=8 4
left_child=1 -1
right_child=-2 -3
leaf_value=-0.5 0.125 0.75
leaf_weight=50 20 30
leaf_count=50 20 30
internal_value=0 0
internal_weight=0 0
internal_count=100 80
is_linear=0
shrinkage=0.1


Tree=2
num_leaves=1
num_cat=0
split_feature=
split_gain=
threshold=
decision_type=
left_child=
right_child=
leaf_value=0.0625
leaf_weight=
leaf_count=
internal_value=
internal_weight=
internal_count=
is_linear=0
shrinkage=1


end of trees

feature_importances:
age=2
spend=2
city=1

parameters:
[boosting: gbdt]
[data: ]

end of parameters

pandas_categorical:null
"""


@pytest.fixture(scope="session")
def by_hand() -> bytes:
    """Three trees: with a category, with a threshold of inf, and a constant."""
    return resize(_BY_HAND)


@pytest.fixture(scope="session")
def table() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows [1500, 8] of many scales with gaps, zeros and categories, and what they lead to."""
    chance = np.random.default_rng(5)
    matrix = chance.normal(size=(1_500, COLUMNS)) * 10.0 ** np.arange(-4, 4)
    matrix[:, 5] = chance.integers(0, 100, len(matrix))
    matrix[:, 6] = chance.integers(0, 3, len(matrix))
    matrix[chance.random(matrix.shape) < 0.1] = np.nan
    matrix[chance.random(matrix.shape) < 0.1] = 0.0
    lean = np.nan_to_num(matrix[:, 4]) + (matrix[:, 5] % 7 == 1) + np.isnan(matrix[:, 1])
    return matrix, lean + chance.normal(size=len(matrix))


@pytest.fixture(scope="session")
def train(table: tuple[NDArray[np.float64], NDArray[np.float64]]) -> Train:
    """Trains on the table; gives the booster."""
    matrix, lean = table

    def train(objective: str = "binary", rounds: int = 12, **params: Any) -> Any:
        labels = np.exp(np.clip(lean / 2, -3, 3))
        labels = {"binary": (lean > 1).astype(float), "regression": lean * 100}.get(
            objective, labels
        )
        extra = {name: params.pop(name) for name in list(params) if name in _TO_TRAIN}
        start = 500 if extra.pop("valid", False) else 0
        data = lightgbm.Dataset(
            matrix[start:], labels[start:], categorical_feature=CATEGORIES, free_raw_data=False
        )
        if start:
            unseen = lightgbm.Dataset(matrix[:start], labels[:start], reference=data)
            extra["valid_sets"] = [unseen]
        plain = {"num_leaves": 15, "verbosity": -1, "num_threads": 1, "seed": 1}
        return lightgbm.train({**plain, "objective": objective, **params}, data, rounds, **extra)

    return train


_TO_TRAIN = {"valid", "callbacks", "init_model"}


@pytest.fixture(scope="session")
def texts(train: Train) -> Mapping[str, bytes]:
    """Sound texts by name: the origins of the hostile ones."""
    stopping = [lightgbm.early_stopping(3, verbose=False)]
    stopped = train(rounds=50, valid=True, callbacks=stopping)
    boosters = {
        "categories": train(max_cat_to_onehot=1, cat_smooth=1.0, min_data_per_group=5),
        "small": train(rounds=3, num_leaves=4),
        "large": train(rounds=100, num_leaves=31),
        "value": train("tweedie", rounds=8),
        "amount": train("regression", rounds=8, zero_as_missing=True),
    }
    found = {name: booster.model_to_string().encode() for name, booster in boosters.items()}
    assert 1 < stopped.best_iteration < 50
    early = stopped.model_to_string(num_iteration=stopped.best_iteration)
    return {**found, "stopped": early.encode()}


@pytest.fixture(scope="session")
def strange_rows(table: tuple[NDArray[np.float64], NDArray[np.float64]]) -> NDArray[np.float64]:
    """Rows [800, 8] that visit ordinary values and everything that scoring treats specially."""
    chance = np.random.default_rng(6)
    zero = float(np.float32(1e-35))
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-35, zero, -zero, np.nextafter(zero, 1)]
    special += [5e-324, -1e-310, 1e300, -1e308, -1.0, -0.5, -0.999, 0.5, 2.7, 33.0, 64.0, 99.0]
    special += [100.0, 1e10, 2.0**31, 2.0**31 - 1, 2.0**32 + 3, -(2.0**31), 1e18]
    rows = table[0][:800].copy()
    rows[400:] = chance.choice(special, rows[400:].shape)
    mixed = chance.random((200, COLUMNS)) < 0.3
    rows[200:400][mixed] = chance.choice(special, int(mixed.sum()))
    return rows
