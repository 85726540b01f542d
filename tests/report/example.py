"""Facts to draw: those of a large search, and the least that a search can know.

`full()` simulates 124 classes, 22 models in three groups, 60 videos of two splits and 16 frames:
numbers that agree with each other, so that alt texts can be checked against them. `tiny()` is a
search of channels with one group, one split and nothing optional.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
from scipy.cluster import hierarchy
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import squareform

from fusion.report.facts import (
    ClassRow,
    ConfusionPair,
    Contender,
    Curve,
    Estimate,
    Facts,
    FrameRow,
    FrontPoint,
    ModelRow,
    Plane,
    Rung,
    Similarity,
    VideoRow,
)

NOUNS = "wall ceiling door window stair road grass car bus tree flower person dog cat lamp sink"
PLACES = "plain distant wooden glass outdoor indoor painted broken"
GROUPS = {"strong": 3, "weak": 13, "auxiliary": 6}
WEIGHTS = {"strong": 1.0, "weak": 1.4, "auxiliary": 0.95}


def around(value: float, spread: float) -> Estimate:
    return Estimate(value, value - spread, value + spread)


def class_names(number: int = 124) -> list[str]:
    names = [f"{place} {noun}" for place in PLACES.split() for noun in NOUNS.split()]
    return names[:number]


def colours_of(classes: int) -> np.ndarray:
    """[C + 1, 3], void last."""
    rng = np.random.default_rng(3)
    return np.concatenate([rng.integers(40, 235, (classes, 3)), [[0, 0, 0]]]).astype(np.uint8)


def class_rows(number: int = 124) -> tuple[ClassRow, ...]:
    rng, rows = np.random.default_rng(1), []
    for name in class_names(number):
        pixels = int(10 ** rng.uniform(3, 8.2))
        rarity = (8.2 - np.log10(pixels)) / 5.2
        single = float(np.clip(rng.normal(0.75 - 0.4 * rarity, 0.12), 0.02, 0.97))
        gain = float(rng.normal(0.01 + 0.04 * rarity, 0.02))
        found = float(np.clip(single + gain, 0, 0.985))
        uniform = (single + 2 * found) / 3
        multiplier = float(np.clip(2 ** rng.normal(1.2 * rarity - 0.2, 0.35), 0.25, 4))
        held = found - float(rng.uniform(0, 0.02))
        rows.append(ClassRow(name, pixels, single, uniform, found, multiplier, held))
    rows[7] = ClassRow(rows[7].name, 0, *[float("nan")] * 3, 1.0)  # a class that never occurs
    return tuple(rows)


def model_rows() -> tuple[ModelRow, ...]:
    rng, rows = np.random.default_rng(2), []
    base = {"strong": 0.56, "weak": 0.53, "auxiliary": 0.49}
    for group, many in GROUPS.items():
        for n in range(many):
            val = base[group] + rng.normal(0, 0.008)
            adds = float(rng.normal(0.002, 0.002))
            name = f"{'swin' if group == 'auxiliary' else 'mf'}_{n:02d}_{384 + 64 * (n % 5)}"
            scores = {"val": val, "test": val - 0.012 + rng.normal(0, 0.004)}
            rows.append(ModelRow(f"{group}-{name}", group, WEIGHTS[group], scores, adds))
    return tuple(rows)


def similarity() -> Similarity:
    rng, names = np.random.default_rng(4), [model.name for model in model_rows()]
    family = np.repeat(np.arange(3), list(GROUPS.values()))
    shares = 0.25 + 0.25 * (family[:, None] == family) + rng.uniform(-0.08, 0.08, (22, 22))
    shares = (shares + shares.T) / 2
    np.fill_diagonal(shares, 1.0)
    linkage = hierarchy.linkage(squareform(1 - shares, checks=False), "average")
    order = hierarchy.leaves_list(linkage)
    shares = shares[np.ix_(order, order)]
    linkage = hierarchy.linkage(squareform(1 - shares, checks=False), "average")
    rank = hierarchy.leaves_list(linkage)
    shares, order = shares[np.ix_(rank, rank)], order[rank]
    linkage = linkage.copy()
    place = np.argsort(rank)
    for side in (0, 1):
        leaf = linkage[:, side] < 22
        linkage[leaf, side] = place[linkage[leaf, side].astype(int)]
    return Similarity(tuple(names[n] for n in order), shares, linkage)


def plane() -> Plane:
    x = y = np.linspace(0, 2, 21)
    high = 0.612 - 0.012 * (x[None] - 1.4) ** 2 - 0.018 * (y[:, None] - 0.95) ** 2
    high = high - 0.01 * (x[None] - 1.4) * (y[:, None] - 0.95)
    best = (1.4123, 0.9481, 0.6121)
    return Plane(
        "strong", ("weak", "auxiliary"), x, y, high, best, (1.4, 0.95), high > 0.609, 0.613
    )


def video_rows() -> tuple[VideoRow, ...]:
    rng, rows = np.random.default_rng(5), []
    for n in range(60):
        single = float(rng.uniform(0.35, 0.75))
        found = single + float(rng.normal(0.035, 0.03))
        rows.append(VideoRow("val" if n < 40 else "test", f"{n:03d}_clip", 12 + n, single, found))
    return tuple(rows)


def frames(number: int, sign: int) -> tuple[FrameRow, ...]:
    colours = colours_of(124)
    found = [frame(n + 50 * (1 + sign), sign, colours) for n in range(number)]
    return tuple(sorted(found, key=lambda each: -sign * each.gain))


def frame(seed: int, sign: int, colours: np.ndarray, shape: tuple[int, int] = (480, 854)):
    rng = np.random.default_rng(seed)
    fields = rng.normal(size=(9, shape[0] // 4, shape[1] // 4 + 1))
    fields = np.stack([gaussian_filter(each, 14) for each in fields])
    fields /= fields.std()
    noise = gaussian_filter(rng.normal(size=fields.shape), (0, 5, 5))
    noise /= noise.std()
    picks = rng.choice(124, 9, replace=False)

    def large(small: np.ndarray) -> np.ndarray:
        return small.repeat(4, 0).repeat(4, 1)[: shape[0], : shape[1]]

    truth = picks[fields.argmax(0)]
    single = picks[(fields + (0.5 + 0.2 * sign) * noise).argmax(0)]
    found = picks[(fields + 0.5 * noise).argmax(0)]
    gain = float((found == truth).mean() - (single == truth).mean())
    texture = gaussian_filter(rng.normal(size=(*shape, 3)), (1, 1, 0)) * 60
    image = np.clip(large(colours[truth]) * 0.6 + 60 + texture, 0, 255).astype(np.uint8)
    grey = np.clip(255 * (single != found), 0, 255).astype(np.uint8)
    pictures = {
        "image": image,
        "truth": large(colours[truth]),
        "best single": large(colours[single]),
        "fused": large(colours[found]),
        "disagreement": large(np.stack([grey] * 3, -1)),
    }
    return FrameRow(f"{seed:03d}_clip", f"{seed % 7:08d}", gain, pictures)


def curve(name: str, over: float) -> Curve:
    confidence = np.linspace(0.05, 0.95, 10)
    accuracy = np.clip(confidence - over * confidence, 0, 1)
    share = confidence**3 / (confidence**3).sum()
    return Curve(name, confidence, accuracy, share, float((share * (confidence - accuracy)).sum()))


def front() -> tuple[FrontPoint, ...]:
    steps = {"none": (0.6, 0), "median of 3": (1.3, 1.4), "median of 5": (0.9, 2.2)}
    steps |= {"majority of 9": (-0.9, 5.1), "flow, 0.5": (2, 2.9), "flow, 0.8": (1.5, 4.4)}
    steps |= {"flow, 0.9": (0.2, 5.8), "components of 64": (1.8, 0.4)}

    def beaten(name: str) -> bool:
        up, smooth = steps[name]
        return any(a >= up and b >= smooth and (a, b) != (up, smooth) for a, b in steps.values())

    return tuple(
        FrontPoint(
            name,
            0.602 + up / 1000,
            0.871 + 0.006 * smooth,
            0.842 + 0.007 * smooth,
            on_front=not beaten(name),
            chosen=name == "flow, 0.8",
        )
        for name, (up, smooth) in steps.items()
    )


@cache
def full() -> Facts:
    """124 classes, 22 models, 60 videos, 16 frames."""
    classes, names = class_rows(), class_names()
    steps = ["best single: strong-mf_01_448", "P_strong", "P_strong + 1.4 P_weak"]
    steps += ["P_strong + 1.4 P_weak + 0.95 P_auxiliary", "uniform weights"]
    steps += ["the same weights, with multipliers"]
    values = [0.566, 0.578, 0.592, 0.601, 0.597, 0.6121]
    return Facts(
        title="VSPW, 22 models",
        verdict="held-out gain +1.1 [+0.4, +1.8] over uniform weights on 5 folds: real; "
        "weights + multipliers recommended",
        objective="mIoU",
        remarks=("classes that occur in one fold only: distant cat; nothing was chosen for them",),
        splits=("val", "test"),
        best="strong-mf_01_448",
        score=Estimate(0.6121, 0.574, 0.649),
        expected=Estimate(0.608, 0.556, 0.66),
        ladder=tuple(
            Rung(name, {"val": around(v, 0.035), "test": around(v - 0.014, 0.041)})
            for name, v in zip(steps, values, strict=True)
        ),
        contenders=(
            Contender("uniform weights", around(0.597, 0.034)),
            Contender("the best single model", around(0.564, 0.036), around(-0.033, 0.009)),
            Contender("the best group alone", around(0.577, 0.035), around(-0.02, 0.008)),
            Contender("weights", around(0.6, 0.034), around(0.003, 0.004)),
            Contender(
                "weights + multipliers", around(0.608, 0.035), around(0.011, 0.007), True, True
            ),
        ),
        weights=WEIGHTS,
        groups={group: tuple(m.name for m in model_rows() if m.group == group) for group in GROUPS},
        plane=plane(),
        multipliers={row.name: row.multiplier or 1.0 for row in classes},
        classes=classes,
        models=model_rows(),
        similarity=similarity(),
        videos=video_rows(),
        confusions=tuple(
            ConfusionPair(
                names[n], names[(n * 7 + 3) % 124], 90000 - 4000 * n, 90000 - 4000 * n + c
            )
            for n, c in enumerate([-31000, -24000, -20500, 9000, -15000, -9000, 8000, -7000, 5000])
        ),
        calibration=(curve("val", 0.09), curve("test", 0.15)),
        front=front(),
        helped=frames(8, 1),
        hurt=frames(8, -1),
        colours=colours_of(124),
        provenance=(
            ("command", "segfusion search --ensemble ensemble.toml --labels labels/val"),
            ("version", "0.9.0"),
            ("stores", "22, digest 7896ec36e5d2df99"),
        ),
    )


def tiny() -> Facts:
    """Channels, one group, one split, one video: nothing that is optional."""
    return Facts(
        title="lesions",
        verdict="one unit: no interval and no held-out score; label more videos",
        objective="dice",
        best="unet",
        score=Estimate(0.81),
        ladder=(Rung("best single: unet", {"val": Estimate(0.8)}),),
        weights={"all": 1.0},
        groups={"all": ("unet",)},
        classes=(ClassRow("lesion", 5120, 0.8, 0.8, 0.81),),
        models=(ModelRow("unet", "all", 1.0, {"val": 0.8}),),
    )


NASTY = (
    "<script>alert(1)</script>",
    "</svg></style><img src=x onerror=alert(1)>",
    "\"quoted\" & 'quoted' {{7*7}} @@SCRIPT@@",
    "https://example.com/x.js",
    "道路 \U0001f6a6 Straße",
    "right\u202eleft\x00\x1b[31mred\nline",
    "long " * 100,
    "javascript:alert(1)",
)


def hostile() -> Facts:
    """Names as their owners should not have chosen them, everywhere a name can stand."""
    facts, numbers = full(), range(len(NASTY))
    classes = tuple(replace(facts.classes[n], name=NASTY[n]) for n in numbers if n != 7)
    models = tuple(replace(facts.models[n], name=NASTY[n], group=NASTY[n % 3]) for n in numbers)
    small = frame(1, 1, facts.colours, (12, 20))
    return replace(
        facts,
        title=NASTY[0],
        verdict=NASTY[1],
        objective=NASTY[2],
        remarks=NASTY,
        best=NASTY[0],
        ladder=tuple(replace(facts.ladder[n % 6], name=NASTY[n]) for n in numbers),
        contenders=tuple(replace(facts.contenders[n % 4 + 1], name=NASTY[n]) for n in numbers),
        weights={name: 1.0 + n for n, name in enumerate(NASTY)},
        groups=dict.fromkeys(NASTY, NASTY),
        plane=replace(facts.plane, axes=NASTY[:2], fixed=NASTY[2]),
        multipliers={name: 1.5 + n for n, name in enumerate(NASTY)},
        classes=classes,
        models=models,
        similarity=Similarity(NASTY, facts.similarity.shares[:8, :8]),
        videos=tuple(replace(facts.videos[n], name=NASTY[n]) for n in numbers),
        confusions=tuple(ConfusionPair(NASTY[n], NASTY[n - 1], 9 + n, 5) for n in numbers),
        calibration=(replace(facts.calibration[0], name=NASTY[0]),),
        front=tuple(replace(facts.front[n], name=NASTY[n]) for n in numbers),
        helped=(replace(small, video=NASTY[0], frame=NASTY[2]),),
        hurt=(replace(small, pictures={NASTY[1]: small.pictures["truth"]}),),
        provenance=tuple((name, name) for name in NASTY),
    )
