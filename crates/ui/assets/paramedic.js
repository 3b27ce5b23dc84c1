"use strict";
// Live updates and keyboard. Every page works without this file.
(() => {
  const $ = (query, root = document) => root.querySelector(query);
  const all = (query, root = document) => [...root.querySelectorAll(query)];

  // Times: the server writes them once, this keeps "3 min ago" true and adds the reader's own zone to the title.
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const span = (seconds) => {
    const i = units.findIndex(([size]) => seconds >= size);
    if (i < 0) return "0 s";
    const [size, name] = units[i];
    const rest = units[i + 1] && i < 2 ? Math.floor((seconds % size) / units[i + 1][0]) : 0;
    return `${Math.floor(seconds / size)} ${name}` + (rest ? ` ${rest} ${units[i + 1][1]}` : "");
  };
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "local";
  // The server's clock counts, not the reader's.
  let skew = 0;
  const setSkew = (root) => { const time = root.getElementById("written"); if (time) skew = new Date(time.dateTime) - Date.now(); };
  setSkew(document);
  const tick = (root = document) => {
    for (const time of all("time[datetime]", root)) {
      const at = new Date(time.dateTime);
      if (isNaN(at)) continue;
      if (!time.dataset.utc) {
        time.dataset.utc = time.title;
        time.title = `${time.title} (${at.toLocaleString(undefined, { hour12: false })} ${zone})`;
      }
      const seconds = Math.round((Date.now() + skew - at) / 1000);
      const kind = time.dataset.rel;
      if (kind === "ago") time.textContent = seconds >= 0 ? `${span(seconds)} ago` : `in ${span(-seconds)}`;
      if (kind === "for") time.textContent = span(Math.max(0, seconds));
      if (kind === "due") time.textContent = seconds <= 0 ? `in ${span(-seconds)}` : `${span(seconds)} overdue`;
    }
  };
  tick();
  setInterval(() => tick(), 5000);

  // Swapping: the page is fetched again, and the parts marked data-live are replaced where they differ.
  const plain = (node) => node.outerHTML.replace(/<time[^>]*data-rel[^]*?<\/time>/g, "").replace(/ class="(sel|changed| )*"| (open|data-utc|title)="[^"]*"/g, "");
  const busy = (part) => part.contains(document.activeElement) && document.activeElement.matches("input,textarea,select");
  // What somebody has begun to fill in stays, and nothing moves away under a pointer that is about to press it.
  const begun = (part) => all("input,textarea,select", part).some((one) => one.type === "checkbox" ? one.checked !== one.defaultChecked
    : one.matches("select") ? false : one.type !== "hidden" && one.value !== one.defaultValue);
  const aimed = (part) => $("button:hover", part);
  const hashOf = (button) => button?.closest("form")?.elements.hash?.value;
  const rows = (part) => new Map(all("[data-row]", part).map((row) => [row.dataset.row, row]));
  const swap = (fresh, gently) => {
    for (const part of all("[data-live]")) {
      const next = fresh.getElementById(part.id);
      if (!next || plain(next) === plain(part) || busy(part)) continue;
      if (gently && begun(part)) continue;
      if (gently && aimed(part)) { setTimeout(() => changed(), 1500); continue; }
      const kept = part.contains(document.activeElement) && document.activeElement.dataset.key === "r" ? hashOf(document.activeElement) : null;
      const before = rows(part), selected = $(".sel", part)?.dataset.row;
      const open = new Set(all("details[open]", part).map((one) => one.id).filter(Boolean));
      const adopted = document.adoptNode(next);
      part.replaceWith(adopted);
      const again = kept && $("[data-key=r]", adopted);
      if (again && hashOf(again) === kept) again.focus();
      for (const one of all("details", adopted)) if (open.has(one.id)) one.open = true;
      // Where all changes all the time, nothing is marked.
      const marks = gently && adopted.dataset.quiet === undefined;
      for (const [key, row] of rows(adopted)) {
        if (marks && (!before.has(key) || plain(before.get(key)) !== plain(row))) row.classList.add("changed");
        if (key === selected) row.classList.add("sel");
      }
      if (marks && !rows(adopted).size) adopted.classList.add("changed");
    }
    setSkew(fresh);
    const written = fresh.getElementById("written");
    if (written) $("#written")?.replaceWith(document.adoptNode(written));
    for (const id of ["open-count", "asking-count"]) {
      const count = fresh.getElementById(id), mine = document.getElementById(id);
      if (count && mine && !mine.isEqualNode(count)) mine.replaceWith(document.adoptNode(count));
    }
    setTimeout(() => all(".changed").forEach((one) => one.classList.remove("changed")), 1000);
    if (fresh.title) document.title = fresh.title;
    tick();
  };
  const here = new URL(location.href);
  if (here.searchParams.has("done")) { here.searchParams.delete("done"); history.replaceState(null, "", here); }
  let running = false, again = false, last = 0, turn = 0;
  const refresh = async () => {
    if (running) { again = true; return; }
    running = true;
    await new Promise((done) => setTimeout(done, Math.max(0, 700 - (Date.now() - last))));
    again = false;
    last = Date.now();
    const mine = ++turn;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" }, cache: "no-store" });
      const text = await answer.text();
      if (answer.ok && mine === turn) swap(new DOMParser().parseFromString(text, "text/html"), true);
    } catch { /* The connection's own state is shown by the dot. */ }
    running = false;
    if (again) refresh();
  };
  let stale = false;
  const changed = () => { if (document.hidden) stale = true; else refresh(); };
  // What runs and what is waited for changes without a message.
  const every = $("[data-every]")?.dataset.every;
  if (every) setInterval(changed, every * 1000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden && stale) { stale = false; refresh(); } });

  // The live stream says only that something changed.
  const dot = $("#live");
  const show = (word, on) => { if (dot) { dot.textContent = word; dot.classList.toggle("on", on); } };
  let wait = 500, wasOpen = false;
  const connect = () => {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
    let word = "offline";
    socket.onopen = () => { show("live", true); wait = 500; if (wasOpen) changed(); wasOpen = true; };
    socket.onmessage = (message) => {
      let what;
      try { what = JSON.parse(message.data); } catch { return; }
      if (what.type === "server_shutdown") word = "server stopped";
      else if (what.type !== "hello") changed();
    };
    socket.onclose = () => { show(word, false); setTimeout(connect, wait); wait = Math.min(wait * 2, 15000); };
  };
  if (dot) connect();

  // Filter as you type: the form is sent in the background.
  let typing;
  document.addEventListener("input", (event) => {
    const form = event.target.closest("form[data-filter]");
    if (!form) return;
    clearTimeout(typing);
    typing = setTimeout(async () => {
      const mine = ++turn;
      const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
      const url = form.getAttribute("action") + (query.size ? `?${query}` : "");
      try {
        const answer = await fetch(url);
        const text = await answer.text();
        if (!answer.ok || mine !== turn) return;
        history.replaceState(null, "", url);
        swap(new DOMParser().parseFromString(text, "text/html"), false);
      } catch { form.submit(); }
    }, 150);
  });

  // Keyboard.
  const move = (by) => {
    const list = all("[data-row]");
    if (!list.length) return;
    const at = list.findIndex((row) => row.classList.contains("sel"));
    list[at]?.classList.remove("sel");
    const row = list[at < 0 ? 0 : Math.min(list.length - 1, Math.max(0, at + by))];
    row.classList.add("sel");
    row.scrollIntoView({ block: "nearest" });
  };
  const keys = {
    "?": () => $("#keys")?.showModal(),
    j: () => move(1),
    k: () => move(-1),
    Enter: () => $(".sel a[data-open]")?.click(),
    a: () => $("[data-key=a]")?.click(),
    n: () => { const box = $("[data-key=n]"); if (box) { const fold = box.closest("details"); if (fold) fold.open = true; box.focus(); } },
    r: () => { const next = $("[data-key=r]"); if (next) { const fold = next.closest("details"); if (fold) fold.open = true; next.focus(); next.closest("form").scrollIntoView({ block: "center" }); } },
    "/": () => { const box = $("[data-key=search]"); if (box) { box.focus(); box.select(); } else location.href = "/events"; },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("dialog[open]")) return;
    if (event.target.matches("input,textarea,select")) { if (event.key === "Escape") event.target.blur(); return; }
    if (event.key === "Enter" && event.target.matches("a,button,summary")) return;
    const act = keys[event.key];
    if (act) { event.preventDefault(); act(); }
  });
  $("#keys-open")?.addEventListener("click", (event) => { event.preventDefault(); $("#keys")?.showModal(); });
})();
