// Keeps the status page current. It fetches the page's own address again and has this document say what the new one
// says, text by text and attribute by attribute. What the page means, it does not know; that is all made on the server.
//
// What belongs to the visitor stays: the order of a table, the filter, the focus. Elements with `data-own` are left alone.
"use strict";
(() => {
  const PAUSE = 2000; // milliseconds between two looks
  const LONGEST_PAUSE = 30000; // while nobody answers
  const PATIENCE = 10000; // for one answer
  const MANY_ROWS = 12; // and more are worth a filter
  const MANY_POOLS = 5;

  const lost = document.getElementById("lost");
  const since = document.getElementById("since");
  const address = location.href.split("#")[0];
  const orders = new Map(); // of each kind of table, as the visitor chose it: {column, descending}
  let seen = Date.now(); // when the page was last true
  let failures = 0;
  let timer = 0;
  let sought = "";

  // ── looking ────────────────────────────────────────────────────────────────────────────────────────────────────────

  async function fetchPage() {
    const patience = new AbortController();
    const alarm = setTimeout(() => patience.abort(), PATIENCE);
    try {
      const answer = await fetch(address, { cache: "no-store", redirect: "error", signal: patience.signal });
      if (!answer.ok) throw new Error("status " + answer.status);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html"); // nothing in it runs
      if (!fresh.getElementById("lost")) throw new Error("another page"); // a login, an error of the front server
      return fresh;
    } finally {
      clearTimeout(alarm);
    }
  }

  async function look() {
    clearTimeout(timer);
    const begun = Date.now();
    try {
      show(await fetchPage());
      failures = 0;
      seen = Date.now();
    } catch {
      failures += 1;
    }
    tell();
    const pause = Math.min(LONGEST_PAUSE, PAUSE * 2 ** Math.min(failures, 5));
    // A page that takes long to make is asked for less often. One that nobody sees is not asked for at all.
    if (!document.hidden) timer = setTimeout(look, Math.max(pause, 5 * (Date.now() - begun)));
  }

  function tell() {
    const age = Math.round((Date.now() - seen) / 1000);
    setText(since, `, ${age} s ago`);
    const words = "Not answering. What is below is old. Where a pool shows this page itself, all its workers may be busy.";
    setText(lost, failures ? words : "");
    document.documentElement.classList.toggle("stale", failures > 0);
  }

  function setText(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  // ── having this document say what another says ─────────────────────────────────────────────────────────────────────

  function show(fresh) {
    document.title = fresh.title;
    for (const table of fresh.querySelectorAll("table")) sort(table, orders.get(table.dataset.key));
    follow(document.querySelector("header"), fresh.querySelector("header"));
    follow(document.querySelector("main"), fresh.querySelector("main"));
    filter();
  }

  function follow(mine, theirs) {
    if (mine.nodeType !== Node.ELEMENT_NODE) {
      if (mine.data !== theirs.data) mine.data = theirs.data;
      return;
    }
    if (mine.hasAttribute("data-own")) return;
    for (const { name, value } of theirs.attributes) {
      if (mine.getAttribute(name) !== value) mine.setAttribute(name, value);
    }
    for (const { name } of [...mine.attributes]) {
      if (!theirs.hasAttribute(name)) mine.removeAttribute(name);
    }
    followChildren(mine, theirs);
  }

  // A child with a key is that child wherever it stands; the others are known by their place.
  function followChildren(mine, theirs) {
    const known = new Map();
    for (const child of mine.children) if (child.dataset.key) known.set(child.dataset.key, child);
    let place = mine.firstChild;
    for (const child of [...theirs.childNodes]) {
      const key = child.dataset?.key;
      const same = key ? known.get(key) : isSameKind(place, child) ? place : null;
      known.delete(key);
      const next = same ?? document.importNode(child, true);
      if (next !== place) mine.insertBefore(next, place);
      else place = place.nextSibling;
      if (same) follow(same, child);
    }
    while (place) {
      const gone = place;
      place = place.nextSibling;
      gone.remove();
    }
  }

  function isSameKind(mine, theirs) {
    return mine !== null && mine.nodeName === theirs.nodeName && !mine.dataset?.key;
  }

  // ── the order of tables ────────────────────────────────────────────────────────────────────────────────────────────

  function sort(table, order) {
    if (!order) return;
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => ({ row, value: valueOf(row.cells[order.column]) }));
    const turn = order.descending ? -1 : 1;
    rows.sort((one, other) => turn * compare(one.value, other.value));
    for (const { row } of rows) body.append(row);
  }

  function valueOf(cell) {
    const text = cell.dataset.v ?? (cell.querySelector("bdi") ?? cell).textContent;
    return text.trim() === "" || isNaN(text) ? text : Number(text);
  }

  function compare(one, other) {
    if (typeof one === "number" && typeof other === "number") return one - other;
    return String(one).localeCompare(String(other), undefined, { numeric: true });
  }

  function order(header) {
    const table = header.closest("table");
    const now = header.getAttribute("aria-sort");
    const descending = now ? now === "ascending" : header.classList.contains("n"); // first the most, or A to Z
    const chosen = { column: header.cellIndex, descending };
    orders.set(table.dataset.key, chosen);
    // The choice counts for all tables of the kind: the workers of every pool.
    for (const one of document.querySelectorAll(`table[data-key="${table.dataset.key}"]`)) {
      mark(one, chosen);
      sort(one, chosen);
    }
  }

  function mark(table, chosen) {
    for (const header of table.tHead.rows[0].cells) {
      if (header.cellIndex !== chosen.column) header.removeAttribute("aria-sort");
      else header.setAttribute("aria-sort", chosen.descending ? "descending" : "ascending");
    }
  }

  // A head becomes a button, so that the keyboard reaches it; without this script it would be one that does nothing.
  function equip(table) {
    for (const header of table.querySelectorAll("th[data-sort]:not(:has(button))")) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = header.textContent;
      header.replaceChildren(button);
    }
    const chosen = orders.get(table.dataset.key);
    if (chosen) mark(table, chosen);
  }

  // ── the filter ─────────────────────────────────────────────────────────────────────────────────────────────────────

  const place = document.getElementById("filter");
  const found = document.createElement("output");

  function makeFilter() {
    const label = document.createElement("label");
    const input = document.createElement("input");
    input.type = "search";
    input.spellcheck = false;
    input.addEventListener("input", () => {
      sought = input.value.trim().toLowerCase();
      filter();
    });
    label.append("Show only what contains", input);
    place.append(label, found);
  }

  function filter() {
    document.querySelectorAll("table").forEach(equip);
    const rows = [...document.querySelectorAll(".workers tbody tr")];
    place.hidden = rows.length <= MANY_ROWS && document.querySelectorAll(".pool").length <= MANY_POOLS && !sought;
    let shown = 0;
    for (const pool of document.querySelectorAll(".pool")) shown += filterPool(pool);
    for (const row of document.querySelectorAll(".pools tbody tr")) row.hidden = !holds(row.cells[0]);
    setText(found, sought ? `${shown} of ${rows.length} workers` : "");
  }

  // A pool whose name fits is shown whole. How many of its workers are shown.
  function filterPool(pool) {
    const whole = holds(pool.querySelector("h2"));
    let shown = 0;
    for (const row of pool.querySelectorAll(".workers tbody tr")) {
      row.hidden = !whole && !holds(row);
      shown += !row.hidden;
    }
    pool.hidden = !whole && !shown;
    return shown;
  }

  function holds(element) {
    return !sought || element.textContent.toLowerCase().includes(sought);
  }

  // ── begin ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  makeFilter();
  filter();
  tell();
  setInterval(tell, 1000);
  timer = setTimeout(look, PAUSE);
  document.addEventListener("click", (event) => {
    const header = event.target.closest?.("th[data-sort]");
    if (header && event.target.closest("button")) order(header);
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else look();
  });
})();
