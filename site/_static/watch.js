// The page "Watch it learn": plays the runs that tools/record_runs.py has recorded.
(() => {
  const { updates, colours, runs } = RECORDED;
  const page = document.getElementById("watch");
  const find = (selector) => page.querySelector(selector);
  const slider = find("input[type=range]");
  const play = find(".watch-play");
  const CELL = 20;
  const CURVE = { left: 44, right: 156, top: 6, bottom: 140, least: 0.001, most: 2 };
  let run = runs[0];
  let timer = null;

  function svg(parent, name, attributes, text) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return parent.appendChild(element);
  }

  // One square a cell; cell (x, y) is number x · height + y, and y grows upwards, as in the lessons.
  function drawGrid(picture, probabilities, description) {
    const side = run.height * CELL;
    const most = Math.max(...run.target);
    picture.replaceChildren();
    picture.setAttribute("viewBox", `0 0 ${side} ${side}`);
    picture.setAttribute("aria-label", description);
    probabilities.forEach((probability, cell) => {
      const x = Math.floor(cell / run.height);
      const y = run.height - 1 - (cell % run.height);
      const shade = Math.min(colours.length - 1, Math.floor((probability / most) * colours.length));
      const place = { x: x * CELL, y: y * CELL, width: CELL, height: CELL, fill: colours[shade] };
      const square = svg(picture, "rect", place);
      svg(square, "title", {}, `(${x}, ${cell % run.height}): ${probability.toFixed(4)}`);
    });
  }

  // Both axes are logarithmic; the first point, before any update, stands at the left edge.
  function place(frame) {
    const { left, right, top, bottom, least, most } = CURVE;
    const along = Math.log1p(updates[frame] / 10) / Math.log1p(updates.at(-1) / 10);
    const down = Math.log(most / Math.max(run.frames[frame].error, least)) / Math.log(most / least);
    return [left + along * (right - left), top + down * (bottom - top)];
  }

  function drawCurve(picture, frame) {
    const { left, right, top, bottom, least, most } = CURVE;
    picture.replaceChildren();
    picture.setAttribute("viewBox", "0 0 160 160");
    const error = run.frames[frame].error;
    picture.setAttribute("aria-label", `The error falls to ${run.frames.at(-1).error}; now it is ${error}.`);
    for (const tick of [1, 0.1, 0.01, 0.001]) {
      const y = top + (Math.log(most / tick) / Math.log(most / least)) * (bottom - top);
      svg(picture, "line", { x1: left, x2: right, y1: y, y2: y, class: "watch-grid" });
      svg(picture, "text", { x: left - 4, y: y + 3.5, "text-anchor": "end" }, tick);
    }
    for (const tick of [0, 100, 1000]) {
      const x = place(updates.indexOf(tick))[0];
      svg(picture, "text", { x, y: bottom + 14, "text-anchor": "middle" }, tick);
    }
    const points = updates.map((_, each) => place(each).join()).join(" ");
    svg(picture, "polyline", { points, class: "watch-line" });
    const [cx, cy] = place(frame);
    svg(picture, "circle", { cx, cy, r: 4, class: "watch-now" });
  }

  function show() {
    const frame = Number(slider.value);
    const { learned, error, log_z } = run.frames[frame];
    const numbers = `error ${error.toFixed(4)} · log Z ${log_z.toFixed(3)} (true: ${run.log_z.toFixed(3)})`;
    find(".watch-count").textContent = updates[frame];
    find(".watch-numbers").textContent = numbers;
    slider.setAttribute("aria-valuetext", `${updates[frame]} updates, ${numbers}`);
    drawGrid(find(".watch-target"), run.target, `The target of the run "${run.name}", on 8 by 8 cells.`);
    drawGrid(find(".watch-learned"), learned, `What the agent builds after ${updates[frame]} updates.`);
    drawCurve(find(".watch-curve"), frame);
  }

  function pause() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  }

  function start() {
    if (slider.value === slider.max) slider.value = 0;
    play.textContent = "Pause";
    timer = setInterval(() => {
      slider.value = Number(slider.value) + 1;
      show();
      if (slider.value === slider.max) pause();
    }, 400);
    show();
  }

  runs.forEach((each, number) => {
    const label = document.createElement("label");
    const choice = Object.assign(document.createElement("input"), { type: "radio", name: "watch-run" });
    choice.checked = number === 0;
    choice.addEventListener("change", () => { run = each; show(); });
    label.append(choice, ` ${each.name}`);
    find(".watch-runs").append(label);
  });
  slider.max = updates.length - 1;
  slider.value = 0;
  slider.addEventListener("input", () => { pause(); show(); });
  play.addEventListener("click", () => (timer === null ? start() : pause()));
  page.hidden = false;
  show();
})();
