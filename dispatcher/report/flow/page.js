// SPDX-License-Identifier: MIT
// Draws the time line of a flow, from the JSON in the page.
//
// It is SVG, but not with an element for each thing: all bars of a kind are one path, all arrows
// another, and the data says what is under the pointer. So thousands of events cost a dozen elements
// and a few milliseconds, as on a canvas; and unlike a canvas it prints as sharply as text, and takes
// its colours, light and dark, from the style sheet. Only labels that fit, and what is pointed at or
// selected, have elements of their own. Text from devices goes into text nodes, never into markup.
"use strict";
(() => {
  const began = performance.now();
  const root = document.documentElement;
  window.addEventListener("error", (event) => { root.dataset.error = event.message; });
  const $ = (id) => document.getElementById(id);
  // What is drawn, from `take`, and what comes of it.
  let data, devices, waits, messages, cases, runs, remarks;
  let SPAN, FULFILLED, OPEN, lanes, waitThing, stairs, full;
  let hasFeet, dense, packed, BAR, FOOT, RUN, GAP, SIZE, FOOT_SIZE;

  // ---- small helpers

  const NS = "http://www.w3.org/2000/svg";
  function svg(name, attributes, parent, text) {
    const element = document.createElementNS(NS, name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    if (text !== undefined) element.textContent = text;
    if (parent) parent.append(element);
    return element;
  }
  function html(name, className, parent, text) {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    if (parent) parent.append(element);
    return element;
  }
  const r1 = (number) => Math.round(number * 10) / 10;
  function duration(seconds) {
    if (seconds < 0.0009995) return `${Math.round(seconds * 1e6)} µs`;
    if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
    if (seconds < 9.995) return `${seconds.toFixed(2)} s`;
    if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
    const whole = Math.round(seconds);
    if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
    return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  }
  function moment(seconds, step) {
    if (SPAN < 100 || step < 1) return `${seconds.toFixed(Math.max(0, Math.min(6, Math.ceil(-Math.log10(step) - 1e-9))))} s`;
    const whole = Math.round(seconds), pad = (number) => String(number).padStart(2, "0");
    const hours = Math.floor(whole / 3600), minutes = Math.floor((whole % 3600) / 60);
    return hours || SPAN >= 3600 ? `${hours}:${pad(minutes)}:${pad(whole % 60)}` : `${minutes}:${pad(whole % 60)}`;
  }
  const at = (seconds) => moment(seconds, SPAN < 10 ? 0.001 : SPAN < 1000 ? 0.01 : 0.1);
  function some(names, most = 4, more = 0) {
    const first = names.slice(0, most - 1);
    if (names.length + more > most) names = [...first, `${names.length + more - first.length} more`];
    return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`;
  }
  const name = (device) => devices[device].name;

  // ---- what each device did

  const endOf = (wait) => (wait.ended === null ? data.end : wait.ended);
  const neededBy = (wait) =>
    wait.needed === undefined ? [] : data.pools[wait.needed].filter((number) => messages[number].device !== wait.device);

  // Things that can be pointed at: {type, ref, device, from, to, y0, y1}; y within the lane.
  function take(fresh) {
    data = fresh;
    ({ devices, waits, messages, cases, runs, remarks } = data);
    SPAN = Math.max(data.end - data.begin, 1e-3);
    full = { from: data.begin - SPAN * 0.012, to: data.end + SPAN * 0.03 };
    [FULFILLED, , , , OPEN] = data.how.keys();
    lanes = devices.map((device, number) => ({
      number, device, things: [], waits: [], runs: [], marks: [], busy: [], levels: 1, runLevels: 0,
    }));
    waitThing = waits.map((wait, ref) => {
      const lane = lanes[wait.device];
      const thing = { type: "wait", ref, device: wait.device, from: wait.began, to: endOf(wait), level: 0 };
      lane.waits.push(thing);
      lane.things.push(thing);
      return thing;
    });
    runs.forEach((run, ref) => {
      const to = run.ended === null ? data.end : run.ended;
      const thing = { type: "run", ref, device: run.device, from: run.began, to, level: 0 };
      lanes[run.device].runs.push(thing);
      lanes[run.device].things.push(thing);
    });
    mark("message", messages, "bar");
    mark("case", cases, "foot");
    mark("remark", remarks, "foot");
    lanes.forEach(fill);
    stairs = climb();
    size();
    root.dataset.bars = waits.length;
    root.dataset.marks = messages.filter((message) => message.wait === undefined).length + cases.length + remarks.length;
  }
  function mark(type, list, place) {
    list.forEach((item, ref) => {
      if (type === "message" && item.wait !== undefined) return;  // a sync's bar stands for it
      const thing = { type, ref, device: item.device, from: item.time, to: item.time, place };
      lanes[item.device].marks.push(thing);
      lanes[item.device].things.push(thing);
    });
  }
  // Intervals that overlap stand one above the other, as far as that can be read.
  function stack(things, most) {
    const ends = [];
    for (const thing of things.sort((a, b) => a.from - b.from)) {
      let level = ends.findIndex((end) => end <= thing.from);
      if (level < 0) level = Math.min(ends.length, most - 1);
      ends[level] = Math.max(thing.to, ends[level] || 0);
      thing.level = level;
    }
    return Math.max(1, ends.length);
  }
  function fill(lane) {
    lane.levels = stack(lane.waits, 4);
    lane.runLevels = lane.runs.length ? stack(lane.runs, 3) : 0;
    // Running: in the group, and in no wait.
    for (const [joined, left, reason] of lane.device.stays) {
      let from = joined;
      const to = left === null ? data.end : left;
      for (const wait of lane.waits) {
        if (wait.to <= from || wait.from >= to) continue;
        if (wait.from > from) lane.busy.push({ type: "running", device: lane.number, from, to: wait.from });
        from = Math.max(from, wait.to);
      }
      if (to > from) lane.busy.push({ type: "running", device: lane.number, from, to });
      if (left !== null) {
        lane.left = left;
        lane.things.push({ type: "left", device: lane.number, from: left, to: left, reason, place: "bar" });
      }
    }
    lane.here = lane.device.stays[lane.device.stays.length - 1][1] === null;
    lane.stuck = lane.waits.map((thing) => waits[thing.ref]).filter((wait) => wait.stuck);
    lane.things.sort((a, b) => a.from - b.from);
  }

  // ---- where it stands

  function size() {
    hasFeet = cases.length + remarks.length > 0;
    [dense, packed] = [devices.length > 12, devices.length > 60];
    BAR = packed ? 11 : dense ? 14 : devices.length > 6 ? 18 : 24;
    [FOOT, RUN, GAP] = [hasFeet ? (dense ? 9 : 15) : 0, dense ? 7 : 15, packed ? 2 : dense ? 3 : 8];
    [SIZE, FOOT_SIZE] = packed ? [3.4, 2.6] : dense ? [4, 3] : [5.4, 4.2];
  }
  const ROLE = 22;
  const PAPER = 540;  // pixels of a page of A4, landscape, that lanes may take
  let shown = [], height = 0, width = 800;  // the lanes that are shown, from top to bottom
  let view = { from: 0, to: 1 };
  const plot = $("plot"), axis = $("axis"), overview = $("overview"), tip = $("tip");
  const x = (time) => ((time - view.from) / (view.to - view.from)) * width;
  const timeAt = (position) => view.from + (position / width) * (view.to - view.from);

  const query = { text: "", device: new Set() };
  const textOf = (thing) => {
    const list = { wait: waits, message: messages, case: cases, run: runs, remark: remarks }[thing.type];
    if (!list) return "";
    const item = list[thing.ref];
    return (item.call || item.id || item.name || item.text || "").toLowerCase();
  };
  const matches = (thing) => query.text !== "" && textOf(thing).includes(query.text);

  function layOut() {
    const labels = $("labels");
    labels.replaceChildren();
    shown = [];
    let y = 0;
    const roles = [...new Set(devices.map((device) => device.role))];
    let hits = 0;
    for (const role of roles) {
      const group = lanes.filter((lane) => {
        if (lane.device.role !== role) return false;
        if (!query.text) return true;
        lane.named = lane.device.name.toLowerCase().includes(query.text) || role.toLowerCase().includes(query.text);
        const found = lane.things.filter(matches).length;
        hits += found;
        return lane.named || found > 0;
      });
      if (!group.length) continue;
      const of = lanes.filter((lane) => lane.device.role === role).length;
      const count = group.length === of ? `${of}` : `${group.length} of ${of}`;
      // A role of one device has no head: the device says what it is.
      if (of > 1) {
        html("div", "role", labels, `${role} · ${count} devices`).title = role;
        shown.push({ role, y });
        y += ROLE;
      }
      for (const lane of group) {
        lane.y = y;
        lane.barY = y + GAP + lane.runLevels * RUN;
        lane.height = 2 * GAP + lane.runLevels * RUN + lane.levels * BAR + FOOT;
        lane.middle = lane.barY + BAR / 2;
        lane.footY = lane.barY + lane.levels * BAR + FOOT / 2 + 1;
        const label = html("div", dense ? "lane dense" : "lane", labels);
        label.style.height = `${lane.height}px`;
        label.style.paddingTop = `${lane.runLevels * RUN}px`;  // beside its bars
        label.style.paddingBottom = `${FOOT}px`;
        label.dataset.lane = lane.number;
        html("span", "name", label, lane.device.name).title = `${lane.device.name} (${role})`;
        if (of === 1 && role !== lane.device.name) html("span", "of", label, role);
        const open = lane.stuck.some((wait) => wait.how === OPEN);
        const state = lane.stuck.length ? (open ? "■ blocked" : "■ stuck") : lane.here ? "running" : "ended";
        html("span", lane.stuck.length ? "state stuck" : "state", label, state);
        lane.label = label;
        shown.push(lane);
        y += lane.height;
      }
    }
    height = Math.max(y, 40);
    $("found").textContent = query.text
      ? `${shown.filter((lane) => lane.device).length} devices, ${hits} match${hits === 1 ? "" : "es"}`
      : "";
    root.dataset.lanes = shown.filter((lane) => lane.device).length;
  }
  const visible = (device) => shown.includes(lanes[device]);

  // ---- drawing

  // A path for each kind of thing; a bar that would be thinner than a pixel is drawn as one.
  function rectangle(from, to, y, h) {
    const a = Math.max(-5, from), b = Math.min(width + 5, Math.max(to, from + 1.4));
    return `M${r1(a)} ${r1(y)}H${r1(b)}V${r1(y + h)}H${r1(a)}Z`;
  }
  const SHAPES = {
    message: (cx, cy, s) => `M${r1(cx)} ${r1(cy - s)}L${r1(cx + s)} ${r1(cy)}L${r1(cx)} ${r1(cy + s)}L${r1(cx - s)} ${r1(cy)}Z`,
    pass: (cx, cy, s) => `M${r1(cx - s)} ${r1(cy)}a${s} ${s} 0 1 0 ${2 * s} 0a${s} ${s} 0 1 0 ${-2 * s} 0Z`,
    fail: (cx, cy, s) => `M${r1(cx - s)} ${r1(cy - s)}l${2 * s} ${2 * s}m0 ${-2 * s}l${-2 * s} ${2 * s}`,
    skip: (cx, cy, s) => `M${r1(cx)} ${r1(cy - s)}L${r1(cx + s)} ${r1(cy + s * 0.8)}H${r1(cx - s)}Z`,
    unknown: (cx, cy, s) => `M${r1(cx - s)} ${r1(cy - s)}h${2 * s}v${2 * s}h${-2 * s}Z`,
    remark: (cx, cy, s) => `M${r1(cx)} ${r1(cy - s)}v${2 * s}M${r1(cx - s)} ${r1(cy)}h${2 * s}`,
  };
  const kindOf = (thing) => (thing.type === "case" ? cases[thing.ref].result : thing.type);
  const spotOf = (thing) => {
    const lane = lanes[thing.device];
    return thing.place === "foot" ? lane.footY : lane.middle;
  };
  // Where a message is sent: at its mark, or where its sync begins.
  const sentAt = (message) => {
    const lane = lanes[message.device];
    const level = message.wait === undefined ? 0 : waitThing[message.wait].level;
    return { x: x(message.time), y: lane.middle + level * BAR };
  };
  const barOf = (thing) => lanes[thing.device].barY + thing.level * BAR;
  const endPoint = (ref) => ({ x: x(endOf(waits[ref])), y: barOf(waitThing[ref]) + BAR / 2 });

  function link(from, to) {
    if (Math.abs(from.x - to.x) < 1) return `M${r1(from.x)} ${r1(from.y)}V${r1(to.y)}`;
    const bend = Math.min(60, Math.abs(to.x - from.x) / 2);
    return `M${r1(from.x)} ${r1(from.y)}C${r1(from.x + bend)} ${r1(from.y)} ${r1(to.x - bend)} ${r1(to.y)} ${r1(to.x)} ${r1(to.y)}`;
  }

  function draw() {
    width = Math.max(200, plot.parentElement.clientWidth);
    plot.setAttribute("height", height);
    plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
    plot.setAttribute("preserveAspectRatio", "none");  // lanes stay beside their labels, come what may
    plot.replaceChildren();
    plot.append(patterns());
    const paths = {};
    const add = (className, d) => { (paths[className] ||= []).push(d); };
    const ground = svg("g", {}, plot);
    for (const tick of ticks()) svg("path", { class: "tick", d: `M${r1(x(tick))} 0V${height}` }, ground);
    const texts = svg("g", { class: "base" });
    for (const lane of shown) {
      if (!lane.device) {
        svg("rect", { class: "band", x: 0, y: lane.y, width, height: ROLE }, ground);
        svg("path", { class: "role-rule", d: `M0 ${lane.y + 0.5}H${width}` }, ground);
        continue;
      }
      svg("path", { class: "rule", d: `M0 ${lane.y + 0.5}H${width}` }, ground);
      drawAbsence(lane, add);
      const thin = Math.max(3, BAR * 0.26);
      for (const busy of lane.busy) {
        if (seen(busy)) add("running", rectangle(x(busy.from), x(busy.to), lane.middle - thin / 2, thin));
      }
      drawWaits(lane, add, texts);
      drawRuns(lane, add, texts);
      for (const thing of lane.marks) {
        if (!seen(thing)) continue;
        const foot = thing.place === "foot";
        const kind = kindOf(thing);
        add(kind === "message" ? "send" : kind, SHAPES[kind](x(thing.from), spotOf(thing), foot ? FOOT_SIZE : SIZE));
      }
      if (lane.left !== undefined) {
        add("left", `M${r1(x(lane.left))} ${lane.barY}V${lane.barY + BAR}`);
      }
    }
    const arrows = drawArrows(add);
    const order = ["gone", "running", "fulfilled", "vain", "open", "bracket", "arrow", "arrow thin", "arrow late", "head", "left",
      "send", "pass", "skip", "unknown", "fail", "remark"];
    const base = svg("g", { class: "base" }, plot);
    for (const className of order) {
      if (paths[className]) svg("path", { class: className, d: paths[className].join("") }, base);
      if (className === "open") base.after(texts);
    }
    plot.append(texts);
    if (view.to > data.end) svg("path", { class: "end-line", d: `M${r1(x(data.end))} 0V${height}` }, plot);
    over = svg("g", { class: "over" }, plot);
    plot.classList.toggle("searching", query.text !== "");
    drawAxis();
    drawOverview();
    highlight();
    root.dataset.arrows = arrows;
  }
  const seen = (thing) => thing.to >= view.from && thing.from <= view.to;

  function patterns() {
    const defs = svg("defs", {});
    for (const [id, size, d] of [["hatch", 7, "M-1 8L8 -1"], ["stripes", 10, "M-1 11L11 -1"]]) {
      const pattern = svg("pattern", { id, width: size, height: size, patternUnits: "userSpaceOnUse" }, defs);
      svg("rect", { width: size, height: size }, pattern);
      svg("path", { d }, pattern);
    }
    return defs;
  }

  function drawAbsence(lane, add) {
    let from = data.begin;
    for (const [joined, left] of lane.device.stays) {
      if (joined > from) add("gone", rectangle(x(from), x(joined), lane.y + 1, lane.height - 1));
      from = left === null ? Infinity : left;
    }
    if (from < data.end) add("gone", rectangle(x(from), x(data.end), lane.y + 1, lane.height - 1));
  }

  function drawWaits(lane, add, texts) {
    const lastEnd = {};
    for (const thing of lane.waits) {
      if (!seen(thing)) continue;
      const wait = waits[thing.ref], y = barOf(thing);
      let a = x(thing.from);
      const b = x(thing.to), kind = barKind(wait);
      // What falls into a pixel that is painted already adds nothing.
      const key = kind + thing.level;
      if (b - a < 1 && lastEnd[key] > b) continue;
      lastEnd[key] = Math.max(b, a + 1.4);
      if (wait.how === OPEN) {
        // It goes on: an arrow head instead of an end.
        const c = Math.min(width - 1, b + Math.min(18, x(full.to) - b));
        a = Math.max(a, -5);
        add("open", `M${r1(a)} ${r1(y)}H${r1(b)}L${r1(c)} ${r1(y + BAR / 2)}L${r1(b)} ${r1(y + BAR)}H${r1(a)}Z`);
      } else {
        add(kind, rectangle(a, b, y, BAR));
      }
      drawLabel(wait, kind, a, b, y, texts);
    }
  }
  const barKind = (wait) => (wait.how === FULFILLED ? "fulfilled" : wait.how === OPEN ? "open" : "vain");
  function drawLabel(wait, kind, a, b, y, parent) {
    const label = fitting(barTexts(wait), Math.min(b, width) - Math.max(a, 0) - 10, 6.7);
    if (!label) return;
    const className = kind === "fulfilled" ? "bar-text" : "bar-text on-bad";
    svg("text", { x: r1(Math.max(a, 0) + 6), y: r1(y + BAR / 2 + 3.8), class: className }, parent, label);
  }
  function barTexts(wait) {
    const took = duration(endOf(wait) - wait.began), call = wait.call.replace(/^lava-/, "");
    const whom = wait.last !== undefined ? ` ◂ ${name(messages[wait.last].device)}`
      : wait.missing && wait.missing.length ? ` · waits for ${some(wait.missing.map(name), 3, wait.more)}` : "";
    return [`${call}${whom} · ${took}`, `${call} · ${took}`, call, call.split(" ")[1]];
  }
  function fitting(texts, room, each) {
    const characters = Math.floor(room / each);
    for (const text of texts) if (text.length <= characters) return text;
    const last = texts[texts.length - 1];
    return characters >= 9 ? `${last.slice(0, characters - 1)}…` : "";
  }

  function drawRuns(lane, add, texts) {
    for (const thing of lane.runs) {
      if (!seen(thing)) continue;
      const run = runs[thing.ref], y = lane.y + GAP + thing.level * RUN + RUN - 4;
      const a = Math.max(-5, x(thing.from)), b = Math.min(width + 5, x(thing.to));
      const close = run.ended === null ? "" : run.early ? "l-4 2l4 2" : "v4";
      add("bracket", `M${r1(a)} ${r1(y + 4)}v-4H${r1(Math.max(b, a + 2))}${close}`);
      if (RUN < 12) continue;
      const label = fitting([run.name], Math.min(b, width) - Math.max(a, 0) - 8, 5.6);
      if (label) svg("text", { x: r1(Math.max(a, 0) + 4), y: r1(y - 2), class: "bracket-text" }, texts, label);
    }
  }

  // A message reaches those that wait for it at once, so most arrows go straight up or down: one line
  // for all receivers on a side, with a head for each.
  function drawArrows(add) {
    let count = 0;
    const size = packed ? 2.6 : dense ? 3.2 : 4.4, many = dense ? "arrow thin" : "arrow";
    for (const message of messages) {
      if (!message.released || !visible(message.device)) continue;
      if (message.time > view.to) break;
      const from = sentAt(message);
      let top = from.y, bottom = from.y;
      for (const ref of message.released) {
        if (!visible(waits[ref].device)) continue;
        const to = endPoint(ref);
        if (to.x < -5) continue;
        // One that came last to its barrier was not released: it released the others.
        if (waits[ref].sync && waits[ref].began === waits[ref].ended) continue;
        count += 1;
        const sign = to.y > from.y ? -1 : 1;
        if (Math.abs(to.x - from.x) < 1) {
          if (from.x > width + 5) continue;
          const tipY = to.y + (sign * BAR) / 2;
          top = Math.min(top, tipY);
          bottom = Math.max(bottom, tipY);
          add("head", `M${r1(to.x)} ${r1(tipY)}l${-size} ${sign * size * 1.5}h${2 * size}Z`);
        } else {
          add("arrow late", link(from, to));
        }
      }
      if (top < bottom) add(many, `M${r1(from.x)} ${r1(top)}V${r1(bottom)}`);
    }
    return count;
  }

  // ---- axis and overview

  function tickStep() {
    const rough = ((view.to - view.from) / width) * 95;
    if (rough > 20) {
      for (const step of [30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400]) if (step >= rough) return step;
    }
    const power = 10 ** Math.floor(Math.log10(rough));
    return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough);
  }
  function ticks() {
    const step = tickStep(), found = [];
    for (let i = Math.ceil(Math.max(data.begin, view.from) / step); i * step <= view.to && found.length < 200; i++) found.push(i * step);
    return found;
  }
  function drawAxis() {
    axis.replaceChildren();
    axis.setAttribute("viewBox", `0 0 ${width} 25`);
    const step = tickStep();
    for (const tick of ticks()) {
      svg("path", { class: "role-rule", d: `M${r1(x(tick))} 19V25` }, axis);
      const position = x(tick);
      if (position < width - 36) svg("text", { class: "tick-text", x: r1(position + 4), y: 16 }, axis, moment(tick, step));
    }
  }
  // How many devices are blocked at each time: a staircase.
  function climb() {
    const changes = [];
    for (const wait of waits) changes.push([wait.began, 1], [endOf(wait), -1]);
    changes.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    let number = 0, most = 1;
    const points = changes.map(([time, by]) => {
      number += by;
      most = Math.max(most, number);
      return [time, number];
    });
    return { points, most };
  }
  function drawOverview() {
    overview.replaceChildren();
    overview.setAttribute("viewBox", `0 0 ${width} 33`);
    const across = (time) => ((time - full.from) / (full.to - full.from)) * width;
    let d = `M${r1(across(data.begin))} 32`, lastX = -1;
    for (const [time, number] of stairs.points) {
      const position = r1(across(time));
      d += position === lastX ? `V${r1(32 - (28 * number) / stairs.most)}` : `H${position}V${r1(32 - (28 * number) / stairs.most)}`;
      lastX = position;
    }
    svg("path", { class: "area", d: `${d}V32Z` }, overview);
    const a = across(view.from), b = across(view.to);
    svg("rect", { class: "outside", x: 0, y: 0, width: Math.max(0, r1(a)), height: 33 }, overview);
    svg("rect", { class: "outside", x: r1(b), y: 0, width: Math.max(0, r1(width - b)), height: 33 }, overview);
    if (b - a < width - 2) svg("rect", { class: "window", x: r1(a), y: 0.5, width: r1(Math.max(2, b - a)), height: 32 }, overview);
  }

  // ---- what is pointed at, and what is selected

  let over = null, pointed = null, selected = null;

  function highlight() {
    over.replaceChildren();
    plot.classList.toggle("selected", selected !== null);
    for (const lane of shown) if (lane.label) lane.label.classList.remove("on");
    if (query.text) {
      for (const lane of shown) {
        if (!lane.device) continue;
        for (const thing of lane.things) if ((lane.named || matches(thing)) && seen(thing)) ring(thing, "hit");
      }
    }
    if (selected) relations(selected, true);
    if (pointed && pointed !== selected) relations(pointed, false);
  }

  function ring(thing, className) {
    if (!visible(thing.device)) return;
    const lane = lanes[thing.device];
    if (thing.type === "wait" || thing.type === "run" || thing.type === "running") {
      const a = Math.max(-4, x(thing.from)), b = Math.min(width + 4, Math.max(x(thing.to), a + 1.4));
      const y = thing.type === "wait" ? barOf(thing) : thing.type === "run" ? lane.y + GAP + thing.level * RUN : lane.middle - BAR * 0.3;
      // What is selected does not fade with the rest.
      if (thing.type === "wait" && className === "ring" && selected) {
        const wait = waits[thing.ref], kind = barKind(wait);
        svg("rect", { class: kind, x: r1(a), y: r1(y), width: r1(b - a), height: BAR }, over);
        drawLabel(wait, kind, a, b, y, over);
      }
      const h = thing.type === "wait" ? BAR : thing.type === "run" ? RUN : BAR * 0.6;
      svg("rect", { class: className, x: r1(a - 1), y: r1(y - 1), width: r1(b - a + 2), height: r1(h + 2), rx: 2 }, over);
    } else {
      svg("circle", { class: className, cx: r1(x(thing.from)), cy: r1(spotOf(thing)), r: SIZE + 3 }, over);
    }
  }
  const thingOf = (type, ref) => {
    if (type === "message" && messages[ref].wait !== undefined) return waitThing[messages[ref].wait];
    const list = { wait: waits, message: messages, case: cases, run: runs, remark: remarks }[type];
    const item = list && list[ref];
    return item && lanes[item.device].things.find((thing) => thing.type === type && thing.ref === ref);
  };

  function relations(thing, all) {
    ring(thing, "ring");
    if (visible(thing.device)) lanes[thing.device].label.classList.add("on");
    if (thing.type === "wait") {
      const wait = waits[thing.ref], to = endPoint(thing.ref);
      for (const number of neededBy(wait)) {
        const message = messages[number], last = number === wait.last;
        if (!visible(message.device) || !(all || last)) continue;
        const from = sentAt(message);
        svg("path", { class: last ? "link last" : "link", d: link(from, to) }, over);
        svg("circle", { class: "ring", cx: r1(from.x), cy: r1(from.y), r: last ? 6 : 4 }, over);
        lanes[message.device].label.classList.add("on");
      }
      for (const device of wait.missing || []) {
        if (!visible(device)) continue;
        const lane = lanes[device], a = Math.max(0, x(thing.from)), b = Math.min(width, x(thing.to));
        svg("rect", { class: "missing", x: r1(a), y: lane.y + 1, width: r1(Math.max(2, b - a)), height: lane.height - 1 }, over);
        if (!dense) svg("text", { class: "missing-text", x: r1(a + 6), y: lane.y + lane.height - 4 }, over, "had still to send");
        lane.label.classList.add("on");
      }
    }
    const message = thing.type === "message" ? thing.ref : thing.type === "wait" && messages.findIndex((item) => item.wait === thing.ref);
    const released = typeof message === "number" && message >= 0 && messages[message].released;
    if (released && (all || thing.type === "message")) {
      const from = sentAt(messages[message]);
      for (const ref of released) {
        if (!visible(waits[ref].device)) continue;
        svg("path", { class: "link last", d: link(from, endPoint(ref)) }, over);
        ring(waitThing[ref], "ring");
      }
    }
  }

  // What is told of a thing: a title, and pairs.
  function facts(thing) {
    const who = `${name(thing.device)} (${devices[thing.device].role})`;
    if (thing.type === "wait") return waitFacts(waits[thing.ref], who);
    if (thing.type === "message") return messageFacts(messages[thing.ref], who);
    if (thing.type === "running") return ["running", [["device", who], ["from", `${at(thing.from)} to ${at(thing.to)}`], ["for", duration(thing.to - thing.from)]]];
    if (thing.type === "left") return [thing.reason || "left", [["device", who], ["at", at(thing.from)]]];
    if (thing.type === "remark") return [`lava-test-${remarks[thing.ref].kind}`, [["device", who], ["says", remarks[thing.ref].text], ["at", at(thing.from)]]];
    if (thing.type === "run") {
      const run = runs[thing.ref];
      const how = run.ended === null ? "has not come to its end" : run.early ? `ended early: ${run.reason}` : run.status === null ? "ended" : `ended with status ${run.status}`;
      return [`run ${run.name}`, [["device", who], ["from", `${at(thing.from)} to ${at(thing.to)}`], ["it", how]]];
    }
    const test = cases[thing.ref];
    const pairs = [["device", who], ["at", at(test.time)]];
    if (test.measurement) pairs.push(["measured", test.measurement]);
    if (test.seconds !== undefined) pairs.push(["took", duration(test.seconds)]);
    if (test.set !== undefined) pairs.push(["set", test.set]);
    if (test.run !== undefined) pairs.push(["run", runs[test.run].name]);
    return [`${test.result}: ${test.id}`, pairs];
  }
  function waitFacts(wait, who) {
    const took = duration(endOf(wait) - wait.began);
    const pairs = [["device", who], ["blocked", `${took}, ${wait.ended === null ? `since ${at(wait.began)}` : `from ${at(wait.began)} to ${at(wait.ended)}`}`]];
    if (wait.how === FULFILLED) {
      if (wait.began === wait.ended) {
        pairs[1] = ["did not block", wait.sync ? "it was the last to come, and released the others" : "all was there already"];
      }
      if (wait.last !== undefined && !(wait.sync && wait.began === wait.ended)) {
        const last = messages[wait.last];
        pairs.push([wait.began === wait.ended ? "sent by" : "released by", `${name(last.device)}, which ${last.unlocks ? "unlocked" : "sent"} ${last.id} at ${at(last.time)}`]);
      }
      const needed = neededBy(wait);
      if (needed.length > 1) pairs.push(["needed", some(needed.map((number) => `${name(messages[number].device)} (${at(messages[number].time)})`), 8)]);
    } else {
      pairs.push(["ended", wait.ended === null ? "still blocked" : `${data.how[wait.how]}${wait.reason ? `: ${wait.reason}` : ""}`]);
      if (wait.missing && wait.missing.length) pairs.push([wait.ended === null ? "waits for" : "waited for", some(wait.missing.map(name), 8, wait.more)]);
    }
    if (wait.timeout !== undefined) pairs.push(["time-out", duration(wait.timeout)]);
    return [wait.call, pairs];
  }
  function messageFacts(message, who) {
    const pairs = [["device", who], [message.unlocks ? "unlocked" : "sent", at(message.time)]];
    for (const [key, value] of message.data || []) pairs.push([key, value, "code"]);
    if (message.pairs > (message.data || []).length) pairs.push(["…", `${message.pairs} pairs in all`]);
    if (message.released) pairs.push(["released", some(message.released.map((ref) => name(waits[ref].device)), 8)]);
    return [`${message.unlocks ? "lava-unlock" : "lava-send"} ${message.id}`, pairs];
  }
  function card(thing) {
    const [title, pairs] = facts(thing), box = html("div", "card");
    html("div", "title", box, title);
    const list = html("dl", "", box);
    for (const [term, text, tag] of pairs) {
      html("dt", "", list, term);
      const cell = html("dd", "", list);
      if (tag) html(tag, "", cell, text);
      else cell.textContent = text;
    }
    return box;
  }

  function showTip(thing, left, top) {
    tip.replaceChildren(card(thing));
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(6, left + 16 + box.width > innerWidth ? left - 12 - box.width : left + 16)}px`;
    tip.style.top = `${Math.max(6, Math.min(top + 18 + box.height > innerHeight ? top - 10 - box.height : top + 18, innerHeight - box.height - 6))}px`;
  }
  function point(thing, left, top) {
    if (thing && left !== undefined) showTip(thing, left, top);
    else tip.hidden = true;
    if (thing === pointed) return;
    pointed = thing;
    highlight();
    describe();
  }
  function select(thing) {
    selected = thing;
    highlight();
    describe();
  }
  function describe() {
    $("details").replaceChildren(...(selected ? [card(selected)] : []));
  }

  function thingAt(position, y) {
    const lane = shown.find((item) => item.device && y >= item.y && y < item.y + item.height);
    if (!lane) return null;
    let best = null, least = 7;
    for (const thing of lane.things) {
      if (thing.from !== thing.to || thing.type === "wait" || thing.type === "run") continue;
      const away = Math.hypot(x(thing.from) - position, spotOf(thing) - y);
      if (away < least) [best, least] = [thing, away];
    }
    if (best) return best;
    const near = (thing) => position >= x(thing.from) - 3 && position <= Math.max(x(thing.to), x(thing.from)) + 3;
    const onBar = lane.waits.filter((thing) => near(thing) && y >= barOf(thing) - 2 && y < barOf(thing) + BAR + 2);
    if (onBar.length) return onBar.reduce((a, b) => (Math.abs(x(a.from) + x(a.to) - 2 * position) < Math.abs(x(b.from) + x(b.to) - 2 * position) ? a : b));
    if (y < lane.barY) {
      const run = lane.runs.find((thing) => near(thing) && Math.floor((y - lane.y - GAP) / RUN) === thing.level);
      if (run) return run;
    }
    return lane.busy.find((thing) => position >= x(thing.from) && position <= x(thing.to)) || null;
  }

  // ---- moving about

  let asked = false;
  function redraw() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; draw(); });
  }
  function show(from, to) {
    const least = SPAN * 1e-6, span = Math.min(Math.max(to - from, least), full.to - full.from);
    let start = from + (to - from - span) / 2;
    start = Math.min(Math.max(start, full.from), full.to - span);
    view = { from: start, to: start + span };
    redraw();
  }
  const zoom = (factor, centre = (view.from + view.to) / 2) => show(centre - (centre - view.from) * factor, centre + (view.to - centre) * factor);
  const pan = (part) => show(view.from + part * (view.to - view.from), view.to + part * (view.to - view.from));
  const fit = () => show(full.from, full.to);

  plot.addEventListener("wheel", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) {
      event.preventDefault();
      zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) * 0.006), timeAt(event.offsetX));
    } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      pan((event.deltaX || event.deltaY) / width);
    }
  }, { passive: false });
  let drag = null;
  plot.addEventListener("pointerdown", (event) => {
    if (event.button === 0) drag = { at: event.clientX, moved: false, view };
  });
  plot.addEventListener("pointermove", (event) => {
    if (drag && Math.abs(event.clientX - drag.at) > 4) {
      if (!drag.moved) plot.setPointerCapture(event.pointerId);
      drag.moved = true;
      plot.classList.add("dragging");
      const by = ((drag.at - event.clientX) / width) * (drag.view.to - drag.view.from);
      point(null);
      show(drag.view.from + by, drag.view.to + by);
    } else if (!drag) {
      const box = plot.getBoundingClientRect();
      point(thingAt(event.clientX - box.left, event.clientY - box.top), event.clientX, event.clientY);
    }
  });
  addEventListener("pointerup", (event) => {
    if (drag && !drag.moved) {
      const box = plot.getBoundingClientRect();
      const thing = thingAt(event.clientX - box.left, event.clientY - box.top);
      select(thing === selected ? null : thing);
    }
    drag = null;
    plot.classList.remove("dragging");
  });
  plot.addEventListener("pointerleave", () => { if (!drag) point(null); });
  plot.addEventListener("blur", () => { point(null); });
  plot.addEventListener("dblclick", (event) => { zoom(0.4, timeAt(event.offsetX)); });

  // Keeps a thing in view, and tells of it, for those who use no mouse.
  function visit(thing) {
    if (!thing) return;
    const span = view.to - view.from;
    if (thing.to < view.from || thing.from > view.to) show(thing.from - span / 3, thing.from + (span * 2) / 3);
    draw();
    const lane = lanes[thing.device], chart = $("chart");
    const top = lane.y, bottom = lane.y + lane.height + 70;
    if (top < chart.scrollTop) chart.scrollTop = top;
    else if (bottom > chart.scrollTop + chart.clientHeight) chart.scrollTop = bottom - chart.clientHeight;
    chart.scrollIntoView({ block: "nearest" });
    const box = plot.getBoundingClientRect();
    point(thing, box.left + Math.min(Math.max(0, x(thing.from)), width), box.top + lane.barY + BAR);
    $("details").replaceChildren(card(thing));
  }
  function step(by) {
    const start = pointed || selected;
    const here = start ? lanes[start.device] : shown.find((lane) => lane.device && lane.things.length);
    if (!here) return;
    const place = start ? here.things.indexOf(start) + by : 0;
    visit(here.things[Math.min(Math.max(place, 0), here.things.length - 1)]);
  }
  function stepLane(by) {
    const start = pointed || selected;
    if (!start) { step(0); return; }
    const usable = shown.filter((lane) => lane.device && lane.things.length);
    const lane = usable[usable.indexOf(lanes[start.device]) + by];
    if (lane) visit(lane.things.reduce((a, b) => (Math.abs(b.from - start.from) < Math.abs(a.from - start.from) ? b : a)));
  }
  const KEYS = {
    "+": () => zoom(0.6), "=": () => zoom(0.6), w: () => zoom(0.6), "-": () => zoom(1 / 0.6), s: () => zoom(1 / 0.6),
    0: fit, f: fit, a: () => pan(-0.25), d: () => pan(0.25),
    ArrowLeft: (event) => (event.shiftKey ? pan(-0.25) : step(-1)), ArrowRight: (event) => (event.shiftKey ? pan(0.25) : step(1)),
    ArrowUp: () => stepLane(-1), ArrowDown: () => stepLane(1),
    Enter: () => select(pointed || selected), Escape: () => { point(null); select(null); },
  };
  plot.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key](event);
  });
  $("in").addEventListener("click", () => zoom(0.6));
  $("out").addEventListener("click", () => zoom(1 / 0.6));
  $("fit").addEventListener("click", fit);
  $("search").addEventListener("input", (event) => {
    query.text = event.target.value.trim().toLowerCase();
    pointed = null;
    layOut();
    draw();
  });
  const moveTo = (event) => {
    const time = full.from + (event.offsetX / width) * (full.to - full.from), half = (view.to - view.from) / 2;
    show(time - half, time + half);
  };
  overview.addEventListener("pointerdown", (event) => { overview.setPointerCapture(event.pointerId); moveTo(event); });
  overview.addEventListener("pointermove", (event) => { if (event.buttons) moveTo(event); });
  $("ending").addEventListener("click", (event) => {
    const thing = waitThing[event.target.dataset.wait];
    if (!thing) return;
    visit(thing);
    select(thing);
    tip.hidden = true;
  });
  new ResizeObserver(() => { if (Math.max(200, plot.parentElement.clientWidth) !== width) redraw(); }).observe(plot.parentElement);

  // On paper it is as wide as the page, and no higher: it can't be scrolled there, nor can it be broken.
  function print(on) {
    root.classList.toggle("print", on);
    $("chart").style.zoom = on ? Math.min(1, PAPER / height) : 1;
    tip.hidden = true;
    draw();
  }
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));

  // ---- the legend

  function legend() {
    const bar = (className) => (g) => svg("rect", { class: className, x: 0, y: 2, width: 24, height: 12 }, g);
    const shape = (kind, className) => (g) => svg("path", { class: className || kind, d: SHAPES[kind](12, 8, 5) }, g);
    const entries = [
      ["running", (g) => svg("rect", { class: "running", x: 0, y: 6, width: 24, height: 5 }, g), true],
      ["blocked", bar("fulfilled"), waits.length],
      ["in vain: timed out, failed, interrupted", bar("vain"), waits.some((wait) => wait.how !== FULFILLED && wait.how !== OPEN)],
      ["still blocked", bar("open"), waits.some((wait) => wait.how === OPEN)],
      ["message", shape("message", "send"), messages.some((message) => message.wait === undefined)],
      ["ends a wait", (g) => svg("path", { class: "arrow", d: "M12 0V16" }, g) && svg("path", { class: "head", d: "M12 16l-4.4 -6.6h8.8Z" }, g), messages.some((message) => message.released)],
      ["was there already", (g) => svg("path", { class: "arrow late", d: "M0 12C8 12 14 4 24 4" }, g), waits.some((wait) => !wait.sync && wait.how === FULFILLED && wait.last !== undefined && messages[wait.last].time < wait.began)],
      ...["pass", "fail", "skip", "unknown"].map((kind) => [kind, shape(kind), cases.some((test) => test.result === kind)]),
      ["run", (g) => svg("path", { class: "bracket", d: "M1 12v-6H23v6" }, g), runs.length],
      ["raise, event, feedback", shape("remark"), remarks.length],
    ];
    $("legend").replaceChildren();
    for (const [text, paint, wanted] of entries) {
      if (!wanted) continue;
      const item = html("span", "", $("legend"));
      paint(svg("svg", { viewBox: "0 0 24 16", "aria-hidden": "true" }, item));
      item.append(text);
    }
    html("span", "keys", $("legend"), "Drag or Shift+wheel: move. Ctrl+wheel, + and −: zoom. Click: whom it waited for. Arrow keys: from one to the next.");
  }

  // ---- a group that goes on

  // Takes a newer state over, and leaves alone what a person looks at.
  function renew(fresh) {
    const whole = view.from === full.from && view.to === full.to, atEnd = view.to >= full.to;
    const kept = [selected, pointed].map((thing) => thing && { ...thing, name: name(thing.device) });
    take(fresh);
    [selected, pointed] = kept.map((old) => old && (lanes.flatMap((lane) => lane.things).find((thing) =>
      thing.type === old.type && thing.from === old.from && name(thing.device) === old.name) || null));
    const span = view.to - view.from;
    if (whole) view = { ...full };
    else if (atEnd) view = { from: full.to - span, to: full.to };
    layOut();
    legend();
    draw();
    describe();
    if (!pointed) tip.hidden = true;
    else if (!tip.hidden) tip.replaceChildren(card(pointed));
  }

  const PAUSE = 1000;  // milliseconds
  let came = began;  // when the state did
  async function follow() {
    let trouble = "";
    try {
      const answer = document.hidden ? { status: 204 } : await fetch(`?seen=${root.dataset.live}`);
      if (answer.status === 200) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        root.dataset.live = page.documentElement.dataset.live;
        for (const id of ["facts", "ending"]) $(id).replaceWith(document.adoptNode(page.getElementById(id)));
        came = performance.now();
        renew(JSON.parse(page.getElementById("data").textContent));
      } else if (answer.status !== 204) {
        trouble = ` · ${(await answer.text()).trim()}`;
      } else if (!drag) {
        // What is open goes on.
        const now = performance.now();
        renew({ ...data, end: data.end + (now - came) / 1000 });
        came = now;
      }
    } catch (error) {
      trouble = ` · the lab does not answer: ${error.message}`;
    }
    $("facts").dataset.trouble = trouble;
    setTimeout(follow, PAUSE);
  }

  // ---- begin

  take(JSON.parse($("data").textContent));
  layOut();
  legend();
  width = plot.parentElement.clientWidth;
  view = { ...full };
  draw();
  // A link may name what to show: #wait=3, #message=0.
  const wanted = /^#(wait|message|case|run)=(\d+)$/.exec(location.hash);
  const linked = wanted && thingOf(wanted[1], Number(wanted[2]));
  if (linked) {
    select(linked);
    visit(linked);
  }
  root.dataset.milliseconds = Math.round(performance.now() - began);
  root.dataset.loaded = Math.round(performance.now());  // since the navigation began
  root.dataset.flow = "ready";
  if (window !== top) root.classList.add("inside");
  if (root.dataset.live !== undefined) setTimeout(follow, PAUSE);
})();
