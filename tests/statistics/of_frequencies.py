"""Frequencies and rank correlations, of functions whose frequencies are known, on samples of a sphere."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from covering import Case, holds

import ntkbias as nb
from ntkbias.domains import PointCloud, Sphere

NUM = 150
SPHERE = Sphere(3)
DEGREES = np.array([0, 1, 2, 3, 2, 4])
MANY = range(10_000, 10_100)
def functions_on(x):
    y = np.asarray(SPHERE.harmonics(x, 4), float)
    return y[:, [0, 2, 5, 10, 7, 20]]


def ranked(seed, measure, num_resamples=50):
    x = SPHERE.sample(NUM, key=jax.random.key(seed))
    functions = functions_on(x)
    functions = functions / np.sqrt(np.mean(functions**2, 0))
    bare = nb.eigen.eigh(jnp.eye(NUM), num_modes=len(DEGREES))
    fields = {"eigenvalues": jnp.linspace(2, 1, len(DEGREES)), "eigenfunctions": jnp.asarray(functions), "x": x}
    spectrum = nb.Spectrum(**{**vars(bare), **fields, "eigenspace": jnp.arange(len(DEGREES))})
    domain = SPHERE if measure == "harmonic" else PointCloud(dimension=2)
    return nb.rank_by_frequency(spectrum, domain, measure=measure, num_resamples=num_resamples, key=jax.random.key(seed))

if __name__=="__main__":
    F=np.sqrt(DEGREES*(DEGREES+1.))
    for m in ("harmonic","graph"):
        fs,sp,iv,si=[],[],[],[]
        for s in range(100):
            r=ranked(s,m); fs.append(np.asarray(r.frequencies)); iv.append(np.asarray(r.interval)); sp.append(r.spearman); si.append(r.spearman_interval)
        fs=np.array(fs); iv=np.array(iv); sp=np.array(sp); si=np.array(si)
        print(m,"true",F.round(3),"mean",fs.mean(0).round(3),"sd",fs.std(0).round(3))
        for name,t in (("true",F),("mean",fs.mean(0)),("median",np.median(fs,0))):
            print(name,np.mean((iv[...,0]<=t*(1+1e-5))&(t*(1-1e-5)<=iv[...,1]),0))
        import scipy.stats
        tr=scipy.stats.spearmanr(np.linspace(2,1,6),F).statistic
        print("spearman true",tr,"mean",sp.mean(),"covers true",np.mean((si[:,0]<=tr+1e-6)&(tr-1e-6<=si[:,1])),"mean",np.mean((si[:,0]<=sp.mean())&(sp.mean()<=si[:,1])), "width",(si[:,1]-si[:,0]).mean(),flush=True)
