// The tab's title tells how far the picture is; Enter in a field of one line paints; on a phone, Paint shows the canvas.
// Some of Gradio's parts get what a screen reader and the keyboard need: a role for a label, and a place to scroll from.
(() => {
  const name = "nst studio";
  new MutationObserver(() => {
    const canvas = document.querySelector(".nst-canvas");
    const percent = canvas && canvas.dataset.percent;
    const title = percent ? `${percent} · ${name}` : name;
    if (document.title !== title) document.title = title;
    for (const part of document.querySelectorAll(".empty[aria-label]:not([role])")) part.setAttribute("role", "img");
    for (const part of document.querySelectorAll(".image-container[aria-label]:not([role])")) part.setAttribute("role", "group");
    for (const part of document.querySelectorAll(".cm-scroller[tabindex='-1']")) part.tabIndex = 0;
  }).observe(document.documentElement, { childList: true, subtree: true, attributes: true, attributeFilter: ["data-percent"] });
  document.addEventListener("click", (event) => {
    if (event.target.closest("#paint") && innerWidth <= 700) {
      document.querySelector(".nst-canvas").scrollIntoView({ block: "center" });
    }
  });
  document.addEventListener("keydown", (event) => {
    const at = event.target;
    const field = at.matches("input:not([type=checkbox]):not([type=file]):not([role=listbox])");
    if (event.key === "Enter" && (field || at === document.body) && !at.closest("#steer, #sweep")) {
      const paint = document.querySelector("#paint");
      if (paint && !paint.disabled) paint.click();
    }
  });
})();
