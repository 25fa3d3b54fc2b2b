"""Time this package with a Keras model of one's own of the same layers: see time_gfn_utils.py."""

import importlib.metadata

import scenarios
import time_gfn_utils  # before Keras: gfn_utils chooses its backend

import keras  # isort: skip


class Trainer(time_gfn_utils.Trainer):
    def network(self, units: int) -> dict:
        def build(env):
            hidden = features = keras.Input(env.encode(env.initial_states(1)).shape[1:])
            for _ in range(2):
                hidden = keras.layers.Dense(units, "relu")(hidden)
            return keras.Model(features, keras.layers.Dense(2 * env.n_actions - 1)(hidden))

        return {"network": build}


if __name__ == "__main__":
    version = importlib.metadata.version("gfn_utils")
    scenarios.main("own network", version, Trainer, time_gfn_utils.import_seconds)
