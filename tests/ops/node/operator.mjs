// Judges what a Prometheus operator would read among the documents of a file. Runs where its two packages are installed.
import { readFileSync } from "node:fs";
import * as models from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";
import yaml from "yaml";

let bad = 0;
for (const document of yaml.parseAllDocuments(readFileSync(process.argv[2], "utf8"))) {
  const value = document.toJS();
  if (!value?.apiVersion?.startsWith("monitoring.coreos.com/")) continue;
  try {
    new models[value.kind](value).validate();
  } catch (error) {
    bad += 1;
    console.log(`${value.kind}: ${error.message}`);
  }
}
process.exit(bad === 0 ? 0 : 1);
