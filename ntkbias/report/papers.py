"""The papers whose methods the results of a page use, with BibTeX entries.

>>> from ntkbias.report.papers import bibtex, PAPERS
>>> print(bibtex(["rubin1981"]))
@article{rubin1981,
  author = {Rubin, Donald B.},
  title = {The {B}ayesian Bootstrap},
  journal = {The Annals of Statistics, volume 9},
  year = {1981}
}
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ntkbias.comparison import Comparison
from ntkbias.kernels.infinite import InfiniteKernel
from ntkbias.tracking import History

__all__ = ["PAPERS", "Paper", "bibtex", "papers_of"]


class Paper(NamedTuple):
    """A paper: what its method is used for on the page, and the fields of its BibTeX entry."""

    use: str
    author: str
    title: str
    venue: str
    year: int
    eprint: str = ""
    kind: str = "inproceedings"  # or "article", for which the venue is a journal

    @property
    def cited(self) -> str:
        """The first author and the year, as in a text."""
        names = [name.partition(",")[0] for name in self.author.split(" and ")]
        first = names[0] if len(names) == 1 else " and ".join(names) if len(names) == 2 else f"{names[0]} et al."
        return f"{first} {self.year}"


NEURIPS = "Advances in Neural Information Processing Systems"
ICML = "International Conference on Machine Learning"
PAPERS = {
    "jacot2018": Paper(
        "the neural tangent kernel",
        "Jacot, Arthur and Gabriel, Franck and Hongler, Clément",
        "Neural Tangent Kernel: Convergence and Generalization in Neural Networks",
        NEURIPS,
        2018,
        "1806.07572",
    ),
    "arora2019": Paper(
        "the kernel of infinitely wide convolutional networks",
        "Arora, Sanjeev and Du, Simon S. and Hu, Wei and Li, Zhiyuan and Salakhutdinov, Ruslan and Wang, Ruosong",
        "On Exact Computation with an Infinitely Wide Neural Net",
        NEURIPS,
        2019,
        "1904.11955",
    ),
    "rahaman2019": Paper(
        "the preference of networks for low frequencies",
        "Rahaman, Nasim and Baratin, Aristide and Arpit, Devansh and Draxler, Felix and Lin, Min and Hamprecht, Fred "
        "and Bengio, Yoshua and Courville, Aaron",
        "On the Spectral Bias of Neural Networks",
        ICML,
        2019,
        "1806.08734",
    ),
    "basri2019": Paper(
        "eigenvalues of the kernel by the frequency of harmonics",
        "Basri, Ronen and Jacobs, David and Kasten, Yoni and Kritchman, Shira",
        "The Convergence Rate of Neural Networks for Learned Functions of Different Frequencies",
        NEURIPS,
        2019,
        "1906.00425",
    ),
    "roy2007": Paper(
        "the effective rank",
        "Roy, Olivier and Vetterli, Martin",
        "The Effective Rank: A Measure of Effective Dimensionality",
        "European Signal Processing Conference",
        2007,
    ),
    "rubin1981": Paper(
        "intervals of frequencies",
        "Rubin, Donald B.",
        "The {B}ayesian Bootstrap",
        "The Annals of Statistics, volume 9",
        1981,
        kind="article",
    ),
    "canatar2021": Paper(
        "the power of targets in the first modes",
        "Canatar, Abdulkadir and Bordelon, Blake and Pehlevan, Cengiz",
        "Spectral Bias and Task-Model Alignment Explain Generalization in Kernel Regression and Infinitely Wide Neural "
        "Networks",
        "Nature Communications, volume 12",
        2021,
        "2006.13198",
        kind="article",
    ),
    "bietti2021": Paper(
        "the decay of eigenvalues from the kernel's singularities",
        "Bietti, Alberto and Bach, Francis",
        "Deep Equals Shallow for {R}e{LU} Networks in Kernel Regimes",
        "International Conference on Learning Representations",
        2021,
        "2009.14397",
    ),
    "kornblith2019": Paper(
        "CKA, the similarity of two kernels",
        "Kornblith, Simon and Norouzi, Mohammad and Lee, Honglak and Hinton, Geoffrey",
        "Similarity of Neural Network Representations Revisited",
        ICML,
        2019,
        "1905.00414",
    ),
    "bjorck1973": Paper(
        "principal angles between eigenspaces",
        "Björck, Åke and Golub, Gene H.",
        "Numerical Methods for Computing Angles between Linear Subspaces",
        "Mathematics of Computation, volume 27",
        1973,
        kind="article",
    ),
    "fort2020": Paper(
        "the distance of a kernel to the initial one",
        "Fort, Stanislav and Dziugaite, Gintare Karolina and Paul, Mansheej and Kharaghani, Sepideh and Roy, Daniel M. "
        "and Ganguli, Surya",
        "Deep Learning versus Kernel Learning: An Empirical Study of Loss Landscape Geometry and the Time Evolution of "
        "the Neural Tangent Kernel",
        NEURIPS,
        2020,
        "2010.15110",
    ),
    "cortes2012": Paper(
        "the centered alignment of kernel and labels",
        "Cortes, Corinna and Mohri, Mehryar and Rostamizadeh, Afshin",
        "Algorithms for Learning Kernels Based on Centered Alignment",
        "Journal of Machine Learning Research, volume 13",
        2012,
        kind="article",
    ),
    "baratin2021": Paper(
        "the alignment of the kernel along training",
        "Baratin, Aristide and George, Thomas and Laurent, César and Hjelm, R Devon and Lajoie, Guillaume and Vincent, "
        "Pascal and Lacoste-Julien, Simon",
        "Implicit Regularization via Neural Feature Alignment",
        "International Conference on Artificial Intelligence and Statistics",
        2021,
        "2008.00938",
    ),
    "cohen2021": Paper(
        "the limit 2 / learning rate of eigenvalues",
        "Cohen, Jeremy M. and Kaur, Simran and Li, Yuanzhi and Kolter, J. Zico and Talwalkar, Ameet",
        "Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability",
        "International Conference on Learning Representations",
        2021,
        "2103.00065",
    ),
}


def papers_of(value: Comparison | History) -> list[str]:
    """The keys of the papers whose methods the page of this value uses, in the order of `PAPERS`."""
    used = {"jacot2018"}
    if isinstance(value, Comparison):
        used |= {"rahaman2019", "roy2007"}
        kernels = [spectrum.kernel for spectrum in value.spectra]
        images = np.ndim(np.asarray(value.spectra[0].x)) == 4
        if images and any(isinstance(kernel, InfiniteKernel) for kernel in kernels):
            used.add("arora2019")
        if any(ranking.energy is not None for ranking in value.rankings):
            used.add("basri2019")
        if any(len(ranking.resamples) > 1 for ranking in value.rankings):
            used.add("rubin1981")
        if value.targets is not None:
            used.add("canatar2021")
        if len(value) > 1:
            used |= {"kornblith2019", "bjorck1973"}
    else:
        measures: dict[str, tuple[str, ...]] = {
            "alignment": ("cortes2012", "baratin2021"),
            "eigenvalues": ("cohen2021",),
            "effective_rank": ("roy2007",),
            "residual_spectrum": ("rahaman2019",),
            "residual_frequency": ("rahaman2019",),
        }
        used |= {key for measure, keys in measures.items() if measure in value for key in keys}
        if any("drift" in name or "distance" in name or "velocity" in name for name in value):
            used.add("fort2020")
    return [key for key in PAPERS if key in used]


def bibtex(keys: Sequence[str]) -> str:
    """The BibTeX entries of these papers."""
    return "\n\n".join(_entry(key, PAPERS[key]) for key in keys)


def _entry(key: str, paper: Paper) -> str:
    where = "journal" if paper.kind == "article" else "booktitle"
    fields: dict[str, Any] = {"author": paper.author, "title": paper.title, where: paper.venue, "year": paper.year}
    if paper.eprint:
        fields |= {"eprint": paper.eprint, "archivePrefix": "arXiv"}
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return f"@{paper.kind}{{{key},\n{lines}\n}}"
