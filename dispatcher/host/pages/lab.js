"use strict";
// The lab as it is now: asked for every second, as long as somebody looks.

const PAUSE = 1000;
const element = (id) => document.getElementById(id);
let chosen = null;

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
    if (device.counters) row.onclick = () => { chosen = device.name; look(); };
    if (device.name === chosen && device.counters) row.className = "chosen";
  }
  element("devices").replaceWith(body);
}

function groups(status) {
  const body = document.createElement("tbody");
  body.id = "groups";
  for (const group of status.groups) {
    const row = body.insertRow();
    cell(row, group.name);
    cell(row, group.members.length, "number");
    cell(row, group.awaited);
    for (const word of ["passed", "failed", "skipped", "unknown"])
      cell(row, group.results[word], word === "failed" && group.results[word] ? "number bad" : "number");
    const link = document.createElement("a");
    link.href = `groups/${encodeURIComponent(group.name)}/flow`;
    link.textContent = "time line";
    if (group.logged) cell(row, "").append(link); else cell(row, "");
  }
  element("groups").replaceWith(body);
}

async function look() {
  if (chosen === null) return;
  const answer = await fetch(`devices/${encodeURIComponent(chosen)}/tail`);
  element("tail").hidden = !answer.ok;
  if (!answer.ok) { chosen = null; return; }
  const text = element("tail-text");
  const follows = text.scrollTop + text.clientHeight >= text.scrollHeight - 4;
  element("tail-name").textContent = chosen;
  text.textContent = await answer.text();
  if (follows) text.scrollTop = text.scrollHeight;
}

async function turn() {
  try {
    const answer = await fetch("status.json");
    if (!answer.ok) throw new Error(answer.statusText);
    const status = await answer.json();
    devices(status);
    groups(status);
    await look();
    element("state").textContent = `as of ${new Date(status.time * 1000).toLocaleTimeString()}`;
    element("state").className = "";
  } catch (error) {
    element("state").textContent = `does not answer: ${error.message}`;
    element("state").className = "bad";
  }
  setTimeout(turn, PAUSE);
}

turn();
