"""Weights from the hub, with a stand-in on this machine that answers, answers late, stays silent, or is not there."""

import logging
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import timm
import torch
from huggingface_hub import constants
from huggingface_hub.utils import close_session
from safetensors.torch import save

from salt.models import encoder_weights
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
@pytest.mark.battery
def test_without_a_network_it_is_one_message_at_once(endpoint, served, silent, monkeypatch, capfd, name, kind):
    served.status = 503
    place = {"silent": silent, "closed": closed_port(), "gateway": served.place, "nonsense": "nonsense"}
    waits = endpoint(place.get(kind, "http://127.0.0.1:9"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", kind == "offline")
    monkeypatch.setattr(encoder_weights, "PATIENCE", 0.5)
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
    assert (kind == "offline") == constants.HF_HUB_OFFLINE
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
    monkeypatch.setattr(encoder_weights, "PATIENCE", 0.2)
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


def test_hydra_does_not_print_the_clients_lines_again(served, monkeypatch):
    served.content, records = save(weights_of("resnet18")), []
    load_body("resnet18", "imagenet", 3)
    handler = logging.Handler()  # on the root, as Hydra's; caplog follows loggers that keep their lines to themselves
    monkeypatch.setattr(handler, "emit", records.append)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    for name in ("huggingface_hub.utils._http", "timm.models"):
        logging.getLogger(name).warning("once")
    assert not records
