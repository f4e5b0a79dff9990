(function () {
  "use strict";
  const root = document.documentElement;
  root.classList.add("js");
  root.dataset.drawn = 0;

  const decode = Uint8Array.fromBase64 ? text => Uint8Array.fromBase64(text) : text => {
    const decoded = atob(text);
    const bytes = new Uint8Array(decoded.length);
    for (let at = 0; at < decoded.length; at++) bytes[at] = decoded.charCodeAt(at);
    return bytes;
  };

  // Packed data is gzipped and base64-encoded.
  async function unpack(id) {
    const bytes = decode(document.getElementById(id).textContent);
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  }

  // A figure is drawn when it comes into view; until then, and in print, its static SVG is shown.
  let ready;
  function prepare() {
    ready ??= Promise.all([unpack("figures"), unpack("library")]).then(([figures, library]) => {
      const script = document.createElement("script");
      script.textContent = library;
      document.head.append(script);
      return JSON.parse(figures);
    });
    return ready;
  }

  const soft = () => getComputedStyle(root).getPropertyValue("--soft").trim();
  const touch = matchMedia("(pointer: coarse)").matches;
  const live = new Set();
  async function draw(chart) {
    const { data, layout } = (await prepare())[chart.id];
    layout.font.color = soft();
    // A finger on a chart scrolls the page.
    if (touch) layout.dragmode = false;
    const place = document.createElement("div");
    place.className = "live";
    chart.append(place);
    await Plotly.newPlot(place, data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
    chart.classList.add("drawn");
    live.add(place);
    root.dataset.drawn = live.size;
  }

  let last = Promise.resolve();
  const watcher = new IntersectionObserver(entries => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      // One at a time, yielding in between, so that scrolling stays smooth.
      last = last.then(() => draw(target)).then(() => new Promise(done => setTimeout(done)));
    }
  });
  for (const chart of document.querySelectorAll(".chart")) watcher.observe(chart);

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const place of live) Plotly.relayout(place, { "font.color": soft() });
  });

  // A link to a folded section opens it.
  function unfold() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    target?.querySelector(":scope > details.folded")?.setAttribute("open", "");
    for (let above = target?.closest("details"); above; above = above.parentElement.closest("details")) above.open = true;
  }
  addEventListener("hashchange", unfold);
  unfold();

  // For browsers that ignore the print style of folded sections.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of opened) details.open = false;
  });

  for (const button of document.querySelectorAll("[data-packed]")) {
    button.addEventListener("click", async () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([await unpack(button.dataset.packed)], { type: button.dataset.type }));
      link.download = button.dataset.name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    });
  }
})();
