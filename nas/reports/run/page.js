"use strict";
// Draws every figure from the JSON beside it; a click on a network leads to its strip.
for (const place of document.querySelectorAll(".plot")) {
  const figure = JSON.parse(document.getElementById(place.dataset.figure).textContent);
  if (window.innerWidth < 640) {
    // A narrow screen: the long axis title and the side margins would take the room of the plot.
    const axis = figure.layout.xaxis.title;
    axis.text = axis.text.replace(/ \(.*/, "");
    Object.assign(figure.layout.margin, { l: 40, r: 10 });
    for (const note of figure.layout.annotations || []) {
      note.font.size = 10;
      note.text = note.text.replace(/^(MobileNet|EfficientNet-)/, "");
    }
  }
  const buttons = [["toImage", "zoom2d", "pan2d", "resetScale2d"]];
  const config = { responsive: true, displaylogo: false, displayModeBar: figure.layout.height > 300 ? "hover" : false, modeBarButtons: buttons };
  Plotly.newPlot(place, figure.data, figure.layout, config).then((plot) => {
    plot.on("plotly_click", (event) => {
      const strip = document.getElementById("net-" + event.points[0].customdata);
      if (strip) strip.scrollIntoView({ behavior: "smooth", block: "center" });
    });
  });
}
