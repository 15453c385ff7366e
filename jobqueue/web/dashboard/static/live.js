// Keeps an open page up to date: one stream while the page is seen, words put in place, parts fetched anew.
// Everything is there without it; this only spares pressing "reload".
(() => {
  "use strict";
  const base = document.body.dataset.base;
  const sign = document.getElementById("live");
  const words = document.getElementById("live-words");
  const RENEW = 3000, POLL = 5000, FAILURES = 3, STEADY = 12;
  let stream = null, failures = 0, polling = null, polls = 0, shapes = null, renewed = 0, held = false, renewing = false;

  const say = (state, text) => { if (sign) { sign.dataset.state = state; words.textContent = text; } };

  // moments in the reader's own time
  const zone = document.getElementById("zone");
  const two = (value) => String(value).padStart(2, "0");
  const day = (at, utc) => utc
    ? `${at.getUTCFullYear()}-${two(at.getUTCMonth() + 1)}-${two(at.getUTCDate())}`
    : `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const clock = (at, utc) => utc
    ? `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}:${two(at.getUTCSeconds())}`
    : `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  const isUtc = () => { try { return localStorage.getItem("jobqueue.zone") === "utc"; } catch { return false; } };
  const showMoments = (root) => {
    const utc = isUtc(), today = day(new Date(), utc);
    for (const each of root.querySelectorAll("time[datetime]")) {
      const at = new Date(each.dateTime);
      if (isNaN(at)) continue;
      each.textContent = day(at, utc) === today ? clock(at, utc) : `${day(at, utc)} ${clock(at, utc)}`;
      each.title = at.toISOString();
    }
    if (zone) zone.textContent = utc ? "UTC" : "Local time";
  };
  if (zone) {
    zone.hidden = false;
    zone.addEventListener("click", () => {
      try { localStorage.setItem("jobqueue.zone", isUtc() ? "local" : "utc"); } catch { /* private window */ }
      showMoments(document);
    });
  }

  const busy = () => held || document.querySelector("input:checked[name=id], dialog[open]") !== null
    || (document.activeElement && document.activeElement.closest("[data-part] form:not(.act)"));

  // one request, however many parts have changed; none while one is under way
  const renew = async (parts) => {
    const url = new URL(location.href);
    url.searchParams.delete("did");
    url.searchParams.set("part", parts.map((part) => part.dataset.part).join(","));
    renewing = true;
    try {
      const answer = await fetch(url, { headers: { accept: "text/html" }, redirect: "error" });
      const text = await answer.text();
      if (!answer.ok || busy()) return;
      const page = parts.length > 1 ? new DOMParser().parseFromString(text, "text/html") : null;
      for (const part of parts) {
        const found = page ? page.querySelector(`template[data-part="${part.dataset.part}"]`).innerHTML : text;
        const open = [...part.querySelectorAll("details")].map((each) => each.open);
        await htmx.swap({ sourceElement: part, target: part, swap: "innerMorph", text: found });
        part.querySelectorAll("details").forEach((each, place) => { if (place < open.length) each.open = open[place]; });
        showMoments(part);
        document.dispatchEvent(new CustomEvent("jobqueue:renewed", { detail: part }));
      }
    } catch { /* the next look tries again */ } finally { renewing = false; }
  };

  const take = (look) => {
    failures = 0;
    if (held) return;
    for (const each of document.querySelectorAll("[data-live]")) {
      const text = look.texts[each.dataset.live];
      if (text !== undefined && each.textContent !== text) each.textContent = text;
    }
    document.dispatchEvent(new CustomEvent("jobqueue:look", { detail: look }));
    const due = Date.now() - renewed >= RENEW && !renewing && !busy();
    if (due) {
      const changed = [...document.querySelectorAll("[data-part]")].filter((part) => {
        const shape = look.shapes[part.dataset.part];
        return shape === undefined ? part.dataset.renew === "always" : shapes && shapes[part.dataset.part] !== shape;
      });
      if (changed.length) renew(changed);
      renewed = Date.now();
    }
    if (due || shapes === null) shapes = look.shapes;
    say("on", "live");
  };

  const poll = async () => {
    try {
      const answer = await fetch(`${base}/live/now`, { redirect: "error" });
      if (!answer.ok) throw new Error("away");
      take(await answer.json());
      polls += 1;
      if (polls === 1 || polls > STEADY) { // it was away and is back; or it may stream again by now
        const away = polls === 1;
        close();
        failures = away ? 0 : FAILURES;
        open();
      }
    } catch { polls = 0; say("late", "not reachable"); }
  };

  const open = () => {
    if (stream || polling || document.hidden) return;
    stream = new EventSource(`${base}/live`);
    stream.addEventListener("look", (event) => take(JSON.parse(event.data)));
    stream.addEventListener("away", (event) => say("late", `database away, seen ${JSON.parse(event.data).seconds} s ago`));
    stream.onerror = () => {
      failures += 1; // the first one is each stream's own end, after some seconds
      if (failures > 1) say("late", "not reachable");
      if (failures > FAILURES || stream.readyState === EventSource.CLOSED) {
        close();
        polls = 1; // that streams fail says nothing of polls
        polling = setInterval(poll, POLL);
        poll();
      }
    };
  };
  const close = () => {
    if (stream) stream.close();
    if (polling) clearInterval(polling);
    stream = polling = null;
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);

  const hold = document.getElementById("hold");
  if (hold) {
    hold.hidden = false;
    hold.addEventListener("click", () => {
      held = !held;
      hold.textContent = held ? "Go on" : "Hold";
      say(held ? "held" : "off", held ? "on hold" : "not live");
    });
  }
  showMoments(document);
  open();
})();
