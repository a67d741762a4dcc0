// Compare two pictures of one photo: a slider between them, zoom by wheel or buttons, move by dragging.
"use strict";

const MAX_ZOOM = 24, PIXELS_FROM = 2; // from this zoom on single pixels are shown as squares

function compare(root, photos) {
  const find = (selector) => root.querySelector(selector);
  const [photo, left, right] = ["photo", "left", "right"].map((name) => find(`select[name=${name}]`));
  const stage = find(".stage"), [under, over] = stage.querySelectorAll("img");
  const slider = find("input[type=range]"), line = find(".line"), strip = find(".strip");
  let zoom = 1, x = 0, y = 0; // the picture's corner lies at (x, y), in widths and heights of the stage

  function fill(select, names, wanted) {
    select.replaceChildren(...names.map((name) => new Option(name, name, false, name === wanted)));
  }
  function draw() {
    const at = slider.value / 100, chosen = photos[photo.value];
    over.src = chosen.pictures[left.value];
    under.src = chosen.pictures[right.value];
    stage.querySelector(".left").textContent = left.value;
    stage.querySelector(".right").textContent = right.value;
    const move = `translate(${x * stage.clientWidth}px, ${y * stage.clientHeight}px) scale(${zoom})`;
    under.style.transform = over.style.transform = move;
    const cut = (at - x) / zoom; // where the line crosses the picture, 0 to 1
    over.style.clipPath = `inset(0 ${Math.max(0, Math.min(1, 1 - cut)) * 100}% 0 0)`;
    line.style.left = `${at * 100}%`;
    stage.classList.toggle("close", zoom >= PIXELS_FROM);
    find(".about").textContent = chosen.caption;
  }
  function choosePhoto() {
    const names = Object.keys(photos[photo.value].pictures);
    const keep = (select, other) => (names.includes(select.value) ? select.value : other);
    const main = photos[photo.value].main;
    fill(left, names, keep(left, names[0]));
    fill(right, names, keep(right, main));
    strip.replaceChildren(...names.map((name) => {
      const figure = document.createElement("figure"), picture = new Image(), caption = document.createElement("figcaption");
      picture.src = photos[photo.value].pictures[name];
      picture.alt = caption.textContent = name;
      picture.addEventListener("click", () => { right.value = name; draw(); });
      figure.append(picture, caption);
      return figure;
    }));
    draw();
  }
  function zoomTo(wanted, atX, atY) {
    const next = Math.max(1, Math.min(MAX_ZOOM, wanted)), factor = next / zoom;
    x = atX - (atX - x) * factor;
    y = atY - (atY - y) * factor;
    zoom = next;
    stay();
  }
  function stay() { // the picture always covers the stage
    x = Math.min(0, Math.max(1 - zoom, x));
    y = Math.min(0, Math.max(1 - zoom, y));
    draw();
  }

  fill(photo, Object.keys(photos), Object.keys(photos)[0]);
  photo.parentElement.hidden = Object.keys(photos).length === 1;
  under.addEventListener("load", () => { stage.style.aspectRatio = `${under.naturalWidth} / ${under.naturalHeight}`; });
  photo.addEventListener("change", choosePhoto);
  [left, right, slider].forEach((control) => control.addEventListener("input", draw));
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = stage.getBoundingClientRect();
    zoomTo(zoom * Math.exp(-event.deltaY / 300), (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  }, { passive: false });
  stage.addEventListener("pointerdown", (event) => {
    const start = { x: event.clientX, y: event.clientY, fromX: x, fromY: y };
    const box = stage.getBoundingClientRect();
    const onLine = Math.abs(event.clientX - box.left - slider.value / 100 * box.width) < 12;
    stage.setPointerCapture(event.pointerId);
    const moved = (now) => {
      if (onLine || zoom === 1) {
        slider.value = (now.clientX - box.left) / box.width * 100;
        draw();
      } else {
        x = start.fromX + (now.clientX - start.x) / box.width;
        y = start.fromY + (now.clientY - start.y) / box.height;
        stay();
      }
    };
    moved(event);
    stage.addEventListener("pointermove", moved);
    const end = () => stage.removeEventListener("pointermove", moved);
    stage.addEventListener("pointerup", end, { once: true });
    stage.addEventListener("pointercancel", end, { once: true });
  });
  find("button[name=in]").addEventListener("click", () => zoomTo(zoom * 2, 0.5, 0.5));
  find("button[name=out]").addEventListener("click", () => zoomTo(zoom / 2, 0.5, 0.5));
  new ResizeObserver(draw).observe(stage);
  choosePhoto();
}

for (const root of document.querySelectorAll(".compare")) {
  compare(root, JSON.parse(root.querySelector("script[type='application/json']").textContent));
}
