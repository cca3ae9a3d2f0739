// In the gallery: a slider that lays the photograph over each picture. Without it the pictures are there alone.
for (const picture of document.querySelectorAll("article img")) {
  const found = picture.src.match(/^(.*\/gallery\/)(\w+)-\w+\.jpg$/);
  if (!found) continue;
  const frame = document.createElement("span");
  const before = new Image();
  const slider = document.createElement("input");
  frame.className = "compare";
  before.src = `${found[1]}${found[2]}.jpg`;
  before.alt = "";
  slider.type = "range";
  slider.max = 100;
  slider.value = 0;
  slider.setAttribute("aria-label", `How much of the photograph is shown: ${picture.alt}`);
  const show = () => {
    before.style.clipPath = `inset(0 ${100 - slider.value}% 0 0)`;
    frame.style.setProperty("--at", `${slider.value}%`);
    frame.classList.toggle("moved", slider.value > 0);
  };
  slider.addEventListener("input", show);
  before.addEventListener("load", () => {
    picture.replaceWith(frame);
    frame.append(picture, before, slider);
    show();
  });
}
