// Serves this package on a port of 127.0.0.1 as npm's registry and JSR would, so that `npm install
// @x/sam`, `npx @x/sam`, `bun add @x/sam` and `deno add jsr:@x/sam` can be tried before anything is
// published.

import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { homedir } from "node:os";
import { join } from "node:path";
import { filesIn } from "./files.mjs";
import { root } from "./setup.mjs";

const json = (path) => JSON.parse(readFileSync(join(root, path), "utf8"));
const hash = (name, bytes, encoding) => createHash(name).update(bytes).digest(encoding);

/** The sources that `deno publish` takes. test/tools/check.mjs checks that it takes no others. */
function sources() {
  return ["mod.ts", ...filesIn("src", ".ts"), ...filesIn("transports", ".ts")];
}

/**
 * A module as `deno publish` writes it: npm packages that deno.json names become `npm:` imports.
 */
function published(path) {
  const { imports } = json("deno.json");
  const text = readFileSync(join(root, path), "utf8");
  return Buffer.from(text.replace(/(?<= from ")@[^"]+(?=";)/g, (name) => {
    const target = imports[name];
    return target?.startsWith("npm:") ? target : name;
  }));
}

/** Serves the tarball of `npm pack`, and the sources, until `close()`. */
export async function serveRegistries(tarball) {
  const { name, version, exports } = json("deno.json");
  const answers = new Map();
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
    const body = answers.get(path);
    const isModule = path.endsWith(".ts");
    response.setHeader("content-type", isModule ? "application/typescript" : "application/json");
    response.writeHead(body === undefined ? 404 : 200).end(body);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${server.address().port}`;

  const packed = readFileSync(tarball);
  const file = `/npm/${name}/-/${version}.tgz`;
  const dist = {
    tarball: url + file,
    integrity: `sha512-${hash("sha512", packed, "base64")}`,
    shasum: hash("sha1", packed, "hex"),
  };
  answers.set(file, packed);
  answers.set(
    `/npm/${name}`,
    JSON.stringify({
      name,
      "dist-tags": { latest: version },
      versions: { [version]: { ...json("package.json"), dist } },
    }),
  );

  const manifest = {};
  for (const path of sources()) {
    const bytes = published(path);
    manifest[`/${path}`] = {
      size: bytes.length,
      checksum: `sha256-${hash("sha256", bytes, "hex")}`,
    };
    answers.set(`/jsr/${name}/${version}/${path}`, bytes);
  }
  const [scope, own] = name.slice(1).split("/");
  const versions = { [version]: {} };
  answers.set(`/jsr/${name}/meta.json`, JSON.stringify({ scope, name: own, versions }));
  answers.set(`/jsr/${name}/${version}_meta.json`, JSON.stringify({ manifest, exports }));

  return {
    /**
     * The environment variables that lead to this registry. `home` is a new directory for
     * everything that is fetched. Other packages come from their usual registry.
     */
    environment(home) {
      const own = join(homedir(), ".npmrc");
      const lines = existsSync(own) ? readFileSync(own, "utf8").split("\n") : [];
      const ways = lines.filter((line) => /registry *=|_auth|proxy|^ca/i.test(line));
      ways.push(`@${scope}:registry=${url}/npm/`, "");
      writeFileSync(join(home, ".npmrc"), ways.join("\n"));
      return {
        HOME: home,
        DENO_DIR: join(home, "deno"),
        JSR_URL: `${url}/jsr/`,
        npm_config_cache: join(home, "npm"),
      };
    },
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}
