"use strict";
// The learning curves as an SVG: which column and arms are shown, logarithmic axes, values under the pointer.

function curvesChart(place) {
  const { columns, percent, seeds: hasSeeds, arms } = DATA.curves;
  if (!columns.length) return;
  const names = DATA.arms.map((arm) => arm.name).filter((name) => Object.keys(arms[name]).length);
  const state = { column: columns[0], logX: false, logY: false, seeds: false, whole: false, hidden: new Set(), at: null };
  const dashes = ["", "8 3", "2 3", "8 3 2 3", "5 3 2 3 2 3"];
  const look = (name) => {
    const index = DATA.arms.findIndex((arm) => arm.name === name);
    return { tone: `arm${index % 7}`, dash: dashes[index % dashes.length] };
  };
  const isPercent = () => percent.includes(state.column);
  const text = (value) => metricText(value, isPercent());

  function svg(name, attributes = {}, ...children) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  // ---- controls ----------------------------------------------------------------------------------------------
  const live = make("p", { class: "hidden", "aria-live": "polite" });
  const tip = make("div", { class: "tip", hidden: true });
  const stage = make("div", { class: "chart", tabindex: "0", role: "group" });
  const select = make("select", { id: "curve-column" },
    ...columns.map((column) => make("option", { value: column }, column.replaceAll("_", " "))));
  select.addEventListener("change", () => { state.column = select.value; draw(); });
  const check = (key, label) => {
    const box = make("input", { type: "checkbox", "data-option": key });
    box.addEventListener("change", () => { state[key] = box.checked; draw(); });
    return make("label", {}, box, label);
  };
  const toggles = names.map((name) => {
    const { tone, dash } = look(name);
    const swatch = svg("svg", { width: 26, height: 8, "aria-hidden": "true", class: tone },
      svg("line", { x1: 0, y1: 4, x2: 26, y2: 4, class: "line", "stroke-dasharray": dash }));
    const button = make("button", { type: "button", "aria-pressed": "true" }, swatch, name);
    button.addEventListener("click", () => {
      if (!state.hidden.delete(name)) state.hidden.add(name);
      pressed();
    });
    return button;
  });
  const all = (hide) => make("button", { type: "button", onclick: () => {
    state.hidden = new Set(hide ? names : []);
    pressed();
  } }, hide ? "none" : "all");
  function pressed() {
    toggles.forEach((button, index) => button.setAttribute("aria-pressed", String(!state.hidden.has(names[index]))));
    draw();
  }
  place.replaceChildren(
    make("div", { class: "controls" }, make("label", { for: "curve-column" }, "curve"), select,
      check("logX", "logarithmic steps"), check("logY", "logarithmic values"),
      hasSeeds ? check("seeds", "every seed") : null, check("whole", "from the first step")),
    stage,
    make("ul", { class: "arms", "aria-label": "Arms that are shown" },
      ...[...toggles, all(false), all(true)].map((button) => make("li", {}, button))),
    live);

  // ---- scales ------------------------------------------------------------------------------------------------
  const visible = () => names.filter((name) => !state.hidden.has(name) && arms[name][state.column]);
  function scale(low, high, from, to, log) {
    const f = log ? Math.log10 : (value) => value;
    const span = f(high) - f(low) || 1;
    const map = (value) => from + ((f(value) - f(low)) / span) * (to - from);
    map.back = (place) => {
      const value = f(low) + ((place - from) / (to - from)) * span;
      return log ? 10 ** value : value;
    };
    return map;
  }
  function ticks(low, high, count, log) {
    if (log) {
      const parts = high / low < 100 ? [1, 2, 5] : [1];
      const marks = [];
      for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1)
        for (const part of parts) marks.push(part * 10 ** power);
      const inside = marks.filter((mark) => mark >= low && mark <= high);
      if (inside.length > 1) return inside;
    }
    const raw = (high - low) / count || 1;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((part) => part * power).find((each) => each >= raw);
    const marks = [];
    for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index += 1) marks.push(index * step);
    return marks;
  }
  const short = (value) => {
    for (const [factor, prefix] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]])
      if (Math.abs(value) >= factor) return `${plain(value / factor)}${prefix}`;
    return plain(value);
  };

  // Ranges of what is shown. The start of training would squeeze the rest, so values count from a tenth of the steps.
  function ranges(shown) {
    const steps = [], values = [];
    for (const name of shown) {
      const curve = arms[name][state.column];
      const start = state.whole ? 0 : Math.max(...curve.step) / 10;
      curve.step.forEach((step, index) => {
        if (state.logX && step <= 0) return;
        steps.push(step);
        if (step < start) return;
        const here = [curve.mean[index], curve.low[index], curve.high[index]];
        if (state.seeds) for (const seed of Object.values(curve.seeds)) here.push(seed[index]);
        values.push(...here.filter((value) => value !== null && (!state.logY || value > 0)));
      });
    }
    if (!steps.length || !values.length) return null;
    let low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
    if (state.logY) [low, high] = [low / 1.05, high * 1.05];
    else {
      const margin = 0.05 * (high - low) || 0.01 * Math.abs(high) || 1;
      [low, high] = [low - margin, high + margin];
    }
    return { x: [steps.reduce((a, b) => Math.min(a, b)), steps.reduce((a, b) => Math.max(a, b))], y: [low, high] };
  }

  // ---- drawing -----------------------------------------------------------------------------------------------
  let scales = null;
  function draw() {
    const shown = visible();
    const width = Math.max(280, place.clientWidth), height = Math.min(440, Math.max(260, width * 0.5));
    const box = { left: 58, right: width - 12, top: 10, bottom: height - 40 };
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    const found = ranges(shown);
    scales = null;
    hide();
    stage.setAttribute("aria-label", `Learning curves: ${state.column.replaceAll("_", " ")} against the step for ` +
      `${shown.join(", ") || "no arm"}. Left and right arrow keys read the values.`);
    if (found === null) {
      root.append(svg("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "Nothing to show here."));
      stage.replaceChildren(root, tip);
      return;
    }
    const x = scale(...found.x, box.left, box.right, state.logX);
    const y = scale(...found.y, box.bottom, box.top, state.logY);
    scales = { x, y, box, width, shown };
    axes(root, x, y, found, box, width, height);
    const clip = svg("clipPath", { id: "inside" },
      svg("rect", { x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top }));
    const inside = svg("g", { "clip-path": "url(#inside)" });
    root.append(svg("defs", {}, clip), inside);
    for (const name of shown) inside.append(...drawn(name, x, y));
    root.append(svg("line", { class: "cursor", y1: box.top, y2: box.bottom, visibility: "hidden" }));
    stage.replaceChildren(root, tip);
    if (state.at !== null) show(state.at);
  }

  function axes(root, x, y, found, box, width, height) {
    for (const mark of ticks(...found.y, 6, state.logY)) {
      root.append(svg("line", { class: "grid", x1: box.left, x2: box.right, y1: y(mark), y2: y(mark) }));
      const label = isPercent() ? plain(mark * 100) : short(mark);
      root.append(svg("text", { x: box.left - 6, y: y(mark) + 4, "text-anchor": "end" }, label));
    }
    for (const mark of ticks(...found.x, width < 500 ? 4 : 8, state.logX)) {
      root.append(svg("line", { class: "axis", x1: x(mark), x2: x(mark), y1: box.bottom, y2: box.bottom + 4 }));
      root.append(svg("text", { x: x(mark), y: box.bottom + 17, "text-anchor": "middle" }, short(mark)));
    }
    root.append(svg("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
    root.append(svg("text", { x: (box.left + box.right) / 2, y: height - 5, "text-anchor": "middle" }, "step"));
    const title = state.column.replaceAll("_", " ") + (isPercent() ? " (%)" : "");
    root.append(svg("text", { x: 12, y: (box.top + box.bottom) / 2, "text-anchor": "middle",
      transform: `rotate(-90 12 ${(box.top + box.bottom) / 2})` }, title));
  }

  function drawn(name, x, y) {
    const curve = arms[name][state.column], { tone, dash } = look(name);
    const fits = (step, value) => value !== null && (!state.logX || step > 0) && (!state.logY || value > 0);
    const path = (values) => {
      let pen = "M", line = "";
      values.forEach((value, index) => {
        const step = curve.step[index];
        if (!fits(step, value)) { pen = "M"; return; }
        line += `${pen}${x(step).toFixed(1)},${y(value).toFixed(1)}`;
        pen = "L";
      });
      return line;
    };
    const whole = curve.step.map((_, index) => index)
      .filter((index) => fits(curve.step[index], curve.low[index]) && fits(curve.step[index], curve.high[index]));
    const point = (index, values) => `${x(curve.step[index]).toFixed(1)},${y(values[index]).toFixed(1)}`;
    const group = [];
    if (state.seeds)
      for (const values of Object.values(curve.seeds)) group.push(svg("path", { class: `seed ${tone}`, d: path(values) }));
    else if (whole.length)
      group.push(svg("polygon", { class: `band ${tone}`, points: [...whole.map((index) => point(index, curve.high)),
        ...whole.reverse().map((index) => point(index, curve.low))].join(" ") }));
    group.push(svg("path", { class: `line ${tone}`, d: path(curve.mean), "stroke-dasharray": dash, "data-arm": name }));
    const finite = curve.mean.filter((value) => value !== null).length;
    if (finite === 1) {
      const index = curve.mean.findIndex((value) => value !== null);
      if (fits(curve.step[index], curve.mean[index]))
        group.push(svg("circle", { class: `dot ${tone}`, r: 4, cx: x(curve.step[index]), cy: y(curve.mean[index]) }));
    }
    return group;
  }

  // ---- values under the pointer ------------------------------------------------------------------------------
  const stepsShown = () => [...new Set(scales.shown.flatMap((name) => arms[name][state.column].step))]
    .filter((step) => !state.logX || step > 0).sort((a, b) => a - b);
  const nearest = (steps, wanted) => steps.reduce((best, step) =>
    Math.abs(step - wanted) < Math.abs(best - wanted) ? step : best);
  function hide() {
    tip.hidden = true;
    stage.querySelector(".cursor")?.setAttribute("visibility", "hidden");
  }
  function show(step) {
    state.at = step;
    const rows = scales.shown.map((name) => {
      const curve = arms[name][state.column], index = curve.step.indexOf(nearest(curve.step, step));
      return { name, mean: curve.mean[index], low: curve.low[index], high: curve.high[index], n: curve.n[index] };
    }).filter((row) => row.mean !== null).sort((a, b) => b.mean - a.mean);
    const line = (row) => `${text(row.mean)}${row.low === null ? "" : ` [${text(row.low)}, ${text(row.high)}]`}`;
    tip.replaceChildren(make("strong", {}, `step ${step}`), make("table", {}, make("tbody", {},
      ...rows.slice(0, 12).map((row) => make("tr", {}, make("th", { scope: "row" }, row.name), make("td", {}, line(row)))))));
    live.textContent = `step ${step}: ${rows.map((row) => `${row.name} ${text(row.mean)}`).join("; ")}`;
    tip.hidden = false;
    const place = scales.x(step);
    const cursor = stage.querySelector(".cursor");
    cursor.setAttribute("x1", place);
    cursor.setAttribute("x2", place);
    cursor.setAttribute("visibility", "visible");
    const space = stage.clientWidth - tip.offsetWidth;
    tip.style.left = `${Math.max(0, Math.min(space, place > scales.width / 2 ? place - tip.offsetWidth - 12 : place + 12))}px`;
    tip.style.top = "12px";
  }
  stage.addEventListener("pointermove", (event) => {
    if (!scales) return;
    const bounds = stage.firstChild.getBoundingClientRect();
    const wanted = scales.x.back(((event.clientX - bounds.left) / bounds.width) * scales.width);
    show(nearest(stepsShown(), wanted));
  });
  stage.addEventListener("pointerleave", () => { state.at = null; hide(); });
  stage.addEventListener("blur", () => { state.at = null; hide(); });
  stage.addEventListener("keydown", (event) => {
    if (!scales) return;
    if (event.key === "Escape") { state.at = null; hide(); return; }
    const steps = stepsShown(), last = steps.length - 1;
    const here = state.at === null ? -1 : steps.indexOf(state.at);
    const next = { ArrowRight: Math.min(last, here + 1), ArrowLeft: here < 0 ? last : Math.max(0, here - 1), Home: 0,
      End: last }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    show(steps[next]);
  });
  let drawnWidth = 0;
  new ResizeObserver(() => {
    if (place.clientWidth !== drawnWidth) { drawnWidth = place.clientWidth; draw(); }
  }).observe(place);
  draw();
}

curvesChart(document.getElementById("curves"));
