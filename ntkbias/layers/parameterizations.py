"""How linear layers are parameterized: the scales of their weights and biases, in one table.

A layer with d inputs and c outputs per unit computes z = m x W + m_b b. Its parameterization sets the multipliers m and
m_b, and the standard deviations s and s_b (times b_init) of W and b at initialization:

                        m                    s               m_b              s_b
    ntk                 w_std / sqrt(d)      1               b_std            1
    standard            1                    w_std / sqrt(d) 1                b_std
    mup                 w_std sqrt(c / d)    1 / sqrt(c)     b_std sqrt(c)    1 / sqrt(c)
    mup, readout        w_std / sqrt(d)      1 / sqrt(d)     b_std            1

Only products matter: m s is the size of the weights, and gradient descent of rate h moves them by h m^2 times their own
gradient. The maximal update parameterization (Yang and Hu 2021, arXiv 2011.14522) is written so that gradient descent
has one rate, which does not depend on the width: the exponents of its abc-parameterization with c = 0. In the readout
the size of the weights is w_std / d, and m^2 = w_std^2 / d; in all other layers the size is w_std / sqrt(d), and m^2
is w_std^2 c / d. These are the powers of Table 3 of Yang et al. (2022, arXiv 2203.03466): initial variance 1 / d, and
1 / d^2 in the readout; rates of gradient descent c for the inputs' weights and for biases, 1 for hidden weights, 1 / d
for the readout's. The table leaves constants free, such as the number of features of the inputs.

>>> from ntkbias.layers.parameterizations import Scales
>>> hidden, readout = Scales("mup", 100, 100), Scales("mup", 100, 1, readout=True)
>>> hidden.multiplier(1.0), hidden.std(1.0), readout.multiplier(1.0), readout.std(1.0)
(1.0, 0.1, 0.1, 0.1)
"""

from typing import Any, NamedTuple

from ntkbias.types import Parameterization

__all__ = ["Scales"]


class Scales(NamedTuple):
    """The scales of a linear layer of `fan_in` inputs and `fan_out` outputs per unit, in a parameterization.

    `readout` says that it is the last linear layer of a network, which only "mup" treats apart.
    """

    parameterization: Parameterization
    fan_in: int
    fan_out: int
    readout: bool = False

    @property
    def _grows(self) -> float:
        """The factor c by which squared multipliers grow with the width: one unless this is a hidden layer of muP."""
        return float(self.fan_out) if self.parameterization == "mup" and not self.readout else 1.0

    def multiplier(self, w_std: Any) -> Any:
        """The multiplier m of x W."""
        if self.parameterization == "standard":
            return 1.0
        return w_std / self.fan_in**0.5 * self._grows**0.5

    def std(self, w_std: Any) -> Any:
        """The standard deviation s of the weights."""
        if self.parameterization == "standard":
            return w_std / self.fan_in**0.5
        if self.parameterization == "mup":
            return (self.fan_in if self.readout else self.fan_out) ** -0.5
        return 1.0

    def bias_multiplier(self, b_std: Any) -> Any:
        """The multiplier m_b of the biases."""
        return 1.0 if self.parameterization == "standard" else b_std * self._grows**0.5

    def bias_std(self, b_std: Any) -> Any:
        """The standard deviation s_b of the biases, before b_init multiplies it."""
        return b_std if self.parameterization == "standard" else self._grows**-0.5

    def gain(self, w_std: Any) -> Any:
        """d (m s)^2, by which a covariance grows from the inputs to the outputs."""
        return w_std**2 / self.fan_in if self.parameterization == "mup" and self.readout else w_std**2

    def trained(self, w_std: Any) -> Any:
        """d m^2: the weights add d m^2 times the mean product of two inputs' features to the NTK."""
        return float(self.fan_in) if self.parameterization == "standard" else w_std**2 * self._grows

    def bias_trained(self, b_std: Any) -> Any:
        """m_b^2, which the biases add to the NTK."""
        return 1.0 if self.parameterization == "standard" else b_std**2 * self._grows

    @property
    def adam_rate(self) -> float:
        """The factor of Adam's learning rate for the weights under muP, so that m W moves by about w_std / d a step."""
        return (self.fan_in * self._grows) ** -0.5 if self.parameterization == "mup" else 1.0

    @property
    def adam_bias_rate(self) -> float:
        """The factor of Adam's learning rate for the biases under muP, so that m_b b moves by about b_std a step."""
        return self._grows**-0.5
