"use strict";
// Where each number of the table comes from.

const DATA = JSON.parse(document.getElementById("data").textContent);

// A value of the metric as the table prints it: two decimals for per cent, otherwise four.
function metricText(value, percent = DATA.metric.percent, signed = false) {
  if (value === null || !Number.isFinite(value)) return "–";
  const shown = percent ? value * 100 : value;
  const size = Math.max(Math.abs(shown), 1);
  const decimals = percent ? 2 : Math.max(0, 4 - Math.floor(Math.log10(size)));
  const sign = signed && shown >= 0 ? "+" : "";
  return sign + shown.toFixed(decimals).replace("-", "\u2212");
}

function plain(value, digits = 4) {
  return value === null ? "–" : String(Number(value.toPrecision(digits))).replace("-", "\u2212");
}

// ---- where a number comes from -------------------------------------------------------------------------------

// Each number becomes a button. One of them is in the tab order; the arrow keys move among them.
function traceable(table) {
  const titles = [...table.tHead.rows[0].cells].map((cell) => cell.dataset.title);
  const how = [...table.tHead.rows[0].cells].map((cell) => cell.dataset.how);
  for (const row of table.tBodies[0].rows) {
    if (!row.dataset.arm) continue;
    [...row.cells].forEach((cell, column) => {
      const button = make("button", { type: "button", tabindex: "-1", "aria-haspopup": "dialog" });
      button.append(...cell.childNodes);
      cell.append(button);
      button.addEventListener("click", () => showOrigin(row.dataset.arm, titles[column], how[column], button));
    });
  }
  const first = table.tBodies[0].querySelector("button");
  if (first) first.tabIndex = 0;
  table.tBodies[0].addEventListener("keydown", (event) => move(table.tBodies[0], event));
  table.tBodies[0].addEventListener("focusin", (event) => {
    for (const button of table.tBodies[0].querySelectorAll("button")) button.tabIndex = -1;
    event.target.tabIndex = 0;
  });
}

function move(body, event) {
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  const cell = event.target.closest("td, th");
  if (!cell) return;
  const rows = [...body.rows].filter((row) => row.dataset.arm);
  let row = rows.indexOf(cell.parentElement);
  let column = cell.cellIndex;
  if (event.key in steps) {
    row += steps[event.key][0];
    column += steps[event.key][1];
  } else if (event.key === "Home") column = 0;
  else if (event.key === "End") column = rows[row].cells.length - 1;
  else return;
  const button = rows[row]?.cells[column]?.querySelector("button");
  if (!button) return;
  event.preventDefault();
  button.focus();
}

function showOrigin(name, title, how, opener) {
  const arm = DATA.arms.find((each) => each.name === name);
  const baseline = DATA.arms.find((each) => each.name === DATA.baseline);
  const dialog = document.getElementById("origin");
  const command = make("code", { id: "origin-command" }, arm.command);
  const whose = make("span", {}, `the arm ${name}`);
  const show = (trial) => {
    command.textContent = trial ? trial.command : arm.command;
    whose.textContent = trial ? `the trial ${trial.trial}` : `the arm ${name}`;
  };
  document.getElementById("origin-title").textContent = `${name}: ${title}`;
  document.getElementById("origin-body").replaceChildren(
    make("p", {}, opener.innerText.trim().replace(/\s+/g, " ")),
    make("p", { class: "soft" }, how),
    make("h3", {}, "Trials"),
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Trials" },
      trialTable(arm, arm === baseline ? null : baseline, show)),
    make("h3", {}, `How ${name} differs from ${DATA.baseline}`),
    ...changes(arm, baseline),
    make("h3", {}, "Command that makes ", whose, " again"),
    make("div", { class: "command" }, make("pre", { tabindex: "0" }, command), copyButton(command)),
    make("p", { class: "soft" },
      "It writes to a folder of its own. A trial that runs alone agrees with its record up to rounding."),
  );
  dialog.showModal();
}

function changes(arm, baseline) {
  if (arm === baseline) return [make("p", {}, "It is the baseline.")];
  if (arm.changes === null) return [make("p", {}, "The records hold no configurations.")];
  if (!arm.changes.length) return [make("p", {}, "In nothing: it is the baseline again, under other seeds.")];
  return [make("ul", {}, ...arm.changes.map((line) => make("li", {}, make("code", {}, line))))];
}

function trialTable(arm, baseline, show) {
  const heads = ["seed", "trial", "status", DATA.metric.label + (DATA.metric.percent ? " (%)" : "")];
  if (baseline) heads.push(DATA.baseline, "difference");
  heads.push("training, s", "command");
  const rows = arm.trials.map((trial) => {
    const other = baseline?.trials.find((each) => each.seed === trial.seed);
    const ok = trial.status === "ok";
    const both = ok && other?.status === "ok" && trial.value !== null && other.value !== null;
    const status = trial.diverged === null ? trial.status : `${trial.status} at step ${trial.diverged}`;
    const cells = [trial.trial, status, ok ? metricText(trial.value) : "–"];
    if (baseline) {
      cells.push(other?.status === "ok" ? metricText(other.value) : "–");
      cells.push(both ? metricText(trial.value - other.value, DATA.metric.percent, true) : "–");
    }
    cells.push(plain(trial.seconds));
    const button = make("button", { type: "button", class: "show", onclick: () => show(trial) }, "show");
    button.setAttribute("aria-label", `show the command of ${trial.trial}`);
    return make("tr", {},
      make("th", { scope: "row" }, String(trial.seed) + (trial.exploratory ? " †" : "")),
      ...cells.map((text) => make("td", {}, text)), make("td", {}, button));
  });
  return make("table", {},
    make("thead", {}, make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...rows));
}

function copyButton(source) {
  const button = make("button", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    getSelection().selectAllChildren(source);
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Selected"; // a page from a file may not write to the clipboard
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  return button;
}

traceable(document.getElementById("results"));
