"use strict";
// Makes a slider of each photograph's images. Without this script they lie side by side.
(() => {
  const STEP = 2;
  const PAGE = 10;
  const SIDES = ["left", "right"];

  function make(tag, properties, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  function setUp(photo) {
    const stage = photo.querySelector(".stage");
    const layers = [...stage.querySelectorAll(".layer")];
    const images = layers.map((layer) => layer.querySelector("img"));
    const size = { width: images[0].getAttribute("width"), height: images[0].getAttribute("height") };
    // By script, since the page's policy allows no style in the markup.
    stage.style.setProperty("--ratio", size.width / size.height);
    stage.style.setProperty("--widest", `${size.width}px`);
    if (layers.length < 2) {
      stage.classList.add("single");
      layers[0].classList.add("right");
      stage.style.setProperty("--at", "0%");
      return;
    }

    const labels = layers.map((layer) => layer.dataset.label);
    const name = photo.querySelector("h3").firstChild.data.trim();
    const chosen = { left: Number(stage.dataset.left), right: Number(stage.dataset.right) };
    let at = 50;

    const handle = make("div", { className: "handle", tabIndex: 0 });
    handle.setAttribute("role", "slider");
    handle.setAttribute("aria-orientation", "horizontal");
    handle.setAttribute("aria-valuemin", "0");
    handle.setAttribute("aria-valuemax", "100");
    stage.append(handle);

    function moveTo(place) {
      at = Math.min(100, Math.max(0, place));
      stage.style.setProperty("--at", `${at}%`);
      const share = Math.round(at);
      handle.setAttribute("aria-valuenow", String(share));
      handle.setAttribute(
        "aria-valuetext",
        `${share} % ${labels[chosen.left]}, ${100 - share} % ${labels[chosen.right]}`,
      );
    }

    const buttons = { left: [], right: [] };
    function show() {
      layers.forEach((layer, number) => {
        for (const side of SIDES) {
          layer.classList.toggle(side, number === chosen[side]);
          buttons[side][number].checked = number === chosen[side];
        }
      });
      handle.setAttribute(
        "aria-label",
        `${name}: divider between ${labels[chosen.left]} and ${labels[chosen.right]}`,
      );
      moveTo(at);
    }

    function choose(side, number) {
      const other = side === "left" ? "right" : "left";
      // An image beside itself shows nothing: the two change places.
      if (chosen[other] === number) chosen[other] = chosen[side];
      chosen[side] = number;
      show();
    }

    const choices = photo.querySelector(".choices");
    for (const side of SIDES) {
      const row = make("div", {});
      labels.forEach((label, number) => {
        const input = make("input", { type: "radio", name: `${photo.id}-${side}`, value: label });
        input.addEventListener("change", () => choose(side, number));
        buttons[side].push(input);
        row.append(make("label", {}, input, make("span", { textContent: label })));
      });
      const legend = make("legend", { textContent: side === "left" ? "Left" : "Right" });
      choices.append(make("fieldset", { className: "seg" }, legend, row));
    }

    let before = null; // where the divider was when a finger or the mouse came down
    function follow(event) {
      const box = stage.getBoundingClientRect();
      moveTo((100 * (event.clientX - box.left)) / box.width);
    }
    stage.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !event.isPrimary) return;
      before = at;
      stage.setPointerCapture(event.pointerId);
      handle.focus({ preventScroll: true });
      follow(event);
      event.preventDefault();
    });
    stage.addEventListener("pointermove", (event) => {
      if (before !== null && event.isPrimary) follow(event);
    });
    stage.addEventListener("pointerup", () => {
      before = null;
    });
    // The finger scrolls the page instead.
    stage.addEventListener("pointercancel", () => {
      if (before !== null) moveTo(before);
      before = null;
    });

    const keys = {
      ArrowLeft: () => at - STEP,
      ArrowDown: () => at - STEP,
      ArrowRight: () => at + STEP,
      ArrowUp: () => at + STEP,
      PageDown: () => at - PAGE,
      PageUp: () => at + PAGE,
      Home: () => 0,
      End: () => 100,
    };
    handle.addEventListener("keydown", (event) => {
      const key = keys[event.key];
      if (!key || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      moveTo(key());
    });
    show();
  }

  document.documentElement.classList.add("js");
  document.querySelectorAll(".photo").forEach(setUp);
})();
