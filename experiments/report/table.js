"use strict";
// What every page has: the choice of colours, and tables that sort. The page reads without it.

// An element with attributes and children; texts become text nodes, never HTML.
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

// ---- colours -------------------------------------------------------------------------------------------------

function remembered(key, value) {
  try {
    if (value !== undefined) localStorage.setItem(key, value);
    return localStorage.getItem(key);
  } catch {
    return null; // a browser may keep nothing for a file
  }
}

function colours() {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const isDark = () =>
    (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const label = () => {
    button.textContent = isDark() ? "Light colours" : "Dark colours";
  };
  const chosen = remembered("paribus-theme");
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remembered("paribus-theme", root.dataset.theme);
    label();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
  label();
}

// ---- sorting -------------------------------------------------------------------------------------------------

function sortable(table) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = make("button", { type: "button" });
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" };
      const order = next[head.getAttribute("aria-sort") ?? "none"];
      for (const other of heads) other.removeAttribute("aria-sort");
      if (order !== "none") head.setAttribute("aria-sort", order);
      body.append(...(order === "none" ? original : sorted(original, column, order === "descending")));
    });
  });
}

// Rows by a column's data-value; a row without one stays last, whatever the direction.
function sorted(rows, column, descending) {
  const key = (row) => row.cells[column].dataset.value ?? "";
  const numeric = rows.every((row) => key(row) === "" || !Number.isNaN(Number(key(row))));
  const compare = (a, b) => (numeric ? Number(a) - Number(b) : a.localeCompare(b));
  const known = rows.filter((row) => key(row) !== "");
  const unknown = rows.filter((row) => key(row) === "");
  known.sort((a, b) => (descending ? -1 : 1) * compare(key(a), key(b)));
  return [...known, ...unknown];
}

colours();
for (const table of document.querySelectorAll("table[data-sortable]")) sortable(table);
