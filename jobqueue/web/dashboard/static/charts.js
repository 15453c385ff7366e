// Draws the larger charts. What the server has drawn stays where scripts do not run.
(() => {
  "use strict";
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const charts = [];

  const clock = (seconds) => new Date(seconds * 1000).toTimeString().slice(0, 5);

  const options = (place, kinds) => {
    const ink = colour("faint"), line = colour("line");
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    return {
      width: place.clientWidth - 24,
      height: place.clientHeight - 16,
      legend: { show: false },
      cursor: { y: false, points: { size: 5 } },
      scales: { y: { range: (_, low, high) => [0, Math.max(high, 0.1) * 1.08] } },
      axes: [{ ...axis, size: 26, gap: 4, grid: { show: false }, values: (_, all) => all.map(clock) }, { ...axis, size: 52, splits: undefined, values: (_, all) => all.map((v) => v.toLocaleString()) }],
      series: [{}, ...kinds.map((kind, number) => ({
        stroke: colour(kind), width: 1.5, points: { show: false }, fill: number === 0 ? colour(`${kind}-soft`) : undefined,
      }))],
    };
  };

  const draw = (place) => {
    const data = JSON.parse(place.dataset.chart), kinds = place.dataset.kinds.split(" ");
    if (data[0].length < 2) return;
    place.replaceChildren();
    charts.push({ place, kinds, data, plot: new uPlot(options(place, kinds), data, place) });
  };

  const again = () => {
    for (const each of charts) {
      each.plot.destroy();
      each.plot = new uPlot(options(each.place, each.kinds), each.data, each.place);
    }
  };

  let waiting = null;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      for (const each of charts) each.plot.setSize({ width: each.place.clientWidth - 24, height: each.place.clientHeight - 16 });
    }, 150);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  document.querySelectorAll("[data-chart]").forEach(draw);

  // a part that was fetched anew may bring a chart's values of now
  document.addEventListener("jobqueue:renewed", (event) => {
    for (const fresh of event.detail.querySelectorAll("[data-fresh]")) {
      const each = charts.find(({ place }) => place.dataset.name === fresh.dataset.fresh);
      if (!each) continue;
      each.data = JSON.parse(fresh.dataset.values);
      each.plot.setData(each.data);
    }
  });
})();
