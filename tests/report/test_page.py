"""The page: one file that asks no network, in order, escaped, with nothing of what is not known."""

from __future__ import annotations

import base64
import builtins
import io
import re
from dataclasses import fields, replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from fusion.errors import InputError, StoreError
from fusion.report import inline
from fusion.report.facts import Facts
from fusion.report.figures import FIGURES
from fusion.report.page import MARKER, write_page
from fusion.report.sections import SECTIONS
from tests.report.example import NASTY, full, hostile, tiny

EMPTY = {"meta", "link", "img", "input", "br"}  # elements that have no end
LIMIT = 5_000_000
SHOWN = [name for name in FIGURES if name != "weight_line"]  # of the example, which has a plane
HEADS = ("h1", "h2", "h3")


class Page(HTMLParser):
    """Every element of a page, and whether all are closed in turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        assert len(attributes) == len(attrs), f"attributes twice: {attrs}"
        self.elements.append((tag, attributes, tuple(self.open)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append((tuple(self.open), data))

    def all(self, *tags):
        return [attributes for tag, attributes, _ in self.elements if tag in tags]

    def texts(self, *tags):
        return [text for path, text in self.words if path and path[-1] in tags]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("full")
    return out, write_page(full(), out)


@pytest.fixture(scope="module")
def text(written):
    return written[1][0].read_text()


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_files(written):
    out, files = written
    expected = {out / "figures" / f"{name}.{kind}" for name in SHOWN for kind in ("svg", "png")}
    assert files[0] == out / "report.html"
    assert set(files[1:]) == expected
    assert {file for file in out.rglob("*") if file.is_file()} == set(files)
    assert files[0].stat().st_size < LIMIT
    assert MARKER in files[0].read_text()[:100]


def external(page: Page) -> list[str]:
    names = ("src", "href", "action", "data", "poster", "srcset", "xlink:href")
    given = [each[key] for _, each, _ in page.elements for key in names if each.get(key)]
    return [address for address in given if not address.startswith(("data:", "#"))]


def test_it_asks_no_network(page, text):
    assert not external(page)
    assert not re.search(r"url\((?!#)|@import|fetch\(|XMLHttp|WebSocket|import\(", text)
    (policy,) = [each["content"] for each in page.all("meta") if "http-equiv" in each]
    assert "default-src 'none'" in policy


def test_the_verdict_comes_first_and_sections_in_order(page):
    assert page.all("section")[0]["id"] == "verdict"
    names = [each["id"] for each in page.all("section")][1:]
    assert names == [section.name for section in SECTIONS]
    links = [each["href"] for each in page.all("a")][1:]
    assert links == ["#verdict", *(f"#{name}" for name in names)]
    shown = [each["id"] for each in page.all("figure") if "id" in each]
    assert shown == [
        f"{name}-figure" for section in SECTIONS for name in section.figures if name in SHOWN
    ]
    assert set(FIGURES) == {name for section in SECTIONS for name in section.figures}


def test_headings_go_down_step_by_step(page):
    levels = [int(tag[1]) for tag, _, _ in page.elements if tag in HEADS]
    assert levels[0] == 1 == levels.count(1)
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_ids_are_unique_and_what_refers_to_them_finds_them(page, text):
    ids = [each["id"] for _, each, _ in page.elements if "id" in each]
    assert len(ids) == len(set(ids))
    wanted = [each["href"][1:] for each in page.all("a")] + re.findall(r"url\(#([^)]+)\)", text)
    wanted += [each["for"] for each in page.all("label")]
    wanted += [each["aria-labelledby"] for each in page.all("section") if "aria-labelledby" in each]
    assert set(wanted) <= set(ids)


def test_pictures_have_words(page):
    assert all(each.get("aria-label") for each in page.all("svg"))
    pictures = [each for each in page.all("img") if "src" in each]
    assert len(pictures) == 16 * 5
    assert all(each["alt"] for each in pictures)
    assert {svg["aria-label"] for svg in page.all("svg")} == {
        FIGURES[name].alt(full()) for name in SHOWN
    }


def test_tables_sort_by_buttons_and_filter_by_a_labelled_field(page):
    columns = [
        each for each in page.all("th") if each.get("scope") == "col" and "aria-sort" in each
    ]
    inside = [path[-1] for tag, _, path in page.elements if tag == "button" and "th" in path]
    assert len(inside) == len(columns) > 40
    labels = {each["for"] for each in page.all("label")}
    assert labels == {each["id"] for each in page.all("input")}
    assert labels == {f"{name}-table-filter" for name in ("classes", "models", "videos")}


def test_the_table_of_classes_has_their_numbers(page):
    facts, rows = full(), []
    for (path, text), before in zip(page.words[1:], page.words, strict=False):
        if path[-1:] == ("th",) and before[0] != path and "tbody" in path:
            rows.append([text])
        elif path[-1:] == ("td",) and rows:
            rows[-1].append(text)
    row = max(facts.classes, key=lambda each: np.nan_to_num(each.found - each.single, nan=-1))
    shown = next(found for found in rows if found[0] == row.name and len(found) == 8)
    scores = [f"{100 * value:.2f}" for value in (row.single, row.uniform, row.found)]
    assert shown[1:] == [
        *scores,
        f"+{100 * (row.found - row.single):.2f}",
        f"{100 * row.held_out:.2f}",
        f"{row.pixels:,}",
        f"{row.multiplier:.4g}",
    ]


def test_names_stay_words(tmp_path):
    facts = hostile()
    text = write_page(facts, tmp_path)[0].read_text()
    page = Page(text)
    assert len(page.all("script")) == 1 == len(page.all("style"))
    assert not external(page)
    assert not [key for _, each, _ in page.elements for key in each if key.startswith("on")]
    for number in (0, 1, 4):
        assert any(NASTY[number] in word for _, word in page.words)
    assert text.count('"use strict";') == 1  # a name with a placeholder is no placeholder
    assert not re.search("[\u202e\x00\x1b]", text)
    assert max(len(word) for path, word in page.words if path[-1:] == ("th",)) < 250


@pytest.mark.parametrize(
    "name", [f.name for f in fields(Facts) if f.name not in ("title", "verdict", "objective")]
)
def test_any_part_may_be_missing(tmp_path, name):
    """And what is missing leaves no heading behind."""
    whole = replace(full(), helped=(), hurt=())
    missing = replace(whole, **{name: getattr(Facts("", "", ""), name)})
    page = Page(write_page(missing, tmp_path, figures=False)[0].read_text())
    sections = {each["id"] for each in page.all("section")}
    of = {"front": "postprocessing"}.get(name, name)
    alone = {"ladder", "contenders", "plane", "similarity", "videos", "confusions", "front"}
    if name in {*alone, "calibration", "provenance", "classes", "models"}:
        assert of not in sections
    assert "frames" not in sections
    assert not [words for words in page.texts("td", "p", "dd", "span") if "nan" in words.split()]


def test_many_remarks_have_to_be_opened(tmp_path):
    for many, there in ((4, False), (5, True)):
        facts = replace(tiny(), remarks=tuple(f"remark {n}" for n in range(many)))
        page = Page(write_page(facts, tmp_path, figures=False)[0].read_text())
        assert bool(page.all("details")) == there
        assert page.texts("li")[:many] == list(facts.remarks)


def test_the_least_that_can_be_known(tmp_path):
    files = write_page(tiny(), tmp_path)
    page = Page(files[0].read_text())
    names = [each["id"] for each in page.all("section")]
    assert names == ["verdict", "ladder", "weights", "classes", "models"]
    assert {file.stem for file in files[1:]} == {"ladder", "class_changes"}
    assert len(page.all("svg")) == 4


def test_nothing_at_all(tmp_path):
    files = write_page(Facts("t", "v", "mIoU"), tmp_path)
    assert files == [tmp_path / "report.html"]
    assert [each["id"] for each in Page(files[0].read_text()).all("section")] == ["verdict"]


def test_without_the_library_that_draws(tmp_path, monkeypatch):
    whole = builtins.__import__

    def without(name, *args, **options):
        if name == "vl_convert":
            raise ImportError(name)
        return whole(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'segfusion\[plot\]'"):
        write_page(full(), tmp_path / "figures")
    assert not (tmp_path / "figures").exists()
    files = write_page(tiny(), tmp_path / "plain", figures=False)
    assert [file.name for file in files] == ["report.html"]
    assert FIGURES["ladder"].alt(tiny()) in Page(files[0].read_text()).texts("p")


def test_a_second_page_takes_the_place_of_the_first(tmp_path):
    write_page(full(), tmp_path, figures=False)
    write_page(tiny(), tmp_path, figures=False)
    assert "lesions" in (tmp_path / "report.html").read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(StoreError, match="out"):
        write_page(tiny(), tmp_path / "out", figures=False)


def decoded(address: str) -> np.ndarray:
    content = base64.b64decode(address.split(",", 1)[1])
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def test_label_maps_keep_every_pixel_and_colour():
    frame = full().helped[0]
    small = replace(frame, pictures={n: p[:200, :300] for n, p in frame.pictures.items()})
    (addresses,) = inline.encoded([small])
    for name, address in addresses.items():
        if name == "image":
            error = np.abs(decoded(address).astype(int) - small.pictures[name]).mean()
            assert 0 < error < 12
        else:
            np.testing.assert_array_equal(decoded(address), small.pictures[name])


def test_label_maps_shrink_without_new_colours():
    frame = full().helped[0]
    (addresses,) = inline.encoded([frame])
    truth = decoded(addresses["truth"])
    assert truth.shape == (360, 640, 3)
    colours = {tuple(c) for c in frame.pictures["truth"].reshape(-1, 3).tolist()}
    assert {tuple(c) for c in truth.reshape(-1, 3).tolist()} <= colours


def test_pictures_that_compress_badly_shrink_until_they_fit(monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
    frames = [replace(full().helped[0], pictures={"image": noise, "truth": noise})]
    large = sum(map(len, inline.encoded(frames)[0].values()))
    monkeypatch.setattr(inline, "BUDGET", large // 6)
    (addresses,) = inline.encoded(frames)
    assert sum(map(len, addresses.values())) < 4 / 3 * (large // 6) + 100
    assert decoded(addresses["image"]).shape == (192, 256, 3)  # the next size would be too large
