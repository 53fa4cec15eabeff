// A certified OpenID Connect server that gives out JWTs by client credentials (RFC 6749, 4.4).
//
// It is called by another name than it is reached by, as an issuer in a cluster is. Prints its port.
// POST /rotate signs with new keys from then on; ?keep=1 goes on publishing the old ones.
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import Provider from "oidc-provider";

const ISSUER = process.env.ISSUER;
const AUDIENCE = process.env.AUDIENCE;
const SECRET = process.env.CLIENT_SECRET;

const KINDS = {
  RS256: ["rsa", { modulusLength: 2048 }],
  ES256: ["ec", { namedCurve: "P-256" }],
  EdDSA: ["ed25519", {}],
};

function newKeys() {
  return Object.entries(KINDS).map(([alg, [kind, options]]) => ({
    ...generateKeyPairSync(kind, options).privateKey.export({ format: "jwk" }),
    alg,
    use: "sig",
    kid: `${alg}-${randomUUID()}`,
  }));
}

function provider(keys) {
  return new Provider(ISSUER, {
    jwks: { keys },
    scopes: ["llm.invoke"],
    clients: [
      {
        client_id: "pipeline",
        client_secret: SECRET,
        grant_types: ["client_credentials"],
        response_types: [],
        redirect_uris: [],
      },
    ],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        // urn:<alg>:<seconds>:<audience or other> says what the token is to be.
        getResourceServerInfo: (context, resource) => {
          const [, alg, seconds, audience] = resource.split(":");
          return {
            scope: "llm.invoke",
            audience: audience === "ours" ? AUDIENCE : audience,
            accessTokenTTL: Number(seconds),
            accessTokenFormat: "jwt",
            jwt: { sign: { alg } },
          };
        },
      },
    },
  });
}

let keys = newKeys();
let answer = provider(keys).callback();

const server = createServer((request, response) => {
  const url = new URL(request.url, "http://localhost");
  if (url.pathname === "/rotate") {
    keys = [...newKeys(), ...(url.searchParams.get("keep") ? keys : [])];
    answer = provider(keys).callback();
    response.writeHead(204).end();
    return;
  }
  answer(request, response);
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
