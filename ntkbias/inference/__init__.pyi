from .ensembles import Ensemble, ensemble_flow
from .likelihood import log_marginal_likelihood
from .posterior import Posterior, kernel_posterior

__all__ = ["Ensemble", "Posterior", "ensemble_flow", "kernel_posterior", "log_marginal_likelihood"]
