// Animation of particles over flow time: the slider selects a frame, dots move there, trails show the recent path.
(() => {
  const figure = document.currentScript.closest("figure");
  const data = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
  const slider = figure.querySelector("input"), button = figure.querySelector("button");
  const readout = figure.querySelector("output"), cursor = figure.querySelector(".cursor");
  const dots = figure.querySelector(".dots"), trails = figure.querySelector(".trails");
  const last = data.s.length - 1, TRAIL = Math.max(2, Math.round(data.s.length / 8));
  const make = (parent, name, colour, attribute) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    element.style.setProperty(attribute, colour);
    return parent.appendChild(element);
  };
  const particles = data.colour.map((colour) => ({
    trail: make(trails, "polyline", colour, "stroke"),
    dot: make(dots, "circle", colour, "fill"),
  }));
  const show = (frame) => {
    particles.forEach(({ trail, dot }, i) => {
      const place = (k) => `${data.x[k][i]},${data.y[k][i]}`;
      dot.setAttribute("cx", data.x[frame][i]);
      dot.setAttribute("cy", data.y[frame][i]);
      dot.setAttribute("r", data.r);
      const path = [];
      for (let k = Math.max(0, frame - TRAIL); k <= frame; k += 1) path.push(place(k));
      trail.setAttribute("points", path.join(" "));
    });
    cursor.setAttribute("x1", data.cursor[frame]);
    cursor.setAttribute("x2", data.cursor[frame]);
    readout.textContent = `s = ${data.s[frame]}, E = ${data.energy[frame]}`;
    slider.value = frame;
  };
  let playing = 0;
  const stop = () => { clearInterval(playing); playing = 0; button.textContent = "Play"; };
  button.addEventListener("click", () => {
    if (playing) return stop();
    if (Number(slider.value) === last) show(0);
    button.textContent = "Pause";
    playing = setInterval(() => (Number(slider.value) < last ? show(Number(slider.value) + 1) : stop()), 60);
  });
  slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
  slider.max = last;
  show(window.matchMedia("print").matches ? last : 0);
})();
