"""Golden images of every shift: `python make_shift.py` writes them, `python make_shift.py --check` compares.

Every corruption of CIFAR-10-C's generator (Hendrycks & Dietterich 2019) at five severities, computed a second time: the random
numbers from a second implementation of the library's counter-based streams, the filters by SciPy, OpenCV, Pillow and, for
motion, ImageMagick, which are the libraries of that generator. The layout of the file is in README.md.
"""

import io
import math
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import safetensors.numpy
from PIL import Image
from scipy import ndimage
from wand.api import library as magick
from wand.image import Image as MagickImage

from shift_draws import Philox, plasma

HERE = Path(__file__).resolve().parent
SEED = 7
ROUNDING = 1e-9


def store(x):
    """0..1 to bytes, truncated, as the published sets were stored."""
    return np.floor(255 * np.clip(x, 0, 1) + ROUNDING).astype(np.uint8)


def blur(x, std, truncate=4.0, mode="nearest"):
    return ndimage.gaussian_filter(x, [std, std] + [0] * (x.ndim - 2), mode=mode, truncate=truncate)


def zoomed(x, factor):
    """The middle of [h, w], enlarged."""
    h, w = x.shape
    ch, cw = math.ceil(h / factor), math.ceil(w / factor)
    top, left = (h - ch) // 2, (w - cw) // 2
    big = ndimage.zoom(x[top : top + ch, left : left + cw], factor, order=1)
    top, left = (big.shape[0] - h) // 2, (big.shape[1] - w) // 2
    return big[top : top + h, left : left + w]


def motion(x, radius, std, angle):
    """[h, w, c] of bytes by ImageMagick."""
    image = np.ascontiguousarray(x if x.shape[2] == 3 else np.repeat(x, 3, 2))
    with MagickImage.from_array(image) as wand:
        magick.MagickMotionBlurImage(wand.wand, float(radius), float(std), float(angle))
        return np.array(wand)[:, :, : x.shape[2]].astype(np.uint8)


def gaussian(x, s, std):
    return x + std * s.normals(x)


def shot(x, s, photons):
    return np.array([s.poisson(v) for v in (x * photons).transpose(2, 0, 1).ravel()]).reshape(x.transpose(2, 0, 1).shape).transpose(1, 2, 0) / photons


def impulse(x, s, amount):
    out = x.transpose(2, 0, 1).copy()
    for i in np.ndindex(out.shape):
        hit, white = s.uniform() < amount, s.uniform() < 0.5
        if hit:
            out[i] = float(white)
    return out.transpose(1, 2, 0)


def speckle(x, s, std):
    return x + x * std * s.normals(x)


def gaussian_blur(x, s, std):
    return blur(x, std)


def defocus(x, s, radius, alias):
    at = np.arange(-8, 9)
    disk = (at[:, None] ** 2 + at[None] ** 2 <= radius**2).astype(float)
    kernel = cv2.GaussianBlur(disk / disk.sum(), (3, 3), alias)
    return np.stack([ndimage.correlate(x[..., c], kernel, mode="mirror") for c in range(x.shape[2])], 2)


def glass(x, s, std, reach, rounds):
    x = store(blur(x, std))
    h, w, _ = x.shape
    for _ in range(rounds):
        for i in range(h - reach, reach, -1):
            for j in range(w - reach, reach, -1):
                dx, dy = s.below(2 * reach) - reach, s.below(2 * reach) - reach
                # Two views of one array, as in the generator: the second assignment reads what the first wrote.
                x[i, j], x[i + dy, j + dx] = x[i + dy, j + dx], x[i, j]
    return blur(x / 255.0, std)


def motion_blur(x, s, radius, std):
    return motion(store(x), radius, std, -45 + 90 * s.uniform_f64()) / 255.0


def zoom_blur(x, s, n):
    zooms = [np.stack([zoomed(x[..., c], 1 + i / 100) for c in range(x.shape[2])], 2) for i in range(n)]
    return (x + np.sum(zooms, 0)) / (n + 1)


def luma(x):
    return x @ [0.299, 0.587, 0.114] if x.shape[2] == 3 else x[..., 0]


def snow(x, s, mean, std, zoom, threshold, radius, trail, keep):
    layer = zoomed(mean + std * s.normals(x[..., :1])[..., 0], zoom)
    layer[layer < threshold] = 0
    layer = motion(store(layer)[..., None], radius, trail, -135 + 90 * s.uniform_f64()) / 255.0
    x = keep * x + (1 - keep) * np.maximum(x, luma(x)[..., None] * 1.5 + 0.5)
    return x + layer + np.rot90(layer, 2)


def frost(x, s, share, cover, textures):
    texture = textures[s.below(len(textures))] / 255.0
    top, left = s.below(texture.shape[0] - x.shape[0]), s.below(texture.shape[1] - x.shape[1])
    part = texture[top : top + x.shape[0], left : left + x.shape[1]]
    return share * x + cover * (part if x.shape[2] == 3 else luma(part)[..., None])


def fog(x, s, strength, decay):
    side = max(32, 1 << (max(x.shape[:2]) - 1).bit_length())
    veil = plasma(side, decay, s)[: x.shape[0], : x.shape[1], None]
    return (x + strength * veil) * x.max() / (x.max() + strength)


def hsv(x, s, change):
    """By OpenCV in f32: hue in degrees, saturation and value in 0..1."""
    if x.shape[2] == 1:
        return np.clip(x + change[1][1], 0, 1)
    colors = cv2.cvtColor(x.astype(np.float32), cv2.COLOR_RGB2HSV)
    channel, (factor, add) = change
    colors[..., channel] = np.clip(colors[..., channel] * factor + add, 0, 1)
    return cv2.cvtColor(colors, cv2.COLOR_HSV2RGB)


def spatter(x, s, mean, std, smooth, threshold, strength, mud):
    layer = blur(mean + std * s.normals(x[..., :1])[..., 0], smooth)
    layer[layer < threshold] = 0
    if mud:
        cover = blur((layer > threshold).astype(float), strength)
        cover[cover < 0.8] = 0
        color, x = np.array([63, 42, 20]) / 255, x * (1 - cover[..., None])
    else:
        wet = store(layer)
        distance = cv2.distanceTransform(255 - cv2.Canny(wet, 50, 150), cv2.DIST_L2, 5)
        distance = cv2.equalizeHist(cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8))
        relief = cv2.filter2D(distance, cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], np.float32))
        cover = wet * cv2.blur(relief, (3, 3)).astype(float)
        cover *= strength / cover.max()
        color = np.array([175, 238, 238]) / 255
    return x + cover[..., None] * (color if x.shape[2] == 3 else luma(color[None, None])[..., None])


def elastic(x, s, strength, smooth, corners):
    h, w, _ = x.shape
    side = min(h, w)
    third = side // 3
    start = np.array([w // 2, h // 2]) + third * np.array([[1, 1], [1, -1], [-1, -1]], float)
    end = start + corners * side * np.array([2 * s.uniform_f64() - 1 for _ in range(6)]).reshape(3, 2)
    # The map from `end` back to `start`: rows (x, y, 1) of `end` times `back` are the rows of `start`.
    back = np.linalg.solve(np.c_[end, np.ones(3)], start)
    fields = []
    for _ in range(2):
        field = np.array([2 * s.uniform_f64() - 1 for _ in range(h * w)]).reshape(h, w)
        fields.append(strength * side * blur(field, smooth * side, 3.0, "reflect"))
    rows, columns = np.mgrid[:h, :w].astype(float)
    u, v = (np.c_[columns.ravel(), rows.ravel(), np.ones(h * w)] @ back).T
    sample = lambda x, at, mode: np.stack([ndimage.map_coordinates(x[..., c], at, order=1, mode=mode).reshape(h, w) for c in range(x.shape[2])], 2)
    x = sample(x, [v, u], "mirror")
    return sample(x, [(rows + fields[1]).ravel(), (columns + fields[0]).ravel()], "reflect")


def through_pillow(x, change):
    mode = "RGB" if x.shape[2] == 3 else "L"
    out = np.asarray(change(Image.fromarray(store(x).squeeze(), mode)))
    return out.reshape(x.shape) / 255.0


def pixelate(x, s, scale):
    small = (int(x.shape[1] * scale), int(x.shape[0] * scale))
    return through_pillow(x, lambda image: image.resize(small, Image.BOX).resize(image.size, Image.BOX))


def jpeg(x, s, quality):
    def change(image):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return through_pillow(x, change)


def contrast(x, s, factor):
    mean = x.mean((0, 1), keepdims=True)
    return (x - mean) * factor + mean


SHIFTS = {
    "gaussian": (gaussian, [(0.04,), (0.06,), (0.08,), (0.09,), (0.10,)]),
    "shot": (shot, [(500,), (250,), (100,), (75,), (50,)]),
    "impulse": (impulse, [(0.01,), (0.02,), (0.03,), (0.05,), (0.07,)]),
    "defocus": (defocus, [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)]),
    "glass": (glass, [(0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)]),
    "motion": (motion_blur, [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)]),
    "zoom": (zoom_blur, [(len(np.arange(1, end, 0.01)),) for end in (1.06, 1.11, 1.16, 1.21, 1.26)]),
    "snow": (snow, [(0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9), (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
                    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85), (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8)]),
    "frost": (frost, [(1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)]),
    "fog": (fog, [(0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)]),
    "brightness": (hsv, [((2, (1, add)),) for add in (0.05, 0.1, 0.15, 0.2, 0.3)]),
    "contrast": (contrast, [(0.75,), (0.5,), (0.4,), (0.3,), (0.15,)]),
    "elastic": (elastic, [(0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)]),
    "pixelate": (pixelate, [(0.95,), (0.9,), (0.85,), (0.75,), (0.65,)]),
    "jpeg": (jpeg, [(80,), (65,), (58,), (50,), (40,)]),
    "speckle": (speckle, [(0.06,), (0.10,), (0.12,), (0.16,), (0.20,)]),
    "gaussian_blur": (gaussian_blur, [(0.4,), (0.6,), (0.7,), (0.8,), (1.0,)]),
    "spatter": (spatter, [(0.62, 0.1, 0.7, 0.7, 0.5, 0), (0.65, 0.1, 0.8, 0.7, 0.5, 0), (0.65, 0.3, 1, 0.69, 0.5, 0),
                          (0.65, 0.1, 0.7, 0.69, 0.6, 1), (0.65, 0.1, 0.5, 0.68, 0.6, 1)]),
    "saturate": (hsv, [((1, (0.3, 0)),), ((1, (0.1, 0)),), ((1, (1.5, 0)),), ((1, (2, 0.1)),), ((1, (2.5, 0.2)),)]),
}  # fmt: skip


def scene(h, w, c, rng):
    """Shapes, a gradient, a texture and flat parts: something for every filter."""
    y, x = np.mgrid[:h, :w] / [[[h]], [[w]]]
    planes = []
    for k in range(c):
        plane = 0.2 + 0.5 * (x if k % 2 else y) + 0.15 * np.sin(9 * x + 5 * k) * np.cos(7 * y)
        plane[(y - 0.4) ** 2 + (x - 0.6) ** 2 < 0.06] = [0.95, 0.3, 0.1][k]
        plane[(y > 0.7) & (x < 0.4)] = [0.1, 0.8, 0.45][k]
        plane += 0.08 * rng.standard_normal((h, w)) * (y < 0.3)
        planes.append(plane)
    return store(np.stack(planes, 2))


def make():
    rng = np.random.default_rng(11)
    # Two sizes: the benchmark's, and one that is not square, in gray.
    images = {"color": scene(32, 32, 3, rng), "gray": scene(21, 30, 1, rng)}
    textures = [store(rng.random((40 + 5 * i, 60 - 7 * i, 3))) for i in range(3)]
    planes = lambda x: np.ascontiguousarray(x.transpose(2, 0, 1))
    tensors = {name: planes(x) for name, x in images.items()}
    tensors |= {f"texture{i}": planes(x) for i, x in enumerate(textures)}
    for name, (formula, constants) in SHIFTS.items():
        for kind, image in images.items():
            if name == "saturate" and kind == "gray":
                continue
            out = []
            for severity, row in enumerate(constants, 1):
                stream = Philox(SEED).fold_name(name).fold(severity).stream(0)
                row = (*row, textures) if name == "frost" else row
                out.append(planes(store(formula(image / 255.0, stream, *row))))
            tensors[f"{kind}.{name}"] = np.stack(out)
    versions = f"numpy {np.__version__}, OpenCV {cv2.__version__}, {magick_version()}"
    return tensors, {"seed": str(SEED), "made_with": versions}


def magick_version():
    from wand.version import MAGICK_VERSION

    return MAGICK_VERSION.split(" Q16")[0]


def main():
    tensors, metadata = make()
    path = HERE / "shift_cifar.safetensors"
    if sys.argv[1:] != ["--check"]:
        safetensors.numpy.save_file(tensors, path, metadata)
        print(f"{path.name}: {path.stat().st_size} bytes, {len(tensors)} tensors, {metadata['made_with']}")
        return
    old = safetensors.numpy.load_file(path)
    assert old.keys() == tensors.keys(), "other tensors"
    # A byte is the truncation of a sum: the last bit of a logarithm may move it by one.
    worst = {name: int(np.abs(old[name].astype(int) - x).max()) for name, x in tensors.items()}
    wrong = {name: by for name, by in worst.items() if by > 1}
    print(f"{path.name}: {'differs: ' + str(wrong) if wrong else 'the same'}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
