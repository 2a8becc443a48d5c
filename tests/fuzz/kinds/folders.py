"""Folders of images, one a class."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence

from tests.fuzz.case import Bench, Kind
from tests.fuzz.damage import damaged
from tests.fuzz.kinds import images
from tests.fuzz.kinds.images import FORMATS, MODES, image
from tests.fuzz.kinds.special import SPECIAL
from tests.fuzz.stock import classifier

KIND = Kind("image folder")
CLASSES = ("ant", "bee", "cat", "dog")
NAMES = (
    "train", "Training", "val", "valid", "test", "Testing", ".hidden", "__MACOSX", "@eaDir", "a b",
    "é", "\udcff\udcfe", "-o", "x" * 250, "\n", "\x1b[31m", "CON", "..x", "'; touch x", "%s%n",
)  # fmt: skip


def _write(
    bench: Bench, form: str = "png", mode: str = "RGB", each: int = 3, top: str = "set"
) -> None:
    for label, name in enumerate(CLASSES):
        for number in range(each):
            content = image(form, mode, shade=60 * label)
            bench.write(f"{top}/{name}/{number}.{form}", content)


def _words(bench: Bench, *more: str, channels: int = 3) -> Sequence[str]:
    model = classifier(channels=channels, classes=CLASSES)
    bench.write("model.onnx", model.SerializeToString())
    return ["evaluate", "model.onnx", "--data", "set", *more]


@KIND.damaged
def damage(bench: Bench) -> Sequence[str]:
    """Images that are damaged or lie, odd names, odd places."""
    rng = bench.rng
    form, mode = rng.choice(FORMATS), rng.choice(MODES)
    layout = rng.random()
    tops = ("set/train", "set/val") if layout < 0.3 else ("set",)
    for top in tops:
        _write(bench, form, mode if rng.random() < 0.5 else "L", top=top)
    top = rng.choice(tops)
    target = f"{top}/{rng.choice(CLASSES)}/{rng.choice((0, 1, 9))}.{form}"
    way = rng.random()
    if way < 0.4:
        bench.write(target, damaged(image(form, mode), rng, image(rng.choice(FORMATS))))
    elif way < 0.55:
        bench.write(target, images.png_by_chance(rng))
    elif way < 0.7:
        bench.write(target, images.tiff_by_chance(rng))
    elif way < 0.75:
        bench.write(target, images.exif_oriented(rng.choice((0, 1, 3, 6, 8, 9, 65535))))
    elif way < 0.85:
        name = rng.choice(NAMES)
        bench.write(f"{top}/{name}/{rng.choice(NAMES)}.{form}", image(form, mode))
    elif way < 0.92:
        what = rng.choice(sorted(SPECIAL))
        place = bench.files / top / rng.choice((f"ant/9.{form}", "new", f"9.{form}"))
        SPECIAL[what](place)
    else:
        bench.write(
            target, image(rng.choice(FORMATS), rng.choice(MODES), size=rng.choice((1, 7, 9, 30)))
        )
    size = rng.choice(((), ("--image-size", "8"), ("--image-size", "8"), ("--image-size", "33")))
    return _words(bench, *size, channels=rng.choice((1, 3, 3)))


def _one(
    name: str,
    file: str,
    content: Callable[[], bytes] | bytes,
    *,
    refused: bool = True,
    size: str = "8",
) -> None:
    """Adds a folder in which one image is another."""

    def make(bench: Bench) -> Sequence[str]:
        _write(bench)
        bench.write(f"set/ant/{file}", content if isinstance(content, bytes) else content())
        return _words(bench, "--image-size", size)

    KIND.add(name, make, refused=refused)


_short = images.tiff_tags
_one("a PNG of 2^31 pixels a side", "9.png", images.png(2**31 - 1, 2**31 - 1))
_one("a PNG of no width", "9.png", images.png(0, 10))
_one("a PNG of 50,000 x 50,000 pixels of nothing", "9.png", images.png(50_000, 50_000))
_one("a JPEG of 65,535 x 65,535 pixels", "9.jpg", lambda: images.jpeg_of_size(65535, 65535))
_one("a BMP of -2^31 rows", "9.bmp", images.bmp_of(10, -(2**31)))
_one("a BMP of 2^31 columns", "9.bmp", images.bmp_of(2**31 - 1, 2**31 - 1))
_one("a BMP of 2^32 colours", "9.bmp", images.bmp_of(10, 10, 8, 0, 2**32 - 1))
_one(
    "a TIFF whose resolution is divided by nothing",
    "9.tif",
    images.tiff(_short(t282=(5, 1, b"\x08\0\0\0"))),
    refused=False,
)
_one(
    "a TIFF whose resolution lies outside",
    "9.tif",
    images.tiff(_short(t282=(5, 1, b"\xff\xff\xff\x7f"))),
    refused=False,
)
_one(
    "a TIFF of 2^31 resolutions",
    "9.tif",
    images.tiff(_short(t282=(5, 2**31, b"\x08\0\0\0"))),
    refused=False,
)
_one(
    "a TIFF whose size is a fraction",
    "9.tif",
    images.tiff(_short(t256=(5, 1, b"\x08\0\0\0"))),
    refused=False,
)
_one(
    "a TIFF whose strips are a fraction",
    "9.tif",
    images.tiff(_short(t273=(10, 1, b"\x08\0\0\0"))),
    refused=False,
)
_one("a TIFF without strips", "9.tif", images.tiff(_short(t273=(4, 0, b""))), refused=False)
_one("a TIFF that is its own next page", "9.tif", images.tiff(_short(), next_at=-1), refused=False)
_one("a TIFF of 4096 x 10^9", "9.tif", images.tiff(_short(t257=(4, 1, b"\0\xca\x9a\x3b"))))
_one(
    "a PNG with 100 MB of text",
    "9.png",
    lambda: images.png(before=images.chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(10**8)))),
    refused=False,
)
_one("a GIF that is cut", "9.gif", image("gif")[:40], refused=False)
_one("an empty image", "9.png", b"")
_one("a web page as an image", "9.jpg", b"<html><body>404</body></html>", refused=False)
_one(
    "PostScript as an image",
    "9.png",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(touch ../EXECUTED) system\n",
    refused=False,
)
_one("an image for a size of 100,000", "9.png", image("png"), size="100000")


@KIND.by_hand("20 images of 169 megapixels", refused=False)
def large(bench: Bench) -> Sequence[str]:
    """Each is less than what Pillow takes for a bomb, and half a gigabyte when it is decoded."""
    content = images.large_png(13_000)
    for number in range(20):
        bench.write(f"set/{CLASSES[number % 4]}/{number}.png", content)
    return _words(bench, "--image-size", "8")


@KIND.by_hand("large images that keep their size")
def large_kept(bench: Bench) -> Sequence[str]:
    """Without --image-size, 20 of them are ten gigabytes."""
    content = images.large_png(13_000)
    for number in range(20):
        bench.write(f"set/{CLASSES[number % 4]}/{number}.png", content)
    return _words(bench)


@KIND.by_hand("20,000 images", refused=False)
def many(bench: Bench) -> Sequence[str]:
    """Links to a few."""
    _write(bench)
    for number in range(20_000):
        os.link(
            bench.files / "set/ant/0.png", bench.files / f"set/{CLASSES[number % 4]}/l{number}.png"
        )
    return _words(bench, "--image-size", "8")


@KIND.by_hand("the root", refused=True)
def root(bench: Bench) -> Sequence[str]:
    """All that the system has, as a data set."""
    bench.copy("model.onnx")
    return ["evaluate", "model.onnx", "--data", "/"]


def _link(name: str, target: str, where: str = "set/eel", *, refused: bool = True) -> None:
    def make(bench: Bench) -> Sequence[str]:
        _write(bench)
        (bench.files / where).symlink_to(target)
        return _words(bench, "--image-size", "8")

    KIND.add(name, make, refused=refused)


_link("a class that is linked to the root", "/")
_link("a class that is linked to /proc", "/proc")
_link("a class that is linked to /dev", "/dev")
_link("a class that is linked to its parent", "..", refused=False)
_link("a folder in a class that is linked to the root", "/", "set/ant/more", refused=False)
_link("a folder in a class that is linked to itself", ".", "set/ant/more", refused=False)
_link("an image that is linked to /dev/zero", "/dev/zero", "set/ant/9.png", refused=False)
_link("an image that is linked to /dev/urandom", "/dev/urandom", "set/ant/9.jpg", refused=False)
_link("an image that is linked to nothing", "nowhere.png", "set/ant/9.png", refused=False)


@KIND.by_hand("an image that is a FIFO", refused=False)
def fifo(bench: Bench) -> Sequence[str]:
    """Opening it waits for ever."""
    _write(bench)
    os.mkfifo(bench.files / "set/ant/9.png")
    return _words(bench, "--image-size", "8")


@KIND.by_hand("classes whose names are not UTF-8", refused=False)
def not_text(bench: Bench) -> Sequence[str]:
    """As old archives unpack them."""
    _write(bench)
    (bench.files / "set/ant").rename(bench.files / "set/\udce4ffin")
    return _words(bench, "--image-size", "8")


@KIND.by_hand("a file whose name is not UTF-8", refused=False)
def not_text_file(bench: Bench) -> Sequence[str]:
    """And that is no image."""
    _write(bench)
    bench.write("set/ant/\udce4.png", b"not an image")
    return _words(bench, "--image-size", "8")


@KIND.by_hand("folders 400 deep", refused=False)
def deep(bench: Bench) -> Sequence[str]:
    """An image at the end of a path of 800 letters."""
    _write(bench)
    bench.write("set/ant/" + "d/" * 400 + "0.png", image("png"))
    return _words(bench, "--image-size", "8")


@KIND.by_hand("2,000 classes of one image")
def many_classes(bench: Bench) -> Sequence[str]:
    """None of them can be parted."""
    for number in range(2000):
        bench.write(f"set/c{number}/0.png", image("png"))
    return _words(bench, "--image-size", "8")


@KIND.by_hand("all modes together", refused=False)
def modes(bench: Bench) -> Sequence[str]:
    """Sixteen bits, floats, palettes, alpha, four colours."""
    _write(bench)
    for number, mode in enumerate(MODES):
        form = "tif" if mode in ("F", "CMYK", "I", "YCbCr") else "png"
        bench.write(f"set/{CLASSES[number % 4]}/m{number}.{form}", image(form, mode))
    return _words(bench, "--image-size", "8")


@KIND.by_hand("splits that hold the same classes", refused=False)
def splits(bench: Bench) -> Sequence[str]:
    """CLASS/train and CLASS/val."""
    for name in CLASSES:
        for split in ("train", "val"):
            bench.write(f"set/{name}/{split}/0.png", image("png"))
            bench.write(f"set/{name}/{split}/1.png", image("png"))
    return _words(bench, "--image-size", "8")


def _special(what: str) -> None:
    def make(bench: Bench) -> Sequence[str]:
        SPECIAL[what](bench.files / "set")
        return _words(bench)

    KIND.add(f"{what} as a data set", make)


for _what in SPECIAL:
    _special(_what)
