"""Weights from the hub, with a stand-in on this machine that answers, answers late, stays silent, or is not there."""

import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from huggingface_hub import constants
from huggingface_hub.utils import close_session
from safetensors.torch import save
from segmentation_models_pytorch.encoders import encoders

from salt.models import hub
from salt.models.encoder import load_body

ADVICE = "Use encoder=efficientnet_lite0, .* encoder.weights=FILE .* or encoder.weights=null"
REVISION = "0" * 40


class Hub(BaseHTTPRequestHandler):
    """One network's weights, as the hub serves them."""

    content, status, seconds, asked = b"", 200, 0.0, []

    def do_HEAD(self):
        self.asked.append(f"{self.command} {self.path}")
        threading.Event().wait(self.seconds)  # time.sleep is the client's, see `endpoint`
        self.send_response(self.status)
        body = self.content if self.path.endswith("model.safetensors") else b"{}"
        revision = self.path.partition("/resolve/")[2].partition("/")[0]
        self.send_header("X-Repo-Commit", revision if len(revision) == 40 else REVISION)
        self.send_header("ETag", f'"{len(body)}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return body

    def do_GET(self):
        self.wfile.write(self.do_HEAD())

    def log_message(self, *words):
        pass


@pytest.fixture
def endpoint(monkeypatch, tmp_path):
    """Let the client ask another place, with an empty cache; its waits between attempts are counted, not waited for."""
    waits = []
    monkeypatch.setattr(hub.Question, "ahead", None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "harnesses"), raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", waits.append)

    def use(place):
        close_session()
        monkeypatch.setattr(constants, "ENDPOINT", place)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", place + "/{repo_id}/resolve/{revision}/{filename}"
        )
        return waits

    yield use
    close_session()


@pytest.fixture
def served(endpoint):
    """A hub on this machine; its settings are attributes of the class that it returns."""
    handler = type("Handler", (Hub,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    handler.place = f"http://127.0.0.1:{server.server_port}"
    endpoint(handler.place)
    yield handler
    server.shutdown()
    server.server_close()


@pytest.fixture
def silent():
    """The address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def weights_of(name):
    torch.manual_seed(1)
    body = load_body(name, None, 3)
    if name.startswith("tu-"):
        return timm.create_model(name.removeprefix("tu-")).state_dict()
    return body.state_dict()


@pytest.mark.parametrize("name", ["resnet18", "tu-resnet18"])
@pytest.mark.parametrize("kind", ["silent", "closed", "gateway", "nonsense", "offline"])
def test_without_a_network_it_is_one_message_at_once(endpoint, served, silent, monkeypatch, capfd, name, kind):
    served.status = 503
    place = {"silent": silent, "closed": closed_port(), "gateway": served.place, "nonsense": "nonsense"}
    waits = endpoint(place.get(kind, "http://127.0.0.1:9"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", kind == "offline")
    monkeypatch.setattr(hub, "PATIENCE", 0.5)
    reason = {
        "silent": "no answer within 0.5 s; HF_HUB_ETAG_TIMEOUT=30 waits longer",
        "closed": "ConnectError: .* refused",
        "gateway": "HTTP status 503",
        "nonsense": "UnsupportedProtocol: .*",
        "offline": "HF_HUB_OFFLINE is set",
    }[kind]
    began = time.monotonic()
    with pytest.raises(ValueError, match=rf"weights of {name} are not .* \({reason}\)\. {ADVICE}"):
        load_body(name, "imagenet", 1)
    assert time.monotonic() - began < 4 and not waits
    assert (kind == "offline") == constants.HF_HUB_OFFLINE and socket.getdefaulttimeout() is None
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["resnet18", "tu-resnet18"])
def test_a_slow_hub_is_waited_for_and_its_file_serves_without_it(served, endpoint, name):
    served.content, served.seconds = save(weights_of(name)), 0.5
    first = load_body(name, "imagenet", 3).state_dict()
    wanted = {key.removeprefix("model."): value for key, value in first.items()}
    expected = weights_of(name)
    assert all(torch.equal(value, expected[key]) for key, value in wanted.items())
    assert any(line.startswith("GET ") for line in served.asked)
    endpoint(closed_port())  # the cache alone
    again = load_body(name, "imagenet", 3).state_dict()
    assert all(torch.equal(value, first[key]) for key, value in again.items())


def test_the_clients_own_setting_gives_more_time(served, monkeypatch):
    served.content, served.seconds = save(weights_of("resnet18")), 0.4
    monkeypatch.setattr(hub, "PATIENCE", 0.2)
    with pytest.raises(ValueError, match=r"no answer within 0.2 s"):
        load_body("resnet18", "imagenet", 3)
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "5")
    load_body("resnet18", "imagenet", 3)


def test_a_proxy_that_is_not_there_is_one_message(endpoint, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", closed_port())
    waits = endpoint("https://hub.invalid")
    with pytest.raises(ValueError, match=r"https://hub.invalid \(ConnectError: .* refused\)"):
        load_body("resnet18", "imagenet", 3)
    assert not waits


def test_other_errors_of_the_client_are_one_message_too(served, monkeypatch):
    served.status = 404
    with pytest.raises(ValueError, match=r"resnet18 are not .* \(\w+Error: .*404"):
        load_body("resnet18", "imagenet", 3)


def test_what_was_asked_ahead_is_used_once(served):
    hub.ask_ahead("no_such_network")
    assert hub.Question.ahead.answers.get(timeout=5) is None
    hub.Question.ahead.answers.put(None)
    assert hub.why_unreachable() is None and len(served.asked) == 1
    assert hub.why_unreachable() is None and len(served.asked) == 2
    hub.ask_ahead("tu-tf_efficientnet_lite0")  # of a package
    assert hub.Question.ahead is None and len(served.asked) == 2


def test_an_encoder_is_refused_ahead_only_if_nothing_is_cached_and_it_exists(endpoint, tmp_path):
    endpoint(closed_port())
    for name in ("resnet34", "tu-resnet34", "tu-resnet34.a1_in1k"):
        with pytest.raises(ValueError, match=rf"weights of {name} are not .*refused"):
            hub.ask_ahead(name)
    for name in ("resnet43", "tu-resnet43", "tu-efficientnet_lite1", "tu-resnet34.no_such_tag"):
        hub.ask_ahead(name)
    file = tmp_path / "cache/models--any/snapshots" / REVISION / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.touch()
    hub.ask_ahead("resnet34")


def test_the_libraries_list_the_weights_of_all_encoders():
    assert [name for name in encoders if not hub.has_weights(name)] == []
    some = ["convnext_tiny", "tf_efficientnet_b0", "regnety_002", "swin_tiny_patch4_window7_224", "legacy_seresnet18"]
    assert [name for name in some if not hub.has_weights(f"tu-{name}")] == []
    assert smp.__file__ and not hub.has_weights("pretrained_settings_")


def run(*command, **variables):
    """A command in a process of its own, which imports torch only if it has to."""
    environment = {key: value for key, value in os.environ.items() if not re.match("HF_|.*_(proxy|PROXY)$", key)}
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, *command], env=environment | variables, capture_output=True, text=True, check=False
    )
    return ended, time.monotonic() - began


@pytest.mark.parametrize("encoder", [["encoder=resnet34"], ["encoder=any", "encoder.name=tu-convnext_tiny"]])
def test_training_says_so_in_the_first_seconds(tmp_path, silent, encoder):
    variables = {
        "HF_ENDPOINT": silent,
        "HF_HOME": str(tmp_path),
        "TORCH_HOME": str(tmp_path),
        "HF_HUB_ETAG_TIMEOUT": "1",
    }
    words = [*encoder, "encoder.weights=imagenet", "data=synthetic", f"hydra.run.dir={tmp_path}/run"]
    ended, seconds = run("-X", "importtime", "-m", "salt.train", *words, **variables)
    lines = [line for line in ended.stderr.splitlines() if not line.startswith("import time:")]
    assert ended.returncode == 1 and len(lines) == 1 and not ended.stdout
    assert re.search(rf"no answer within 1 s.*{ADVICE}", lines[0])
    assert not re.search(r"\| +torch$", ended.stderr, re.MULTILINE)
    assert seconds < 30  # 2 on a machine without other work


def test_salt_weights_says_so_in_the_first_seconds(tmp_path):
    variables = {"HF_ENDPOINT": closed_port(), "HF_HOME": str(tmp_path), "TORCH_HOME": str(tmp_path)}
    code = "import sys; from salt.commands.weights import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    ended, _ = run("-c", code, "resnet34", "--to", f"{tmp_path}/w.safetensors", **variables)
    assert ended.stdout == "False\n" and ended.stderr.startswith("salt-weights: ") and ended.stderr.count("\n") == 1


def test_hydra_does_not_print_the_clients_lines_again(served, monkeypatch):
    served.content, records = save(weights_of("resnet18")), []
    load_body("resnet18", "imagenet", 3)
    handler = logging.Handler()  # on the root, as Hydra's; caplog follows loggers that keep their lines to themselves
    monkeypatch.setattr(handler, "emit", records.append)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    for name in ("huggingface_hub.utils._http", "timm.models"):
        logging.getLogger(name).warning("once")
    assert not records
