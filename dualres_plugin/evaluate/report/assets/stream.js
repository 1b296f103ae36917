// The page of one video: a single chart.
const stream = data.stream;
const timeline = new Timeline(byId("timeline"), byId("timeline-says"));
setUpTheme();
drawTimelineLegend(byId("timeline-legend"));
timeline.show({ ...stream, costText: (cost) => (stream.share ? percent(cost) : cost ? amount(cost) : "0") });
addEventListener("resize", () => { timeline.draw(); timeline.rest(); });
