"""Groups of options: what several commands share, each with an example for the help.

Importing this module loads neither JAX nor NumPy, so that a wrong option fails at once.

>>> from ntkbias.cli.groups import LimitsGroup
>>> LimitsGroup().limits
('finite', 'infinite')
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ntkbias.cli.lists import Integers, Names, Texts

__all__ = ["DATA", "DOMAINS", "PATHS", "CommonOptions", "CurvesGroup", "DataOptions", "ExactGroup", "Limit"]
__all__ += ["LimitGroup", "LimitsGroup", "LossName", "MeasureName", "ModesGroup", "NetworkGroup", "NetworkOptions"]
__all__ += ["NetworksGroup", "Parameterization", "ReportGroup", "RunOptions", "StudyGroup", "TargetsGroup"]
__all__ += ["TrainingGroup"]

DATA = ("digits", "mnist", "cifar10")
DOMAINS = ("circle", "torus", "sphere", "cube", "gaussian")
PATHS = ("--out", "--folder", "--config")
Limit = Literal["finite", "infinite"]
# These repeat the names in frequency.MEASURES, losses.NAMED and types.Parameterization. Importing those would load JAX,
# and a wrong option should fail at once. A test compares the names.
MeasureName = Literal["harmonic", "graph", "dirichlet"]
LossName = Literal["mse", "logistic", "hinge", "cross_entropy"]
Parameterization = Literal["ntk", "standard", "mup"]
NO_DEFAULT = tyro.conf.arg(help_behavior_hint="")  # the help text itself says what happens without the option


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """The inputs.

    Example: --data sphere:3 --num-examples 512
    """

    data: str = "digits"
    """digits, mnist, cifar10; circle, torus:2, sphere:3, cube:8, gaussian:5; or the path of an .npz or .npy file"""
    folder: Annotated[Path | None, NO_DEFAULT] = None
    """the folder with the files of mnist or cifar10"""
    num_examples: Annotated[int | None, NO_DEFAULT] = None
    """number of inputs: by default 256 on a domain, 2,000 from mnist and cifar10, and otherwise all"""


@dataclasses.dataclass(frozen=True)
class NetworkOptions:
    """The network without its name. `NetworkGroup` and `NetworksGroup` add the name."""

    width: Annotated[Integers, NO_DEFAULT] = ()
    """units or channels of each hidden layer: by default 256, but 16 for resnet, 64 for myrtle, 128 for transformer"""
    depth: Annotated[Integers, NO_DEFAULT] = ()
    """number of hidden layers, or of blocks: by default 2, but 1 per group for resnet"""
    activation: Texts = ("relu",)
    """nonlinearity of the hidden layers: relu, erf, tanh, ..."""
    b_std: float = 0.1
    """standard deviation of the biases; 0 for no biases"""
    parameterization: Parameterization = "ntk"
    """how the weights are scaled"""


@dataclasses.dataclass(frozen=True)
class NetworkGroup(NetworkOptions):
    """One network. A size and an activation in its name take precedence.

    Example: --net cnn:64x2:pool --activation erf
    """

    net: str = "mlp"
    """mlp, cnn, cnn-pool, resnet, myrtle5, transformer; with its size and more, as mlp:256x3:relu, cnn:64x2:pool"""
    model: Annotated[str | None, NO_DEFAULT] = None
    """your own network instead, as module:function; the function returns a Layer, (f, params) or (f, init)"""


@dataclasses.dataclass(frozen=True)
class NetworksGroup(NetworkOptions):
    """The networks: one for each name, and for each value of --width 64,256, --depth and --activation.

    Example: --nets mlp:256x3 cnn:64x2:pool resnet
    """

    nets: Annotated[Names, NO_DEFAULT] = ()
    """the architectures, as mlp or cnn:64x2:pool: by default mlp; compare adds cnn if the inputs are images"""
    model: Annotated[Names, NO_DEFAULT] = ()
    """your own networks, each as module:function; the function returns a Layer, (f, params) or (f, init)"""


@dataclasses.dataclass(frozen=True)
class CommonOptions:
    """What all commands have.

    Example: --seed 3 --json
    """

    seed: int = 0
    """seed of the parameters of finite networks and of the choice of examples"""
    json: bool = False
    """print the result as JSON instead of a table"""
    cache: bool = True
    """keep compiled programs in the user's cache folder for later commands"""
    config: Annotated[Path | None, NO_DEFAULT] = None
    """a TOML file with these options, e.g. width = 128, or settings.json of a run; the command line takes precedence"""


@dataclasses.dataclass(frozen=True)
class RunOptions(CommonOptions):
    """The run folder, and what all commands have.

    Example: --out runs/a --seed 3 --json
    """

    out: Path = Path("runs/latest")
    """the run folder; files from an earlier command there are replaced, other files are not"""
    overwrite: bool = False
    """compute again if the folder already holds the finished results of the same settings"""


@dataclasses.dataclass(frozen=True)
class LimitGroup:
    """The width at which to take the kernel.

    Example: --limit infinite
    """

    limit: Limit = "finite"
    """a network of this width with random parameters, or its infinite-width limit"""


@dataclasses.dataclass(frozen=True)
class LimitsGroup:
    """The kernels of each network.

    Example: --limits finite --num-runs 8
    """

    limits: Names = ("finite", "infinite")
    """which kernels of each network: finite, infinite or both"""
    num_runs: int = 1
    """number of random initializations of each finite network"""


@dataclasses.dataclass(frozen=True)
class TargetsGroup:
    """Functions that a network might learn.

    Example: --targets labels class-3 brightness
    """

    targets: Annotated[Names, NO_DEFAULT] = ()
    """functions of the inputs by name, such as labels, class-3, brightness or degree-2; see ntkbias info for all"""


@dataclasses.dataclass(frozen=True)
class ModesGroup:
    """The modes of the kernels.

    Example: --measure dirichlet --num-modes 20
    """

    measure: Annotated[MeasureName | None, NO_DEFAULT] = None
    """how to measure frequency: by default harmonic on a domain, graph elsewhere"""
    num_modes: int = 10
    """number of modes in the printed table"""


@dataclasses.dataclass(frozen=True)
class CurvesGroup:
    """The regression whose test error is predicted.

    Example: --sizes 10,30,100 --noise 0.1
    """

    sizes: Integers = (10, 30, 100, 300)
    """numbers of examples at which to predict the test error; sizes beyond half of the inputs are left out"""
    ridge: float = 0.0
    """the ridge that regression adds to the kernel matrix"""
    noise: float = 0.0
    """variance of the noise of the targets"""
    limit: Limit = "infinite"
    """a network of this width with random parameters, or its infinite-width limit"""


@dataclasses.dataclass(frozen=True)
class ExactGroup:
    """The domain.

    Example: --data sphere:3 --max-degree 12
    """

    data: str = "circle"
    """circle, torus:2, sphere:3, cube:8 or gaussian:5: the domain, and its number of angles or coordinates"""
    max_degree: int = 16
    """the largest degree; on the torus the largest sum of squared indices"""


@dataclasses.dataclass(frozen=True)
class TrainingGroup:
    """The training.

    Example: --optimizer adam --num-steps 2000 --batch-size 128
    """

    num_steps: int = 1000
    """number of optimizer steps"""
    optimizer: Literal["sgd", "momentum", "adam"] = "sgd"
    """gradient descent, gradient descent with momentum 0.9, or Adam"""
    learning_rate: Annotated[float | None, NO_DEFAULT] = None
    """by default an eighth of the critical rate of the initial kernel; for adam 0.001"""
    loss: LossName = "mse"
    """the loss; mse uses one output per label, and logistic and hinge need two classes"""
    batch_size: Annotated[int | None, NO_DEFAULT] = None
    """examples per step: by default all"""
    probe: int = 300
    """number of training examples on which to follow the kernel"""
    test_examples: int = 500
    """number of test examples: from the test split of mnist and cifar10, else the last ones, at most a fifth"""
    num_snapshots: int = 30
    """number of snapshots: one at step 0, the others spaced logarithmically"""
    num_runs: int = 1
    """number of networks from different seeds, trained together"""
    measures: Literal["default", "all"] = "default"
    """all adds the costly measures: more kernels, gradients over all data, the path kernel"""
    resume: bool = False
    """continue the run that was stopped in the same folder, if there is one"""


@dataclasses.dataclass(frozen=True)
class ReportGroup:
    """The saved results and their page.

    Example: runs/a --out pages/a
    """

    run: tyro.conf.Positional[Path] = Path("runs/latest")
    """the run folder of spectrum, compare or track, or the path of a comparison or a history that nb.save wrote"""
    out: Annotated[Path | None, NO_DEFAULT] = None
    """the folder of the new page: by default the run folder itself, or runs/latest for a saved value"""
    json: bool = False
    """print the path of the page as JSON"""


@dataclasses.dataclass(frozen=True)
class StudyGroup:
    """The study, its size and its runs.

    Example: sphere_decay --scale small --num-runs 3
    """

    name: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(help_behavior_hint="", metavar="STUDY")] = None
    """the study: a name that --list shows, or all for every one of them, each in a folder of its own below --out"""
    list: bool = False
    """list all studies, and run none"""
    scale: Literal["smoke", "small", "paper"] = "small"
    """smoke takes seconds to a minute, small at most some minutes; paper has the paper's own size"""
    num_runs: Annotated[int | None, NO_DEFAULT] = None
    """number of runs from different seeds: by default the study's own"""
    jobs: int = 1
    """number of studies that run at once, if all run"""
    set: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], NO_DEFAULT] = ()
    """name=value: replaces a setting of the study, which its page lists; may be given several times"""
    weights: Annotated[Path | None, NO_DEFAULT] = None
    """the folder of the GGUF file that the study language-model reads"""
