"""Learnability on the circle, for a kernel whose eigenvalues are known: r_0 = 1/2, and r_k = k^-2 for both waves of k.

The population's numbers follow from the definitions with these eigenvalues. Targets are waves of known power.
"""

import numpy as np
import scipy
from covering import Case, holds

from ntkbias.kernels import as_operator
from ntkbias.learning import learnability

NUM = 120
DEGREES = np.arange(1, 4_001.0)
TARGETS = {"one wave": {2: 1.0}, "four waves": {1: 1.0, 2: 0.6, 4: 0.8, 7: 0.7}}


def circle(seed, n=NUM):
    return np.random.default_rng(seed).uniform(0, 2 * np.pi, n)


def matrix(angles):
    """1/2 + sum_k 2 k^-2 cos(k (a - b)), from the Fourier series of a parabola."""
    apart = np.abs(angles[:, None] - angles) % (2 * np.pi)
    return 0.5 + 2 * (np.pi**2 / 6 - np.pi * apart / 2 + apart**2 / 4)


def target(waves, angles):
    return sum(size * np.cos(degree * angles + degree) for degree, size in waves.items())


def numbers(waves, ridge):
    """The Rayleigh quotient, the learning time and the samples needed, for infinitely many examples."""
    power = np.array([size**2 for size in waves.values()])
    power, rates = power / power.sum(), np.array([float(degree) for degree in waves]) ** -2
    time = scipy.optimize.brentq(lambda t: power @ np.exp(-rates * t) - 0.5, 0, 1e4) / np.log(2)
    kappa = scipy.optimize.brentq(lambda k: power @ (rates / (rates + k)) - 0.5, 1e-6, 1e3)
    all_rates = DEGREES**-2
    samples = 0.5 / (0.5 + kappa) + 2 * np.sum(all_rates / (all_rates + kappa)) + ridge / kappa
    return power @ rates, time, samples


FIELDS = "rayleigh_quotient", "learning_time", "samples_needed"
RIDGE = 0.1


def of_samples(seed):
    angles = circle(seed)
    values = {name: target(waves, angles) for name, waves in TARGETS.items()}
    found = learnability(matrix(angles), values, centered=False, ridge=RIDGE)
    return {
        f"{field.replace('_', ' ')}, {name}": holds(getattr(found[name], field).low, getattr(found[name], field).high, truth)
        for name, waves in TARGETS.items()
        for field, truth in zip(FIELDS, numbers(waves, RIDGE), strict=True)
    }

def of_few_modes(seed):
    rng, angles = np.random.default_rng(seed), circle(seed)
    K = matrix(angles)
    values = {"random labels": rng.choice([-1.0, 1.0], NUM), **{n: target(w, angles) for n, w in TARGETS.items()}}
    whole, few = (learnability(op, values, centered=False, ridge=RIDGE, modes=m) for op, m in ((K, None), (as_operator(K)*1.0, 10)))
    return {
        f"{field.replace('_', ' ')}, {name}": holds(getattr(few[name], field).low, getattr(few[name], field).high, getattr(whole[name],field).value)
        for name in values for field in FIELDS
    }
def few_population(seed):
    angles = circle(seed)
    values = {name: target(waves, angles) for name, waves in TARGETS.items()}
    found = learnability(as_operator(matrix(angles))*1.0, values, centered=False, ridge=RIDGE,modes=10)
    return {
        f"{field.replace('_', ' ')}, {name}": holds(getattr(found[name], field).low, getattr(found[name], field).high, truth)
        for name, waves in TARGETS.items()
        for field, truth in zip(FIELDS, numbers(waves, RIDGE), strict=True)
    }
def bias(n,N=60):
    out=[];w=[]
    for s in range(N):
        angles=circle(s,n)
        values = {name: target(waves, angles) for name, waves in TARGETS.items()}
        found = learnability(matrix(angles), values, centered=False, ridge=RIDGE)
        out.append([[np.log(getattr(found[k],f).value) for f in FIELDS] for k in TARGETS])
        w.append([[np.log(getattr(found[k],f).high/getattr(found[k],f).low)/3.92 for f in FIELDS] for k in TARGETS])
    out=np.array(out); tr=np.log([numbers(TARGETS[k],RIDGE) for k in TARGETS])
    print(n,"bias",(out.mean(0)-tr).round(3).tolist(),"sd",out.std(0).round(3).tolist(),"stated",np.mean(w,0).round(3).tolist())
if __name__=="__main__":
    from covering import rows
    for n in (60,120,300): bias(n)
    for d in (of_samples,of_few_modes,few_population):
        for r in rows(Case("l","","",d),100): print(d.__name__,r.name,r.coverage,flush=True)
