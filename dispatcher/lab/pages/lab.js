"use strict";
// The lab as it is now: asked for every second, as long as somebody looks.

const PAUSE = 1000;
const element = (id) => document.getElementById(id);
let chosen = null;  // the device whose console is shown
let chosenGroup = null;  // whose time line is shown

function cell(row, text, kind) {
  const made = row.insertCell();
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function seconds(number) {
  if (number < 60) return `${number.toFixed(0)} s`;
  if (number < 3600) return `${Math.floor(number / 60)} min`;
  return `${Math.floor(number / 3600)} h ${Math.floor((number % 3600) / 60)} min`;
}

function waits(list) {
  return list.map((wait) => `${wait.command} for ${[...wait.for, ...(wait.more ? [`${wait.more} more`] : [])].join(", ") || "nobody"}, ${seconds(wait.seconds)}`).join("; ");
}

// Devices whose consoles are in other processes are known by their groups alone.
function elsewhere(status) {
  const here = new Set(status.devices.map((device) => `${device.group}\n${device.name}`));
  const rows = [];
  for (const group of status.groups)
    for (const member of group.members)
      if (!here.has(`${group.name}\n${member.name}`))
        rows.push({
          name: member.name, label: member.alias === member.name ? member.name : `${member.name} (${member.alias})`,
          role: member.role, group: group.name, connected: true, state: member.left ? "has left" : "elsewhere",
          waits: member.waits, printed: "", requests: "", trouble: "", clients: "",
        });
  return rows;
}

function devices(status) {
  const own = status.devices.map((device) => ({
    ...device, label: device.name, requests: device.counters.requests,
    trouble: ["damaged", "replayed", "refused", "overflow"].reduce((sum, name) => sum + device.counters[name], 0),
  }));
  const wanted = element("filter").value.toLowerCase();
  const body = document.createElement("tbody");
  body.id = "devices";
  for (const device of [...own, ...elsewhere(status)]) {
    if (![device.label, device.role, device.group].some((text) => text.toLowerCase().includes(wanted))) continue;
    const row = body.insertRow();
    cell(row, device.label);
    cell(row, device.role);
    cell(row, device.group);
    cell(row, device.state, device.connected ? "" : "bad");
    cell(row, waits(device.waits), "waits");
    for (const key of ["printed", "requests"]) cell(row, device[key], "number");
    cell(row, device.trouble, device.trouble ? "number bad" : "number");
    cell(row, device.clients, "number");
    row.onclick = () => choose(device.counters ? device.name : chosen, device.group);
    if (device.name === chosen && device.counters) row.className = "chosen";
  }
  element("devices").replaceWith(body);
}

function groups(status) {
  const body = document.createElement("tbody");
  body.id = "groups";
  for (const each of status.groups) {
    const row = body.insertRow();
    cell(row, each.name);
    cell(row, each.members.length, "number");
    cell(row, each.awaited);
    for (const word of ["passed", "failed", "skipped", "unknown"])
      cell(row, each.results[word], word === "failed" && each.results[word] ? "number bad" : "number");
    cell(row, each.dead_end.join(" "), "bad");
    row.onclick = () => choose(chosen, each.name);
    if (each.name === chosenGroup) row.className = "chosen";
  }
  element("groups").replaceWith(body);
}

// What is shown is in the address, so that it can be kept: #device=panda01&group=lab.
function choose(device, of) {
  const wanted = new URLSearchParams();
  if (device !== null) wanted.set("device", device);
  if (of !== null) wanted.set("group", of);
  location.hash = wanted;
}

function chosenBy(status) {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const first = status.devices[0] || { name: null, group: status.groups.length ? status.groups[0].name : null };
  chosen = wanted.get("device") || first.name;
  chosenGroup = wanted.get("group") || first.group;
}

function flow(status) {
  const page = element("flow-page");
  element("flow").hidden = !status.groups.some((each) => each.name === chosenGroup);
  if (element("flow").hidden) return;
  const address = `groups/${encodeURIComponent(chosenGroup)}/flow`;
  if (page.getAttribute("src") !== address) {
    page.src = element("flow-name").href = address;
    element("flow-name").textContent = chosenGroup;
  }
  const body = page.contentDocument && page.contentDocument.body;
  if (body) page.style.height = `${Math.min(body.scrollHeight, innerHeight * 0.8)}px`;
}

async function look() {
  if (chosen === null) return;
  const answer = await fetch(`devices/${encodeURIComponent(chosen)}/tail`);
  element("tail").hidden = !answer.ok;
  if (!answer.ok) return;
  const text = element("tail-text");
  const follows = text.scrollTop + text.clientHeight >= text.scrollHeight - 4;
  element("tail-name").textContent = chosen;
  text.textContent = await answer.text();
  if (follows) text.scrollTop = text.scrollHeight;
}

let later = null;
async function turn() {
  try {
    const answer = await fetch("status.json");
    if (!answer.ok) throw new Error(answer.statusText);
    const status = await answer.json();
    chosenBy(status);
    devices(status);
    groups(status);
    flow(status);
    await look();
    element("state").textContent = `as of ${new Date(status.time * 1000).toLocaleTimeString()}`;
    element("state").className = "";
  } catch (error) {
    element("state").textContent = `does not answer: ${error.message}`;
    element("state").className = "bad";
  }
  clearTimeout(later);
  later = setTimeout(turn, PAUSE);
}

addEventListener("hashchange", turn);
turn();
