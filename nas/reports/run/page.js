"use strict";
// Draws every figure from the packed JSON beside it. A click on a network scrolls to its block diagram.
async function draw() {
  const narrow = window.innerWidth < 640;
  for (const place of document.querySelectorAll(".plot")) {
    const figure = JSON.parse(await unpack(document.getElementById(place.dataset.figure)));
    if (narrow) {
      // The long axis title and the side margins would take the space of the plot.
      const axis = figure.layout.xaxis.title;
      axis.text = axis.text.replace(/ \(.*/, "");
      Object.assign(figure.layout.margin, { l: 50, r: 10 });
      for (const note of figure.layout.annotations || []) {
        note.font.size = 10;
        note.text = note.text.replace(/^(MobileNet|EfficientNet-)/, "");
      }
    }
    const buttons = [["toImage", "zoom2d", "pan2d", "resetScale2d"]];
    const bar = !narrow && figure.layout.height > 300 ? "hover" : false;
    const config = { responsive: true, displaylogo: false, displayModeBar: bar, modeBarButtons: buttons };
    Plotly.newPlot(place, figure.data, figure.layout, config).then((plot) => {
      plot.on("plotly_click", (event) => {
        const diagram = document.getElementById("net-" + event.points[0].customdata);
        if (diagram) diagram.scrollIntoView({ behavior: "smooth", block: "center" });
      });
    });
  }
}

runPacked().then(draw).catch(() => {
  for (const place of document.querySelectorAll(".plot")) {
    place.textContent = "This browser cannot unpack the plot; pareto.png beside this file shows it.";
  }
});
