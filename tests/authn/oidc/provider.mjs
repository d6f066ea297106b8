// A real OpenID Connect provider on loopback: node provider.mjs PORT, with its private keys as JSON on standard input.
// POST /control/keys gives it other keys; GET /control/asked says how often its key set was asked for.
import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import { Provider } from "oidc-provider";

const port = Number(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const resource = (alg) => ({
  scope: "api",
  audience: "orders",
  accessTokenTTL: 300,
  accessTokenFormat: "jwt",
  jwt: { sign: { alg } },
});
let asked = 0;

function provide(keys) {
  const provider = new Provider(issuer, {
    jwks: { keys },
    clients: [
      {
        client_id: "worker",
        client_secret: "a secret for tests",
        grant_types: ["client_credentials"],
        redirect_uris: [],
        response_types: [],
        token_endpoint_auth_method: "client_secret_post",
      },
    ],
    scopes: ["api"],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_ctx, name) => resource(name.endsWith("es") ? "ES256" : "RS256"),
      },
    },
    extraTokenClaims: () => ({ permissions: ["orders:write"], groups: ["workers"] }),
  });
  return provider.callback();
}

let answer = provide(JSON.parse(await text(process.stdin)));
createServer(async (request, response) => {
  if (request.url === "/control/keys") {
    answer = provide(JSON.parse(await text(request)));
    response.end();
  } else if (request.url === "/control/asked") {
    response.end(String(asked));
  } else {
    if (request.url === "/jwks") asked += 1;
    answer(request, response);
  }
}).listen(port, "127.0.0.1", () => console.log("ready"));
