// Asks npm's casbin every request of a corpus written by corpus.py, and says where the answers differ.
const fs = require("fs");
const { newEnforcer, newModelFromString, StringAdapter, Util } = require("casbin");

async function main() {
  const cases = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
  let requests = 0;
  const differ = [];
  for (const example of cases) {
    const enforcer = await newEnforcer(newModelFromString(example.model), new StringAdapter(example.policy));
    for (let i = 0; i < example.requests.length; i++) {
      requests++;
      const answer = await enforcer.enforce(...example.requests[i]);
      if (answer !== example.expected[i]) {
        differ.push({ model: example.model, policy: example.policy, request: example.requests[i], answer });
      }
    }
  }
  for (const each of differ.slice(0, 3)) console.log(each.model, "\n", each.policy, "\n", each.request, each.answer);
  console.log(`${cases.length} models, ${requests} requests, ${differ.length} answers differ`);
  process.exit(differ.length ? 1 : 0);
}

main();
