"""Small networks named and wired as published code does, written for these tests.

Each is a plain module whose forward is the publication's, so that an import is tested by equal
outputs, not by equal shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Weights and running statistics that make every layer matter."""
    rng = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if not value.is_floating_point():
            continue
        if name.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=rng) + 0.5)
        elif value.dim() == 4:
            fan_in = value[0].numel()
            value.copy_(torch.randn(value.shape, generator=rng) * (2 / fan_in) ** 0.5)
        else:
            value.copy_(torch.randn(value.shape, generator=rng) * 0.3 + 0.5)
    return network.eval()


def conv3(inputs: int, outputs: int, stride: int = 1, *, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=bias)


class Lambda(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class PostBlock(nn.Module):
    """conv1, bn1, conv2, bn2 and a shortcut called ``shortcut`` or ``downsample``."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: str, name: str) -> None:
        super().__init__()
        self.conv1 = conv3(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = conv3(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        bypass: nn.Module = nn.Sequential()
        if stride != 1 or inputs != outputs:
            extra = outputs - inputs
            if shortcut == "both":
                pad = (0, 0, 0, 0, extra // 2, extra // 2)
                bypass = Lambda(lambda x: functional.pad(x[:, :, ::stride, ::stride], pad))
            elif shortcut == "end":
                pad = (0, 0, 0, 0, 0, extra)
                bypass = Lambda(lambda x: functional.pad(x[:, :, ::stride, ::stride], pad))
            else:
                bypass = nn.Sequential(
                    nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
                )
        self.name = name
        self.add_module(name, bypass)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(y + getattr(self, self.name)(x))


class CifarResNet(nn.Module):
    """akamaster's (shortcut both, linear), chenyaofo's (conv, downsample, fc), RepDistiller's."""

    def __init__(
        self,
        blocks: int = 2,
        widths: Sequence[int] = (4, 8, 16),
        stem: int = 4,
        shortcut: str = "both",
        name: str = "shortcut",
        head: str = "linear",
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.conv1 = conv3(3, stem)
        self.bn1 = nn.BatchNorm2d(stem)
        inputs = stem
        for stage, (width, stride) in enumerate(zip(widths, (1, 2, 2), strict=True), 1):
            layers = []
            for index in range(blocks):
                layers.append(PostBlock(inputs, width, stride if index == 0 else 1, shortcut, name))
                inputs = width
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
        self.head = head
        self.add_module(head, nn.Linear(inputs, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        for stage in (1, 2, 3):
            x = getattr(self, f"layer{stage}")(x)
        out: Tensor = getattr(self, self.head)(x.mean((2, 3)))
        return out


class WindowedBlock(nn.Module):
    """PostBlock with a 1x1 shortcut where the shape changes, or in every block."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, everywhere: bool) -> None:
        super().__init__()
        self.conv1 = conv3(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = conv3(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if everywhere or stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class WindowedResNet(nn.Module):
    """A stem four times as wide as the first stage, and averages over windows of the last map."""

    def __init__(
        self,
        blocks: int = 3,
        width: int = 16,
        *,
        side: int = 32,
        pool: int = 4,
        classes: int = 10,
        everywhere: bool = False,
    ) -> None:
        super().__init__()
        self.pool = pool
        self.conv1 = conv3(3, 4 * width)
        self.bn1 = nn.BatchNorm2d(4 * width)
        inputs = 4 * width
        for stage, stride in enumerate((1, 2, 2)):
            layers = []
            for index in range(blocks):
                outputs = width << stage
                step = stride if index == 0 else 1
                layers.append(WindowedBlock(inputs, outputs, step, everywhere=everywhere))
                inputs = outputs
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.linear = nn.Linear(inputs * (side // 4 // pool) ** 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        for stage in (1, 2, 3):
            x = getattr(self, f"layer{stage}")(x)
        out: Tensor = self.linear(functional.avg_pool2d(x, self.pool).flatten(1))
        return out


class NestedBlock(nn.Module):
    """weiaicunzai's nesting: residual_function.0 .1 .3 .4 and shortcut.0 .1."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual_function = nn.Sequential(
            conv3(inputs, outputs, stride),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            conv3(outputs, outputs),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.residual_function(x) + self.shortcut(x))


class NestedResNet(nn.Module):
    def __init__(self, blocks: int = 2) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(conv3(3, 4), nn.BatchNorm2d(4), nn.ReLU())
        inputs = 4
        for stage, (width, stride) in enumerate(((4, 1), (8, 2), (16, 2)), 2):
            layers = [NestedBlock(inputs, width, stride)]
            layers += [NestedBlock(width, width, 1) for _ in range(blocks - 1)]
            self.add_module(f"conv{stage}_x", nn.Sequential(*layers))
            inputs = width
        self.fc = nn.Linear(16, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for stage in (2, 3, 4):
            x = getattr(self, f"conv{stage}_x")(x)
        out: Tensor = self.fc(x.mean((2, 3)))
        return out


class XternalzBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = conv3(inputs, outputs, stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = conv3(outputs, outputs)
        self.equal = inputs == outputs
        self.convShortcut = (
            None if self.equal else nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        activated = functional.relu(self.bn1(x))
        y = self.conv2(functional.relu(self.bn2(self.conv1(activated))))
        out: Tensor = x + y if self.convShortcut is None else self.convShortcut(activated) + y
        return out


class XternalzStage(nn.Module):
    def __init__(self, blocks: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            *(
                XternalzBlock(inputs if i == 0 else outputs, outputs, stride if i == 0 else 1)
                for i in range(blocks)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


class XternalzWRN(nn.Module):
    """conv1, block1.layer.0.bn1 ..., convShortcut, bn1, fc; and the unused sub_block1."""

    def __init__(
        self, blocks: int = 2, width: int = 1, classes: int = 10, *, copy: bool = False
    ) -> None:
        super().__init__()
        widths = (16, 16 * width, 32 * width, 64 * width)
        self.conv1 = conv3(3, 16)
        self.block1 = XternalzStage(blocks, widths[0], widths[1], 1)
        if copy:
            self.sub_block1 = XternalzStage(blocks, widths[0], widths[1], 1)
        self.block2 = XternalzStage(blocks, widths[1], widths[2], 2)
        self.block3 = XternalzStage(blocks, widths[2], widths[3], 2)
        self.bn1 = nn.BatchNorm2d(widths[3])
        self.fc = nn.Linear(widths[3], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        out: Tensor = self.fc(functional.relu(self.bn1(x)).mean((2, 3)))
        return out


class MeliketoyBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = conv3(inputs, outputs, bias=True)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = conv3(outputs, outputs, stride, bias=True)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=True))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(functional.relu(self.bn1(x)))
        y = self.conv2(functional.relu(self.bn2(y)))
        out: Tensor = y + self.shortcut(x)
        return out


class MeliketoyWRN(nn.Module):
    """layer1.0.shortcut.0, biases, stride in the second convolution, raw-input shortcut."""

    def __init__(self, blocks: int = 1, width: int = 2) -> None:
        super().__init__()
        self.conv1 = conv3(3, 16, bias=True)
        inputs = 16
        for stage, (outputs, stride) in enumerate(
            ((16 * width, 1), (32 * width, 2), (64 * width, 2)), 1
        ):
            layers = []
            for index in range(blocks):
                layers.append(MeliketoyBlock(inputs, outputs, stride if index == 0 else 1))
                inputs = outputs
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
        self.bn1 = nn.BatchNorm2d(inputs)
        self.linear = nn.Linear(inputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for stage in (1, 2, 3):
            x = getattr(self, f"layer{stage}")(x)
        out: Tensor = self.linear(functional.relu(self.bn1(x)).mean((2, 3)))
        return out


def szagoruyko(blocks: int = 2, width: int = 2) -> dict[str, Tensor]:
    """The functional WRN: convolutions without a '.weight', statistics beside parameters."""
    rng = torch.Generator().manual_seed(3)
    weights: dict[str, Tensor] = {}

    def conv(name: str, inputs: int, outputs: int, kernel: int) -> None:
        scale = (2 / (inputs * kernel * kernel)) ** 0.5
        shape = (outputs, inputs, kernel, kernel)
        weights[name] = torch.randn(shape, generator=rng) * scale

    def norm(name: str, size: int) -> None:
        weights[f"{name}.weight"] = torch.rand(size, generator=rng) + 0.5
        weights[f"{name}.bias"] = torch.randn(size, generator=rng) * 0.2
        weights[f"{name}.running_mean"] = torch.randn(size, generator=rng) * 0.2
        weights[f"{name}.running_var"] = torch.rand(size, generator=rng) + 0.5

    conv("conv0", 3, 16, 3)
    inputs = 16
    for group, outputs in enumerate((16 * width, 32 * width, 64 * width)):
        for block in range(blocks):
            name = f"group{group}.block{block}"
            conv(f"{name}.conv0", inputs, outputs, 3)
            conv(f"{name}.conv1", outputs, outputs, 3)
            norm(f"{name}.bn0", inputs)
            norm(f"{name}.bn1", outputs)
            if inputs != outputs:
                conv(f"{name}.convdim", inputs, outputs, 1)
            inputs = outputs
    norm("bn", inputs)
    weights["fc.weight"] = torch.randn(10, inputs, generator=rng)
    weights["fc.bias"] = torch.randn(10, generator=rng)
    return weights


def run_szagoruyko(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """The forward of that functional network."""

    def activate(name: str, value: Tensor) -> Tensor:
        w = weights
        return functional.relu(
            functional.batch_norm(
                value,
                w[f"{name}.running_mean"],
                w[f"{name}.running_var"],
                w[f"{name}.weight"],
                w[f"{name}.bias"],
            )
        )

    x = functional.conv2d(x, weights["conv0"], padding=1)
    for group in range(3):
        for block in range(2):
            name, stride = f"group{group}.block{block}", 2 if group and not block else 1
            first = activate(f"{name}.bn0", x)
            y = functional.conv2d(first, weights[f"{name}.conv0"], stride=stride, padding=1)
            y = functional.conv2d(activate(f"{name}.bn1", y), weights[f"{name}.conv1"], padding=1)
            dim = weights.get(f"{name}.convdim")
            x = y + (x if dim is None else functional.conv2d(first, dim, stride=stride))
    return functional.linear(
        activate("bn", x).mean((2, 3)), weights["fc.weight"], weights["fc.bias"]
    )


class BottleneckLayout(nn.Module):
    """bn1, conv1, bn2, conv2, bn3, conv3 and a shortcut of 1x1 without a norm.

    bearpaw's: the stride in conv2, ``downsample.0`` of the raw input. kuangliu's: ``shortcut.0``
    of the activated input.
    """

    def __init__(self, inputs: int, middle: int, stride: int, code: str) -> None:
        super().__init__()
        outputs = 4 * middle
        first, second = (stride, 1) if code == "he" else (1, stride)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, middle, 1, first, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv2 = conv3(middle, middle, second)
        self.bn3 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, outputs, 1, bias=False)
        self.name = "downsample" if code == "bearpaw" else "shortcut"
        self.reads_input = code == "bearpaw"
        if stride != 1 or inputs != outputs:
            bypass = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False))
            self.add_module(self.name, bypass)

    def forward(self, x: Tensor) -> Tensor:
        activated = functional.relu(self.bn1(x))
        y = self.conv1(activated)
        y = self.conv2(functional.relu(self.bn2(y)))
        y = self.conv3(functional.relu(self.bn3(y)))
        bypass = getattr(self, self.name, None)
        out: Tensor = y + (x if bypass is None else bypass(x if self.reads_input else activated))
        return out


class NestedBottleneck(nn.Module):
    """fb.resnet.torch's nesting, numbers alone: the common BN, the branch, the shortcut."""

    def __init__(self, inputs: int, middle: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * middle
        self.changes = stride != 1 or inputs != outputs
        self.start = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU())
        self.branches = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Conv2d(inputs, middle, 1, stride, bias=False),
                    nn.BatchNorm2d(middle),
                    nn.ReLU(),
                    conv3(middle, middle),
                    nn.BatchNorm2d(middle),
                    nn.ReLU(),
                    nn.Conv2d(middle, outputs, 1, bias=False),
                )
            ]
        )
        if self.changes:
            self.branches.append(nn.Conv2d(inputs, outputs, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        activated = self.start(x)
        out: Tensor = self.branches[0](activated)
        return out + (self.branches[1](activated) if self.changes else x)


class CifarPreResNet(nn.Module):
    """conv1, layer1 to layer3, bn, fc, of blocks as one of several codes has them."""

    def __init__(self, blocks: int = 2, code: str = "bearpaw", middle: int = 4, stem: int = 4):
        super().__init__()
        self.conv1 = conv3(3, stem)
        inputs = stem
        for stage in (1, 2, 3):
            layers: list[nn.Module] = []
            for index in range(blocks):
                stride = 2 if stage > 1 and index == 0 else 1
                if code == "nested":
                    layers.append(NestedBottleneck(inputs, middle, stride))
                else:
                    layers.append(BottleneckLayout(inputs, middle, stride, code))
                inputs = 4 * middle
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
            middle *= 2
        self.bn = nn.BatchNorm2d(inputs)
        self.fc = nn.Linear(inputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for stage in (1, 2, 3):
            x = getattr(self, f"layer{stage}")(x)
        out: Tensor = self.fc(functional.relu(self.bn(x)).mean((2, 3)))
        return out


# Filters of an eighth of the small Inception: of modules (1x1, 3x3), or of a downsampling.
EIGHTH: tuple[tuple[int, int] | int, ...] = (
    *((4, 4), (4, 6)),
    10,
    *((14, 6), (12, 8), (10, 10), (6, 12)),
    12,
    *((22, 20), (22, 20)),
)


class InceptionUnit(nn.Module):
    """conv, bn, act as one module."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding)
        self.bn = nn.BatchNorm2d(outputs)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out


class InceptionPair(nn.Module):
    """conv1, conv2, bn1, bn2 side by side in one module, without biases."""

    def __init__(self, inputs: int, point: int, spatial: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, point, 1, bias=False)
        self.conv2 = conv3(inputs, spatial)
        self.bn1 = nn.BatchNorm2d(point)
        self.bn2 = nn.BatchNorm2d(spatial)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.bn1(self.conv1(x)), self.bn2(self.conv2(x))
        return functional.relu(torch.cat([first, second], 1))


class InceptionHalf(nn.Module):
    """A strided convolution beside max pooling, both padded or not."""

    def __init__(self, inputs: int, outputs: int, padding: int, *, flat: bool) -> None:
        super().__init__()
        self.padding = padding
        self.flat = flat
        if flat:
            self.conv = nn.Conv2d(inputs, outputs, 3, 2, padding, bias=False)
            self.bn = nn.BatchNorm2d(outputs)
        else:
            self.conv1 = InceptionUnit(inputs, outputs, 3, 2, padding)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn(self.conv(x))) if self.flat else self.conv1(x)
        return torch.cat([y, functional.max_pool2d(x, 3, 2, self.padding)], 1)


class SmallInception(nn.Module):
    """Units nested in modules, or (flat) convolutions and norms side by side in them."""

    def __init__(self, *, padding: int = 1, flat: bool = False) -> None:
        super().__init__()
        self.flat = flat
        self.conv1 = conv3(3, 12) if flat else InceptionUnit(3, 12, 3, 1, 1)
        if flat:
            self.bn1 = nn.BatchNorm2d(12)
        inputs = 12
        self.names = []
        for number, filters in enumerate(EIGHTH):
            name = f"down{number}" if isinstance(filters, int) else f"inc{number}"
            module: nn.Module
            if isinstance(filters, int):
                module = InceptionHalf(inputs, filters, padding, flat=flat)
                inputs += filters
            elif flat:
                module = InceptionPair(inputs, *filters)
                inputs = sum(filters)
            else:
                module = nn.ModuleDict(
                    {
                        "conv1x1": InceptionUnit(inputs, filters[0], 1, 1, 0),
                        "conv3x3": InceptionUnit(inputs, filters[1], 3, 1, 1),
                    }
                )
                inputs = sum(filters)
            self.add_module(name, module)
            self.names.append(name)
        self.fc = nn.Linear(inputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x))) if self.flat else self.conv1(x)
        for name in self.names:
            module = getattr(self, name)
            if isinstance(module, nn.ModuleDict):
                x = torch.cat([module["conv1x1"](x), module["conv3x3"](x)], 1)
            else:
                x = module(x)
        out: Tensor = self.fc(x.mean((2, 3)))
        return out
