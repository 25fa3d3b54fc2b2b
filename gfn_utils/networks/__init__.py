"""Who decides: from encoded states to the unmasked logits of P_F and P_B.

A *network* describes a keras.Model. It builds one (`build`, `build_state_flow`), and gives its
logits as a pure function of weights (`logits`), which is what compiled training needs. Networks
that are equal share their compiled programs.
"""

from gfn_utils.networks.dense import DenseNetwork
from gfn_utils.networks.keras_network import KerasNetwork

__all__ = ["DenseNetwork", "KerasNetwork"]
