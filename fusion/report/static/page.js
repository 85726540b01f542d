"use strict";
const all = (query, root = document) => [...root.querySelectorAll(query)];

all(".needs-script").forEach((each) => { each.hidden = false; });

// theme: the system's, until somebody chooses
const root = document.documentElement, theme = document.getElementById("theme");
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const kept = { // file:// may have no storage
  get() { try { return localStorage.getItem("segfusion-theme"); } catch { return null; } },
  set(value) { try { localStorage.setItem("segfusion-theme", value); } catch { /* lasts as long as the page */ } },
};
const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches;
const sayTheme = () => { theme.textContent = isDark() ? "Light theme" : "Dark theme"; };
if (["dark", "light"].includes(kept.get())) root.dataset.theme = kept.get();
theme.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  kept.set(root.dataset.theme);
  sayTheme();
});
systemDark.addEventListener("change", sayTheme);
sayTheme();

// tables: numbers by their value, words in natural order, what is unknown last
const words = new Intl.Collator("en", { numeric: true });
function sortBy(heading) {
  const table = heading.closest("table"), body = table.tBodies[0], at = heading.cellIndex;
  const number = heading.classList.contains("number");
  const was = heading.getAttribute("aria-sort"), first = number ? "descending" : "ascending";
  const now = was === "none" ? first : was === "ascending" ? "descending" : "ascending";
  const way = now === "ascending" ? 1 : -1;
  const value = (row) => row.cells[at].dataset.v;
  const compare = (a, b) => {
    if (!number) return way * words.compare(a.cells[at].textContent, b.cells[at].textContent);
    if (value(a) === undefined || value(b) === undefined) return (value(a) === undefined) - (value(b) === undefined);
    return way * (value(a) - value(b));
  };
  body.append(...[...body.rows].sort(compare));
  all("th[aria-sort]", table).forEach((each) => each.setAttribute("aria-sort", "none"));
  heading.setAttribute("aria-sort", now);
}
all("th[aria-sort] button").forEach((button) => button.addEventListener("click", () => sortBy(button.closest("th"))));
all(".filter input").forEach((input) => input.addEventListener("input", () => {
  const rows = all("tbody tr", input.closest(".table")), wanted = input.value.trim().toLowerCase();
  rows.forEach((row) => { row.hidden = !row.textContent.toLowerCase().includes(wanted); });
  const shown = rows.filter((row) => !row.hidden).length;
  input.closest(".filter").querySelector("output").textContent = wanted ? `${shown} shown` : "";
}));

// values of what the pointer is on
const tip = document.getElementById("tip");
function sayTip(event) {
  const mark = event.target.closest?.("[data-tip]");
  tip.hidden = !mark;
  if (!mark) return;
  tip.textContent = mark.dataset.tip;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 12, innerWidth - width - 4))}px`;
  tip.style.top = `${event.clientY - height - 12 < 4 ? event.clientY + 16 : event.clientY - height - 12}px`;
}
document.addEventListener("pointermove", sayTip);
document.addEventListener("pointerdown", sayTip);
document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

// pictures of a frame, large and in the same place: their names, or the arrow keys, exchange them
const zoom = document.getElementById("zoom"), large = zoom.querySelector("img"), tabs = zoom.querySelector(".tabs");
function show(number) {
  const buttons = [...tabs.children], at = (number + buttons.length) % buttons.length;
  buttons.forEach((each, n) => each.setAttribute("aria-pressed", n === at));
  const picture = buttons[at].picture;
  large.src = picture.src;
  large.alt = picture.alt;
  large.className = picture.className;
  zoom.shown = at;
  if (zoom.open) buttons[at].focus();
}
all(".zoom").forEach((button) => button.addEventListener("click", () => {
  const pictures = all("img", button.closest(".strip"));
  tabs.replaceChildren(...pictures.map((picture, n) => {
    const tab = document.createElement("button");
    tab.type = "button";
    tab.textContent = picture.closest("figure").querySelector("figcaption").textContent;
    tab.picture = picture;
    tab.addEventListener("click", () => show(n));
    return tab;
  }));
  show(pictures.indexOf(button.querySelector("img")));
  zoom.showModal();
}));
zoom.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step) { event.preventDefault(); show(zoom.shown + step); }
});
zoom.addEventListener("click", (event) => { if (event.target === zoom) zoom.close(); });
zoom.querySelector(".close").addEventListener("click", () => zoom.close());

// where one is
const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
const watcher = new IntersectionObserver((entries) => entries.forEach(({ isIntersecting, target }) => {
  if (!isIntersecting) return;
  links.forEach((link) => link.removeAttribute("aria-current"));
  links.get(target.id)?.setAttribute("aria-current", "true");
}), { rootMargin: "-20% 0px -75% 0px" });
all("section[id]").forEach((section) => watcher.observe(section));
