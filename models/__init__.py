"""Methods, one file each: Pyro programs and baselines. Installed as ``vje_pyro.models``."""

from vje_pyro.models.barlow_twins import BarlowTwins
from vje_pyro.models.byol import BYOL
from vje_pyro.models.global_latents import GlobalLatents
from vje_pyro.models.lejepa import LeJEPA
from vje_pyro.models.many_views import ManyViews
from vje_pyro.models.mc_infonce import MCInfoNCE
from vje_pyro.models.moco_v3 import MoCoV3
from vje_pyro.models.simclr import SimCLR
from vje_pyro.models.simsiam import SimSiam
from vje_pyro.models.vi_simsiam import VISimSiam
from vje_pyro.models.vicreg import VICReg
from vje_pyro.models.vje import VJE
from vje_pyro.models.vssl import VSSL

__all__ = [
    "BYOL",
    "VJE",
    "VSSL",
    "BarlowTwins",
    "GlobalLatents",
    "LeJEPA",
    "MCInfoNCE",
    "ManyViews",
    "MoCoV3",
    "SimCLR",
    "SimSiam",
    "VICReg",
    "VISimSiam",
]
