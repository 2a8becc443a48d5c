"""Family name -> family; and what the house asks of the families."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import nn

from compress.errors import UsageError
from compress.models.families.architecture import Architecture
from compress.models.families.inception import SmallInception
from compress.models.families.preresnet import PreactivationResNet
from compress.models.families.resnet import CifarResNet
from compress.models.families.wrn import Wrn
from compress.models.network import FEATURES, Network
from compress.schema import Decoder, decode
from compress.schema.rules import Classes, ImageShape
from compress.spec import ModelSpec

FAMILIES: dict[str, type[Architecture]] = {
    family.family: family
    for family in (
        Wrn,
        CifarResNet,
        PreactivationResNet,
        SmallInception,
    )
}

# What a network is for where nothing else is said: CIFAR-10.
CIFAR_CLASSES = 10
CIFAR_SHAPE = (3, 32, 32)


def make_spec(
    family: str,
    parameters: Mapping[str, Any],
    *,
    num_classes: Any = CIFAR_CLASSES,
    input_shape: Any = CIFAR_SHAPE,
) -> ModelSpec:
    """The spec of a network of a family; parameters that are not given have their usual values.

    Raises:
        UsageError: there is no such network; says everything that is wrong.
    """
    if family not in FAMILIES:
        raise UsageError(f"There is no family of networks '{family}', known are {_families()}.")
    cls = FAMILIES[family]
    decoder = Decoder()
    classes = decoder.value(Classes, num_classes, "num_classes")
    given = list(input_shape) if isinstance(input_shape, tuple) else input_shape
    shape = decoder.value(ImageShape, given, "input_shape")
    if shape is not None and None not in shape and min(shape[1:]) < cls.smallest_side:
        side = f"{cls.smallest_side}x{cls.smallest_side}"
        decoder.fault("input_shape", f"is {shape}, images must be {side} or larger")
    own = decoder.value(cls, dict(parameters), "")
    if own is not None and not decoder.faults:
        decoder.faults += own.faults(shape)
    decoder.refuse("This is no network", error=UsageError)
    return ModelSpec(own.name, family, asdict(own), classes, shape)


def spec_of(name: str, **fields: Any) -> ModelSpec:
    """'wrn-10-4', 'WRN_10_4', 'resnet20', 'resnet-20-b', 'inception-x0.5' -> a spec.

    Args:
        name: of a network; each family says how it writes its own.
        fields: num_classes, input_shape (else those of CIFAR-10), and parameters of the family.

    Raises:
        UsageError: the name is of no known form, or the network does not exist.
    """
    family, stated = parse(name)
    about = {key: fields.pop(key) for key in ("num_classes", "input_shape") if key in fields}
    return make_spec(family, {**stated, **fields}, **about)


def parse(name: str) -> tuple[str, dict[str, Any]]:
    """The family of a network's name, and the parameters that the name states.

    Raises:
        UsageError: the name is of no known form.
    """
    for family, cls in FAMILIES.items():
        stated = cls.parse(_plain(name))
        if stated is not None:
            return family, stated
    *others, last = [cls.forms for cls in FAMILIES.values()]
    raise UsageError(f"'{name}' is not the name of a network. Write {', '.join(others)} or {last}.")


def allowed_by(name: str) -> Mapping[str, tuple[str, ...]]:
    """Parameters of which a network's name excludes values, with those that it leaves."""
    return FAMILIES[parse(name)[0]].allowed(_plain(name))


def read_spec(values: object) -> ModelSpec:
    """The inverse of ``ModelSpec.to_dict``, checked.

    Raises:
        UsageError: fields are missing, unknown or impossible.
    """
    found = decode(ModelSpec, values, "This does not describe a network", error=UsageError)
    made = changed(found)
    if made.name != found.name:
        raise UsageError(
            f"This does not describe a network: it is named {found.name}, and its parameters "
            f"are those of {made.name}."
        )
    return made


def changed(spec: ModelSpec, **fields: Any) -> ModelSpec:
    """A spec with other parameters, num_classes or input_shape.

    Raises:
        UsageError: there is no such network.
    """
    about = {key: fields.pop(key, getattr(spec, key)) for key in ("num_classes", "input_shape")}
    return make_spec(spec.family, {**spec.parameters, **fields}, **about)


def with_dropout(spec: ModelSpec, dropout: float) -> ModelSpec:
    """The spec with dropout in training, where its family has a place for it."""
    if "dropout" not in spec.parameters:
        return spec
    return replace(spec, parameters={**spec.parameters, "dropout": dropout})


@functools.lru_cache(maxsize=4096)
def architecture(spec: ModelSpec) -> Architecture:
    """What the family knows of a network.

    Raises:
        UsageError: there is no such network.
    """
    if spec.family not in FAMILIES:
        raise UsageError(f"'{spec.name}' is of no known family; known are {_families()}.")
    where = f"'{spec.name}' is no network"
    return decode(FAMILIES[spec.family], dict(spec.parameters), where, error=UsageError)


def build(spec: ModelSpec) -> Network:
    """An untrained network. Its weights come from torch's global generator.

    Raises:
        UsageError: there is no such network.
    """
    return architecture(changed(spec)).build(spec)


def map_shape(spec: ModelSpec, tap: str = FEATURES) -> tuple[int, ...]:
    """Channels, height and width of a feature map, of one image; nothing is computed."""
    with torch.device("meta"):
        images = torch.zeros(1, *spec.input_shape)
        return tuple(build(spec).outputs(images, (tap,))[tap].shape[1:])


def count_parameters(network: nn.Module) -> int:
    """Trainable parameters; running statistics do not count."""
    return sum(parameter.numel() for parameter in network.parameters())


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "-")


def _families() -> str:
    return ", ".join(FAMILIES)
