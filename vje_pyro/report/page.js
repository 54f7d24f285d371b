/* Charts that answer, and tables that sort. Without this script the page shows the same, at rest. */
"use strict";
{
const tip = document.body.appendChild(Object.assign(document.createElement("div"), { id: "tip", hidden: true }));
document.documentElement.classList.add("scripted");
const sheet = document.getElementById("thumbnails");

function picture(index) {
  const { side, columns } = sheet.dataset, canvas = document.createElement("canvas");
  const pen = canvas.getContext("2d"), column = index % columns, row = (index - column) / columns;
  canvas.width = canvas.height = 112;
  pen.imageSmoothingEnabled = side >= 64;
  pen.drawImage(sheet, column * side, row * side, side, side, 0, 0, 112, 112);
  return canvas;
}

function tooltip(_, event, item, value) {
  tip.hidden = !value;
  if (!value) return;
  tip.replaceChildren(...Object.entries(value).map(([name, text]) => {
    if (name === "picture") return picture(Number(text));
    const line = document.createElement("div");
    line.textContent = name.trim() ? `${name}: ${text}` : text;
    return line;
  }));
  const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, room))}px`;
  const below = event.clientY + 16;
  tip.style.top = `${below + tip.offsetHeight < innerHeight ? below : event.clientY - tip.offsetHeight - 12}px`;
}

async function live(chart) {
  const spec = JSON.parse(chart.querySelector("script").textContent), box = document.createElement("div");
  const config = JSON.parse(document.getElementById("chart-config").textContent);
  const options = { actions: false, ast: true, config, defaultStyle: false, logLevel: 1, renderer: "svg", tooltip };
  const narrow = chart.clientWidth / spec.width;
  if (narrow < 1 && spec.height > 300) spec.height *= Math.max(narrow, 0.6);
  spec.width = "container";
  box.className = "live";
  chart.append(box);
  await vegaEmbed(box, spec, options);
  chart.querySelector(":scope > svg").remove();
}

const seen = new IntersectionObserver((entries) => entries.filter((e) => e.isIntersecting).forEach((e) => {
  seen.unobserve(e.target);
  live(e.target);
}), { rootMargin: "300px" });
document.querySelectorAll(".chart").forEach((chart) => seen.observe(chart));

function sort(head) {
  const table = head.closest("table"), index = head.cellIndex, body = table.tBodies[0];
  const falling = head.ariaSort ? head.ariaSort === "ascending" : head.classList.contains("number");
  const key = (row) => row.cells[index].dataset.value ?? row.cells[index].textContent.trim();
  const empty = (text) => text === "" || text === "–";
  const compare = (a, b) => empty(a) - empty(b) ||
    (falling ? -1 : 1) * (a - b || String(a).localeCompare(b, undefined, { numeric: true }));
  for (const other of head.parentNode.cells) other.ariaSort = null;
  head.ariaSort = falling ? "descending" : "ascending";
  body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b))));
}
document.querySelectorAll("table.sortable thead th").forEach((head) => {
  head.tabIndex = 0;
  head.title = "Sort";
  head.addEventListener("click", () => sort(head));
  head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(head); });
});

addEventListener("hashchange", () => {
  const details = document.querySelector(`${location.hash || "body"} > details`);
  if (details) details.open = true;
});
addEventListener("beforeprint", () => document.querySelectorAll("details:not(.raw)").forEach((d) => { d.open = true; }));
}
