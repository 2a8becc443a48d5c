"""What a family of networks tells the rest of the house, which asks and knows no family.

A family is one file with a frozen dataclass of its parameters, an ``Architecture``, and the network
that they describe. ``compress.models.registry`` has a line for each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from compress.models.network import Network
from compress.models.recognition.layers import Weights
from compress.models.recognition.order import Choices
from compress.models.recognition.reading import Reading
from compress.schema.rules import ImageShape
from compress.spec import ModelSpec


@dataclass(frozen=True)
class Convolution:
    """One convolution, as far as its costs go.

    Attributes:
        kernel: side of its windows.
        inputs, outputs: channels.
        pixels: of the map that it gives.
        folded: whether a batch normalisation follows, which exporters merge into its weights.
    """

    kernel: int
    inputs: int
    outputs: int
    pixels: int
    folded: bool


@dataclass(frozen=True)
class Layers:
    """The layers with weights of a network, as far as their costs go.

    Attributes:
        convolutions: all of them.
        classifier_inputs: values of an image that the linear layer reads.
        norms: channels of each batch normalisation that does not follow a convolution alone.
        norm_parameters: what a batch normalisation learns of a channel: a scale and a shift are 2.
        conv_bias: whether the convolutions have a bias.
    """

    convolutions: tuple[Convolution, ...]
    classifier_inputs: int
    norms: tuple[int, ...] = ()
    norm_parameters: int = 2
    conv_bias: bool = False


@dataclass(frozen=True)
class Published:
    """Errors that a paper reports for networks of a family, all of one data set.

    Attributes:
        source: the paper's table, and the data.
        data: the data set's name here.
        num_classes: of it.
        errors: name of a network -> recipe -> error in %.
    """

    source: str
    data: str
    num_classes: int
    errors: Mapping[str, Mapping[str, float]]


class Architecture(ABC):
    """One network of a family but for its images and classes: a frozen dataclass of parameters.

    Attributes of the family:
        family: its name, which begins the names of its networks.
        forms: how those are written, for a message: "wrn-DEPTH-WIDTH (wrn-10-4)".
        layout: what weights have to look like to be recognised as one, for a message.
        statable: parameters that a user can state of somebody's weights.
        step: by how much each number of ``size`` grows from one candidate to the next.
        smallest_side: of the images.
        published: what a paper reports.
    """

    family: ClassVar[str]
    forms: ClassVar[str]
    layout: ClassVar[str]
    statable: ClassVar[tuple[str, ...]] = ()
    step: ClassVar[tuple[float, ...]] = ()
    smallest_side: ClassVar[int] = 8
    published: ClassVar[Published | None] = None

    # --- Names and parameters --------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def parse(cls, text: str) -> dict[str, Any] | None:
        """The parameters that a name states, in lower case with "-" for "_"; None: no such name."""

    @classmethod
    def allowed(cls, text: str) -> Mapping[str, tuple[str, ...]]:
        """Parameters of which a name excludes values, with those that it leaves."""
        return {}

    @property
    @abstractmethod
    def name(self) -> str:
        """As ``parse`` reads it."""

    @property
    @abstractmethod
    def size(self) -> tuple[float, ...]:
        """What grows from small networks of the family to large ones: depth and width, say.

        A network that is no smaller in any of them does all that the other does, and more.
        """

    def faults(self, input_shape: ImageShape) -> list[str]:
        """Why there is no such network for images of [c, h, w], a phrase each."""
        return []

    @property
    def takes_any_size(self) -> bool:
        """Whether the same weights read images of other sizes, as global pooling lets them."""
        return True

    # --- The network and what it costs -----------------------------------------------------------

    @abstractmethod
    def build(self, spec: ModelSpec) -> Network:
        """The untrained network; its weights come from torch's global generator."""

    @abstractmethod
    def layers(self, input_shape: ImageShape) -> Layers:
        """What costs are counted from, for images of [c, h, w]; no network is built."""

    # --- As a student ----------------------------------------------------------------------------

    @classmethod
    def candidates(cls, input_shape: ImageShape) -> Iterable[str]:
        """Names of the networks that a student for images of [c, h, w] is chosen among."""
        return ()

    @property
    def blocks_and_width(self) -> tuple[int, float] | None:
        """n and m of the law that errors are predicted by; None where it does not hold."""
        return None

    @property
    def is_between_published(self) -> bool:
        """Whether it lies between networks of ``published`` of one depth or one width."""
        return False

    # --- In somebody's weights -------------------------------------------------------------------

    @classmethod
    def claims(cls, weights: Weights) -> bool:
        """Whether the number of layers of each kind is that of this family and of no other."""
        return False

    @classmethod
    @abstractmethod
    def read(cls, weights: Weights, choices: Choices, stated: Architecture | None) -> Reading:
        """A whole network of this family, or of another one of the same blocks.

        Args:
            weights: of the file.
            choices: which order is taken where nothing decides.
            stated: what the user says that it is.

        Raises:
            Unfit: the layers do not make one.
        """

    @classmethod
    @abstractmethod
    def readings(
        cls, reading: Reading, image_size: tuple[int, int], stated: Architecture | None
    ) -> list[dict[str, Any]]:
        """Parameters of all networks whose weights have these shapes, the most common first.

        Raises:
            Unfit: there is none.
        """

    @property
    @abstractmethod
    def visible(self) -> Hashable:
        """What of a name shows in the weights' shapes; two with the same look alike."""

    @property
    @abstractmethod
    def unseen(self) -> Mapping[str, Any]:
        """Parameters that weights do not show, by name."""

    @property
    @abstractmethod
    def structure(self) -> str:
        """Those in words."""

    def doubt(self, input_shape: ImageShape, stated: Collection[str]) -> str:
        """Why shapes, and what is stated, are not enough to believe a reading; a sentence or ""."""
        return ""
