// The page of one video: a single chart.
const stream = data.stream;
const timeline = new Timeline(byId("timeline"), byId("timeline-says"));
setUpTheme();
drawTimelineLegend(byId("timeline-legend"));
timeline.show({ ...stream, costText: (share) => percent(share), most: 1 });
addEventListener("resize", () => { timeline.draw(); timeline.rest(); });
