// Validates ServiceMonitor and PrometheusRule objects against the Prometheus operator's own schemas.
//   node operator.js FOLDER_OF_THE_NPM_PACKAGE OBJECTS.json
const fs = require("fs");
const path = require("path");

const [folder, file] = process.argv.slice(2);
const models = path.join(folder, "node_modules/@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1");
const objects = JSON.parse(fs.readFileSync(file)).filter((o) => o.apiVersion === "monitoring.coreos.com/v1");
for (const kind of ["ServiceMonitor", "PrometheusRule"]) {
  const found = objects.filter((o) => o.kind === kind);
  if (found.length === 0) throw new Error(`the chart rendered no ${kind}`);
  const Model = require(path.join(models, kind))[kind];
  for (const object of found) new Model(object).validate();
}
