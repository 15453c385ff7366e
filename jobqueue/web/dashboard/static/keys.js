// The keyboard: "/" finds, "g" and a letter goes, "j" and "k" move in a list, "x" selects, "?" tells all of this.
(() => {
  "use strict";
  const base = document.body.dataset.base;
  const GO = { o: "/", q: "/queues", j: "/jobs", e: "/errors", t: "/tasks", w: "/workers", s: "/schedules", b: "/bundles", l: "/limits", h: "/webhooks", a: "/audit" };
  let waiting = false;

  const rows = () => [...document.querySelectorAll("tr[data-row]")];
  const here = () => document.activeElement && document.activeElement.closest("tr[data-row]");
  const move = (step) => {
    const all = rows(), place = all.indexOf(here());
    const next = all[Math.min(Math.max(place + step, 0), all.length - 1)];
    const link = next && next.querySelector("a");
    if (link) link.focus();
  };
  const help = () => {
    const box = document.getElementById("keys-help");
    if (box) (box.open ? box.close() : box.showModal());
  };

  const opener = document.getElementById("keys");
  if (opener) {
    opener.hidden = false;
    opener.addEventListener("click", help);
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input:not([type=checkbox]), select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (waiting) {
      waiting = false;
      if (event.key in GO) location.href = base + GO[event.key];
      return;
    }
    const does = {
      "/": () => document.getElementById("find").focus(),
      "g": () => { waiting = true; setTimeout(() => { waiting = false; }, 1500); },
      "j": () => move(1),
      "k": () => move(-1),
      "x": () => { const box = here() && here().querySelector("input[type=checkbox]"); if (box) box.click(); },
      "?": help,
    }[event.key];
    if (does) { event.preventDefault(); does(); }
  });

  const current = document.querySelector(".menu [aria-current]"); // on a phone the menu is longer than the screen
  if (current) current.closest(".menu").scrollLeft = current.offsetLeft - (innerWidth - current.offsetWidth) / 2;

  // "select all" of a list, ids and snippets to the clipboard
  document.addEventListener("change", (event) => {
    if (!event.target.matches("input[data-all]")) return;
    for (const box of event.target.form.querySelectorAll("input[name=id]")) box.checked = event.target.checked;
  });
  document.addEventListener("click", async (event) => {
    const each = event.target.closest("[data-copy]");
    if (!each) return;
    await navigator.clipboard.writeText(each.dataset.copy);
    const before = each.dataset.word ?? each.textContent;
    each.dataset.word = before;
    each.textContent = "Copied";
    setTimeout(() => { each.textContent = before; }, 1200);
  });
  document.documentElement.dataset.js = navigator.clipboard ? "runs copies" : "runs"; // what only scripts do is seen
})();
