"""What changes a model: one module a defence, one module an attack.

Importing this package registers every defence (see `adapters.registry`).
"""

from adapters import aligned as aligned
from adapters import erased as erased
from adapters import gift as gift
from adapters import lcfdsd as lcfdsd
from adapters import poseguard as poseguard
from adapters import poseguard_hardened as poseguard_hardened
from adapters import sdd as sdd
from adapters import seam as seam
from adapters import seam_tokenbuncher as seam_tokenbuncher
from adapters import tokenbuncher as tokenbuncher
