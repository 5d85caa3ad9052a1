"""The command `salt-weights ENCODER --to FILE`: ImageNet weights as a file, for machines without a network."""

from pathlib import Path

import yaml

from salt.commands.common import check_new, make_parser, messages
from salt.overrides import CONFIGS


def main() -> None:
    """Load an encoder's weights and save them."""
    with messages("salt-weights"):
        parser = make_parser("salt-weights", "Save an encoder's ImageNet weights, to train without a network.")
        parser.add_argument("encoder", metavar="ENCODER", help="option of salt-train, or a name for encoder.name")
        parser.add_argument("--to", type=Path, metavar="FILE", required=True, help="a new file, as x.safetensors")
        arguments = parser.parse_args()
        print(save_imagenet(arguments.encoder, arguments.to))


def save_imagenet(encoder: str, file: Path) -> str:
    """Save the weights, for images of three channels, and return how to use them; raise ValueError if `file` exists."""
    check_new("--to", file, ".safetensors")
    option = CONFIGS / "encoder" / f"{encoder}.yaml"
    is_option = option.is_file() and encoder not in ("any", "none")
    name = yaml.safe_load(option.read_text(encoding="utf-8"))["name"] if is_option else encoder
    from salt.models.encoder import load_body  # imports torch, which takes seconds
    from salt.runs.weights import save_weights

    body = load_body(name, "imagenet", 3)
    save_weights(body, file)
    choice = f"encoder={encoder}" if is_option else f"encoder=any encoder.name={name}"
    n_parameters = sum(p.numel() for p in body.parameters())
    return f"{file}: {n_parameters / 1e6:.1f} M parameters; train with {choice} encoder.weights={file}"


if __name__ == "__main__":
    main()
