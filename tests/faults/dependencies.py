"""What this library stands on: versions, licences and known holes of other people's packages.

python -m tests.faults.dependencies pins       installed versions against constraints.txt
python -m tests.faults.dependencies licences   of all that the library and its extras install
python -m tests.faults.dependencies audit      known vulnerabilities, by pip-audit; needs a network

The first two ask what is installed, need no network, and end with exit code 1 where something is
wrong. `audit` hands constraints.txt, which holds every version exactly, to pip-audit, whose
`--format cyclonedx-json` writes the same as a bill of materials.
"""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
DEVELOPERS = {"test", "docs", "benchmarks"}  # extras that nobody needs who uses the library
# strict: a package that cannot be looked up is no package that is sound
AUDIT = ["pip-audit", "--strict", "--no-deps", "--disable-pip", "-r", str(CONSTRAINTS)]

PERMISSIVE = {
    *("MIT", "MIT-0", "MIT-CMU", "BSD", "BSD-2-Clause", "BSD-3-Clause", "0BSD", "ISC", "Zlib"),
    *("Apache-2.0", "LLVM-exception", "PSF-2.0", "CNRI-Python", "BSL-1.0", "CC0-1.0"),
}
WORDS = {  # older metadata says it in words
    "MIT": "mit|mit license",
    "BSD": "bsd|bsd license|new bsd",
    "BSD-3-Clause": "bsd 3-clause license",
    "Apache-2.0": "apache[ -](license )?2.0( license)?|apache software license",
    "ISC": r"isc license( \(iscl\))?",
    "PSF-2.0": "python software foundation license",
    "MPL-2.0": r"mozilla public license 2.0 \(mpl 2.0\)",
}
ACCEPTED = {  # that ask for more than a notice: why they may stay
    "tqdm": "MPL-2.0 asks for the source of its own files, which are used as they are",
    "certifi": "MPL-2.0, as tqdm: a list of certificates, of the extra huggingface",
    "connected-components-3d": "LGPL: the extra components, imported where a user asks for it",
    "psycopg": "LGPL: the extra postgresql, imported by Optuna for a user's own server",
    "psycopg-binary": "LGPL: as psycopg",
}
CARRIED = {  # in wheels, beside what their metadata says
    "imageio-ffmpeg": "a program ffmpeg under the GPL, which is run and not linked",
    "opencv-python-headless": "FFmpeg's libraries under the LGPL",
}


def wanted(extras: Iterable[str]) -> list[Requirement]:
    """What setup.cfg asks for: the library's own packages, and those of extras."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    texts = [config["options"]["install_requires"]]
    texts += [config["options.extras_require"][extra] for extra in extras]
    lines = [line for text in texts for line in text.splitlines() if line.strip()]
    return [Requirement(line) for line in lines]


def extras() -> set[str]:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return set(config["options.extras_require"])


def installed(requirements: Iterable[Requirement]) -> dict[str, metadata.Distribution | None]:
    """These packages and all that they need here, by name; None for what is not installed."""
    found: dict[str, metadata.Distribution | None] = {}
    ahead = [(requirement, "") for requirement in requirements]
    done: set[tuple[str, str]] = set()
    while ahead:
        requirement, extra = ahead.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        found[name] = package = distribution(name)
        needs = [] if package is None else [Requirement(line) for line in package.requires or ()]
        for chosen in {(name, ""), *((name, e) for e in requirement.extras)} - done:
            done.add(chosen)
            ahead += [(need, chosen[1]) for need in needs]
    return dict(sorted(found.items()))


def distribution(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def pins(path: Path = CONSTRAINTS) -> dict[str, str]:
    """Name -> version; ValueError: a line that is no exact version, or a name twice."""
    found: dict[str, str] = {}
    for line in path.read_text().splitlines():
        line = line.partition("#")[0].strip()
        name, equal, version = line.partition("==")
        name = canonicalize_name(name)
        if line and (not equal or not re.fullmatch(r"[\w.!+-]+", version) or name in found):
            raise ValueError(f"{path.name}: {line!r} is no exact version, or there twice")
        if line:
            found[name] = version
    return found


def unpinned(path: Path = CONSTRAINTS) -> Iterator[str]:
    """A sentence for every package of the tests whose installed version is not the pinned one."""
    known = pins(path)
    for name, package in installed(wanted({"test"})).items():
        if package is None:
            yield f"{name} is not installed"
        elif known.get(name) != package.version.partition("+")[0]:  # +cpu
            yield f"{name}=={package.version} is installed, {known.get(name, 'nothing')} is pinned"


def licence_of(package: metadata.Distribution) -> str:
    """As SPDX spells it; "" where the metadata does not say."""
    if expression := package.metadata.get("License-Expression"):
        return expression
    said = (package.metadata.get("License") or "").strip()
    classified = package.metadata.get_all("Classifier") or []
    classified = [c.rpartition(" :: ")[2] for c in classified if c.startswith("License ::")]
    for text in (said, *classified):
        for name, words in WORDS.items():
            if re.fullmatch(words, text, re.IGNORECASE):
                return name
    return said if re.fullmatch(r"[\w.+-]+( (AND|OR|WITH) [\w.+-]+)*", said) else ""


def is_permissive(expression: str) -> bool:
    """Whether one of its alternatives, or with brackets everything, asks for but a notice."""
    alternatives = [expression] if "(" in expression else expression.split(" OR ")
    names = [re.split(r"(?: AND | OR | WITH |[() ])+", one.strip("() ")) for one in alternatives]
    return any(PERMISSIVE.issuperset(some) for some in names)


def licences() -> Iterator[tuple[str, str, str, str, bool]]:
    """Name, version, licence, remark, and whether it is fine, of all that users may install."""
    for name, package in installed(wanted(sorted(extras() - DEVELOPERS))).items():
        if package is None:
            yield name, "-", "-", "is not installed", False
            continue
        licence = licence_of(package)
        remark = ACCEPTED.get(name, CARRIED.get(name, ""))
        fine = is_permissive(licence) or (bool(licence) and name in ACCEPTED)
        yield name, package.version, licence or "unknown", remark, fine


def main(words: list[str]) -> int:
    if words == ["pins"]:
        wrong = list(unpinned())
        print("\n".join(wrong) or f"{len(pins())} versions are pinned, and are those installed")
        return bool(wrong)
    if words == ["licences"]:
        rows = list(licences())
        for name, version, licence, remark, fine in rows:
            print(f"{' ' if fine else '!'} {name:28}{version:18}{licence:40}{remark}".rstrip())
        return not all(fine for *_, fine in rows)
    if words[:1] == ["audit"]:
        try:
            return subprocess.run([*AUDIT, *words[1:]], check=False).returncode
        except FileNotFoundError:
            print("audit: needs pip-audit; pip install pip-audit", file=sys.stderr)
            return 2
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
